//! A panic in a hook ends at the boundary: the request goes on, and the panic is counted. The module
//! is one with faults that a request provokes.

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, Listener};
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::host::Host;
use meshtrace_test_support::native::{envoys, flush, manager, provoked, tracing};
use meshtrace_test_support::reporting::{Collected, reporting};

#[test]
fn a_panic_fails_no_request_and_is_counted() {
    for envoy in envoys() {
        let version = envoy.reported_version();
        let tracing = tracing(reporting("http/protobuf", "{}"))
            .request_header_tag("x-provoke", "x-provoke")
            .spawn_upstream_span(true);
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("ingress", manager(tracing)))
            .merge(flush());
        let mesh = Collected::on(Host::Native, &envoy, "http/protobuf", bootstrap, provoked());
        let parent = format!("00-{TRACE}-{SPAN}-01");
        let request = || Request::get("/").header("traceparent", &parent);
        // Without a context that was injected the request leaves as it came. Without a span that was
        // started there is no span.
        for (hook, spans, panics) in [
            ("start_span", 0, 1),
            ("inject_context", 2, 1),
            ("set_tag", 2, 2),
        ] {
            let what = format!("{version} {hook}");
            mesh.sink.clear();
            mesh.upstream.take();
            let before = mesh.counter("panics");
            let response = mesh.send(&request().header("x-provoke", hook));
            assert_eq!(response.status, 200, "{what}");
            let left = mesh.upstream.take().remove(0);
            let is_told = left.header_text("traceparent") != Some(parent.clone());
            assert_eq!(is_told, hook == "set_tag", "{what}");
            // What follows is traced as if nothing had been.
            assert_eq!(mesh.send(&request()).status, 200, "{what}");
            mesh.sink.wait_for_spans(spans + 2).expect("the spans");
            mesh.wait_for_counter("panics", before + panics);
            assert_eq!(mesh.counter("panics"), before + panics, "{what}");
            assert_eq!(mesh.sink.spans().len(), spans + 2, "{what}");
        }
        let log = mesh.envoy.log().expect("the log");
        assert!(!log.contains("Caught"), "{version}: {log}");
    }
}

/// What must end a process that runs under AddressSanitizer, where nothing else sees it.
#[test]
#[ignore = "only with a sanitizer: make long"]
fn the_sanitizer_sees_what_is_read_after_it_was_freed() {
    for envoy in envoys() {
        let version = envoy.reported_version();
        let manager = manager(tracing(reporting("http/protobuf", "{}")));
        let bootstrap = Bootstrap::new().listener(Listener::http("ingress", manager));
        let mesh = Collected::on(Host::Native, &envoy, "http/protobuf", bootstrap, provoked());
        let request = Request::get("/").header("x-provoke", "use-after-free");
        let address = mesh.envoy.address("ingress").expect("its address");
        assert!(request.send(address).is_err(), "{version}: it goes on");
        let line = mesh.envoy.wait_for_log("heap-use-after-free");
        assert!(line.expect("the report").contains("AddressSanitizer"));
    }
}
