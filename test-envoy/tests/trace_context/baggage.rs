//! `baggage_from` on every supported Envoy: what an application reads in `baggage`.
//!
//! W3C Baggage, sections 3.3.1 (a member's key is a token) and 3.3.2 (the limits), decides.

use envoy_test_harness::config::{HttpConnectionManager, Route};
use envoy_test_harness::each_supported;
use envoy_test_harness::upstream::Reply;
use meshtrace_test_support::common::{Mesh, get, manager, trace_context};

#[test]
fn baggage_of_other_formats_is_joined_and_what_came_stays() {
    each_supported(|envoy| {
        let both = r#"{"baggage_from": ["jaeger", "ottrace"]}"#;
        let cleared = r#"{"baggage_from": ["jaeger", "ottrace"], "clear": ["jaeger", "ottrace"]}"#;
        let mesh = Mesh::start_on(
            envoy,
            vec![
                ("both", manager(trace_context(both))),
                ("cleared", manager(trace_context(cleared))),
                ("default", manager(trace_context(""))),
            ],
        );
        let sent = [
            ("baggage", "k = v;p=1"),
            ("uberctx-User", "J%C3%B6rg+B"),
            ("baggage", "l=2"),
            ("ot-baggage-tenant", "a,b \u{e9}"),
            ("uberctx-k", "other"),
        ];
        let joined = "k = v;p=1,l=2,user=J%C3%B6rg%20B,tenant=a%2Cb%20%C3%A9";
        let version = envoy.reported_version();
        for (listener, expected, originals) in [
            ("both", vec![joined], 3),
            ("cleared", vec![joined], 0),
            ("default", vec!["k = v;p=1", "l=2"], 3),
        ] {
            let left = mesh.pass(&mut mesh.connect(listener), &get(&sent));
            let baggage = left.header_values("baggage");
            let expected: Vec<_> = expected.iter().map(|text| text.as_bytes()).collect();
            assert_eq!(baggage, expected, "{listener} on {version}");
            let prefixes: [&[u8]; 2] = [b"uberctx-", b"ot-baggage-"];
            let names = left
                .headers
                .iter()
                .map(|(name, _)| name.to_ascii_lowercase());
            let kept = names.filter(|name| prefixes.iter().any(|p| name.starts_with(p)));
            assert_eq!(kept.count(), originals, "{listener} on {version}");
        }
        // As many headers as Envoy takes, and the longest value that is built.
        let many: Vec<_> = (0..80)
            .map(|i| (format!("uberctx-k{i}"), "x".repeat(300)))
            .collect();
        let many: Vec<_> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let left = mesh.pass(&mut mesh.connect("cleared"), &get(&many));
        let baggage = left.header_text("baggage").expect("baggage");
        assert!(baggage.len() <= 8192 && baggage.len() > 7800, "{version}");
        let members: Vec<_> = baggage.split(',').collect();
        assert!(
            members.iter().all(|member| member.len() >= 303),
            "{version}"
        );
        assert!(
            !left
                .headers
                .iter()
                .any(|(name, _)| name.starts_with(b"uberctx")),
            "{version}"
        );
        for (counter, expected) in [
            ("baggage.joined", 3),
            ("baggage.full", 1),
            ("edits_dropped", 0),
        ] {
            let name = format!("wasmcustom.meshtrace.trace_context.{counter}");
            assert_eq!(
                mesh.envoy.stat(&name).ok(),
                Some(expected),
                "{counter} on {version}"
            );
        }
        assert_eq!(
            mesh.envoy.stat("wasmcustom.meshtrace.host_errors").ok(),
            Some(0)
        );
    });
}

#[test]
fn upstream_it_is_joined_once_whatever_the_number_of_attempts() {
    each_supported(|envoy| {
        let config =
            r#"{"placement": "upstream", "tracer": "tracecontext", "baggage_from": ["jaeger"]}"#;
        let manager = HttpConnectionManager::new()
            .route(Route::prefix("/").cluster("upstream").retry("5xx", 2))
            .upstream_filter(trace_context(config));
        let mesh = Mesh::start_on(envoy, vec![("ingress", manager)]);
        mesh.upstream.respond_with(|_| Reply::status(503));
        let request = get(&[("uberctx-user", "1"), ("baggage", "k=v")]);
        mesh.connect("ingress").send(&request).expect("a response");
        let attempts = mesh.upstream.take();
        assert_eq!(attempts.len(), 3);
        for attempt in attempts {
            assert_eq!(attempt.header_values("baggage"), [b"k=v,user=1"]);
        }
    });
}
