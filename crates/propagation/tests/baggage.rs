//! Baggage of other formats, in W3C's header.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may fail"
)]

mod common;

use common::{Left, Lines, Row, check, parse, run};
use meshtrace_propagation::Counter;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const BOTH: &str = r#"{"baggage_from": ["jaeger", "ottrace"], "extract": []}"#;

/// The `baggage` of a request that had these lines.
fn baggage(sent: &str) -> Option<String> {
    run(BOTH, &parse(sent)).header("baggage")
}

#[test]
fn entries_are_joined_where_the_configuration_says_so() {
    check(&[
        Row {
            promise: "by default they pass as they are",
            config: "{}",
            sent: "uberctx-user: 1
                   ot-baggage-user: 2",
            left: "uberctx-user: 1
                   ot-baggage-user: 2",
            counted: &[Counter::Missing],
        },
        Row {
            promise: "the originals stay; of equal keys the first counts",
            config: BOTH,
            sent: "ot-baggage-user: 2
                   uberctx-user: 1
                   uberctx-user: 3
                   ot-baggage-tenant: acme",
            left: "ot-baggage-user: 2
                   uberctx-user: 1
                   uberctx-user: 3
                   ot-baggage-tenant: acme
                   baggage: user=1,tenant=acme",
            counted: &[Counter::Missing, Counter::BaggageJoined],
        },
        Row {
            promise: "one source alone",
            config: r#"{"baggage_from": ["ottrace"]}"#,
            sent: "uberctx-user: 1
                   ot-baggage-tenant: acme",
            left: "uberctx-user: 1
                   ot-baggage-tenant: acme
                   baggage: tenant=acme",
            counted: &[Counter::Missing, Counter::BaggageJoined],
        },
        Row {
            promise: "what stands in baggage is not overwritten, whatever the case of its key",
            config: BOTH,
            sent: "baggage: userId = old;p=1
                   uberctx-userid: new",
            left: "baggage: userId = old;p=1
                   uberctx-userid: new",
            counted: &[Counter::Missing],
        },
        Row {
            promise: "clear takes the originals of a format with it",
            config: r#"{"baggage_from": ["jaeger"], "clear": ["jaeger", "ottrace"]}"#,
            sent: "uberctx-user: 1
                   uberctx-user: 2
                   ot-baggage-user: 3
                   jaeger-baggage: k=v",
            left: "jaeger-baggage: k=v
                   baggage: user=1",
            counted: &[Counter::Missing, Counter::BaggageJoined],
        },
        Row {
            promise: "a cleared baggage is not written anew",
            config: r#"{"baggage_from": ["jaeger"], "clear": ["baggage"]}"#,
            sent: "uberctx-user: 1
                   baggage: k=v",
            left: "uberctx-user: 1",
            counted: &[Counter::Missing],
        },
        Row {
            promise: "an ignored caller's is not joined",
            config: r#"{"baggage_from": ["jaeger"], "incoming": "ignore"}"#,
            sent: "uberctx-user: 1",
            left: "",
            counted: &[Counter::Ignored],
        },
        Row {
            promise: "a key that is none in W3C is left out",
            config: BOTH,
            sent: "uberctx-: empty
                   uberctx-a(b: 1
                   uberctx-ok: 1",
            left: "uberctx-: empty
                   uberctx-a(b: 1
                   uberctx-ok: 1
                   baggage: ok=1",
            counted: &[
                Counter::Missing,
                Counter::BaggageJoined,
                Counter::BaggageMalformed,
            ],
        },
    ]);
}

#[test]
fn what_came_in_baggage_stays_to_the_letter_and_comes_first() {
    for (came, left) in [
        (
            "baggage: k = v ; p=1;q , l=%41",
            "k = v ; p=1;q,l=%41,user=1",
        ),
        ("baggage: a=1,,\nbaggage: b=2", "a=1,b=2,user=1"),
        ("baggage: a=1,", "a=1,user=1"),
        ("baggage: ,", "user=1"),
        ("baggage:", "user=1"),
        // Without an equals sign it is no member (W3C Baggage, section 3.3.1), and so not the
        // entry's key.
        ("baggage: no-value", "user=1"),
        ("baggage: user,k=v", "k=v,user=1"),
        ("baggage: usersname=2", "usersname=2,user=1"),
    ] {
        let sent = format!("uberctx-user: 1\n{came}");
        assert_eq!(baggage(&sent).as_deref(), Some(left), "{came}");
    }
    let malformed = |sent: &str| run(BOTH, &parse(sent)).tally.has(Counter::BaggageMalformed);
    assert!(malformed("uberctx-user: 1\nbaggage: junk"));
    assert!(
        !malformed("baggage: junk"),
        "nothing is joined, and it stays"
    );
    assert_eq!(baggage("baggage: junk").as_deref(), Some("junk"));
}

// W3C Baggage, section 3.3.1: what is no baggage-octet is percent-encoded, and so is a percent
// sign.
#[test]
fn values_are_percent_encoded_as_w3c_has_it() {
    let value = |name: &str, bytes: &[u8]| {
        let sent: Lines = vec![(name.to_owned(), bytes.to_vec())];
        let text = run(BOTH, &sent).header("baggage").expect("baggage");
        text.strip_prefix("k=").expect("the key").to_owned()
    };
    let jaeger = |text: &[u8]| value("uberctx-k", text);
    let ottrace = |text: &[u8]| value("ot-baggage-k", text);
    for (sent, left) in [
        (
            &b"plain!#$&'()*-./:<=>?@[]^_`{|}~"[..],
            "plain!#$&'()*-./:<=>?@[]^_`{|}~",
        ),
        (b"", ""),
        (b" a ", "a"),
        (b"a b", "a%20b"),
        (b"a,b;c\"d\\e", "a%2Cb%3Bc%22d%5Ce"),
        ("é".as_bytes(), "%C3%A9"),
        (b"\xff\x01\x7f", "%FF%01%7F"),
    ] {
        assert_eq!(jaeger(sent), left);
        assert_eq!(ottrace(sent), left);
    }
    // Jaeger's clients have URL-encoded it already.
    assert_eq!(jaeger(b"a%20b%2cc+d%2Be"), "a%20b%2cc%20d%2Be");
    assert_eq!(jaeger(b"100%"), "100%25");
    assert_eq!(jaeger(b"%4"), "%254");
    assert_eq!(jaeger(b"%zz"), "%25zz");
    assert_eq!(ottrace(b"a%20b+c"), "a%2520b+c");
}

fn numbered(count: usize) -> Lines {
    (0..count)
        .map(|i| (format!("uberctx-key{i}"), b"v".to_vec()))
        .collect()
}

fn full(left: &Left) -> bool {
    left.tally.has(Counter::BaggageFull)
}

#[test]
fn no_more_than_64_members_leave_and_those_of_baggage_come_first() {
    let left = run(BOTH, &numbered(64));
    assert_eq!(left.header("baggage").unwrap().split(',').count(), 64);
    assert!(!full(&left));

    let left = run(BOTH, &numbered(65));
    assert_eq!(left.header("baggage").unwrap().split(',').count(), 64);
    assert!(full(&left) && left.tally.has(Counter::BaggageJoined));

    let came: Vec<_> = (0..63).map(|i| format!("old{i}=v")).collect();
    let mut sent = numbered(2);
    sent.push(("baggage".to_owned(), came.join(",").into()));
    let left = run(BOTH, &sent);
    let text = left.header("baggage").unwrap();
    assert_eq!(text, format!("{},key0=v", came.join(",")));
    assert!(full(&left));
}

#[test]
fn no_more_than_8192_bytes_leave_and_no_member_is_cut() {
    let sent = |length: usize| -> Lines {
        vec![
            ("uberctx-a".to_owned(), vec![b'x'; length]),
            ("uberctx-b".to_owned(), b"1".to_vec()),
        ]
    };
    // `a=…,b=1` is 6 bytes and the value.
    let left = run(BOTH, &sent(8186));
    assert_eq!(left.header("baggage").unwrap().len(), 8192);
    assert!(!full(&left));
    let left = run(BOTH, &sent(8187));
    assert_eq!(left.header("baggage").unwrap().len(), 8189);
    assert!(full(&left));
    // One that has no room makes room for another.
    let left = run(BOTH, &sent(9000));
    assert_eq!(left.header("baggage").as_deref(), Some("b=1"));
    assert!(full(&left));

    for length in [8192, 8193, 100_000] {
        let mut sent = sent(1);
        let member = format!("k={}", "x".repeat(length - 2));
        sent.push(("baggage".to_owned(), member.into_bytes()));
        let left = run(BOTH, &sent);
        assert_eq!(left.edits, 0, "what came stays, however long");
        assert!(full(&left));
    }
}

#[test]
fn joining_twice_joins_once() {
    let once = run(BOTH, &parse("uberctx-user: a b"));
    let twice = run(BOTH, &once.lines);
    assert_eq!(twice.edits, 0);
}
