//! A bad configuration of `route_sampling`, and requests that no good one expects.

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, Listener};
use envoy_test_harness::each_supported;
use meshtrace_test_support::common::{Mesh, manager};
use meshtrace_test_support::refusal::Filter;

const FILTER: Filter = Filter {
    name: "route_sampling",
    good: r#"{"default": "always"}"#,
    bad: r#"{"rules": [{"match": {"path": {"regex": "/a["}}, "sample": "always"}]}"#,
    bad_line: "route_sampling.rules[0].match.path.regex: not a regular expression",
    bad_update: r#"{"default": {"ratio": 10}}"#,
    bad_update_line: "route_sampling.default.ratio: impossible value: 10",
};

/// Whether the filter's decision reaches the tracer.
fn works(mesh: &Mesh) -> bool {
    let seen = mesh.pass(&mut mesh.connect("ingress"), &Request::get("/a"));
    let decision = seen.header_text("x-envoy-force-trace");
    assert!(
        matches!(decision.as_deref(), None | Some("true")),
        "{decision:?}"
    );
    decision.is_some()
}

#[test]
fn a_bad_first_configuration_loads_inert_in_a_static_listener() {
    FILTER.in_a_static_listener(works);
}

#[test]
fn over_lds_a_bad_first_configuration_loads_inert_and_a_bad_update_runs_the_last_good_one() {
    FILTER.over_lds(works);
}

#[test]
fn over_ecds_a_bad_first_configuration_loads_inert_and_a_bad_update_runs_the_last_good_one() {
    FILTER.over_ecds(works);
}

#[test]
fn strict_refuses_a_bad_first_configuration() {
    FILTER.where_it_is_strict();
}

/// Header lines that are no text, no path, or very many: the request passes, and is decided about.
#[test]
fn no_request_fails_however_odd_it_is() {
    let config = r#"{
        "rules": [
            {"match": {"path": {"regex": "/[^/]*"}, "headers": [{"name": "x-bin", "prefix": "a"}]}, "sample": "never"},
            {"match": {"path": {"template": "/{a}/{b}"}, "host": "*.example"}, "sample": {"ratio": 0.5}}
        ],
        "force": {"header": "x-force", "value_env": "NOT_THERE"},
        "default": {"per_second": 1}
    }"#;
    let long = "/".to_owned() + &"x/".repeat(4000);
    each_supported(|envoy| {
        let listener = Listener::http("ingress", manager(FILTER.with(config)));
        let mesh = Mesh::with(envoy, Bootstrap::new().listener(listener));
        let mut connection = mesh.connect("ingress");
        for path in ["/", "//", "/%ff", "/?", &long] {
            let many = (0..80).map(|i| (format!("x-{i}"), b"\xff\xfe".as_slice()));
            let odd = [
                ("x-bin".to_owned(), &b"\xff\xfe"[..]),
                ("x-force".to_owned(), b"\xff"),
                ("traceparent".to_owned(), b"00-\xff"),
            ];
            let request = odd
                .into_iter()
                .chain(many)
                .fold(Request::get(path), |request, (name, value)| {
                    request.header(name, value)
                });
            let seen = mesh.pass(&mut connection, &request);
            assert_eq!(seen.header("x-force"), None);
        }
        let errors = mesh.envoy.stat("wasmcustom.meshtrace.host_errors");
        assert_eq!(errors.ok(), Some(0));
    });
}
