//! Whatever comes in.

use meshtrace_headers::{Headers, encode};
use meshtrace_pipeline::{
    ARENA_BYTES, Arena, Composition, MeshTracing, Outcome, Proxy, Request, RouteSampling,
};
use meshtrace_propagation::{IdGenerator, Peer, tracestate};
use meshtrace_sampling::{OtelState, Randomness};
use proptest::prelude::*;

use crate::traced::{Filter, assert_in_force};

/// Configurations of the stage, for a filter that reports.
const STAGES: [&str; 6] = [
    r#"{"default": {"ratio": 0.5}}"#,
    r#"{"default": "unchanged", "parent": "respect_dropped"}"#,
    r#"{"parent": "ignore", "default": "never", "rules": [
        {"match": {"path": {"template": "/users/{id}"}}, "sample": "always"}]}"#,
    r#"{"parent": "ignore", "default": {"ratio": 0.25}, "force": {"header": "x-force", "value_env": "KEY"}}"#,
    r#"{"parent": "respect_sampled", "rules": [
        {"match": {"headers": [{"name": "x-tenant", "present": true}]}, "sample": "never"},
        {"match": {"path": {"prefix": "/keep"}}, "sample": {"per_second": 1000}}]}"#,
    r#"{"parent": "respect_dropped", "default": {"ratio": 0.5}}"#,
];

fn line() -> impl Strategy<Value = (String, Vec<u8>)> {
    let name = prop_oneof![
        Just(":path"),
        Just(":method"),
        Just(":authority"),
        Just("traceparent"),
        Just("tracestate"),
        Just("b3"),
        Just("x-b3-sampled"),
        Just("x-force"),
        Just("x-tenant"),
        Just("x-envoy-force-trace"),
    ];
    let value = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        "/(keep|users)?/?[a-z?#/]{0,10}".prop_map(String::into_bytes),
        "00-4bf92f3577b34da6a3(00000000000001|ffffffffffffff|[0-9a-f]{14})-00f067aa0ba902b7-0[0-3]"
            .prop_map(String::into_bytes),
        "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7(-[01d])?".prop_map(String::into_bytes),
        "([a-d]=[a-z]{1,3},){0,4}(ot=(x:1;)?(th:[0-9a-f]{0,15};?)?(rv:[0-9a-f]{14})?,?)?[e-h]=1"
            .prop_map(String::into_bytes),
        Just(b"hunter2".to_vec()),
    ];
    (name.prop_map(str::to_owned), value)
}

fn others(members: &[tracestate::Member<'_>]) -> Vec<String> {
    let others = members.iter().filter(|member| member.key != OtelState::KEY);
    others
        .map(|member| {
            format!(
                "{}={}",
                member.key.escape_ascii(),
                member.value.escape_ascii()
            )
        })
        .collect()
}

proptest! {
    #[test]
    fn the_decision_is_in_force_and_its_probability_true(
        stage in 0..STAGES.len(),
        lines in proptest::collection::vec(line(), 0..8),
        code in prop_oneof![Just(200), Just(503)],
        seen in any::<bool>(),
    ) {
        let mut filter = Filter::sampling(STAGES[stage]);
        filter.host.code = code;
        let left = filter.run_bytes(&lines, seen);
        for span in &left.spans {
            // What is kept although it is not sampled claims nothing.
            prop_assert!(span.flags & 1 == 1 || span.trace_state.is_empty());
        }
        if !seen {
            return Ok(());
        }
        let (sampled, trace_id, _) = left.traceparent();
        let reported = left.spans.iter().any(|span| span.flags & 1 == 1);
        prop_assert_eq!(sampled, reported, "{:?}", left);
        if sampled {
            assert_in_force(&left, "sampled");
        }

        let state = left.tracestate();
        let members = tracestate::parse([state.as_bytes()].into_iter());
        let members = members.expect("a valid list");
        // `parse` keeps the first of equal keys.
        prop_assert!(state.matches("ot=").count() <= 1, "{}", state);
        if let Some(ot) = members.iter().find(|member| member.key == OtelState::KEY) {
            let ot = OtelState::parse(ot.value);
            let low = trace_id.get(18..).expect("32 digits");
            let low = u64::from_str_radix(low, 16).expect("digits");
            let randomness = ot.randomness.unwrap_or(Randomness::from_low_bits(low));
            if let Some(threshold) = ot.threshold {
                // `always` keeps all, and so does whatever it keeps.
                prop_assert_eq!(threshold.keeps(randomness), sampled, "{}", state);
            }
        }
        let came = lines.iter().filter(|(name, _)| name == "tracestate");
        let came: Vec<_> = came.map(|(_, value)| value.as_slice()).collect();
        let is_continued = lines.iter().filter(|(name, _)| name == "traceparent").count() == 1
            && lines.iter().any(|(name, value)| {
                name == "traceparent" && value.get(3..35) == Some(trace_id.as_bytes())
            });
        if let Some(came) = tracestate::parse(came.into_iter()).filter(|_| is_continued) {
            prop_assert_eq!(others(&members), others(&came));
        } else {
            prop_assert!(others(&members).is_empty(), "{}", state);
        }
    }

    /// Without `report` it is the single filter.
    #[test]
    fn before_a_tracer_it_is_route_sampling(
        stage in 0..STAGES.len(),
        lines in proptest::collection::vec(line(), 0..8),
    ) {
        let key = |_: &str| Some(b"hunter2".to_vec());
        let json = STAGES[stage];
        let single = RouteSampling::from_json(json.as_bytes(), &Proxy::with_environment(&key)).expect(json);
        let all = format!(r#"{{"sampling": {json}}}"#);
        let all = MeshTracing::from_json(all.as_bytes(), &Proxy::with_environment(&key)).expect(json);
        prop_assert_eq!(single.needs(), all.needs());
        prop_assert_eq!(single.counters(), all.counters());
        let [host, other_host] = [(); 2].map(|()| Filter::sampling("{}").host);
        let block = encode(&lines);
        let arena = Arena::with_capacity(ARENA_BYTES);
        let request = Request {
            headers: Headers::parse(&block).expect("a block"),
            peer: Peer::default(),
            cluster: None,
            properties: &[],
            clock: &host,
            arena: &arena,
            shared: &host,
        };
        let [ids, same] = [(); 2].map(|()| IdGenerator::from_seed([3; 32]));
        let (mut one, mut other) = (Outcome::new_in(&arena), Outcome::new_in(&arena));
        single.on_request(&request, &ids, &mut (), &mut one);
        let request = Request {
            clock: &other_host,
            shared: &other_host,
            ..request
        };
        all.on_request(&request, &same, &mut Default::default(), &mut other);
        prop_assert_eq!(format!("{one:?}"), format!("{other:?}"));
    }
}
