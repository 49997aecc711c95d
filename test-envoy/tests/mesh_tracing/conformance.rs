//! W3C Trace Context, Level 2, as a participant: the filter on ingress and egress of an application
//! that copies `traceparent` and `tracestate`, the first line of each. The cases are written from the
//! specification.

use std::ops::Range;

use envoy_test_harness::client::{Connection, Request};
use envoy_test_harness::config::{Bootstrap, Cluster, HttpConnectionManager, Listener, Route};
use envoy_test_harness::upstream::RecordedRequest;
use envoy_test_harness::{Envoy, EnvoyBinary, OtlpSink, Upstream, each_supported};
use meshtrace_test_support::common::{SPAN, newest};
use meshtrace_test_support::reporting::{collector, forward, mesh_tracing, reporting, traceparent};

const T: &str = "12345678901234567890123456789012";
const P: &str = "1234567890123456";

/// What the callback must have been told.
#[derive(Clone, Copy)]
enum Trace {
    /// The caller's trace, with another parent and these flags.
    Continued(&'static str),
    /// Another trace than any that the request named.
    New,
}
use Trace::{Continued, New};

struct Case {
    /// The section of the specification, and what it says.
    says: &'static str,
    headers: Vec<(String, String)>,
    trace: Trace,
    /// The members of `tracestate` in order; empty for none.
    tracestate: String,
}

fn case(says: &'static str, headers: &[(&str, &str)], trace: Trace, state: &str) -> Case {
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

const VALID: (&str, &str) = (
    "traceparent",
    "00-12345678901234567890123456789012-1234567890123456-00",
);

/// White space around a field's value.
const OWS: [(&str, &str); 5] = [(" ", ""), ("\t", ""), ("", " "), ("", "\t"), ("\t ", " \t")];

fn cases() -> Vec<Case> {
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

/// An application with the filter on both sides, and what it calls.
struct Service {
    envoy: Envoy,
    callback: Upstream,
    sink: OtlpSink,
    _application: Upstream,
}

impl Service {
    fn start(binary: &EnvoyBinary) -> Self {
        let [application, callback] = [(); 2].map(|()| Upstream::start().expect("a server"));
        let sink = OtlpSink::start().expect("a collector");
        let config = r#"{"trace_context": {"inject": ["tracecontext"]}}"#;
        let listener = |name: &str, cluster: &str, role: &str| {
            let mut both = reporting("http/protobuf", &format!(r#"{{"role": "{role}"}}"#));
            let context: serde_json::Value = serde_json::from_str(config).expect("JSON");
            both["trace_context"] = context["trace_context"].clone();
            let manager = HttpConnectionManager::new()
                .route(Route::prefix("/").cluster(cluster))
                .filter(mesh_tracing(both));
            Listener::http(name, manager)
        };
        let bootstrap = Bootstrap::new()
            .listener(listener("ingress", "application", "server"))
            .listener(listener("egress", "callback", "client"))
            .cluster(Cluster::http1("application", application.address()))
            .cluster(Cluster::http1("callback", callback.address()))
            .cluster(collector("http/protobuf", &sink));
        let envoy = Envoy::start(binary, bootstrap).expect("an Envoy that starts");
        forward(&application, envoy.address("egress").expect("its address"));
        Self {
            envoy,
            callback,
            sink,
            _application: application,
        }
    }

    /// What `count` callbacks were told.
    fn call(&self, headers: &[(String, String)], count: usize) -> Vec<RecordedRequest> {
        let address = self.envoy.address("ingress").expect("its address");
        let mut connection = Connection::open(address).expect("a connection");
        let request = headers.iter().fold(
            Request::post("/test", count.to_string()),
            |request, (name, value)| request.header(name, value),
        );
        let response = connection.send(&request).expect("a response");
        assert_eq!(response.status, 200, "{headers:?}");
        let told = self.callback.take();
        assert_eq!(told.len(), count);
        told
    }
}

/// The members of all `tracestate` headers, without the white space around them.
fn tracestate(request: &RecordedRequest) -> String {
    let values = request.header_values("tracestate");
    let text = values
        .iter()
        .map(|value| String::from_utf8_lossy(value))
        .collect::<Vec<_>>()
        .join(",");
    let members: Vec<_> = text
        .split(',')
        .map(str::trim)
        .filter(|member| !member.is_empty())
        .collect();
    members.join(",")
}

#[test]
fn a_participant_continues_what_is_valid_and_restarts_what_is_not() {
    let cases = cases();
    assert!(cases.len() > 100);
    each_supported(|envoy| {
        let service = Service::start(envoy);
        for case in &cases {
            let told = &service.call(&case.headers, 1)[0];
            assert_eq!(told.header_values("traceparent").len(), 1, "{}", case.says);
            let [trace_id, parent_id, flags] = traceparent(told);
            let what = format!(
                "{}: {:?} on {}",
                case.says,
                case.headers,
                envoy.reported_version()
            );
            let digits = |text: &str, count| {
                text.len() == count
                    && text
                        .bytes()
                        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            };
            assert!(digits(&trace_id, 32) && digits(&parent_id, 16), "{what}");
            assert!(trace_id.bytes().any(|byte| byte != b'0'), "{what}");
            assert_ne!(parent_id, P, "{what}");
            match case.trace {
                Continued(expected) => {
                    assert_eq!((trace_id.as_str(), flags.as_str()), (T, expected), "{what}");
                }
                New => {
                    let named = |(_, value): &(String, String)| value.contains(&trace_id);
                    assert!(!case.headers.iter().any(named), "{what}");
                }
            }
            let state = tracestate(told);
            match case.trace {
                // One in a hundred new traces is sampled, and says so.
                New if state == "ot=th:fd70a4" => {}
                New | Continued(_) => assert_eq!(state, case.tracestate, "{what}"),
            }
        }
        assert_eq!(
            service.envoy.stat("wasmcustom.meshtrace.host_errors").ok(),
            Some(0)
        );
    });
}

/// Each call that an application makes has a parent of its own.
#[test]
fn every_call_has_a_parent_of_its_own() {
    each_supported(|envoy| {
        let service = Service::start(envoy);
        for (header, continued) in [
            (None, false),
            (Some(format!("00-{T}-{P}-01")), true),
            (Some(format!("00-{T}-{P}-1")), false),
            (Some(format!("00-{}-{SPAN}-01", "0".repeat(32))), false),
        ] {
            let headers: Vec<_> = header
                .into_iter()
                .map(|value| ("traceparent".to_owned(), value))
                .collect();
            let told: Vec<_> = service.call(&headers, 3).iter().map(traceparent).collect();
            let traces: Vec<_> = told.iter().map(|[trace_id, ..]| trace_id).collect();
            assert!(traces.iter().all(|id| *id == traces[0]), "{told:?}");
            assert_eq!(traces[0] == T, continued, "{told:?}");
            let mut parents: Vec<_> = told.iter().map(|[_, parent_id, _]| parent_id).collect();
            parents.sort();
            parents.dedup();
            assert_eq!(parents.len(), 3, "{told:?}");
            if continued {
                let spans = service.sink.wait_for_trace(T, 4).expect("the spans");
                for parent in parents {
                    assert!(spans.iter().any(|span| &span.span_id == parent), "{parent}");
                }
            }
        }
    });
}

/// The spans that are reported have the `tracestate` that goes on.
#[test]
fn a_span_has_the_tracestate_of_its_trace() {
    let envoy = newest();
    let service = Service::start(&envoy);
    for (i, (lines, expected)) in [
        (&["foo=1 \t,bar=2"][..], "foo=1,bar=2"),
        (&["foo=1", "bar=2"], "foo=1,bar=2"),
        (&["", "foo=1"], "foo=1"),
        (&["FOO=1"], ""),
        (&[""], ""),
    ]
    .into_iter()
    .enumerate()
    {
        let trace_id = format!("1234567890123456789012345678900{i}");
        let parent = format!("00-{trace_id}-{P}-01");
        let lines = lines.iter().map(|line| ("tracestate", *line));
        let headers: Vec<_> = [("traceparent", parent.as_str())]
            .into_iter()
            .chain(lines)
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        service.call(&headers, 1);
        let spans = service
            .sink
            .wait_for_trace(&trace_id, 2)
            .expect("the spans");
        for span in spans {
            assert_eq!(span.trace_state, expected, "{headers:?}");
        }
    }
}
