//! A strict HTTP/2 upstream: Hypercorn, whose library h2 closes the connection on a header that RFC
//! 9113 forbids.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use envoy_test_harness::client::{Request, Response};
use envoy_test_harness::config::{Bootstrap, Cluster, HttpConnectionManager, Listener, Route};
use envoy_test_harness::{Envoy, EnvoyBinary};
use meshtrace_test_support::{common, native};

/// The upstream's process; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Strict {
    process: Child,
    pub(crate) address: SocketAddr,
}

impl Strict {
    pub(crate) fn start() -> Self {
        let folder = common::root().join("test-envoy/tests/all_filters/strict");
        // `make test` has made the environment before, so that no two tests do at once.
        let found = Command::new(common::root().join(".make/python-env.sh"))
            .arg(folder.join("requirements.txt"))
            .output()
            .expect(".make/python-env.sh");
        let python = String::from_utf8_lossy(&found.stdout).trim().to_owned();
        assert!(found.status.success(), "{found:?}");
        let mut process = Command::new(python)
            .arg(folder.join("app.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Hypercorn");
        let output = process.stdout.take().expect("its output");
        let mut port = String::new();
        BufReader::new(output)
            .read_line(&mut port)
            .expect("its port");
        let port: u16 = port.trim().parse().expect("a port");
        Self {
            process,
            address: ([127, 0, 0, 1], port).into(),
        }
    }

    /// Asks the upstream itself, over a connection of its own.
    pub(crate) fn ask(&self, path: &str) -> Response {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match Request::get(path).send(self.address) {
                Ok(response) => return response,
                // It prints its port before it serves.
                Err(_) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

impl Drop for Strict {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An Envoy with one worker before the strict upstream, and its listener `plain` without a filter.
#[derive(Debug)]
pub(crate) struct StrictMesh {
    pub(crate) envoy: Envoy,
    pub(crate) upstream: Strict,
}

impl StrictMesh {
    pub(crate) fn start_on(
        binary: &EnvoyBinary,
        managers: Vec<(&str, HttpConnectionManager)>,
        bootstrap: Bootstrap,
    ) -> Self {
        let upstream = Strict::start();
        upstream.ask("/held");
        let plain = HttpConnectionManager::new().route(Route::prefix("/").cluster("upstream"));
        let listeners = managers.into_iter().chain([("plain", plain)]);
        let bootstrap = listeners
            .map(|(name, manager)| Listener::http(name, manager))
            .fold(bootstrap, Bootstrap::listener)
            .cluster(Cluster::http2("upstream", upstream.address));
        let envoy =
            Envoy::start_with(binary, bootstrap, native::options()).expect("an Envoy that starts");
        Self { envoy, upstream }
    }

    pub(crate) fn address(&self, listener: &str) -> SocketAddr {
        self.envoy.address(listener).expect("an address")
    }

    /// Ten requests of others that wait for their answers at the upstream.
    pub(crate) fn hold_ten(&self) -> Held {
        let address = self.address("plain");
        let send = move || Request::get("/hold").send(address).expect("a response");
        let held = Held((0..10).map(|_| std::thread::spawn(send)).collect());
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.upstream.ask("/held").text() != "10" {
            assert!(Instant::now() < deadline, "ten requests wait");
            std::thread::sleep(Duration::from_millis(10));
        }
        held
    }

    /// Lets them go; answers with their statuses and the connections over which they came.
    pub(crate) fn release(&self, held: Held) -> Vec<(u16, Option<String>)> {
        self.upstream.ask("/release");
        let answers = held.0.into_iter().map(|thread| {
            let response = thread.join().expect("a thread that ends");
            (response.status, response.header_text("x-connection"))
        });
        answers.collect()
    }

    /// How many connections to the upstream were opened, and how many were closed.
    pub(crate) fn connections(&self) -> (u64, u64) {
        let stat = |name: &str| {
            let name = format!("cluster.upstream.{name}");
            self.envoy.stat(&name).expect("a statistic")
        };
        (stat("upstream_cx_total"), stat("upstream_cx_destroy"))
    }
}

/// Requests that wait.
#[derive(Debug)]
pub(crate) struct Held(Vec<JoinHandle<Response>>);

/// The values of the header `name` that the upstream received, in Latin-1.
pub(crate) fn seen(body: &[u8], name: &str) -> Vec<String> {
    let headers: Vec<(String, String)> = serde_json::from_slice(body).expect("the headers");
    let values = headers.into_iter().filter(|(known, _)| known == name);
    values.map(|(_, value)| value).collect()
}
