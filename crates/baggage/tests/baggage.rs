//! W3C Baggage, section 3: what is read of the header, and what of it leaves.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use meshtrace_baggage::{Baggage, MAX_BYTES, MAX_MEMBERS, encode, members};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn encoded(value: &[u8]) -> String {
    encode(value).map(text).collect()
}

// Section 3.3.1: `key OWS "=" OWS value *( OWS ";" OWS property )`.
#[test]
fn members_are_read_with_or_without_white_space_and_properties() {
    let lines = [
        &b"a=1, b = 2 ;p;q=3 ,, c="[..],
        b"",
        b"junk, d;p=1, =, e=x=y,\te=\xff",
    ];
    let found: Vec<_> = members(lines)
        .map(|member| [text(member.key), text(member.value), text(member.text)])
        .collect();
    assert_eq!(
        found,
        [
            ["a", "1", "a=1"],
            ["b", "2", "b = 2 ;p;q=3"],
            ["c", "", "c="],
            ["", "", "="],
            ["e", "x=y", "e=x=y"],
            ["e", "\u{fffd}", "e=\u{fffd}"],
        ]
    );
    assert_eq!(members([]).count(), 0);
}

// Section 3.3.1.3: what is no baggage-octet is percent-encoded, and so is a percent sign.
#[test]
fn values_are_percent_encoded() {
    for octet in 0..=u8::MAX {
        let stays = octet.is_ascii_graphic() && !b"\",;\\%".contains(&octet);
        let expected = match stays {
            true => text(&[octet]),
            false => format!("%{octet:02X}"),
        };
        assert_eq!(encoded(&[octet]), expected);
    }
    assert_eq!(encoded(b""), "");
    assert_eq!(encoded("a b,\u{e9}".as_bytes()), "a%20b%2C%C3%A9");
}

#[test]
fn what_came_stays_to_the_letter_and_comes_first() {
    let mut baggage = Baggage::new();
    let lines = [&b" k = v ; p=1\t"[..], b"", b"b=2,x=\xff", b"c=3"];
    let kept = baggage.keep(lines, |key| key == b"c");
    assert_eq!(kept, Some(0));
    baggage.add(b"user", encode(b"a b")).unwrap();
    assert_eq!(
        text(baggage.text()),
        "k = v ; p=1,b=2,x=\u{fffd},user=a%20b"
    );
}

// Section 3.3.1: `list-member = key OWS "=" OWS value …`, and a key is a token.
#[test]
fn what_is_no_member_is_left_out_and_told() {
    for (came, kept, malformed) in [
        (&b"a=1,"[..], "a=1", 0),
        (b",a=1", "a=1", 0),
        (b" , ,a=1,, ,b=2,", "a=1,b=2", 0),
        (b"", "", 0),
        (b",", "", 0),
        (b"junk", "", 1),
        (b"a=1,junk,b=2,;p=1", "a=1,b=2", 2),
        (b"=1,a b=2,c=3", "c=3", 2),
        (b"\xff=1,\"k\"=2", "", 2),
    ] {
        let mut baggage = Baggage::new();
        let shown = came.escape_ascii();
        assert_eq!(baggage.keep([came], |_| false), Some(malformed), "{shown}");
        assert_eq!(text(baggage.text()), kept, "{shown}");
        baggage.add(b"k", encode(b"v")).unwrap();
        let comma = if kept.is_empty() { "" } else { "," };
        assert_eq!(text(baggage.text()), format!("{kept}{comma}k=v"), "{shown}");
    }
}

// Section 3.3.2.
#[test]
fn no_more_than_64_members_leave() {
    let mut baggage = Baggage::new();
    baggage.keep([&b"a=1,,b=2"[..]], |_| false).unwrap();
    for _ in 2..MAX_MEMBERS {
        baggage.add(b"k", encode(b"v")).unwrap();
    }
    let before = text(baggage.text());
    assert_eq!(baggage.add(b"k", encode(b"v")), None);
    assert_eq!(text(baggage.text()), before);
    assert_eq!(members([baggage.text()]).count(), 64);

    let mut baggage = Baggage::new();
    let many = ["k=v"; MAX_MEMBERS + 1].join(",");
    baggage.keep([many.as_bytes()], |_| false).unwrap();
    assert_eq!(text(baggage.text()), many, "what came is not cut");
    assert_eq!(baggage.add(b"k", encode(b"v")), None);
}

// Section 3.3.2.
#[test]
fn no_more_than_8192_bytes_leave_and_no_member_is_cut() {
    let mut baggage = Baggage::new();
    baggage.add(b"a", encode(&[b'x'; MAX_BYTES - 6])).unwrap();
    // The comma, the key, the equals sign, and one escape more than there is room for.
    assert_eq!(baggage.add(b"b", encode(b" ")), None);
    assert_eq!(baggage.keep([&b"b=12"[..]], |_| false), None);
    assert_eq!(baggage.text().len(), MAX_BYTES - 4);
    baggage.add(b"b", encode(b"1")).unwrap();
    assert_eq!(baggage.text().len(), MAX_BYTES);
    assert_eq!(baggage.add(b"", []), None);

    let mut baggage = Baggage::new();
    let longest = format!("k={}", "x".repeat(MAX_BYTES - 2));
    baggage.keep([longest.as_bytes()], |_| false).unwrap();
    let longer = format!("{longest}x");
    let kept = Baggage::new().keep([longer.as_bytes()], |_| false);
    assert_eq!(kept, None);
}
