//! A running example, and the commands of its page.

use std::collections::HashMap;
use std::net::SocketAddr;

use envoy_test_harness::client::{Request, Response};
use envoy_test_harness::{Envoy, EnvoyBinary, Options};
use meshtrace_test_support::common;
use meshtrace_test_support::example::{set_cluster, with_new_ids_named};
use serde_json::Value;

/// A running example, and where the ports of its files lead to here.
#[derive(Debug)]
pub(crate) struct Example {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    pub(crate) envoy: Envoy,
    pub(crate) ports: HashMap<u64, SocketAddr>,
}

impl Example {
    pub(crate) fn start(name: &'static str, binary: &EnvoyBinary, bootstrap: &Value) -> Self {
        // For the bootstrap's relative path.
        common::module("trace_context");
        common::module("span_attributes");
        common::module("mesh_tracing");
        common::module("route_sampling");
        common::module("access_log_trace");
        Self::start_with(name, binary, bootstrap, Options::new())
    }

    /// As [`Example::start`], with these options.
    pub(crate) fn start_with(
        name: &'static str,
        binary: &EnvoyBinary,
        bootstrap: &Value,
        options: Options,
    ) -> Self {
        let options = options.working_directory(common::root());
        let envoy = Envoy::start_raw(binary, bootstrap.clone(), options)
            .unwrap_or_else(|error| panic!("{name}: {error}"));

        let port = |address: &Value| address.pointer("/socket_address/port_value")?.as_u64();
        let admin = port(&bootstrap["admin"]["address"]).expect("the admin interface's port");
        let mut ports = HashMap::from([(admin, envoy.admin_address())]);
        for listener in list(&bootstrap["static_resources"]["listeners"]) {
            if let Some(port) = port(&listener["address"]) {
                let name = listener["name"].as_str().expect("a listener's name");
                ports.insert(port, envoy.address(name).expect("its address"));
            }
        }
        Self {
            name,
            version: binary.reported_version().to_owned(),
            envoy,
            ports,
        }
    }

    /// Runs the commands of the page in their order.
    pub(crate) fn follow_page(&self) {
        let page = common::text(&format!("examples/{}/README.md", self.name));
        let commands = commands(&page);
        assert!(commands.len() > 3, "only {} commands", commands.len());
        self.follow(&commands);
    }

    /// Runs these commands in their order.
    pub(crate) fn follow(&self, commands: &[Command]) {
        for Command { line, output } in commands {
            let response = self.curl(&words(line));
            assert_eq!(response.status, 200, "{line}");
            assert_eq!(
                with_new_ids_named(&trimmed(&response.text()), line),
                with_new_ids_named(output, line),
                "{} on Envoy {}: {line}",
                self.name,
                self.version
            );
        }
    }

    /// What curl does with the few arguments that the pages need.
    pub(crate) fn curl(&self, words: &[String]) -> Response {
        let mut words = words.iter().map(String::as_str);
        assert_eq!(words.next(), Some("curl"));
        let mut request = None;
        let mut headers = Vec::new();
        while let Some(word) = words.next() {
            match word {
                "-s" => {}
                "-H" => headers.push(words.next().and_then(|h| h.split_once(": ")).expect(word)),
                url => {
                    let (authority, path) = url.split_once('/').unwrap_or((url, ""));
                    let port = authority.strip_prefix("localhost:").expect("localhost");
                    let address = self.ports[&port.parse().expect("a port")];
                    request = Some((address, format!("/{path}")));
                }
            }
        }
        let (address, path) = request.expect("a URL");
        headers
            .into_iter()
            .fold(Request::get(&path), |request, (name, value)| {
                request.header(name, value)
            })
            .send(address)
            .expect("a response")
    }
}

/// A command of a page, and what stands below it.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) line: String,
    pub(crate) output: String,
}

/// What the `console` blocks show: a line after `$ `, continued after a backslash, then the output.
pub(crate) fn commands(page: &str) -> Vec<Command> {
    let mut commands: Vec<Command> = Vec::new();
    let mut in_block = false;
    for line in page.lines() {
        if let Some(language) = line.strip_prefix("```") {
            in_block = language == "console";
            continue;
        }
        if !in_block {
            continue;
        }
        if let Some(line) = line.strip_prefix("$ ") {
            commands.push(Command {
                line: line.to_owned(),
                output: String::new(),
            });
        } else {
            let command = commands.last_mut().expect("a block starts with a command");
            if let Some(start) = command.line.strip_suffix('\\') {
                command.line = format!("{start}{}", line.trim_start());
            } else {
                command.output.push_str(line);
                command.output.push('\n');
            }
        }
    }
    commands
}

/// The words of a command line with single quotes.
pub(crate) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (i, part) in line.split('\'').enumerate() {
        if i % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// An empty header ends in a space, which a page does not keep.
pub(crate) fn trimmed(output: &str) -> String {
    let lines = output.lines().map(|line| format!("{}\n", line.trim_end()));
    lines.collect()
}

pub(crate) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Sends the spans of the example elsewhere.
pub(crate) fn set_collector(bootstrap: &mut Value, address: SocketAddr) {
    set_cluster(bootstrap, "collector", address);
}
