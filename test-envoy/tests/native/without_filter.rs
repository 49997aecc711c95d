//! Spans that finish where no filter makes the calls of the export: none is configured, its listener
//! has gone, or Envoy ends. They are sent where the bootstrap extension is there, and else counted.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, HttpConnectionManager, Listener, Route};
use envoy_test_harness::sink::Fault;
use envoy_test_harness::upstream::Reply;
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::host::Host;
use meshtrace_test_support::native::{envoys, flush, manager, options, tracing};
use meshtrace_test_support::reporting::{Collected, reporting};
use meshtrace_test_support::tracers::Caller;
use serde_json::json;

use crate::shutdown::{terminate, wait_for_end};

const PROTOCOLS: [&str; 2] = ["http/protobuf", "grpc"];

fn sampled() -> Request {
    Request::get("/").header("traceparent", format!("00-{TRACE}-{SPAN}-01"))
}

/// A manager without the filter.
fn without_export(protocol: &str, report: &str) -> HttpConnectionManager {
    HttpConnectionManager::new()
        .route(Route::prefix("/").cluster("upstream"))
        .tracing(tracing(reporting(protocol, report)))
}

#[test]
fn without_filter_and_extension_the_log_says_so_and_what_is_dropped_is_counted_at_once() {
    for envoy in envoys() {
        let version = envoy.reported_version();
        let report = r#"{"batch": {"max_queue": 10, "max_spans": 10}}"#;
        let listener = Listener::http("ingress", without_export("http/protobuf", report));
        let bootstrap = Bootstrap::new().listener(listener);
        let mesh = Collected::on(Host::Native, &envoy, "http/protobuf", bootstrap, options());
        let mut connection = mesh.connect();
        let mut send = |count: usize| {
            for _ in 0..count {
                assert_eq!(connection.send(&sampled()).expect("a response").status, 200);
            }
        };
        send(1);
        let log = mesh.envoy.log().expect("the log");
        assert!(log.contains("spans are not exported"), "{version}: {log}");
        assert_eq!(mesh.counter("report.dropped.queue_full"), 0, "{version}");
        send(24);
        mesh.wait_for_counter("report.dropped.queue_full", 15);
        send(3);
        mesh.wait_for_counter("report.dropped.queue_full", 18);
        let log = mesh.envoy.log().expect("the log");
        assert_eq!(log.matches("spans are not exported").count(), 1, "{log}");
    }
}

#[test]
fn without_the_filter_the_extension_exports() {
    for envoy in envoys() {
        for protocol in PROTOCOLS {
            let what = format!("{} {protocol}", envoy.reported_version());
            let listener = Listener::http("ingress", without_export(protocol, "{}"));
            let bootstrap = Bootstrap::new().listener(listener).merge(flush());
            let mesh = Collected::on(Host::Native, &envoy, protocol, bootstrap, options());
            mesh.send(&sampled());
            mesh.wait_for_counter("report.exported", 1);
            assert_eq!(mesh.sink.spans().len(), 1, "{what}");
            let log = mesh.envoy.log().expect("the log");
            assert!(!log.contains("spans are not exported"), "{what}: {log}");
            // A collector that refuses for good is understood, too.
            mesh.sink.set_fault(Some(Fault::status(400)));
            mesh.send(&sampled());
            mesh.wait_for_counter("report.dropped.refused", 1);
            assert_eq!(mesh.counter("report.exported"), 1, "{what}");
        }
    }
}

/// A tunnel outlives its listener, which is the last one.
#[test]
fn a_span_that_ends_behind_the_last_listener_is_exported_by_the_extension() {
    for envoy in envoys() {
        for (protocol, extension) in [
            ("http/protobuf", flush()),
            ("grpc", flush()),
            ("http/protobuf", json!({})),
        ] {
            let has_extension = extension.get("bootstrap_extensions").is_some();
            let what = format!("{} {protocol} {has_extension}", envoy.reported_version());
            let report = r#"{"batch": {"interval_ms": 60000}}"#;
            let manager = manager(tracing(reporting(protocol, report)))
                .merge(json!({"upgrade_configs": [{"upgrade_type": "websocket"}]}));
            let bootstrap = Bootstrap::new()
                .watched_listener(Listener::http("ingress", manager))
                .merge(extension);
            let arguments = ["--drain-time-s", "1", "--drain-strategy", "immediate"];
            let options = arguments
                .iter()
                .fold(options(), |options, argument| options.argument(argument));
            let mesh = Collected::on(Host::Native, &envoy, protocol, bootstrap, options);
            mesh.upstream.respond_with(|_| {
                let reply = Reply::status(101).header("connection", "upgrade");
                reply.header("upgrade", "websocket").body("hello")
            });
            let address = mesh.envoy.address("ingress").expect("its address");
            let mut tunnel = TcpStream::connect(address).expect("a connection");
            let request = format!(
                "GET /chat HTTP/1.1\r\nhost: shop\r\nconnection: upgrade\r\n\
                 upgrade: websocket\r\ntraceparent: 00-{TRACE}-{SPAN}-01\r\n\r\n"
            );
            tunnel.write_all(request.as_bytes()).expect("a request");
            let mut answer = [0; 512];
            assert_ne!(tunnel.read(&mut answer).expect("an answer"), 0, "{what}");
            mesh.envoy.remove_listener("ingress").expect("an update");
            // Envoy closes it at the end of the drain.
            let mut rest = Vec::new();
            let _ = tunnel.read_to_end(&mut rest);
            mesh.envoy
                .wait_for_stat("listener_manager.total_listeners_draining", |left| {
                    left == 0
                })
                .expect("the end of the drain");
            terminate(&mesh.envoy);
            wait_for_end(&mesh.envoy);
            let log = mesh.envoy.log().expect("the log");
            let spans = mesh.sink.spans();
            match has_extension {
                true => assert_eq!(spans.len(), 1, "{what}: {log}"),
                false => assert!(
                    log.contains("1 spans wait: the last listener")
                        || log.contains("spans are not exported"),
                    "{what}: {log}"
                ),
            }
            assert!(!log.contains("Caught Segmentation fault"), "{what}: {log}");
        }
    }
}

/// The newest listener goes while the collector has not answered. Envoy cancels the calls of its
/// filter, which makes those of gRPC: they are made again. Where that is no longer so, the limit in
/// docs/native.md is over.
#[test]
fn an_update_during_a_slow_call_doubles_no_span_over_http() {
    for envoy in envoys() {
        for (protocol, doubled) in [("http/protobuf", 0), ("grpc", 1)] {
            let what = format!("{} {protocol}", envoy.reported_version());
            let listener = |name: &str, i: usize| {
                let report = format!(
                    r#"{{"resource": {{"service.name": "shop-{i}"}}, "batch": {{"interval_ms": 10}}}}"#
                );
                Listener::http(name, manager(tracing(reporting(protocol, &report))))
            };
            let bootstrap = Bootstrap::new()
                .watched_listener(listener("ingress", 0))
                .merge(flush());
            let arguments = ["--drain-time-s", "1", "--drain-strategy", "immediate"];
            let options = arguments
                .iter()
                .fold(options(), |options, argument| options.argument(argument));
            let mesh = Collected::on(Host::Native, &envoy, protocol, bootstrap, options);
            let second = listener("second", 1);
            mesh.envoy.update_listener(second).expect("an update");
            let slow = Fault::delay(Duration::from_secs(3));
            mesh.sink.set_fault(Some(slow));
            mesh.send(&sampled());
            thread::sleep(Duration::from_millis(300));
            mesh.envoy.remove_listener("second").expect("an update");
            mesh.envoy
                .wait_for_stat("listener_manager.total_listeners_draining", |left| {
                    left == 0
                })
                .expect("the end of the drain");
            mesh.sink.set_fault(None);
            mesh.wait_for_counter("report.exported", 1);
            mesh.send(&sampled());
            mesh.wait_for_counter("report.exported", 2);
            let spans = mesh.sink.spans();
            let ids: BTreeSet<_> = spans.iter().map(|span| &span.span_id).collect();
            assert_eq!((ids.len(), spans.len()), (2, 2 + doubled), "{what}");
            let retries = usize::try_from(mesh.counter("report.retries"));
            assert_eq!(retries, Ok(doubled), "{what}");
        }
    }
}

/// The numbers in the lines of the log about spans that are lost.
fn lost(log: &str) -> usize {
    let number = |line: &str| {
        let (before, _) = line.split_once(" spans are lost: ")?;
        before.rsplit(' ').next()?.parse::<usize>().ok()
    };
    log.lines().filter_map(number).sum()
}

#[test]
fn what_is_lost_while_envoy_ends_under_load_is_counted_exactly() {
    const CLIENTS: usize = 6;

    for envoy in envoys() {
        let version = envoy.reported_version();
        let report = r#"{"batch": {"interval_ms": 50}}"#;
        let listener = Listener::http(
            "ingress",
            manager(tracing(reporting("http/protobuf", report))),
        );
        let bootstrap = Bootstrap::new().listener(listener).merge(flush());
        let options = options().concurrency(2);
        let mesh = Collected::on(Host::Native, &envoy, "http/protobuf", bootstrap, options);
        let (sent, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let address = mesh.envoy.address("ingress").expect("its address");
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let mut connection = envoy_test_harness::client::Connection::open(address)
                        .expect("a connection");
                    loop {
                        let value = format!("00-{}-{SPAN}-01", Caller::fresh().trace_id);
                        sent.fetch_add(1, Ordering::Relaxed);
                        let request = Request::get("/").header("traceparent", value);
                        if connection.send(&request).is_err() {
                            return;
                        }
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            thread::sleep(Duration::from_millis(600));
            terminate(&mesh.envoy);
            wait_for_end(&mesh.envoy);
        });
        let (sent, answered) = (sent.into_inner(), answered.into_inner());
        let spans = mesh.sink.spans();
        let ids: BTreeSet<_> = spans.iter().map(|span| &span.span_id).collect();
        assert_eq!(ids.len(), spans.len(), "{version}: each once");
        let log = mesh.envoy.log().expect("the log");
        let all = spans.len() + lost(&log);
        // A request that Envoy did not answer any more may have a span, too.
        assert!(answered > 100, "{version}: {answered}");
        assert!(
            (answered..=sent).contains(&all),
            "{version}: {answered} answered, {sent} sent, {} spans, {} lost: {log}",
            spans.len(),
            lost(&log)
        );
    }
}
