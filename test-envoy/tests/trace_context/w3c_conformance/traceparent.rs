//! What the specification says of `traceparent`: one row for each sentence.

use super::{Left, Row, Traced, VALID};

pub(super) fn traceparent_rows() -> Vec<Row> {
    use Left::{Nothing, Untouched, Written};
    use Traced::Continued;
    let row = Row::new;
    vec![
        // Which headers there are.
        row("3.2", "no traceparent is no context", &[], Nothing),
        row("3.2", "a valid one passes", &[VALID], Untouched),
        row(
            "3.2.1",
            "the name is read in any case",
            &["TraceParent: 00-$T-$S-01"],
            Untouched,
        ),
        row("3.2", "an empty one is none", &["traceparent: "], Nothing),
        row(
            "3.2",
            "exactly one: two that differ",
            &[VALID, "traceparent: 00-$U-$V-01"],
            Nothing,
        )
        // It reads the first line and writes one.
        .traced(Continued),
        // What names one trace is continued, against the letter: see `on_repeated`.
        row(
            "3.2",
            "exactly one: two that are equal",
            &[VALID, VALID],
            Written("00-$T-$S-01"),
        )
        .traced(Continued),
        row(
            "3.2",
            "two in one line",
            &["traceparent: 00-$T-$S-01,00-$T-$S-01"],
            Written("00-$T-$S-01"),
        ),
        row(
            "3.2",
            "white space around the value is HTTP's",
            &["traceparent: \t 00-$T-$S-01 \t"],
            Untouched,
        ),
        row(
            "3.2.2",
            "white space within",
            &["traceparent: 00-$T -$S-01"],
            Nothing,
        ),
        row(
            "3.2.2",
            "white space for a dash",
            &["traceparent: 00 $T $S 01"],
            Nothing,
        ),
        // Version.
        row(
            "3.2.2.1",
            "version ff is forbidden",
            &["traceparent: ff-$T-$S-01"],
            Nothing,
        )
        .traced(Continued),
        row(
            "3.2.2.1",
            "a version of one digit",
            &["traceparent: 0-$T-$S-01"],
            Nothing,
        ),
        row(
            "3.2.2.1",
            "a version of three digits",
            &["traceparent: 000-$T-$S-01"],
            Nothing,
        ),
        row(
            "3.2.2.1",
            "a version in upper case",
            &["traceparent: CC-$T-$S-01"],
            Nothing,
        )
        .traced(Continued),
        row(
            "3.2.2.1",
            "a version that is no number",
            &["traceparent: 0x-$T-$S-01"],
            Nothing,
        ),
        row(
            "3.2.2.1",
            "a version with a sign",
            &["traceparent: +0-$T-$S-01"],
            Nothing,
        ),
        row(
            "3.2.2.1",
            "an empty version",
            &["traceparent: -$T-$S-01"],
            Nothing,
        ),
        // Length of version 00.
        row(
            "3.2.2.2",
            "00 ends with its flags: a dash",
            &["traceparent: 00-$T-$S-01-"],
            Nothing,
        ),
        row(
            "3.2.2.2",
            "00 ends with its flags: a field",
            &["traceparent: 00-$T-$S-01-x"],
            Nothing,
        ),
        row(
            "3.2.2.2",
            "00 ends with its flags: a dot",
            &["traceparent: 00-$T-$S-01."],
            Nothing,
        ),
        row(
            "3.2.2.2",
            "00 without flags",
            &["traceparent: 00-$T-$S"],
            Nothing,
        ),
        row(
            "3.2.2.2",
            "00 with empty flags",
            &["traceparent: 00-$T-$S-"],
            Nothing,
        ),
        row(
            "3.2.2.2",
            "00 with a dash before it",
            &["traceparent: -00-$T-$S-01"],
            Nothing,
        ),
        row(
            "3.2.2.2",
            "dashes elsewhere",
            &["traceparent: 00-$T$S--01"],
            Nothing,
        ),
        row(
            "3.2.2.2",
            "nothing but dashes",
            &["traceparent: ---"],
            Nothing,
        ),
        // Trace id.
        row(
            "3.2.2.3",
            "a trace id of zeros",
            &["traceparent: 00-00000000000000000000000000000000-$S-01"],
            Nothing,
        ),
        row(
            "3.2.2.3",
            "a left half of zeros is an id",
            &["traceparent: 00-0000000000000000$S-$S-01"],
            Untouched,
        ),
        row(
            "3.2.2.3",
            "a right half of zeros is an id",
            &["traceparent: 00-$S0000000000000000-$S-01"],
            Untouched,
        ),
        row(
            "3.2.2.3",
            "a trace id in upper case",
            &["traceparent: 00-4BF92F3577B34DA6A3CE929D0E0E4736-$S-01"],
            Nothing,
        )
        .traced(Continued),
        row(
            "3.2.2.3",
            "a trace id with another letter",
            &["traceparent: 00-4bf92f3577b34da6a3ce929d0e0e473g-$S-01"],
            Nothing,
        ),
        row(
            "3.2.2.3",
            "a trace id of 31 digits",
            &["traceparent: 00-4bf92f3577b34da6a3ce929d0e0e473-$S-01"],
            Nothing,
        ),
        row(
            "3.2.2.3",
            "a trace id of 33 digits",
            &["traceparent: 00-$T0-$S-01"],
            Nothing,
        ),
        row(
            "3.2.2.3",
            "a trace id of 64 bits",
            &["traceparent: 00-$S-$S-01"],
            Nothing,
        ),
        // Parent id.
        row(
            "3.2.2.4",
            "a parent id of zeros",
            &["traceparent: 00-$T-0000000000000000-01"],
            Nothing,
        ),
        row(
            "3.2.2.4",
            "a parent id in upper case",
            &["traceparent: 00-$T-00F067AA0BA902B7-01"],
            Nothing,
        )
        .traced(Continued),
        row(
            "3.2.2.4",
            "a parent id with another letter",
            &["traceparent: 00-$T-00f067aa0ba902bx-01"],
            Nothing,
        ),
        row(
            "3.2.2.4",
            "a parent id of 15 digits",
            &["traceparent: 00-$T-0f067aa0ba902b7-01"],
            Nothing,
        ),
        row(
            "3.2.2.4",
            "a parent id of 17 digits",
            &["traceparent: 00-$T-$S0-01"],
            Nothing,
        ),
        row(
            "3.2.2.4",
            "the length right and the fields not",
            &["traceparent: 00-$T0-0f067aa0ba902b7-01"],
            Nothing,
        ),
        // Flags.
        row(
            "3.2.2.5.1",
            "not sampled",
            &["traceparent: 00-$T-$S-00"],
            Untouched,
        ),
        row(
            "3.2.2.5.2",
            "random, not sampled",
            &["traceparent: 00-$T-$S-02"],
            Untouched,
        ),
        row(
            "3.2.2.5.2",
            "random and sampled",
            &["traceparent: 00-$T-$S-03"],
            Untouched,
        ),
        row(
            "3.2.2.5.3",
            "flags that are not defined, sampled",
            &["traceparent: 00-$T-$S-ff"],
            Untouched,
        ),
        row(
            "3.2.2.5.3",
            "flags that are not defined, not sampled",
            &["traceparent: 00-$T-$S-08"],
            Untouched,
        ),
        row(
            "3.2.2.5",
            "flags in upper case",
            &["traceparent: 00-$T-$S-0A"],
            Nothing,
        )
        .traced(Continued),
        row(
            "3.2.2.5",
            "flags with another letter",
            &["traceparent: 00-$T-$S-0g"],
            Nothing,
        ),
        row(
            "3.2.2.5",
            "flags of one digit",
            &["traceparent: 00-$T-$S-1"],
            Nothing,
        ),
        row(
            "3.2.2.5",
            "flags of three digits",
            &["traceparent: 00-$T-$S-001"],
            Nothing,
        ),
        // Later versions are read by their first four fields and written as 00.
        row(
            "3.2.4",
            "version 01",
            &["traceparent: 01-$T-$S-01"],
            Written("00-$T-$S-01"),
        )
        .traced(Continued),
        row(
            "3.2.4",
            "version cc",
            &["traceparent: cc-$T-$S-00"],
            Written("00-$T-$S-00"),
        )
        .traced(Continued),
        row(
            "3.2.4",
            "version fe",
            &["traceparent: fe-$T-$S-01"],
            Written("00-$T-$S-01"),
        )
        .traced(Continued),
        row(
            "3.2.4",
            "more fields of cc",
            &["traceparent: cc-$T-$S-01-what-the-future-brings"],
            Written("00-$T-$S-01"),
        ),
        row(
            "3.2.4",
            "an empty field of cc",
            &["traceparent: cc-$T-$S-01-"],
            Written("00-$T-$S-01"),
        ),
        row(
            "3.2.4",
            "any bytes in the fields of cc",
            &["traceparent: cc-$T-$S-01-\u{fffd}"],
            Written("00-$T-$S-01"),
        ),
        row(
            "3.2.4",
            "the flags of cc that 00 defines",
            &["traceparent: cc-$T-$S-ff"],
            Written("00-$T-$S-03"),
        )
        .traced(Continued),
        row(
            "3.2.4",
            "cc with flags of three digits",
            &["traceparent: cc-$T-$S-011"],
            Nothing,
        ),
        row(
            "3.2.4",
            "cc with a dot behind the flags",
            &["traceparent: cc-$T-$S-01.what"],
            Nothing,
        ),
        row(
            "3.2.4",
            "cc shorter than 55 characters",
            &["traceparent: cc-$T-$S-1"],
            Nothing,
        ),
        row(
            "3.2.4",
            "cc with a trace id of zeros",
            &["traceparent: cc-00000000000000000000000000000000-$S-01"],
            Nothing,
        ),
        row(
            "3.2.4",
            "cc keeps tracestate",
            &["traceparent: cc-$T-$S-01-x", "tracestate: a=1,b=2"],
            Written("00-$T-$S-01"),
        ),
    ]
}
