//! W3C Trace Context Level 2 (Candidate Recommendation Draft of 2024-03-28) on real Envoys, sentence by sentence.
//!
//! The filter is a pass-through: it is no participant, so a valid context leaves with the parent id that came in. Each
//! row goes through a proxy without a tracer in three configurations, and through one with Envoy's OpenTelemetry
//! tracer, bare and with the filter behind it.

use meshtrace_test_support::common;
use std::iter;
use std::thread;

use envoy_test_harness::EnvoyBinary;
use envoy_test_harness::OtlpSink;
use envoy_test_harness::client::{Connection, Request};
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, Listener, Route, WasmFilter,
};
use envoy_test_harness::upstream::RecordedRequest;
use meshtrace_test_support::common::{Mesh, manager, trace_context};
use meshtrace_test_support::tracers::{Caller, Tracer};

/// What leaves a pass-through that only reads and writes W3C.
#[derive(Clone, Debug)]
enum Left {
    /// To the letter what came in.
    Untouched,
    /// No `traceparent` and no `tracestate`: the next participant restarts the trace.
    Nothing,
    /// `traceparent` as it came in, without `tracestate`.
    Traceparent,
    /// This `traceparent`, and `tracestate` as it came in.
    Written(&'static str),
}

/// What Envoy's OpenTelemetry tracer makes of the request before the filter behind it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Traced {
    /// It opens a span in the caller's trace and writes that.
    Continued,
    /// It takes `traceparent` for malformed, makes a span that is never reported, and leaves the headers as they came.
    Passed,
    /// It finds no `traceparent` and starts a trace.
    Started,
}

/// A sentence of the specification.
#[derive(Debug)]
struct Row {
    section: &'static str,
    promise: String,
    sent: Vec<String>,
    left: Left,
    traced: Traced,
}

impl Row {
    fn new(section: &'static str, promise: &str, sent: &[&str], left: Left) -> Self {
        let traced = match (&left, sent) {
            _ if !sent.iter().any(|line| is_named(line, "traceparent")) => Traced::Started,
            (Left::Untouched | Left::Traceparent, _) => Traced::Continued,
            (Left::Written(_) | Left::Nothing, _) => Traced::Passed,
        };
        Self {
            section,
            promise: promise.to_owned(),
            sent: sent.iter().map(|line| (*line).to_owned()).collect(),
            left,
            traced,
        }
    }

    /// Where Envoy's tracer reads otherwise than the specification says, or than the row would have it.
    fn traced(self, traced: Traced) -> Self {
        Self { traced, ..self }
    }
}

fn is_named(line: &str, name: &str) -> bool {
    line.split_once(':')
        .is_some_and(|(n, _)| n.eq_ignore_ascii_case(name))
}

const VALID: &str = "traceparent: 00-$T-$S-01";

fn traceparent_rows() -> Vec<Row> {
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

fn tracestate_rows() -> Vec<Row> {
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

/// The configurations of the proxy without a tracer.
const PASS: &str = r#"{"extract": ["tracecontext"], "inject": ["tracecontext"]}"#;
const GENERATE: &str =
    r#"{"extract": ["tracecontext"], "inject": ["tracecontext"], "on_missing": "generate"}"#;
const RESTART: &str = r#"{"extract": ["tracecontext"], "inject": ["tracecontext"],
    "incoming": "restart", "generate_sampled": true, "random_flag": true}"#;
const B3_FIRST: &str = r#"{"extract": ["b3", "tracecontext"], "inject": ["tracecontext"]}"#;
const UPSTREAM: &str =
    r#"{"placement": "upstream", "tracer": "tracecontext", "inject": ["tracecontext"]}"#;

/// An Envoy with a listener for each configuration, and connections to them.
struct Proxy {
    mesh: Mesh,
    version: String,
    _sink: OtlpSink,
}

/// The lines of `traceparent` and of `tracestate`, each in order.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    traceparent: Vec<String>,
    tracestate: Vec<String>,
}

impl Told {
    fn seen(request: &RecordedRequest) -> Self {
        let values = |name| {
            let values = request.header_values(name).into_iter();
            values
                .map(|value| String::from_utf8_lossy(value).into_owned())
                .collect()
        };
        Self {
            traceparent: values("traceparent"),
            tracestate: values("tracestate"),
        }
    }

    fn sent(lines: &[String]) -> Self {
        let values = |name| {
            let own = lines.iter().filter(|line| is_named(line, name));
            own.filter_map(|line| line.split_once(':'))
                .map(|(_, value)| value.trim().to_owned())
                .collect()
        };
        Self {
            traceparent: values("traceparent"),
            tracestate: values("tracestate"),
        }
    }

    fn nothing() -> Self {
        Self {
            traceparent: Vec::new(),
            tracestate: Vec::new(),
        }
    }

    /// Trace id, parent id and flags of the only `traceparent`, which is of version 00.
    fn fields(&self, case: &str) -> (String, String, u8) {
        let [only] = &self.traceparent[..] else {
            panic!("{case}: not one traceparent: {self:?}");
        };
        let fields: Vec<_> = only.split('-').collect();
        let ["00", trace_id, parent_id, flags] = fields[..] else {
            panic!("{case}: {only}");
        };
        let is_hex = |text: &str| text.bytes().all(|byte| b"0123456789abcdef".contains(&byte));
        let lengths = (trace_id.len(), parent_id.len(), flags.len());
        assert_eq!(lengths, (32, 16, 2), "{case}: {only}");
        assert!(fields.iter().all(|field| is_hex(field)), "{case}: {only}");
        let flags = u8::from_str_radix(flags, 16).expect("hexadecimal digits");
        (trace_id.to_owned(), parent_id.to_owned(), flags)
    }
}

impl Proxy {
    fn start(binary: &EnvoyBinary) -> Self {
        let sink = OtlpSink::start().expect("an OTLP sink");
        let traced = |filter: Option<WasmFilter>| {
            let manager =
                HttpConnectionManager::new().route(Route::prefix("/").cluster("upstream"));
            let manager = filter
                .into_iter()
                .fold(manager, |manager, filter| manager.upstream_filter(filter));
            let tracing = Tracer::OpenTelemetry.tracing().expect("a tracer");
            manager.tracing(tracing.spawn_upstream_span(true).random_sampling(100.0))
        };
        let downstream = [
            ("pass", PASS),
            ("generate", GENERATE),
            ("restart", RESTART),
            ("b3-first", B3_FIRST),
        ]
        .map(|(name, config)| (name, manager(trace_context(config))));
        let upstream = [
            ("tracer", traced(None)),
            ("upstream", traced(Some(trace_context(UPSTREAM)))),
        ];
        let listeners = downstream.into_iter().chain(upstream);
        let bootstrap = listeners.fold(Bootstrap::new(), |bootstrap, (name, manager)| {
            bootstrap.listener(Listener::http(name, manager))
        });
        let bootstrap = bootstrap.cluster(Cluster::http2("otlp", sink.grpc_addr()));
        Self {
            mesh: Mesh::with(binary, bootstrap),
            version: binary.reported_version().to_owned(),
            _sink: sink,
        }
    }

    fn connect(&self, listener: &str) -> Connection {
        self.mesh.connect(listener)
    }

    fn send(&self, connection: &mut Connection, lines: &[String]) -> Told {
        let request = lines.iter().fold(Request::get("/"), |request, line| {
            let (name, value) = line.split_once(": ").expect("a header line");
            request.header(name, value)
        });
        Told::seen(&self.mesh.pass(connection, &request))
    }
}

/// Runs the promise on every supported Envoy, side by side.
fn on_every_envoy(promise: impl Fn(&Proxy) + Sync) {
    let envoys = EnvoyBinary::all_supported().expect("the supported Envoys");
    thread::scope(|scope| {
        for envoy in &envoys {
            scope.spawn(|| promise(&Proxy::start(envoy)));
        }
    });
}

fn rows() -> impl Iterator<Item = (Row, Caller)> {
    let rows = traceparent_rows().into_iter().chain(tracestate_rows());
    rows.map(|row| (row, Caller::fresh()))
}

fn case(proxy: &Proxy, row: &Row) -> String {
    format!(
        "{} {}: {} {:?}",
        proxy.version, row.section, row.promise, row.sent
    )
}

/// What `row` says that leaves a pass-through.
fn left(row: &Row, caller: &Caller, sent: &Told) -> Told {
    match row.left {
        Left::Untouched => sent.clone(),
        Left::Nothing => Told::nothing(),
        Left::Traceparent => Told {
            tracestate: Vec::new(),
            ..sent.clone()
        },
        Left::Written(traceparent) => Told {
            traceparent: vec![caller.fill(traceparent)],
            ..sent.clone()
        },
    }
}

#[test]
fn a_pass_through_leaves_what_is_valid_to_the_letter_and_nothing_else() {
    on_every_envoy(|proxy| {
        let mut connection = proxy.connect("pass");
        for (row, caller) in rows() {
            let lines: Vec<_> = row.sent.iter().map(|line| caller.fill(line)).collect();
            let seen = proxy.send(&mut connection, &lines);
            let expected = left(&row, &caller, &Told::sent(&lines));
            assert_eq!(seen, expected, "{}", case(proxy, &row));
        }
    });
}

// Section 4.3: "If parsing fails, the vendor creates a new traceparent header and deletes the tracestate."
#[test]
fn where_nothing_valid_came_in_a_trace_is_started_and_no_other_is_touched() {
    on_every_envoy(|proxy| {
        let mut connection = proxy.connect("generate");
        for (row, caller) in rows() {
            let case = case(proxy, &row);
            let lines: Vec<_> = row.sent.iter().map(|line| caller.fill(line)).collect();
            let seen = proxy.send(&mut connection, &lines);
            let expected = left(&row, &caller, &Told::sent(&lines));
            if expected != Told::nothing() {
                assert_eq!(seen, expected, "{case}");
                continue;
            }
            let (trace_id, parent_id, flags) = seen.fields(&case);
            assert_eq!((seen.tracestate.len(), flags), (0, 0), "{case}: {seen:?}");
            assert_new(&case, &lines, [&trace_id, &parent_id]);
        }
    });
}

// Section 3.4, "Restart trace": "all properties (trace-id, parent-id, trace-flags) are reset", and tracestate goes.
#[test]
fn a_trace_that_is_restarted_keeps_nothing_of_the_callers() {
    on_every_envoy(|proxy| {
        let mut connection = proxy.connect("restart");
        for (row, caller) in rows() {
            let case = case(proxy, &row);
            let lines: Vec<_> = row.sent.iter().map(|line| caller.fill(line)).collect();
            let seen = proxy.send(&mut connection, &lines);
            if left(&row, &caller, &Told::sent(&lines)) == Told::nothing() {
                assert_eq!(seen, Told::nothing(), "{case}");
                continue;
            }
            let (trace_id, parent_id, flags) = seen.fields(&case);
            // Section 3.2.2.5.2: the random flag is set where the id was made at random.
            assert_eq!((seen.tracestate.len(), flags), (0, 3), "{case}: {seen:?}");
            assert_new(&case, &lines, [&trace_id, &parent_id]);
        }
    });
}

fn assert_new(case: &str, lines: &[String], ids: [&str; 2]) {
    let sent = lines.concat().to_ascii_lowercase();
    for id in ids {
        assert!(id.contains(|digit| digit != '0'), "{case}: {id}");
        assert!(!sent.contains(id), "{case}: {id} was sent");
    }
}

// Section 3.4: sampled "can only be mutated when parent-id is updated"; the other flags are not ours to change.
#[test]
fn the_flags_change_with_the_parent_id_alone() {
    on_every_envoy(|proxy| {
        let mut connection = proxy.connect("b3-first");
        let mut seen = |lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(|line| (*line).to_owned()).collect();
            proxy.send(&mut connection, &lines)
        };
        let (t, s) = (common::TRACE, common::SPAN);
        let traceparent = |flags: &str| format!("traceparent: 00-{t}-{s}-{flags}");
        let state = "tracestate: a=1";
        for (flags, b3, expected) in [
            // The same span says the same: untouched, with flags that nobody defined.
            ("01", format!("b3: {t}-{s}-1"), format!("00-{t}-{s}-01")),
            ("0b", format!("b3: {t}-{s}-1"), format!("00-{t}-{s}-0b")),
            ("0a", format!("b3: {t}-{s}-0"), format!("00-{t}-{s}-0a")),
            // Another span of the trace: its own decision, the trace's random flag, and nothing undefined.
            (
                "0b",
                format!("b3: {t}-e457b5a2e4d86bd1-0"),
                format!("00-{t}-e457b5a2e4d86bd1-02"),
            ),
            (
                "08",
                format!("b3: {t}-e457b5a2e4d86bd1-1"),
                format!("00-{t}-e457b5a2e4d86bd1-01"),
            ),
        ] {
            let case = format!("{} {flags} {b3}", proxy.version);
            let told = seen(&[&traceparent(flags), state, &b3]);
            assert_eq!(told.traceparent, [expected], "{case}");
            assert_eq!(told.tracestate, ["a=1"], "{case}: it is the trace's");
        }
        // Another trace: nothing of this one stays, its tracestate and its random flag neither.
        let told = seen(&[
            &traceparent("03"),
            state,
            &format!("b3: 80f198ee56343ba864fe8b2a57d3eff7-{s}-1"),
        ]);
        let expected = Told {
            traceparent: vec![format!("00-80f198ee56343ba864fe8b2a57d3eff7-{s}-01")],
            tracestate: Vec::new(),
        };
        assert_eq!(told, expected, "{}", proxy.version);
    });
}

/// The tracer decides first. What it continued or started is its own span, whatever came in; what it took for
/// malformed it leaves, and then the filter does what a pass-through does.
#[test]
fn behind_envoys_tracer_what_it_wrote_stays_and_what_it_left_is_cleaned() {
    on_every_envoy(|proxy| {
        let (mut bare, mut upstream) = (proxy.connect("tracer"), proxy.connect("upstream"));
        for (row, caller) in rows() {
            let case = case(proxy, &row);
            let lines: Vec<_> = row.sent.iter().map(|line| caller.fill(line)).collect();
            let sent = Told::sent(&lines);
            let expected = left(&row, &caller, &sent);
            let written = proxy.send(&mut bare, &lines);
            let seen = proxy.send(&mut upstream, &lines);
            if row.traced == Traced::Passed {
                assert_eq!(written, sent, "{case}: the tracer's own output");
                assert_eq!(seen, expected, "{case}");
                continue;
            }
            let fields = [written.fields(&case), seen.fields(&case)];
            for (trace_id, parent_id, flags) in &fields {
                let first = sent
                    .traceparent
                    .first()
                    .map(|text| text.to_ascii_lowercase());
                let continued = first
                    .as_deref()
                    .is_some_and(|text| text.contains(trace_id.as_str()));
                assert_eq!(
                    continued,
                    row.traced == Traced::Continued,
                    "{case}: {written:?}"
                );
                assert!(
                    !lines.concat().contains(parent_id.as_str()),
                    "{case}: no span of its own"
                );
                let decided = first.as_deref().map_or("1", |text| &text[54..55]);
                let sampled = u8::from_str_radix(decided, 16).expect("flags") & 1;
                assert_eq!(
                    *flags, sampled,
                    "{case}: flags that nobody defined are zero"
                );
            }
            // It joins the lines of tracestate, reads none of them, and writes an empty one where none came.
            let joined = match row.traced {
                Traced::Continued => sent.tracestate.join(","),
                Traced::Started | Traced::Passed => String::new(),
            };
            assert_eq!(written.tracestate, [joined.as_str()], "{case}");
            let is_valid = !matches!(row.left, Left::Traceparent);
            let kept: Vec<_> = iter::once(joined).filter(|_| is_valid).collect();
            assert_eq!(seen.tracestate, kept, "{case}");
        }
    });
}
