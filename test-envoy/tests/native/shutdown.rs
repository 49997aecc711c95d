//! The end of a process, and one that only checks a configuration.

use std::fs;
use std::net::UdpSocket;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, Listener};
use envoy_test_harness::{Envoy, EnvoyBinary};
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::host::Host;
use meshtrace_test_support::native::{envoys, flush, manager, options, tracing};
use meshtrace_test_support::reporting::{Collected, reporting};

pub(crate) fn wait_for_end(envoy: &Envoy) {
    let stat = format!("/proc/{}/stat", envoy.process_id());
    let is_running = || fs::read_to_string(&stat).is_ok_and(|text| !text.contains(") Z "));
    let started = Instant::now();
    while is_running() {
        let waited = started.elapsed();
        assert!(waited < envoy_test_harness::WAIT_LIMIT, "it does not end");
        thread::sleep(Duration::from_millis(20));
    }
    // What was sent is read a moment later.
    thread::sleep(Duration::from_millis(200));
}

pub(crate) fn terminate(envoy: &Envoy) {
    let id = envoy.process_id().to_string();
    let done = Command::new("kill").args(["-TERM", &id]).status();
    assert!(done.expect("kill").success());
}

/// An Envoy with the extension, whose spans wait for a minute.
fn waiting(envoy: &EnvoyBinary, protocol: &'static str) -> Collected {
    let config = reporting(protocol, r#"{"batch": {"interval_ms": 60000}}"#);
    let listener = Listener::http("ingress", manager(tracing(config)));
    let bootstrap = Bootstrap::new().listener(listener).merge(flush());
    Collected::on(Host::Native, envoy, protocol, bootstrap, options())
}

#[test]
fn with_the_extension_nothing_is_lost_at_the_end() {
    for envoy in envoys() {
        for protocol in ["http/protobuf", "grpc"] {
            let what = format!("{} {protocol}", envoy.reported_version());
            let mesh = waiting(&envoy, protocol);
            let mut connection = mesh.connect();
            for _ in 0..60 {
                let request =
                    Request::get("/").header("traceparent", format!("00-{TRACE}-{SPAN}-01"));
                assert_eq!(connection.send(&request).expect("a response").status, 200);
            }
            assert!(mesh.sink.spans().is_empty(), "{what}");
            terminate(&mesh.envoy);
            wait_for_end(&mesh.envoy);
            assert_eq!(mesh.sink.spans().len(), 60, "{what}");
        }
    }
}

#[test]
fn a_call_that_fails_at_the_end_is_made_again() {
    use envoy_test_harness::sink::Fault;

    for envoy in envoys() {
        for protocol in ["http/protobuf", "grpc"] {
            let what = format!("{} {protocol}", envoy.reported_version());
            let mesh = waiting(&envoy, protocol);
            let request = Request::get("/").header("traceparent", format!("00-{TRACE}-{SPAN}-01"));
            for _ in 0..5 {
                mesh.send(&request);
            }
            mesh.sink.set_fault(Some(Fault::status(503)));
            terminate(&mesh.envoy);
            mesh.sink.wait_for_exports(1).expect("a call");
            mesh.sink.set_fault(None);
            wait_for_end(&mesh.envoy);
            assert_eq!(mesh.sink.spans().len(), 5, "{what}");
        }
    }
}

/// Envoy waits for the collector, but not for long. Then what is lost is in the counter, which a
/// stats sink is told last.
#[test]
fn a_collector_that_is_silent_holds_the_end_up_for_seconds_at_most() {
    use envoy_test_harness::sink::Fault;

    for envoy in envoys() {
        let config = reporting("http/protobuf", r#"{"batch": {"interval_ms": 60000}}"#);
        let listener = Listener::http("ingress", manager(tracing(config)));
        let statsd = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let port = statsd.local_addr().expect("an address").port();
        let bootstrap = Bootstrap::new()
            .listener(listener)
            .merge(flush())
            .merge(statsd_at(port));
        let mesh = Collected::on(Host::Native, &envoy, "http/protobuf", bootstrap, options());
        mesh.sink
            .set_fault(Some(Fault::delay(Duration::from_secs(60))));
        let request = Request::get("/").header("traceparent", format!("00-{TRACE}-{SPAN}-01"));
        mesh.send(&request);
        let started = Instant::now();
        terminate(&mesh.envoy);
        wait_for_end(&mesh.envoy);
        assert!(started.elapsed() < Duration::from_secs(10));
        assert_eq!(
            lost(&statsd),
            ["1|c"],
            "{}: told by StatsD",
            envoy.reported_version()
        );
    }
}

fn statsd_at(port: u16) -> serde_json::Value {
    serde_json::json!({"stats_sinks": [{
        "name": "envoy.stat_sinks.statsd",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.config.metrics.v3.StatsdSink",
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        },
    }]})
}

/// What the sink was told of `report.dropped.at_end` until now.
fn lost(statsd: &UdpSocket) -> Vec<String> {
    statsd.set_nonblocking(true).expect("a socket's option");
    let mut datagram = [0; 65_536];
    let mut told = Vec::new();
    while let Ok(length) = statsd.recv(&mut datagram) {
        let text = String::from_utf8_lossy(&datagram[..length]);
        let values = text
            .lines()
            .filter_map(|line| line.split_once("meshtrace.report.dropped.at_end:"));
        told.extend(values.map(|(_, value)| value.to_owned()));
    }
    told
}

#[test]
fn without_the_extension_or_with_nothing_to_send_the_end_is_clean() {
    for envoy in envoys() {
        for patch in [serde_json::json!({}), flush()] {
            let config = reporting("http/protobuf", "{}");
            let listener = Listener::http("ingress", manager(tracing(config)));
            let bootstrap = Bootstrap::new().listener(listener).merge(patch);
            let mesh = Collected::on(Host::Native, &envoy, "http/protobuf", bootstrap, options());
            terminate(&mesh.envoy);
            wait_for_end(&mesh.envoy);
            let log = mesh.envoy.log().expect("the log");
            assert!(!log.contains("Caught Segmentation fault"), "{log}");
            assert!(log.contains("SIGTERM"), "{log}");
        }
    }
}
