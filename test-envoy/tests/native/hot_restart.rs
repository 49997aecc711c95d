//! A hot restart: the next process takes the listeners over, the old one drains and ends. Every
//! answered request is exported once, by the process that answered it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, Listener};
use envoy_test_harness::{EnvoyBinary, WAIT_LIMIT};
use meshtrace_test_support::common::SPAN;
use meshtrace_test_support::host::Host;
use meshtrace_test_support::native::{envoys, flush, folder, manager, options, tracing};
use meshtrace_test_support::reporting::{Collected, reporting};
use meshtrace_test_support::tracers::Caller;
use serde_json::{Value, json};

/// A process of Envoy that ends with the test.
struct Epoch(Child);

impl Drop for Epoch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Epoch {
    fn start(binary: &EnvoyBinary, base: u32, epoch: u32, config: &Path, log: &Path) -> Self {
        let log = File::create(log).expect("a log");
        let child = Command::new(binary.path())
            .arg("--config-path")
            .arg(config)
            .args(["--base-id", &base.to_string()])
            .args(["--restart-epoch", &epoch.to_string()])
            .args(["--concurrency", "2", "--log-level", "warning"])
            .args(["--drain-time-s", "1", "--parent-shutdown-time-s", "2"])
            .env("ENVOY_DYNAMIC_MODULES_SEARCH_PATH", folder())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn();
        Self(child.expect("an Envoy"))
    }

    fn has_ended(&mut self) -> Option<bool> {
        let status = self.0.try_wait().expect("the process");
        status.map(|status| status.success())
    }
}

fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    socket.local_addr().expect("its address").port()
}

fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < WAIT_LIMIT, "{what}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_hot_restart_loses_and_doubles_no_span() {
    for (i, envoy) in envoys().iter().enumerate() {
        let version = envoy.reported_version();
        let config = reporting("http/protobuf", "{}");
        let listener = Listener::http("ingress", manager(tracing(config)));
        let bootstrap = Bootstrap::new().listener(listener).merge(flush());
        // Its bootstrap, its upstream and its collector are used; it gets no request itself.
        let mesh = Collected::on(Host::Native, envoy, "http/protobuf", bootstrap, options());
        let work = tempfile::tempdir().expect("a folder");
        let text = fs::read_to_string(mesh.envoy.bootstrap()).expect("a bootstrap");
        let mut bootstrap: Value = serde_json::from_str(&text).expect("JSON");
        let port = free_port();
        bootstrap["static_resources"]["listeners"][0]["address"]["socket_address"]["port_value"] =
            json!(port);
        let path = work.path().join("envoy.json");
        fs::write(&path, bootstrap.to_string()).expect("a file");
        let address = SocketAddr::from(([127, 0, 0, 1], port));

        // No other Envoy of this machine has the number.
        let base = 20_000 + (std::process::id() % 4000) * 4 + u32::try_from(i).unwrap_or(0);
        let log = |epoch: u32| work.path().join(format!("log-{epoch}"));
        let mut old = Epoch::start(envoy, base, 0, &path, &log(0));
        let request = |trace_id: &str| {
            let value = format!("00-{trace_id}-{SPAN}-01");
            Request::get("/").header("traceparent", value)
        };
        let answered = AtomicUsize::new(0);
        let send = || {
            let answer = request(&Caller::fresh().trace_id).send(address);
            let is_ok = answer.is_ok_and(|answer| answer.status == 200);
            answered.fetch_add(usize::from(is_ok), Ordering::Relaxed);
            is_ok
        };
        wait("the first epoch", &send);
        let is_over = AtomicBool::new(false);
        let failed = AtomicUsize::new(0);
        let mut new = None;
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        let is_ok = send();
                        failed.fetch_add(usize::from(!is_ok), Ordering::Relaxed);
                        thread::sleep(Duration::from_millis(2));
                    }
                });
            }
            thread::sleep(Duration::from_millis(300));
            new = Some(Epoch::start(envoy, base, 1, &path, &log(1)));
            let mut ended = None;
            let started = Instant::now();
            while ended.is_none() && started.elapsed() < WAIT_LIMIT {
                thread::sleep(Duration::from_millis(50));
                ended = old.has_ended();
            }
            thread::sleep(Duration::from_millis(300));
            is_over.store(true, Ordering::Relaxed);
            let logs = [0, 1].map(|epoch| fs::read_to_string(log(epoch)).unwrap_or_default());
            assert_eq!(ended, Some(true), "{version}: {logs:?}");
        });
        let mut new = new.expect("the second epoch");
        assert_eq!(new.has_ended(), None, "{version}: it runs");
        let answered = answered.into_inner();
        let spans = mesh.sink.wait_for_spans(answered);
        let spans = spans.unwrap_or_else(|error| panic!("{version}: {error}"));
        let ids: BTreeSet<_> = spans.iter().map(|span| &span.span_id).collect();
        assert_eq!(ids.len(), spans.len(), "{version}: each once");
        // A request whose connection was closed before its answer may have a span too.
        let failed = failed.into_inner();
        assert!(
            spans.len() <= answered + failed,
            "{version}: {answered} {failed}"
        );
        assert!(answered > 100, "{version}: {answered}");
    }
}
