//! A wall clock that is set moves no deadline and no duration: the filter goes by the clock that
//! Envoy serves as WASI's `clock_time_get(MONOTONIC)`.

use std::thread;
use std::time::Duration;

use envoy_test_harness::client::Connection;
use envoy_test_harness::config::{Bootstrap, Listener};
use envoy_test_harness::each_supported;
use envoy_test_harness::sink::Fault;
use envoy_test_harness::upstream::Reply;
use meshtrace_test_support::common::{SPAN, TRACE, get, newest};
use meshtrace_test_support::promises;
use meshtrace_test_support::reporting::{
    self, Collected, manager, mesh_tracing, reporting, sampled,
};

use crate::wall_clock::WallClock;

const HOUR: i64 = 3600;

fn start(binary: &envoy_test_harness::EnvoyBinary, clock: &WallClock, report: &str) -> Collected {
    let filter = mesh_tracing(reporting("http/protobuf", report));
    let bootstrap = Bootstrap::new().listener(Listener::http("ingress", manager(filter)));
    Collected::with_options(binary, "http/protobuf", bootstrap, clock.options())
}

#[test]
fn spans_that_wait_are_exported_whatever_the_clock_is_set_to() {
    each_supported(|envoy| {
        for step in [-HOUR, HOUR] {
            let at = format!("{} {step}", envoy.reported_version());
            let clock = WallClock::new();
            // So many spans wait when the clock is set: for their time to come, and then for the
            // end of a back-off.
            let report = r#"{"batch": {"interval_ms": 2000}}"#;
            let mesh = start(envoy, &clock, report);
            mesh.sink.set_fault(Some(Fault::status(503)));
            let mut connection = mesh.connect();
            for _ in 0..20 {
                connection.send(&sampled()).expect("a response");
            }
            assert!(mesh.sink.exports().is_empty(), "{at}");
            clock.step(step);
            mesh.wait_for_counter("report.retries", 1);
            clock.step(2 * step);
            mesh.sink.set_fault(None);
            mesh.wait_for_counter("report.exported", 20);
            assert_eq!(mesh.sink.spans().len(), 20, "{at}");
            assert_eq!(mesh.counter("report.dropped.expired"), 0, "{at}");
            assert_eq!(mesh.counter("host_errors"), 0, "{at}");
        }
    });
    promises::held(
        "Export",
        "A wall clock that is set, forwards or back, stops no export and expires no span",
        "20 spans wait, the collector refuses, the clock is set by an hour and by another, the collector takes them",
        "20 of 20 exported, 4 versions, both directions",
    );
}

#[test]
fn a_span_lasts_as_long_as_its_request_though_the_clock_is_set_meanwhile() {
    each_supported(|envoy| {
        for step in [-HOUR, HOUR] {
            let at = format!("{} {step}", envoy.reported_version());
            let clock = WallClock::new();
            let mesh = start(envoy, &clock, r#"{"keep": {"slower_than_ms": 60000}}"#);
            mesh.upstream
                .respond_with(|_| Reply::ok().delay(Duration::from_millis(500)));
            let address = mesh.envoy.address("ingress").expect("its address");
            thread::scope(|scope| {
                for flags in ["01", "00"] {
                    scope.spawn(move || {
                        let parent = format!("00-{TRACE}-{SPAN}-{flags}");
                        let mut connection = Connection::open(address).expect("a connection");
                        connection.send(&get(&[("traceparent", &parent)]))
                    });
                }
                mesh.upstream.wait_for_requests(2).expect("both requests");
                clock.step(step);
            });
            let spans = mesh.sink.wait_for_spans(1).expect("a span");
            let lasted = spans[0].end_unix_nanos - spans[0].start_unix_nanos;
            assert!(
                (500_000_000..60_000_000_000).contains(&lasted),
                "{at}: {lasted}"
            );
            // The other one took half a second and not an hour: it is not slow.
            assert_eq!(mesh.counter("report.kept"), 0, "{at}");
        }
    });
    promises::held(
        "Spans",
        "A span lasts as long as its request did, though the wall clock is set meanwhile",
        "the clock is set by an hour, back and forth, while a request of half a second runs",
        "from 0.5 s to 60 s, and nothing is kept as slow, 4 versions",
    );
}

#[test]
fn a_rate_goes_on_whatever_the_clock_is_set_to() {
    let envoy = newest();
    let clock = WallClock::new();
    let config = serde_json::json!({
        "report": {"cluster": "collector"},
        "sampling": {"parent": "ignore", "default": {"per_second": 2}},
    });
    let bootstrap =
        Bootstrap::new().listener(Listener::http("ingress", manager(mesh_tracing(config))));
    let mesh = Collected::with_options(&envoy, "http/protobuf", bootstrap, clock.options());
    let is_sampled = || {
        mesh.send(&get(&[]));
        reporting::traceparent(&mesh.upstream.take().remove(0))[2] == "01"
    };
    for step in [0, -HOUR, HOUR] {
        clock.step(step);
        // A full bucket may be there, and no more.
        let burst = (0..20).filter(|_| is_sampled()).count();
        assert!(burst < 20, "{step}: {burst}");
        thread::sleep(Duration::from_millis(1500));
        assert!(is_sampled(), "{step}");
    }
}
