//! W3C Trace Context Level 2 (Candidate Recommendation Draft of 2024-03-28) on real Envoys,
//! sentence by sentence.
//!
//! The filter is a pass-through: it is no participant, so a valid context leaves with the parent id
//! that came in. Each row goes through a proxy without a tracer in three configurations, and
//! through one with Envoy's OpenTelemetry tracer, bare and with the filter behind it.

mod traceparent;
mod tracestate;

use std::iter;
use std::thread;

use envoy_test_harness::EnvoyBinary;
use envoy_test_harness::OtlpSink;
use envoy_test_harness::client::{Connection, Request};
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, Listener, Route, WasmFilter,
};
use envoy_test_harness::upstream::RecordedRequest;
use meshtrace_test_support::common::{self, Mesh, manager, trace_context};
use meshtrace_test_support::tracers::{Caller, Tracer};

use self::traceparent::traceparent_rows;
use self::tracestate::tracestate_rows;

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
    /// It takes `traceparent` for malformed, makes a span that is never reported, and leaves the
    /// headers as they came.
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

    /// Where Envoy's tracer reads otherwise than the specification says, or than the row would have
    /// it.
    fn traced(self, traced: Traced) -> Self {
        Self { traced, ..self }
    }
}

fn is_named(line: &str, name: &str) -> bool {
    line.split_once(':')
        .is_some_and(|(n, _)| n.eq_ignore_ascii_case(name))
}

const VALID: &str = "traceparent: 00-$T-$S-01";

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

// Section 4.3: "If parsing fails, the vendor creates a new traceparent header and deletes the
// tracestate."
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

// Section 3.4, "Restart trace": "all properties (trace-id, parent-id, trace-flags) are reset", and
// tracestate goes.
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

// Section 3.4: sampled "can only be mutated when parent-id is updated"; the other flags are not
// ours to change.
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
            // Another span of the trace: its own decision, the trace's random flag, and nothing
            // undefined.
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

/// The tracer decides first. What it continued or started is its own span, whatever came in; what
/// it took for malformed it leaves, and then the filter does what a pass-through does.
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
            // It joins the lines of tracestate, reads none of them, and writes an empty one where
            // none came.
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
