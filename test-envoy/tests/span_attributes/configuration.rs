//! A bad configuration of `span_attributes`.

use envoy_test_harness::client::Request;
use meshtrace_test_support::common::Mesh;
use meshtrace_test_support::refusal::Filter;

const FILTER: Filter = Filter {
    name: "span_attributes",
    // What the filter does is seen in a header.
    good: r#"{"emit": {"request_header_prefix": "x-span-attr-"}}"#,
    bad: r#"{"attributes": [
        {"key": "a", "from": {"header": "a"}},
        {"key": "b", "from": {"header": "b"}},
        {"key": "c", "from": {"cookies": "c"}}
    ]}"#,
    bad_line: "span_attributes.attributes[2].from: unknown source \"cookies\", expected one of `header`, \
               `response_header`, `cookie`, `query`, `path` (with `capture`), `baggage`, `jwt_claim`, \
               `property`, `env`, `literal`",
    // Mistakes of the text, and those that are found when it is compiled, are in one line.
    bad_update: r#"{"emit": {"filter_state": false, "bagage": true}, "attributes": [
        {"key": "0", "from": {"header": ""}, "max_length": "1"}
    ]}"#,
    bad_update_line: "span_attributes.emit.bagage: unknown field `bagage`, expected one of `filter_state`, \
                      `request_header_prefix`, `baggage` at line 1 column 41; also \
                      span_attributes.attributes[0].max_length: invalid type: string \"1\", expected a whole \
                      number from 0 to 4294967295 at line 2 column 62; also span_attributes.attributes[0].key: \
                      invalid value: string \"0\"",
};

/// Whether the attribute `user.id` leaves.
fn works(mesh: &Mesh) -> bool {
    let request = Request::get("/").header("x-user-id", "alice");
    let left = mesh.pass(&mut mesh.connect("ingress"), &request);
    let user = left.header_text("x-span-attr-user-id");
    assert!(matches!(user.as_deref(), None | Some("alice")), "{user:?}");
    user.is_some()
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
