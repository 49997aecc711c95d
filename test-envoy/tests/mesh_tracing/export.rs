//! What becomes of spans, requests and memory whatever the collector does.

use std::fs;
use std::time::{Duration, Instant};

use envoy_test_harness::client::Connection;
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, HttpFilter, Listener, Route,
};
use envoy_test_harness::sink::Fault;
use envoy_test_harness::upstream::{ClosedPort, RecordedRequest, Reply};
use envoy_test_harness::{Envoy, OtlpSink, Upstream, each_supported};
use meshtrace_test_support::common::{self, get, newest};
use meshtrace_test_support::host::{Host, each_host};
use meshtrace_test_support::reporting::{Collected, manager, reporting, sampled};
use serde_json::json;

const PROTOCOLS: [&str; 2] = ["http/protobuf", "grpc"];

/// Sends `count` sampled requests, which all succeed.
fn send(mesh: &Collected, count: usize) {
    let mut connection = mesh.connect();
    for _ in 0..count {
        assert_eq!(connection.send(&sampled()).expect("a response").status, 200);
    }
}

#[test]
fn a_collector_that_refuses_for_a_while_loses_nothing() {
    each_host(|host, envoy, at| {
        for protocol in PROTOCOLS {
            let mesh = host.reporting(envoy, protocol, "{}");
            mesh.sink.set_fault(Some(Fault::status(503)));
            send(&mesh, 5);
            let exports = mesh
                .sink
                .wait_for_exports(2)
                .expect("an export, and a retry");
            assert!(exports.iter().all(|export| export.refused), "{at}");
            mesh.sink.set_fault(None);
            mesh.sink.wait_for_spans(5).expect("the spans");
            mesh.wait_for_counter("report.exported", 5);
            let log = mesh.envoy.log().expect("the log");
            let lines = log.matches("fail and are made again: ").count();
            assert!(lines <= 1, "{at}: one line a minute: {log}");
            assert_eq!(mesh.sink.spans().len(), 5, "{at}: each once");
            assert!(mesh.counter("report.retries") >= 1, "{at}");
        }
    });
}

#[test]
fn a_collector_that_refuses_for_good_is_not_asked_again() {
    each_host(|host, envoy, at| {
        for protocol in PROTOCOLS {
            let mesh = host.reporting(envoy, protocol, "{}");
            mesh.sink.set_fault(Some(Fault::status(403)));
            send(&mesh, 3);
            mesh.wait_for_counter("report.dropped.refused", 3);
            mesh.sink.set_fault(None);
            send(&mesh, 2);
            mesh.wait_for_counter("report.exported", 2);
            assert_eq!(mesh.sink.spans().len(), 2, "{at}");
            assert_eq!(mesh.counter("report.retries"), 0, "{at}");
            let log = mesh.envoy.log().expect("the log");
            // gRPC maps the status of an answer without `grpc-status`: 403 is PERMISSION_DENIED.
            let status = match protocol {
                "grpc" => "gRPC status 7",
                _ => "status 403",
            };
            let said = format!("the cluster \"collector\" refuses spans for good: {status}; ");
            let lines: Vec<_> = log.lines().filter(|line| line.contains(&said)).collect();
            assert_eq!(lines.len(), 1, "{at}: {log}");
            assert!(lines[0].contains("[error]"), "{at}: {log}");
        }
    });
}

/// Each worker exports for itself, and each sees that the collector refuses.
#[test]
fn of_four_workers_one_says_that_an_export_fails() {
    each_host(|host, envoy, at| {
        for (cluster, said, dropped) in [
            (
                "collector",
                "refuses spans for good: status 403; ",
                "refused",
            ),
            ("nowhere", "Envoy knows no cluster", "unknown_cluster"),
        ] {
            let config = reporting(PROTOCOLS[0], &format!(r#"{{"cluster": "{cluster}"}}"#));
            let listener = Listener::http("ingress", host.manager(config));
            let bootstrap = Bootstrap::new().listener(listener);
            let options = host.options().concurrency(4);
            let mesh = Collected::on(host, envoy, PROTOCOLS[0], bootstrap, options);
            mesh.sink.set_fault(Some(Fault::status(403)));
            for _ in 0..40 {
                send(&mesh, 1);
            }
            mesh.wait_for_counter(&format!("report.dropped.{dropped}"), 40);
            let log = mesh.envoy.log().expect("the log");
            let lines: Vec<_> = log.lines().filter(|line| line.contains(said)).collect();
            assert_eq!(lines.len(), 1, "{at}: {log}");
        }
    });
}

#[test]
fn a_collector_that_is_down_harms_no_request_and_the_process_stays_small() {
    no_harm_by("down", |_| Reply::status(503));
}

#[test]
fn a_silent_collector_harms_no_request_and_the_process_stays_small() {
    no_harm_by("silent", |_| Reply::ok().delay(Duration::from_secs(3600)));
}

#[test]
fn a_collector_that_answers_garbage_harms_no_request_and_the_process_stays_small() {
    no_harm_by("garbage", |_| {
        Reply::ok()
            .body(vec![0xff; 100_000])
            .header("grpc-status", "\u{7a}")
    });
}

/// Reports by both protocols to a server that answers so, or is down.
fn no_harm_by(kind: &str, answer: fn(&RecordedRequest) -> Reply) {
    /// Of each protocol, and what its plugin holds at most: a queue and two batches on their way.
    const SENT: usize = 800;
    const HELD: usize = 200;
    each_host(|host, envoy, at| {
        let closed = ClosedPort::reserve().expect("a closed port");
        let other = Upstream::start().expect("a server that is no collector");
        other.respond_with(answer);
        let address = match kind {
            "down" => closed.address(),
            _ => other.address(),
        };
        let bootstrap = PROTOCOLS
            .iter()
            .fold(Bootstrap::new(), |bootstrap, protocol| {
                let cluster = protocol.replace('/', "-");
                let report = format!(
                    r#"{{"cluster": "{cluster}", "timeout_ms": 300,
                     "batch": {{"max_spans": 50, "max_queue": 100}}}}"#
                );
                let cluster = match *protocol {
                    "grpc" => Cluster::http2(&cluster, address),
                    _ => Cluster::http1(&cluster, address),
                };
                let manager = host.manager(reporting(protocol, &report));
                bootstrap
                    .listener(Listener::http(protocol, manager))
                    .cluster(cluster)
            });
        let mesh = host.start_with(envoy, "http/protobuf", bootstrap);
        let send = |count: usize| {
            for protocol in PROTOCOLS {
                let address = mesh.envoy.address(protocol).expect("its address");
                let mut connection = Connection::open(address).expect("a connection");
                for _ in 0..count {
                    let response = connection.send(&sampled()).expect("a response");
                    assert_eq!(response.status, 200, "{protocol}");
                }
            }
        };
        send(100);
        let before = resident(&mesh.envoy);
        send(SENT - 100);
        let grown = resident(&mesh.envoy).saturating_sub(before);
        let what = format!("{at} {kind}");
        assert!(grown < 8 << 20, "{what}: {grown}");
        if kind == "garbage" {
            // Success by its status is success; gRPC has a status of its own.
            mesh.wait_for_counter("report.malformed_answers", 1);
            mesh.wait_for_counter("report.dropped.refused", 1);
        } else {
            mesh.wait_for_counter("report.retries", 1);
            // More than one of them alone could drop.
            let both = u64::try_from(2 * (SENT - HELD)).expect("a number");
            mesh.wait_for_counter("report.dropped.queue_full", both);
        }
        mesh.assert_sound(&what);
    });
}

/// The resident memory of an Envoy, in bytes.
fn resident(envoy: &Envoy) -> u64 {
    let path = format!("/proc/{}/statm", envoy.process_id());
    let text = fs::read_to_string(path).expect("the process's memory");
    let pages = text.split_ascii_whitespace().nth(1).expect("its pages");
    pages.parse::<u64>().expect("a number") * 4096
}

#[test]
fn a_collector_that_comes_back_gets_what_waited() {
    each_host(|host, envoy, at| {
        let mesh = host.reporting(envoy, "http/protobuf", r#"{"timeout_ms": 200}"#);
        mesh.sink
            .set_fault(Some(Fault::status(503).after(Duration::from_secs(1))));
        send(&mesh, 10);
        mesh.wait_for_counter("report.retries", 1);
        mesh.sink.set_fault(None);
        let started = Instant::now();
        mesh.sink.wait_for_spans(10).expect("the spans");
        send(&mesh, 1);
        mesh.wait_for_counter("report.exported", 11);
        eprintln!("{at} recovered after {:?}", started.elapsed());
    });
}

#[test]
fn a_collector_that_nobody_serves_is_one_line() {
    each_host(|host, envoy, at| {
        for protocol in PROTOCOLS {
            let mesh = host.reporting(envoy, protocol, "{}");
            mesh.sink.set_fault(Some(Fault::status(503)));
            send(&mesh, 3);
            let said = "calls to the cluster \"collector\" fail and are made again: ";
            mesh.envoy.wait_for_log(said).expect("a line");
            mesh.wait_for_counter("report.retries", 3);
            let log = mesh.envoy.log().expect("the log");
            assert_eq!(log.matches(said).count(), 1, "{at}: {log}");
        }
    });
}

#[test]
fn what_is_not_sampled_is_counted() {
    each_host(|host, envoy, at| {
        for keeps in [true, false] {
            let report = json!({"cluster": "collector", "keep": {"errors": keeps}});
            let config = json!({"report": report, "sampling": {"default": "never"}});
            let mesh = host.start(envoy, config);
            for count in 1..=3 {
                mesh.send(&get(&[]));
                mesh.wait_for_counter("report.not_sampled", count);
            }
            assert_eq!(mesh.counter("report.calls"), 0, "{at}");
        }
    });
}

/// The collector stands behind an Envoy that answers 413 to a body of more than four kilobytes.
#[test]
fn a_call_that_is_too_large_is_made_again_in_parts() {
    const SPANS: usize = 60;

    each_host(|host, envoy, at| {
        let (sink, upstream) = (
            OtlpSink::start().expect("a collector"),
            Upstream::start().expect("an upstream"),
        );
        let limit = HttpFilter::raw(
            "envoy.filters.http.buffer",
            json!({
                "@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer",
                "max_request_bytes": 4096,
            }),
        );
        let gate = HttpConnectionManager::new()
            .route(Route::prefix("/").cluster("sink"))
            .filter(limit);
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("gate", gate))
            .cluster(Cluster::http1("sink", sink.http_addr()));
        let gate = Envoy::start(envoy, bootstrap).expect("an Envoy that starts");
        let config = reporting("http/protobuf", r#"{"batch": {"interval_ms": 1000}}"#);
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("ingress", host.manager(config)))
            .cluster(Cluster::http1("upstream", upstream.address()))
            .cluster(Cluster::http1(
                "collector",
                gate.address("gate").expect("its address"),
            ));
        let envoy =
            Envoy::start_with(envoy, bootstrap, host.options()).expect("an Envoy that starts");
        let address = envoy.address("ingress").expect("its address");
        let mut connection = Connection::open(address).expect("a connection");
        for _ in 0..SPANS {
            connection.send(&sampled()).expect("a response");
        }
        sink.wait_for_spans(SPANS).expect("all spans");
        let counter = |name: &str| {
            let name = host.counter(&format!("report.{name}"));
            envoy.wait_for_stat(&name, |_| true).expect("a counter")
        };
        assert!(counter("split") >= 1, "{at}");
        assert_eq!(
            (counter("dropped.too_large"), counter("dropped.refused")),
            (0, 0),
            "{at}"
        );
        assert_eq!(sink.spans().len(), SPANS, "{at}: each once");
    });
}

#[test]
fn an_unknown_cluster_is_one_line_and_a_counter() {
    each_host(|host, envoy, at| {
        for protocol in PROTOCOLS {
            let mesh = host.reporting(envoy, protocol, r#"{"cluster": "nowhere"}"#);
            for round in 1..=3 {
                send(&mesh, 2);
                mesh.wait_for_counter("report.dropped.unknown_cluster", round * 2);
            }
            let log = mesh.envoy.log().expect("the log");
            let complaints = log.matches("Envoy knows no cluster \"nowhere\"").count();
            assert_eq!(complaints, 1, "{at}: {log}");
        }
    });
}

/// Spans that no tick would have sent for a minute. Envoy's workers end without waiting for what
/// was just written, so most of the time it does not go out where the machine is busy: it must be
/// seen to go out at all.
#[test]
#[ignore = "by chance: make long"]
fn the_queue_is_flushed_when_envoy_ends() {
    each_supported(|envoy| {
        let flushed = (0..100).any(|_| {
            let report = r#"{"batch": {"interval_ms": 60000, "max_spans": 4}}"#;
            let mesh = Collected::start(envoy, "http/protobuf", report);
            // A full batch, and with it a connection.
            send(&mesh, 4);
            mesh.wait_for_counter("report.exported", 4);
            // Three batches more, and one that is not full.
            send(&mesh, 13);
            mesh.envoy.admin("POST", "/quitquitquit").expect("the end");
            wait_for_end(&mesh.envoy);
            mesh.sink.spans().len() == 17
        });
        assert!(flushed, "{}", envoy.reported_version());
    });
}

fn wait_for_end(envoy: &Envoy) {
    let stat = format!("/proc/{}/stat", envoy.process_id());
    let is_running = || fs::read_to_string(&stat).is_ok_and(|text| !text.contains(") Z "));
    let started = Instant::now();
    while is_running() && started.elapsed() < envoy_test_harness::WAIT_LIMIT {
        std::thread::sleep(Duration::from_millis(20));
    }
    // What was sent is read a moment later.
    std::thread::sleep(Duration::from_millis(200));
}

/// The connections of the old configuration go on until they end, and their spans with them.
#[test]
fn an_update_loses_no_span() {
    each_host(|host, envoy, at| {
        let listener = |name: &str| {
            let report = format!(
                r#"{{"batch": {{"interval_ms": 60000}}, "resource": {{"service.name": "{name}"}}}}"#
            );
            Listener::http("ingress", host.manager(reporting("http/protobuf", &report)))
        };
        let bootstrap = Bootstrap::new().watched_listener(listener("old"));
        // The old listener's connections are closed at once.
        let arguments = ["--drain-time-s", "1", "--drain-strategy", "immediate"];
        let options = arguments.iter().fold(host.options(), |options, argument| {
            options.argument(argument)
        });
        let mesh = Collected::on(host, envoy, "http/protobuf", bootstrap, options);
        send(&mesh, 7);
        mesh.envoy
            .update_listener(listener("new"))
            .expect("an update");
        let spans = mesh.sink.wait_for_spans(7);
        let spans = spans.unwrap_or_else(|error| panic!("{at}: {error}"));
        assert!(spans.iter().all(|span| span.service == "old"), "{at}");
        if host == Host::Wasm {
            // Where the old plugin is kept until the answer has come, it is counted.
            mesh.wait_for_counter("report.exported", 7);
        }
        send(&mesh, 3);
        mesh.envoy
            .update_listener(listener("newer"))
            .expect("an update");
        let spans = mesh.sink.wait_for_spans(10);
        let spans = spans.unwrap_or_else(|error| panic!("{at}: {error}"));
        let new = spans.iter().filter(|span| span.service == "new");
        assert_eq!((spans.len(), new.count()), (10, 3), "{at}");
    });
}

/// Only contexts that saw requests export: the main thread has a VM too.
#[test]
fn an_idle_proxy_sends_nothing() {
    for host in Host::ALL {
        let mesh = host.reporting(&newest(), "http/protobuf", "{}");
        std::thread::sleep(Duration::from_millis(500));
        assert!(mesh.sink.exports().is_empty(), "{host:?}");
    }
}

#[test]
fn each_plugin_has_a_collector_of_its_own_though_they_share_a_vm() {
    let envoy = newest();
    let other = OtlpSink::start().expect("a collector");
    let filter = |name: &str, cluster: &str| {
        let report = format!(r#"{{"cluster": "{cluster}"}}"#);
        envoy_test_harness::config::WasmFilter::new(name, common::module("mesh_tracing"))
            .vm_id("shared")
            .configuration(reporting("http/protobuf", &report).to_string())
    };
    let bootstrap = Bootstrap::new()
        .listener(Listener::http(
            "ingress",
            manager(filter("one", "collector")),
        ))
        .listener(Listener::http("other", manager(filter("two", "other"))))
        .cluster(Cluster::http1("other", other.http_addr()));
    let mesh = Collected::with(&envoy, "http/protobuf", bootstrap);
    let address = mesh.envoy.address("other").expect("its address");
    let mut connection = Connection::open(address).expect("a connection");
    for _ in 0..3 {
        connection.send(&sampled()).expect("a response");
    }
    send(&mesh, 2);
    other.wait_for_spans(3).expect("the spans");
    mesh.sink.wait_for_spans(2).expect("the spans");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!((other.spans().len(), mesh.sink.spans().len()), (3, 2));
}
