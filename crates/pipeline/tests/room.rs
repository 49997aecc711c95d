//! A removal or a value that is configured has room, whatever a client sends.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may fail"
)]

use meshtrace_headers::{Change, Headers, encode};
use meshtrace_pipeline::{
    ARENA_BYTES, Arena, Composition, MAX_EDITS, MeshTracing, NoHost, Outcome, Proxy, Request,
    TraceContext,
};
use meshtrace_propagation::{Field, IdGenerator, Peer, families};

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|i| format!("{prefix}{i}")).collect()
}

/// Every known header, one of every family, and these.
fn everything(further: &[&[String]]) -> Vec<(String, String)> {
    let fields = Field::ALL.iter().map(|field| field.name().to_vec());
    let fields = fields.map(|name| String::from_utf8(name).unwrap());
    let families = families().flat_map(|family| {
        let of_prefix = format!("{}of-a-client", family.prefix);
        let of_prefix = (!family.prefix.is_empty()).then_some(of_prefix);
        let names = family.names.iter().map(|name| (*name).to_owned());
        names.chain(of_prefix)
    });
    let further = further.iter().copied().flatten().cloned();
    let mut sent: Vec<_> = fields
        .chain(families)
        .chain(further)
        .map(|name| (name, "mallory".to_owned()))
        .collect();
    sent.push(("baggage".to_owned(), "key0=mallory,k=v".to_owned()));
    sent.push(("x-attr-of-a-client".to_owned(), "mallory".to_owned()));
    sent
}

/// Has `look` see what becomes of a request that was `sent`, within the memory that a request has.
fn after<C: Composition>(json: &str, sent: &[(String, String)], look: impl FnOnce(&Outcome<'_>)) {
    let composition = C::from_json(
        json.as_bytes(),
        &Proxy::with_environment(&|_| Some(b"key".to_vec())),
    )
    .expect(json);
    let block = encode(sent);
    let arena = Arena::with_capacity(ARENA_BYTES);
    arena.set_allocation_limit(Some(arena.allocated_bytes()));
    let mut outcome = Outcome::new_in(&arena);
    let request = Request {
        headers: Headers::parse(&block).unwrap(),
        peer: Peer::default(),
        cluster: None,
        properties: &[],
        clock: &NoHost,
        arena: &arena,
        shared: &NoHost,
    };
    let ids = IdGenerator::from_seed([7; 32]);
    composition.on_request(
        &request,
        &ids,
        &mut C::RequestState::default(),
        &mut outcome,
    );
    assert!(!outcome.headers.overflowed(), "{json}");
    assert!(!outcome.properties.overflowed(), "{json}");
    look(&outcome);
}

/// 32 attributes from the headers `x-from-0` and so on.
fn attributes() -> String {
    let attributes: Vec<_> = (0..32)
        .map(|i| format!(r#"{{"key": "key{i}", "from": {{"header": "x-from-{i}"}}}}"#))
        .collect();
    format!(
        r#"{{"attributes": [{}], "emit": {{"request_header_prefix": "x-attr-", "baggage": true}}}}"#,
        attributes.join(",")
    )
}

#[test]
fn all_that_is_configured_happens_to_a_request_with_everything() {
    let cleared = names("x-cleared-", 16);
    let sources = names("x-from-", 32);
    let helpers: Vec<_> = [
        "x-id-a",
        "x-id-b",
        "x-id-c",
        "x-force",
        "x-envoy-force-trace",
    ]
    .map(str::to_owned)
    .into();
    let every = r#"["tracecontext", "b3", "b3multi", "jaeger", "ottrace", "xray", "gcp", "datadog",
                    "grpc-trace-bin"]"#;
    let sent = everything(&[&cleared, &sources, &helpers]);
    for (rest, injected) in [
        (
            r#""sampling": {"ids": {"trace_id_header": "x-id-a"}, "default": "always",
                            "force": {"header": "x-force", "value_env": "KEY"}},
               "access_log": {"ids": {"trace_id_header": "x-id-b", "span_id_header": "x-id-c"}}"#,
            "[]",
        ),
        (
            r#""sampling": {"ids": {"trace_id_header": "x-id-a"}, "default": "always",
                            "force": {"header": "x-force", "value_env": "KEY"}},
               "access_log": {"ids": {"trace_id_header": "x-id-b", "span_id_header": "x-id-c"}}"#,
            every,
        ),
        (
            r#""sampling": {"force": {"header": "x-force", "value_env": "KEY"}},
               "report": {"cluster": "c"}"#,
            every,
        ),
    ] {
        let json = format!(
            r#"{{"trace_context": {{"incoming": "ignore", "clear": {cleared:?}, "extract": {every},
                                    "inject": {injected}}},
                 "span_attributes": {}, {rest}}}"#,
            attributes()
        );
        after::<MeshTracing>(&json, &sent, |outcome| {
            let edits = &outcome.headers;
            for (name, _) in &sent {
                let name = name.as_bytes();
                let mut families = edits.families().iter();
                let in_family = families.any(|family| name.starts_with(family));
                let is_source = name.starts_with(b"x-from-");
                let is_helper = helpers.iter().any(|helper| helper.as_bytes() == name);
                let change = edits.change_of(name);
                let shown = String::from_utf8_lossy(name);
                assert!(
                    in_family || change.is_some() || is_source || is_helper,
                    "{shown} stays: {json}"
                );
                if cleared.iter().any(|known| known.as_bytes() == name) || name == b"x-force" {
                    assert!(matches!(change, Some(Change::Remove)), "{shown}");
                }
            }
            for i in 0..32 {
                let header = format!("x-attr-key{i}");
                let change = edits.change_of(header.as_bytes());
                assert!(matches!(change, Some(Change::Replace(_))), "{header}");
            }
            assert!(edits.change_of(b"baggage").is_some());
        });
    }
}

/// `count` overrides that clear sixteen names of their own each.
fn overrides(count: usize) -> String {
    let overrides: Vec<_> = (0..count)
        .map(|i| {
            let names = names(&format!("x-cleared-{i}-"), 16);
            format!(r#"{{"host": "h{i}.example", "clear": {names:?}}}"#)
        })
        .collect();
    format!(
        r#"{{"request_headers": "filter_state", "overrides": [{}]}}"#,
        overrides.join(",")
    )
}

#[test]
fn filter_state_has_room_for_every_header_or_is_refused() {
    // Eight of the usual formats besides.
    let fits = (MAX_EDITS - 8) / 16;
    let every: Vec<_> = (0..fits)
        .flat_map(|i| names(&format!("x-cleared-{i}-"), 16))
        .collect();
    let sent = everything(&[&every]);
    after::<TraceContext>(&overrides(fits), &sent, |outcome| {
        for name in &every {
            let change = outcome.headers.change_of(name.as_bytes());
            assert!(matches!(change, Some(Change::Replace(_))), "{name}");
        }
    });
    let json = overrides(fits + 1);
    let refusal = TraceContext::from_json(json.as_bytes(), &Proxy::UNKNOWN).expect_err("too many");
    let count = (fits + 1) * 16 + 8;
    let expected = format!(
        "trace_context.request_headers: \"filter_state\" has room for {MAX_EDITS} headers of a \
         request, and this configuration manages {count}: clear fewer"
    );
    let refusal = refusal.to_string();
    assert!(refusal.starts_with(&expected), "{refusal}");
    // Edits are those of one destination.
    let edited = json.replace("filter_state", "edit");
    assert!(TraceContext::from_json(edited.as_bytes(), &Proxy::UNKNOWN).is_ok());
}

#[test]
fn an_attribute_without_room_is_not_joined_from_a_clients_other_baggage() {
    let json = r#"{"trace_context": {"baggage_from": ["jaeger"]}, "report": {"cluster": "c"},
        "span_attributes": {"attributes": [{"key": "user.id", "from": {"header": "x-u"}}],
                            "emit": {"baggage": true}}}"#;
    let line = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let sent = |filling: usize| {
        [
            line("x-u", &"u".repeat(200)),
            line("baggage", &format!("a={}", "x".repeat(filling))),
            line("uberctx-user.id", "m"),
        ]
    };
    after::<MeshTracing>(json, &sent(8100), |outcome| {
        assert!(outcome.headers.change_of(b"baggage").is_none());
    });
    after::<MeshTracing>(json, &sent(10), |outcome| {
        let change = outcome.headers.change_of(b"baggage");
        let Some(Change::Replace(value)) = change else {
            panic!("{change:?}");
        };
        assert!(value.as_bytes().ends_with(&b"u".repeat(200)));
    });
}
