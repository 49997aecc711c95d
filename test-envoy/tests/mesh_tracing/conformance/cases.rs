//! The cases: one for each sentence of the specification.

use std::ops::Range;

use Trace::{Continued, New};

pub(super) const T: &str = "12345678901234567890123456789012";
pub(super) const P: &str = "1234567890123456";

/// What the callback must have been told.
#[derive(Clone, Copy)]
pub(super) enum Trace {
    /// The caller's trace, with another parent and these flags.
    Continued(&'static str),
    /// Another trace than any that the request named.
    New,
}

pub(super) struct Case {
    /// The section of the specification, and what it says.
    pub(super) says: &'static str,
    pub(super) headers: Vec<(String, String)>,
    pub(super) trace: Trace,
    /// The members of `tracestate` in order; empty for none.
    pub(super) tracestate: String,
}

impl Case {
    /// Whether a header comes in more than one line.
    pub(super) fn has_further_lines(&self) -> bool {
        let mut names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.windows(2).any(|pair| pair[0] == pair[1])
    }
}

pub(super) fn case(
    says: &'static str,
    headers: &[(&str, &str)],
    trace: Trace,
    state: &str,
) -> Case {
    Case {
        says,
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        trace,
        tracestate: state.to_owned(),
    }
}

pub(super) const VALID: (&str, &str) = (
    "traceparent",
    "00-12345678901234567890123456789012-1234567890123456-00",
);

/// White space around a field's value.
pub(super) const OWS: [(&str, &str); 5] =
    [(" ", ""), ("\t", ""), ("", " "), ("", "\t"), ("\t ", " \t")];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.push(case(
        "2.2: without a traceparent a trace is started",
        &[],
        New,
        "",
    ));
    cases.push(case(
        "2.3: a valid traceparent is continued",
        &[VALID],
        Continued("00"),
        "",
    ));
    let two = (
        "traceparent",
        "00-12345678901234567890123456789011-1234567890123456-01",
    );
    cases.push(case("3.2: exactly one traceparent", &[two, VALID], New, ""));
    for name in ["trace-parent", "trace.parent"] {
        cases.push(case(
            "3.2.1: the header's name",
            &[(name, VALID.1)],
            New,
            "",
        ));
    }
    for name in ["TraceParent", "TrAcEpArEnT", "TRACEPARENT"] {
        cases.push(case(
            "3.2.1: in any case",
            &[(name, VALID.1)],
            Continued("00"),
            "",
        ));
    }
    for (says, version, end, trace) in [
        ("version 00 ends after its flags", "00", ".", New),
        (
            "version 00 ends after its flags",
            "00",
            "-what-the-future-will-be-like",
            New,
        ),
        (
            "3.2.4: a higher version by what is known",
            "cc",
            "",
            Continued("01"),
        ),
        (
            "3.2.4: and what follows a dash",
            "cc",
            "-what-the-future-will-be-like",
            Continued("01"),
        ),
        (
            "3.2.4: a dash and nothing else",
            "cc",
            ".what-the-future-will-be-like",
            New,
        ),
        ("3.2.2.1: version ff is invalid", "ff", "", New),
        ("3.2.2.1: hexadecimal digits", ".0", "", New),
        ("3.2.2.1: hexadecimal digits", "0.", "", New),
        ("3.2.2.1: two of them", "000", "", New),
        ("3.2.2.1: two of them", "0000", "", New),
        ("3.2.2.1: two of them", "0", "", New),
    ] {
        let value = format!("{version}-{T}-{P}-01{end}");
        cases.push(case(says, &[("traceparent", &value)], trace, ""));
    }
    for trace_id in [
        "00000000000000000000000000000000",
        ".2345678901234567890123456789012",
        "1234567890123456789012345678901.",
        "1234567890123456789012345678901",
        "123456789012345678901234567890123",
        "1234567890ABCDEF1234567890123456",
    ] {
        let value = format!("00-{trace_id}-{P}-01");
        cases.push(case(
            "3.2.2.3: a valid trace-id",
            &[("traceparent", &value)],
            New,
            "",
        ));
    }
    for parent_id in [
        "0000000000000000",
        ".234567890123456",
        "123456789012345.",
        "123456789012345",
        "12345678901234567",
        "1234567890ABCDEF",
    ] {
        let value = format!("00-{T}-{parent_id}-01");
        cases.push(case(
            "3.2.2.4: a valid parent-id",
            &[("traceparent", &value)],
            New,
            "",
        ));
    }
    for flags in [".0", "0.", "001", "1", "0A"] {
        let value = format!("00-{T}-{P}-{flags}");
        cases.push(case(
            "3.2.2.5: valid trace-flags",
            &[("traceparent", &value)],
            New,
            "",
        ));
    }
    for (sent, left) in [
        ("00", "00"),
        ("01", "01"),
        ("02", "02"),
        ("03", "03"),
        ("ff", "03"),
        ("f0", "00"),
    ] {
        let value = format!("00-{T}-{P}-{sent}");
        let says = "3.2.2.5: sampled and random are known, the others are set to zero";
        cases.push(case(says, &[("traceparent", &value)], Continued(left), ""));
    }
    for (before, after) in OWS {
        let value = format!("{before}{}{after}", VALID.1);
        cases.push(case(
            "RFC 9110, 5.5: white space around it",
            &[("traceparent", &value)],
            Continued("00"),
            "",
        ));
    }
    for state in ["foo=1", "foo=1,bar=2"] {
        cases.push(case(
            "3.3: no tracestate without traceparent",
            &[("tracestate", state)],
            New,
            "",
        ));
    }
    cases.push(case(
        "3.3: nor beside an invalid one",
        &[("traceparent", "00-0-0-0"), ("tracestate", "foo=1")],
        New,
        "",
    ));
    for name in ["trace-state", "trace.state"] {
        cases.push(case(
            "3.3.1: the header's name",
            &[VALID, (name, "foo=1")],
            Continued("00"),
            "",
        ));
    }
    for name in ["TraceState", "TrAcEsTaTe", "TRACESTATE"] {
        cases.push(case(
            "3.3.1: in any case",
            &[VALID, (name, "foo=1")],
            Continued("00"),
            "foo=1",
        ));
    }
    let z = |count| "z".repeat(count);
    let numbered = |range: Range<usize>| {
        let members: Vec<_> = range.map(|i| format!("bar{i:02}={i:02}")).collect();
        members.join(",")
    };
    let members = |count| numbered(0..count);
    let keys = "abcdefghijklmnopqrstuvwxyz0123456789_-*/";
    let values = " !\"#$%&'()*+-./0123456789:;<>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~";
    for (says, lines, state) in [
        (
            "3.3.1: members in order",
            vec!["foo=1,bar=2".to_owned()],
            "foo=1,bar=2".to_owned(),
        ),
        ("3.3.1: an empty header", vec!["".to_owned()], String::new()),
        (
            "3.3.1: nothing but empty headers",
            vec!["".to_owned(), "".to_owned()],
            String::new(),
        ),
        (
            "3.3.1: an empty header",
            vec!["".to_owned(), "foo=1".to_owned()],
            "foo=1".to_owned(),
        ),
        (
            "3.3.1: an empty header",
            vec!["foo=1".to_owned(), "".to_owned()],
            "foo=1".to_owned(),
        ),
        (
            "3.3.1: several headers are one list",
            vec!["foo=1".to_owned(), "bar=2".to_owned()],
            "foo=1,bar=2".to_owned(),
        ),
        (
            "3.3.1: several headers are one list",
            vec![
                "rojo=1,congo=2".to_owned(),
                "baz=3".to_owned(),
                "foo=1,bar=2".to_owned(),
            ],
            "rojo=1,congo=2,baz=3,foo=1,bar=2".to_owned(),
        ),
        (
            "3.3.1.1: white space around members",
            vec!["foo=1 \t , \t bar=2, \t baz=3".to_owned()],
            "foo=1,bar=2,baz=3".to_owned(),
        ),
        (
            "3.3.1.1: white space around members",
            vec!["foo=1\t \t,\t \tbar=2,\t \tbaz=3".to_owned()],
            "foo=1,bar=2,baz=3".to_owned(),
        ),
        (
            "3.3.1.3.1: every character of a key",
            vec![format!("{keys}={values}")],
            format!("{keys}={values}"),
        ),
        (
            "3.3.1.3.1: every character of a key",
            vec![format!("{keys}@a-z0-9_-*/={values}")],
            format!("{keys}@a-z0-9_-*/={values}"),
        ),
        (
            "3.3.1.3.1: 256 characters of a key",
            vec![format!("foo=1,{}=1", z(256))],
            format!("foo=1,{}=1", z(256)),
        ),
        (
            "3.3.1.3.1: and no more",
            vec![format!("foo=1,{}=1", z(257))],
            String::new(),
        ),
        (
            "3.3.1.3.1: no white space in a key",
            vec!["foo =1".to_owned()],
            String::new(),
        ),
        (
            "3.3.1.3.1: no upper case",
            vec!["FOO=1".to_owned()],
            String::new(),
        ),
        (
            "3.3.1.3.1: no dots",
            vec!["foo.bar=1".to_owned()],
            String::new(),
        ),
        (
            "3.3.1.3.1: not an at first",
            vec!["@foo=1,bar=2".to_owned()],
            String::new(),
        ),
        ("3.3.1.3.1: not empty", vec!["=1".to_owned()], String::new()),
        (
            "3.3.1.3.2: no equals in a value",
            vec!["foo=bar=baz".to_owned()],
            String::new(),
        ),
        (
            "3.3.1.3.2: not empty",
            vec!["foo=,bar=3".to_owned()],
            String::new(),
        ),
        ("3.3.1.1: 32 members", vec![members(32)], members(32)),
        ("3.3.1.1: and no more", vec![members(33)], String::new()),
        (
            "3.3.1.1: in several headers",
            vec![members(16), "foo=1".to_owned()],
            format!("{},foo=1", members(16)),
        ),
        (
            "3.3.1.1: 32 members in several headers",
            vec![members(16), numbered(16..31), numbered(31..32)],
            members(32),
        ),
        (
            "3.3.1.1: and no more",
            vec![members(16), numbered(16..31), numbered(31..33)],
            String::new(),
        ),
        (
            "3.3.1.3: one entry for a key",
            vec!["foo=1".to_owned(), "foo=1".to_owned()],
            "foo=1".to_owned(),
        ),
        (
            "3.3.1.3: one entry for a key",
            vec!["foo=1".to_owned(), "foo=2".to_owned()],
            "foo=1".to_owned(),
        ),
        // In one line it is the sender's matter: what need not be changed goes on as it is.
        (
            "3.3.1.3: one entry for a key",
            vec!["foo=1,foo=1".to_owned()],
            "foo=1,foo=1".to_owned(),
        ),
        (
            "3.3.1.3: one entry for a key",
            vec!["foo=1,foo=2".to_owned()],
            "foo=1,foo=2".to_owned(),
        ),
    ] {
        let mut headers = vec![VALID];
        headers.extend(lines.iter().map(|line| ("tracestate", line.as_str())));
        cases.push(case(says, &headers, Continued("00"), &state));
    }
    for (before, after) in OWS {
        let line = format!("{before}foo=1{after}");
        let headers = [VALID, ("tracestate", line.as_str())];
        let says = "3.3.1.1: white space around members";
        cases.push(case(says, &headers, Continued("00"), "foo=1"));
    }
    // Level 1 divided a key into tenant and vendor; Level 2 has the sign as any other.
    for (key, valid) in [
        ("foo@".to_owned(), true),
        ("foo@@bar".to_owned(), true),
        ("foo@bar@baz".to_owned(), true),
        ("1@2".to_owned(), true),
        ("@foo".to_owned(), false),
        (format!("{}@v", z(242)), true),
        (format!("t@{}", z(15)), true),
        (format!("{}@{}", z(241), z(14)), true),
        (format!("{}@{}", z(241), z(15)), false),
        (format!("t@{}", z(254)), true),
        (format!("t@{}", z(255)), false),
        (z(256), true),
        (z(257), false),
    ] {
        let line = format!("{key}=1");
        let headers = [VALID, ("tracestate", "foo=1"), ("tracestate", &line)];
        let state = if valid {
            format!("foo=1,{line}")
        } else {
            String::new()
        };
        let says = "3.3.1.3.1: an at sign as any other character, and 256 of them all";
        cases.push(case(says, &headers, Continued("00"), &state));
    }
    cases
}
