//! Configurations that change under load: no request fails, no span is lost or doubled, and the
//! process stays.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, Listener};
use meshtrace_test_support::common::SPAN;
use meshtrace_test_support::host::Host;
use meshtrace_test_support::native::{envoys, flush, manager, options, tracing};
use meshtrace_test_support::reporting::{Collected, reporting};
use meshtrace_test_support::tracers::Caller;

const CLIENTS: usize = 4;
const UPDATES: usize = 6;

#[test]
fn updates_under_load_on_two_workers_lose_and_double_no_span() {
    for envoy in envoys() {
        let version = envoy.reported_version();
        let listener = |i: usize| {
            let report = format!(r#"{{"resource": {{"service.name": "shop-{i}"}}}}"#);
            let config = reporting("http/protobuf", &report);
            let tracing = tracing(config).spawn_upstream_span(true);
            Listener::http("ingress", manager(tracing))
        };
        let bootstrap = Bootstrap::new()
            .watched_listener(listener(0))
            .merge(flush());
        let arguments = ["--drain-time-s", "1", "--drain-strategy", "immediate"];
        let options = arguments
            .iter()
            .fold(options().concurrency(2), |options, argument| {
                options.argument(argument)
            });
        let mesh = Collected::on(Host::Native, &envoy, "http/protobuf", bootstrap, options);
        let is_over = AtomicBool::new(false);
        let answered = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        // A connection of its own: the old listener closes its connections.
                        let value = format!("00-{}-{SPAN}-01", Caller::fresh().trace_id);
                        let request = Request::get("/").header("traceparent", value);
                        let address = mesh.envoy.address("ingress").expect("its address");
                        if let Ok(response) = request.send(address) {
                            assert_eq!(response.status, 200, "{version}");
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            for i in 1..=UPDATES {
                thread::sleep(Duration::from_millis(300));
                mesh.envoy.update_listener(listener(i)).expect("an update");
            }
            is_over.store(true, Ordering::Relaxed);
        });
        let answered = answered.into_inner();
        let spans = mesh.sink.wait_for_spans(2 * answered);
        let spans = spans.unwrap_or_else(|error| panic!("{version}: {error}"));
        let ids: BTreeSet<_> = spans.iter().map(|span| &span.span_id).collect();
        assert_eq!(ids.len(), spans.len(), "{version}: each once");
        let services: BTreeSet<_> = spans.iter().map(|span| &span.service).collect();
        assert!(services.len() > 1, "{version}: {services:?}");
        assert!(answered > 100, "{version}: {answered}");
    }
}
