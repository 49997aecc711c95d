//! A thousand rules decide as a few do.

use envoy_test_harness::client::Request;
use meshtrace_test_support::host::each_host;
use meshtrace_test_support::reporting::traceparent;
use serde_json::json;

const RULES: usize = 1000;

#[test]
fn each_of_a_thousand_rules_is_found_and_counted() {
    each_host(|host, envoy, at| {
        let rule = |i: usize| {
            let sample = if i.is_multiple_of(2) {
                "always"
            } else {
                "never"
            };
            json!({
                "name": format!("r{i}"),
                "match": {"path": {"template": format!("/shop{i}/{{id}}")}},
                "sample": sample,
            })
        };
        let rules: Vec<_> = (0..RULES).map(rule).collect();
        let config = json!({
            "sampling": {"rules": rules, "default": "never"},
            "report": {"cluster": "collector"},
        });
        let mesh = host.start(envoy, config);
        for i in [0, 1, 499, 500, 998, 999_usize] {
            mesh.send(&Request::get(&format!("/shop{i}/7")));
            let told = mesh.upstream.take().remove(0);
            let (flags, decision) = match i.is_multiple_of(2) {
                true => ("01", "sampled"),
                false => ("00", "dropped"),
            };
            assert_eq!(traceparent(&told)[2], flags, "{at}: {i}");
            mesh.wait_for_counter(&format!("route_sampling.rule.r{i}.{decision}"), 1);
        }
        mesh.send(&Request::get("/shop1000/7"));
        mesh.wait_for_counter("route_sampling.default.dropped", 1);
        let spans = mesh.sink.wait_for_spans(3).expect("the spans");
        let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(
            names,
            ["GET /shop0/{id}", "GET /shop500/{id}", "GET /shop998/{id}"],
            "{at}"
        );
        mesh.assert_sound(at);
    });
}
