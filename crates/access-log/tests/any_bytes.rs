//! No header, however malformed, ends a VM.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use meshtrace_access_log::{AccessLogIds, AccessLogTraceConfig, Ids, Tally};
use meshtrace_headers::{Headers, encode};
use meshtrace_propagation::Field;
use proptest::prelude::*;

const T: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const S: &str = "00f067aa0ba902b7";

fn name() -> impl Strategy<Value = Vec<u8>> {
    let known = proptest::sample::select(Field::ALL).prop_map(|field| field.name().to_vec());
    let own = proptest::sample::select(vec!["x-t", "x-s", "x-request-id"])
        .prop_map(|name| name.as_bytes().to_vec());
    prop_oneof![4 => known, 2 => own, 1 => proptest::collection::vec(any::<u8>(), 0..12)]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let valid = proptest::sample::select(vec![
        format!("00-{T}-{S}-01"),
        format!("{T}-{S}-1-{S}"),
        T.to_owned(),
        S.to_owned(),
        "1".to_owned(),
    ]);
    prop_oneof![
        valid.prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..80),
        "[0-9a-f-]{0,60}".prop_map(String::into_bytes),
    ]
}

fn headers() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
    proptest::collection::vec((name(), value()), 0..12)
}

fn configurations() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "{}",
        r#"{"tracer": "none", "extract": ["datadog", "xray"]}"#,
        r#"{"tracer": "b3", "spawn_upstream_span": true, "shared_span_context": true}"#,
        r#"{"tracer": ["b3", "tracecontext"], "spawn_upstream_span": false}"#,
        r#"{"tracer": "tracecontext", "ids": {"trace_id_header": "x-t", "span_id_header": "x-s"},
            "shapes": ["datadog", "b3_64", {"gcp": {"project": "p"}}],
            "response_header": {"name": "x-trace-id", "traceresponse": true}}"#,
    ])
}

proptest! {
    #[test]
    fn whatever_comes_every_value_is_short_ascii_and_a_span_has_its_trace(
        config in configurations(),
        came in proptest::option::of(headers()),
        end in headers(),
    ) {
        let config: AccessLogTraceConfig = meshtrace_config::read(config.as_bytes()).unwrap();
        let ids = AccessLogIds::new(&config).unwrap();
        let mut tally = Tally::default();
        let came = came.map(|came| encode(&came));
        let arrival = came
            .as_ref()
            .map(|came| ids.arrive(Headers::parse(came).unwrap(), &mut tally));
        let end = encode(&end);
        let told = ids.at_end(arrival.as_ref(), Headers::parse(&end).unwrap(), &mut tally);
        prop_assert!(told.trace_id.is_some() || told == Ids::default());
        if let Some(arrival) = &arrival {
            // What was certain stays so.
            let before = arrival.recorded();
            prop_assert!(before.span_id.is_none() || before.span_id == told.span_id || before.trace_id != told.trace_id);
            ids.inject_response(arrival, |_, value| assert!(value.is_some()));
        }
        ids.write(&told, &Ids::default(), |_, value| {
            let value = value.unwrap();
            assert!(value.is_ascii() && value.len() <= 128);
        });
    }
}
