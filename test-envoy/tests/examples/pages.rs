//! The examples do what their pages say, on every supported Envoy: the bootstrap is the file that users run, and every
//! command of the page is sent and must be answered with the output that stands below it.

use meshtrace_test_support::common;
use meshtrace_test_support::common::envoys;
use meshtrace_test_support::rendered;
use std::collections::HashMap;
use std::net::SocketAddr;

use envoy_test_harness::client::{Request, Response};
use envoy_test_harness::upstream::ClosedPort;
use envoy_test_harness::{
    Envoy, EnvoyBinary, Options, OtlpSink, SpanKind, Upstream, each_supported,
};
use meshtrace_config::read;
use meshtrace_propagation::{Propagation, TraceContextConfig};
use meshtrace_render::{EnvoyVersion, envoy_tags};
use meshtrace_test_support::example::{MANAGER, set_cluster, with_new_ids_named};
use serde_json::{Value, json};

/// A running example, and where the ports of its files lead to here.
#[derive(Debug)]
struct Example {
    name: &'static str,
    version: String,
    envoy: Envoy,
    ports: HashMap<u64, SocketAddr>,
}

impl Example {
    fn start(name: &'static str, binary: &EnvoyBinary, bootstrap: &Value) -> Self {
        // For the bootstrap's relative path.
        common::module("trace_context");
        common::module("span_attributes");
        common::module("mesh_tracing");
        common::module("route_sampling");
        common::module("access_log_trace");
        let options = Options::new().working_directory(common::root());
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
    fn follow_page(&self) {
        let page = common::text(&format!("examples/{}/README.md", self.name));
        let commands = commands(&page);
        assert!(commands.len() > 3, "only {} commands", commands.len());
        for Command { line, output } in commands {
            let response = self.curl(&words(&line));
            assert_eq!(response.status, 200, "{line}");
            assert_eq!(
                with_new_ids_named(&trimmed(&response.text()), &line),
                with_new_ids_named(&output, &line),
                "{} on Envoy {}: {line}",
                self.name,
                self.version
            );
        }
    }

    /// What curl does with the few arguments that the pages need.
    fn curl(&self, words: &[String]) -> Response {
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
struct Command {
    line: String,
    output: String,
}

/// What the `console` blocks show: a line after `$ `, continued after a backslash, then the output.
fn commands(page: &str) -> Vec<Command> {
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
fn words(line: &str) -> Vec<String> {
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
fn trimmed(output: &str) -> String {
    let lines = output.lines().map(|line| format!("{}\n", line.trim_end()));
    lines.collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Sends the spans of the example elsewhere.
fn set_collector(bootstrap: &mut Value, address: SocketAddr) {
    set_cluster(bootstrap, "collector", address);
}

#[test]
fn trace_context_does_what_its_page_shows() {
    let bootstrap = common::yaml("examples/trace-context/envoy.yaml");
    each_supported(|envoy| {
        Example::start("trace-context", envoy, &bootstrap).follow_page();
    });
}

#[test]
fn trace_context_spells_the_defaults_out() {
    let bootstrap = common::yaml("examples/trace-context/envoy.yaml");
    let filter =
        "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0";
    let filter = bootstrap.pointer(filter).expect("the filter");
    let text = filter["typed_config"]["config"]["configuration"]["value"].as_str();
    let compile = |json: &str| {
        let config: TraceContextConfig = read(json.as_bytes()).expect("a configuration");
        format!(
            "{:?}",
            Propagation::new(&config).expect("one that compiles")
        )
    };
    assert_eq!(compile(text.expect("its text")), compile("{}"));
}

#[test]
fn upstream_normaliser_does_what_its_page_shows_without_a_collector() {
    let closed = ClosedPort::reserve().expect("a port");
    let mut bootstrap = common::yaml("examples/upstream-normaliser/envoy.yaml");
    set_collector(&mut bootstrap, closed.address());
    each_supported(|envoy| {
        Example::start("upstream-normaliser", envoy, &bootstrap).follow_page();
    });
}

#[test]
fn upstream_normaliser_names_the_span_that_is_reported() {
    let traceparent = format!("traceparent: 00-{}-{}-01", common::TRACE, common::SPAN);
    let words = ["curl", "localhost:10000", "-H", &traceparent].map(str::to_owned);
    // The tracer reports every 5 s: all are asked before the first one is waited for.
    let asked: Vec<_> = envoys()
        .iter()
        .map(|envoy| {
            let collector = OtlpSink::start().expect("a collector");
            let mut bootstrap = common::yaml("examples/upstream-normaliser/envoy.yaml");
            set_collector(&mut bootstrap, collector.grpc_addr());
            let example = Example::start("upstream-normaliser", envoy, &bootstrap);
            let answer = example.curl(&words).text();
            (example, collector, answer)
        })
        .collect();
    for (_running, collector, answer) in &asked {
        let spans = collector
            .wait_for_trace(common::TRACE, 1)
            .expect("the span of the request");
        let span = &spans[0];
        assert_eq!(span.kind, SpanKind::Server);
        assert_eq!(span.parent_span_id.as_deref(), Some(common::SPAN));
        let b3 = format!(
            "x-b3-traceid: {}\nx-b3-spanid: {}\nx-b3-sampled: 1\n",
            common::TRACE,
            span.span_id
        );
        assert!(answer.ends_with(&b3), "{answer}");
    }
}

const BOTH_SIDES: &str = "examples/both-sides/envoy.yaml";

#[test]
fn both_sides_has_what_is_rendered() {
    let rendered = rendered::early_mutation_of(BOTH_SIDES);
    let bootstrap = common::yaml(BOTH_SIDES);
    let manager = bootstrap.pointer(MANAGER).expect("the manager");
    assert_eq!(
        manager["early_header_mutation_extensions"],
        json!([rendered.extension])
    );
    let host = &manager["route_config"]["virtual_hosts"][0];
    rendered::assert_has(host, &rendered.virtual_host);
}

#[test]
fn both_sides_does_what_its_page_shows_without_a_collector() {
    let closed = ClosedPort::reserve().expect("a port");
    let mut bootstrap = common::yaml(BOTH_SIDES);
    set_collector(&mut bootstrap, closed.address());
    each_supported(|envoy| {
        Example::start("both-sides", envoy, &bootstrap).follow_page();
    });
}

#[test]
fn both_sides_reports_a_child_of_the_callers_b3_span_and_tells_the_application() {
    let single = format!("b3: {}-{}-1", common::TRACE, common::SPAN);
    let words = ["curl", "localhost:10000", "-H", &single].map(str::to_owned);
    // The tracer reports every 5 s: all are asked before the first one is waited for.
    let asked: Vec<_> = envoys()
        .iter()
        .map(|envoy| {
            let collector = OtlpSink::start().expect("a collector");
            let mut bootstrap = common::yaml(BOTH_SIDES);
            set_collector(&mut bootstrap, collector.grpc_addr());
            let example = Example::start("both-sides", envoy, &bootstrap);
            let answer = example.curl(&words).text();
            (example, collector, answer)
        })
        .collect();
    for (_running, collector, answer) in &asked {
        let spans = collector
            .wait_for_trace(common::TRACE, 1)
            .expect("the span of the request");
        let span = &spans[0];
        assert_eq!(span.kind, SpanKind::Server);
        assert_eq!(span.parent_span_id.as_deref(), Some(common::SPAN));
        let ids = format!("{}-{}", common::TRACE, span.span_id);
        for line in [
            format!("traceparent: 00-{ids}-01"),
            format!("b3: {ids}-1"),
            format!("x-b3-traceid: {}", common::TRACE),
            format!("x-b3-spanid: {}", span.span_id),
        ] {
            assert!(answer.lines().any(|told| told == line), "{line}: {answer}");
        }
    }
}

#[test]
fn both_sides_keeps_its_own_headers_from_the_application() {
    let closed = ClosedPort::reserve().expect("a port");
    let application = Upstream::start().expect("an application");
    let mut bootstrap = common::yaml(BOTH_SIDES);
    set_collector(&mut bootstrap, closed.address());
    set_cluster(&mut bootstrap, "application", application.address());
    let full = format!("b3: {}-{}-1", common::TRACE, common::SPAN);
    each_supported(|envoy| {
        let example = Example::start("both-sides", envoy, &bootstrap);
        for header in ["b3: 1", "b3: 0", &full] {
            let words = ["curl", "localhost:10000", "-H", header];
            assert_eq!(example.curl(&words.map(str::to_owned)).status, 200);
            let told = application.take().remove(0);
            for (name, _) in &told.headers {
                let name = String::from_utf8_lossy(name).to_lowercase();
                let own = name.starts_with("x-meshtrace-") || name == "x-client-trace-id";
                assert!(!own, "{name} on Envoy {}: {header}", example.version);
            }
        }
    });
}

const EDGE: &str = "examples/edge/envoy.yaml";

#[test]
fn edge_has_what_is_rendered() {
    let rendered = rendered::early_mutation_of(EDGE);
    let bootstrap = common::yaml(EDGE);
    let manager = bootstrap.pointer(MANAGER).expect("the manager");
    assert_eq!(
        manager["early_header_mutation_extensions"],
        json!([rendered.extension])
    );
    rendered::assert_has(manager, &rendered.manager.to_json());
}

#[test]
fn edge_does_what_its_page_shows_without_a_collector() {
    let closed = ClosedPort::reserve().expect("a port");
    let mut bootstrap = common::yaml(EDGE);
    set_collector(&mut bootstrap, closed.address());
    each_supported(|envoy| {
        Example::start("edge", envoy, &bootstrap).follow_page();
    });
}

#[test]
fn edge_reports_a_root_and_tells_the_client_its_request_id() {
    let traceparent = format!("traceparent: 00-{}-{}-00", common::TRACE, common::SPAN);
    let words = ["curl", "localhost:10000", "-H", &traceparent].map(str::to_owned);
    // The tracer reports every 5 s: all are asked before the first one is waited for.
    let asked: Vec<_> = envoys()
        .iter()
        .map(|envoy| {
            let collector = OtlpSink::start().expect("a collector");
            let mut bootstrap = common::yaml(EDGE);
            set_collector(&mut bootstrap, collector.grpc_addr());
            let example = Example::start("edge", envoy, &bootstrap);
            let answer = example.curl(&words);
            (example, collector, answer)
        })
        .collect();
    for (_running, collector, answer) in &asked {
        let spans = collector
            .wait_for_spans(1)
            .expect("the span of the request");
        let span = &spans[0];
        assert_eq!(span.parent_span_id, None);
        assert_ne!(span.trace_id, common::TRACE);
        let told = answer.text();
        let traceparent = format!("traceparent: 00-{}-{}-01", span.trace_id, span.span_id);
        assert!(told.lines().any(|line| line == traceparent), "{told}");
        let id = answer.header_text("x-request-id").expect("an id");
        assert!(
            told.lines()
                .any(|line| line == format!("x-request-id: {id}")),
            "{told}"
        );
    }
}

/// The example's configuration for the version.
fn span_attributes_for(envoy: &EnvoyBinary) -> (EnvoyVersion, Value) {
    let version = envoy.reported_version().parse().expect("a version");
    let file = match version {
        EnvoyVersion::V1_36 => "examples/span-attributes/envoy-1.36.yaml",
        _ => "examples/span-attributes/envoy.yaml",
    };
    (version, common::yaml(file))
}

#[test]
fn span_attributes_has_what_is_rendered() {
    each_supported(|envoy| {
        let (version, mut bootstrap) = span_attributes_for(envoy);
        let manager = bootstrap.pointer_mut(MANAGER).expect("the manager");
        let text = "/http_filters/0/typed_config/config/configuration/value";
        let text = manager.pointer_mut(text).expect("the configuration");
        let json = text.as_str().expect("its text").to_owned();
        let rendered = envoy_tags(json.as_bytes(), version, "dist/span_attributes.wasm");
        let mut rendered = rendered.expect("tags");
        // The same JSON, laid out for people.
        let configuration =
            &mut rendered.http_filters[0]["typed_config"]["config"]["configuration"];
        let parsed = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
        let compact = configuration["value"].as_str().expect("its text");
        assert_eq!(parsed(compact), parsed(&json));
        configuration["value"] = json!(json);

        assert_eq!(
            manager["tracing"]["custom_tags"],
            json!(rendered.custom_tags)
        );
        let filters = manager["http_filters"].as_array_mut().expect("filters");
        filters.pop();
        assert_eq!(*filters, rendered.http_filters);
    });
}

#[test]
fn span_attributes_prints_the_spans_that_its_page_shows() {
    let page = common::text("examples/span-attributes/README.md");
    let spans = page.lines().filter(|line| {
        let kind = line.split(' ').next();
        matches!(kind, Some("SERVER" | "CLIENT")) && line.contains('=')
    });
    let spans: Vec<_> = spans.collect();
    assert_eq!(spans.len(), 4);
    each_supported(|envoy| {
        let (_, bootstrap) = span_attributes_for(envoy);
        let example = Example::start("span-attributes", envoy, &bootstrap);
        example.follow_page();
        for span in &spans {
            let printed = example.envoy.wait_for_log(span);
            printed.unwrap_or_else(|error| panic!("{span} on {}: {error}", example.version));
        }
    });
}

const ROUTE_SAMPLING: &str = "examples/route-sampling/envoy.yaml";

#[test]
fn route_sampling_has_what_is_rendered() {
    let bootstrap = common::yaml(ROUTE_SAMPLING);
    let manager = bootstrap.pointer(MANAGER).expect("the manager");
    let filter = &manager["http_filters"][1];
    assert_eq!(filter["name"], "route_sampling");
    let text = &filter["typed_config"]["config"]["configuration"]["value"];
    let settings = rendered::sampling_settings_in(ROUTE_SAMPLING, text.as_str().expect("text"));
    if std::env::var_os("UPDATE_EXAMPLES").is_some() {
        return;
    }
    let extension = "request_id_extension";
    assert_eq!(manager[extension], settings.manager[extension]);
    for key in ["client_sampling", "random_sampling", "overall_sampling"] {
        let value = |manager: &Value| manager["tracing"][key]["value"].as_f64();
        assert_eq!(value(manager), value(&settings.manager), "{key}");
    }
    let host = &manager["route_config"]["virtual_hosts"][0];
    let removed = "request_headers_to_remove";
    assert_eq!(host[removed], settings.virtual_host[removed]);
}

#[test]
fn route_sampling_does_what_its_page_shows_without_a_collector() {
    let closed = ClosedPort::reserve().expect("a port");
    let mut bootstrap = common::yaml(ROUTE_SAMPLING);
    set_collector(&mut bootstrap, closed.address());
    each_supported(|envoy| {
        Example::start("route-sampling", envoy, &bootstrap).follow_page();
    });
}

#[test]
fn mesh_tracing_reports_the_spans_that_its_page_shows() {
    each_supported(|envoy| {
        let collector = OtlpSink::start().expect("a collector");
        let mut bootstrap = common::yaml("examples/mesh-tracing/envoy.yaml");
        set_cluster(&mut bootstrap, "collector", collector.http_addr());
        let example = Example::start("mesh-tracing", envoy, &bootstrap);
        example.follow_page();
        let spans = collector.wait_for_spans(3).expect("the spans");
        assert_eq!(spans.len(), 3, "what is sampled: {spans:#?}");
        for span in &spans {
            assert_eq!(
                (span.kind, span.service.as_str()),
                (SpanKind::Server, "shop")
            );
            assert_eq!(span.resource["service.instance.id"], "shop-1");
        }
        let (ordered, callers): (Vec<_>, Vec<_>) =
            spans.iter().partition(|span| span.parent_span_id.is_none());
        for span in callers {
            assert_eq!(span.trace_id, common::TRACE);
            assert_eq!(span.parent_span_id.as_deref(), Some(common::SPAN));
        }
        assert_eq!(ordered.len(), 1, "the rule's");
        assert_eq!(ordered[0].name, "GET /orders/{id}");
        assert_eq!(ordered[0].trace_state, "ot=th:0");
    });
}

mod access_log {
    use super::*;

    use envoy_test_harness::AccessLog;
    use meshtrace_access_log::{AccessLogIds, AccessLogTraceConfig};
    use meshtrace_render::{IdsFrom, access_log_fields, expose_ids};

    const FILES: [(&str, EnvoyVersion); 2] = [
        ("examples/access-log/envoy-1.36.yaml", EnvoyVersion::V1_36),
        ("examples/access-log/envoy.yaml", EnvoyVersion::V1_40),
    ];
    const LOG: &str = "/access_log/0/typed_config";

    fn manager(bootstrap: &mut Value) -> &mut Value {
        bootstrap.pointer_mut(MANAGER).expect("the manager")
    }

    /// The example with its spans and its log elsewhere, as the page wants it for this Envoy.
    fn adapted(envoy: &EnvoyBinary, collector: SocketAddr, log: &str) -> Value {
        let [(old, _), (new, _)] = FILES;
        let mut bootstrap = common::yaml(if envoy.is_at_least(1, 38) { new } else { old });
        set_collector(&mut bootstrap, collector);
        let manager = manager(&mut bootstrap);
        manager.pointer_mut(LOG).expect("the log")["path"] = json!(log);
        bootstrap
    }

    #[test]
    fn both_files_have_what_is_rendered() {
        for (path, version) in FILES {
            let mut bootstrap = common::yaml(path);
            let manager = manager(&mut bootstrap);
            let text = manager.pointer("/http_filters/1/typed_config/config/configuration/value");
            let text = text.and_then(Value::as_str).expect("the configuration");
            let config: AccessLogTraceConfig = read(text.as_bytes()).expect("a configuration");
            let ids = AccessLogIds::new(&config).expect("one that compiles");
            let step = expose_ids(&config.ids, version).expect("a step");
            assert_eq!(manager["http_filters"][0], step);
            let format = &manager.pointer(LOG).expect("the log")["log_format"]["json_format"];
            assert_eq!(*format, json!(access_log_fields(&ids, IdsFrom::Filter)));
        }
    }

    #[test]
    fn it_does_what_its_page_shows_and_every_line_leads_to_its_span() {
        // The tracer reports every 5 s: all are asked before the first one is waited for.
        let asked: Vec<_> = envoys()
            .into_iter()
            .map(|envoy| {
                let collector = OtlpSink::start().expect("a collector");
                let folder = tempfile::tempdir().expect("a folder");
                let log = folder.path().join("access.log");
                let text = log.to_str().expect("a path");
                let bootstrap = adapted(&envoy, collector.grpc_addr(), text);
                let example = Example::start("access-log", &envoy, &bootstrap);
                example.follow_page();
                let lines = AccessLog::new(&log).wait_for_lines(3).expect("the lines");
                (envoy, example, collector, lines)
            })
            .collect();
        for (envoy, _running, collector, lines) in &asked {
            let text = |line: &Value, key: &str| line[key].as_str().map(str::to_owned);
            for line in lines {
                let trace_id = text(line, "trace_id").expect("a trace id");
                let span = &collector.wait_for_trace(&trace_id, 1).expect("its span")[0];
                let written = line["path"] == "/" || envoy.is_at_least(1, 38);
                let span_id = written.then(|| span.span_id.clone());
                assert_eq!(text(line, "span_id"), span_id, "{line}");
                assert_eq!(text(line, "parent_span_id"), span.parent_span_id, "{line}");
            }
        }
    }
}
