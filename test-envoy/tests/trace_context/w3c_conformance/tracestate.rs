//! What the specification says of `tracestate`: one row for each sentence.

use super::{Left, Row, Traced, VALID};

pub(super) fn tracestate_rows() -> Vec<Row> {
    use Left::{Nothing, Traceparent, Untouched};
    let members = |count: usize| {
        (1..=count)
            .map(|i| format!("k{i}=v"))
            .collect::<Vec<_>>()
            .join(",")
    };
    let of = |length: usize| "z".repeat(length);
    let mut rows = vec![
        // What belongs to what.
        Row::new(
            "3.3",
            "without traceparent it is no context",
            &["tracestate: a=1"],
            Nothing,
        ),
        Row::new(
            "3.3",
            "with a malformed traceparent it is not read",
            &["traceparent: junk", "tracestate: a=1"],
            Nothing,
        ),
        Row::new(
            "3.3",
            "with two traceparents it is not read",
            &[VALID, "traceparent: 00-$U-$V-01", "tracestate: a=1"],
            Nothing,
        )
        .traced(Traced::Continued),
        Row::new(
            "3.3.1",
            "the name is read in any case",
            &[VALID, "TraceState: a=1"],
            Untouched,
        ),
        Row::new(
            "3.3.1.1",
            "several lines are one list",
            &[
                VALID,
                "tracestate: a=1,b=2",
                "tracestate: c=3",
                "tracestate: d=4",
            ],
            Untouched,
        ),
        Row::new(
            "3.3.1.1",
            "a line that is no list spoils the others",
            &[VALID, "tracestate: a=1", "tracestate: junk"],
            Traceparent,
        ),
        Row::new(
            "3.3.1.1",
            "an empty line among others",
            &[VALID, "tracestate: a=1", "tracestate: ", "tracestate: b=2"],
            Untouched,
        ),
    ];
    let mut one = |section, promise: &str, state: &str, left| {
        rows.push(Row::new(
            section,
            promise,
            &[VALID, &format!("tracestate: {state}")],
            left,
        ));
    };
    one("3.3.1.1", "one member", "rojo=00f067aa0ba902b7", Untouched);
    one("3.3.1.1", "an empty list", "", Untouched);
    one("3.3.1.1", "empty members", "a=1,,b=2,", Untouched);
    one(
        "3.3.1.1",
        "members of white space",
        "a=1, \t,b=2",
        Untouched,
    );
    one(
        "3.3.1.1",
        "white space around members",
        "a=1 \t , \t b=2",
        Untouched,
    );
    one("3.3.1.1", "32 members", &members(32), Untouched);
    one("3.3.1.1", "33 members", &members(33), Traceparent);
    one(
        "3.3.1.1",
        "33 members, of which two are one",
        &format!("{},k1=w", members(32)),
        Traceparent,
    );
    one(
        "3.3.1.1",
        "32 members and empty ones",
        &format!(",{},,", members(32)),
        Untouched,
    );
    one("3.3.1.2", "no key and value", "junk", Traceparent);
    one(
        "3.3.1.2",
        "a semicolon is no separator, but may be in a value",
        "a=1;b",
        Untouched,
    );
    one("3.3.1.3", "the same key twice", "a=1,a=2", Untouched);
    one("3.3.1.3.1", "a key of one letter", "a=1", Untouched);
    one(
        "3.3.1.3.1",
        "a key of one digit, as Level 2 has it",
        "1=1",
        Untouched,
    );
    one(
        "3.3.1.3.1",
        "every character of a key",
        "a0_-*/@z=1",
        Untouched,
    );
    one(
        "3.3.1.3.1",
        "a tenant, as Level 1 has it",
        "t61@rojo=1",
        Untouched,
    );
    one(
        "3.3.1.3.1",
        "an at sign anywhere, as Level 2 has it",
        "a@=1,a@@b=1,a@b@c=1",
        Untouched,
    );
    one("3.3.1.3.1", "an at sign first", "@a=1", Traceparent);
    one("3.3.1.3.1", "a dash first", "-a=1", Traceparent);
    one("3.3.1.3.1", "an upper-case key", "A=1", Traceparent);
    one("3.3.1.3.1", "a dot in a key", "a.b=1", Traceparent);
    one("3.3.1.3.1", "white space in a key", "a b=1", Traceparent);
    one("3.3.1.3.1", "white space behind a key", "a =1", Traceparent);
    one("3.3.1.3.1", "an empty key", "=1", Traceparent);
    one(
        "3.3.1.3.1",
        "a key of 256 characters",
        &format!("{}=1", of(256)),
        Untouched,
    );
    one(
        "3.3.1.3.1",
        "a key of 257 characters",
        &format!("{}=1", of(257)),
        Traceparent,
    );
    one(
        "3.3.1.3.1",
        "a tenant and a system longer than Level 1's",
        &format!("{}@{}=1", of(241), of(14)),
        Untouched,
    );
    one("3.3.1.3.2", "an empty value", "a=", Traceparent);
    one(
        "3.3.1.3.2",
        "white space first in a value belongs to it",
        "a= 1",
        Untouched,
    );
    one(
        "3.3.1.3.2",
        "every character of a value",
        "a=!\"#$%&'()*+-./0123456789:;<>?@[\\]^_`{|}~",
        Untouched,
    );
    one(
        "3.3.1.3.2",
        "an equals sign in a value",
        "a=b=c",
        Traceparent,
    );
    one("3.3.1.3.2", "a tab in a value", "a=b\tc", Traceparent);
    one(
        "3.3.1.3.2",
        "another alphabet in a value",
        "a=\u{e9}",
        Traceparent,
    );
    one(
        "3.3.1.3.2",
        "a value of 256 characters",
        &format!("a={}", of(256)),
        Untouched,
    );
    one(
        "3.3.1.3.2",
        "a value of 257 characters",
        &format!("a={}", of(257)),
        Traceparent,
    );
    one(
        "3.3.1.5",
        "at least 512 characters are propagated",
        &format!("a={},b={}", of(254), of(253)),
        Untouched,
    );
    let long = (0..32).map(|i| format!("k{i}={}", of(256)));
    let long = long.collect::<Vec<_>>().join(",");
    one("3.3.1.5", "8 KiB are no reason to cut", &long, Untouched);
    rows
}
