//! A client cannot keep its own value of an attribute in `baggage` by leaving no room for ours.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may fail")]

use meshtrace_attributes::{Attributes, Counter, Tally};
use meshtrace_headers::{Arena, Change, Edits, Headers, encode};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// The bytes of a `baggage` that is written (W3C Baggage, section 3.3.2).
const MAX_BYTES: usize = 8192;

/// What `baggage` becomes: `None` where it is not touched, and nothing where it goes.
fn baggage(lines: &[(&str, &str)], has_memory: bool) -> (Option<String>, Tally) {
    let json = r#"{"attributes": [{"key": "user.id", "from": {"header": "x-u"}, "max_length": 200}],
                   "emit": {"baggage": true}}"#;
    let config = meshtrace_config::read(json.as_bytes()).expect("a configuration");
    let attributes = Attributes::new(&config, &|_| None).expect("one that compiles");
    let block = encode(lines);
    let headers = Headers::parse(&block).unwrap();
    let (arena, mut tally) = (Arena::new(), Tally::default());
    let gathered = attributes.of_request(headers, &[], &arena, &mut tally);
    let mut edits = Edits::new_in(&arena, 8);
    if !has_memory {
        arena.set_allocation_limit(Some(arena.allocated_bytes()));
        while arena.try_alloc(0_u8).is_ok() {}
    }
    attributes.write_headers(&gathered, headers, &arena, &mut edits, &mut tally);
    let change = edits.change_of(b"baggage");
    let text = change.map(|change| match change {
        Change::Replace(value) => String::from_utf8_lossy(value.as_bytes()).into_owned(),
        Change::Remove | Change::Append(_) => String::new(),
    });
    (text, tally)
}

fn members(count: usize) -> String {
    let members: Vec<_> = (0..count).map(|i| format!("k{i:02}=v")).collect();
    members.join(",")
}

#[test]
fn a_clients_value_goes_whether_or_not_there_is_room_for_ours() {
    let others = members(64);
    let longest = format!("a={}", "x".repeat(MAX_BYTES - 2));
    let too_long = format!("b=1,{longest}");
    for (came, expected) in [
        (format!("user.id=mallory,{others}"), others.clone()),
        (format!("{others},user.id=mallory"), others.clone()),
        (format!("user.id = mallory ;p=1,{others}"), others.clone()),
        (format!("user.id=m,user.id=n,{others}"), others.clone()),
        (format!("user.id=mallory,{longest}"), longest.clone()),
        // More than may be written: whole members, as many as there is room for, and ours.
        (
            format!("user.id=mallory,{too_long}"),
            "b=1,user.id=alice".to_owned(),
        ),
        (
            format!("{too_long},user.id=mallory"),
            "b=1,user.id=alice".to_owned(),
        ),
    ] {
        let lines = [("x-u", "alice"), ("baggage", came.as_str())];
        let (left, tally) = baggage(&lines, true);
        assert_eq!(left.as_deref(), Some(expected.as_str()), "{came}");
        assert!(tally.has(Counter::BaggageFull), "{came}");
    }
}

#[test]
fn several_lines_are_one_list() {
    let others = members(64);
    let lines = [
        ("x-u", "alice"),
        ("baggage", others.as_str()),
        ("baggage", "user.id=mallory"),
    ];
    assert_eq!(baggage(&lines, true).0.as_deref(), Some(others.as_str()));
}

#[test]
fn what_is_no_attributes_stays_where_there_is_no_room() {
    let too_long = format!("b=1,a={}", "x".repeat(MAX_BYTES));
    for came in [members(64), members(70), too_long] {
        let (left, tally) = baggage(&[("x-u", "alice"), ("baggage", &came)], true);
        assert_eq!(left, None, "{came}");
        assert!(tally.has(Counter::BaggageFull));
        // Without a value of its own an attribute is the client's to say.
        let came = format!("user.id=mallory,{came}");
        let (left, tally) = baggage(&[("baggage", &came)], true);
        assert_eq!(left, None, "{came}");
        assert!(!tally.has(Counter::BaggageFull));
    }
}

#[test]
fn a_clients_value_goes_without_memory_too() {
    let with = |came| baggage(&[("x-u", "alice"), ("baggage", came)], false);
    let (left, tally) = with("user.id=mallory,k=v");
    assert_eq!(left.as_deref(), Some(""));
    assert!(tally.has(Counter::BaggageFull));
    assert_eq!(with("k=v").0, None);
}
