//! W3C Trace Context, Level 2, as a participant: the filter on ingress and egress of an application
//! that copies `traceparent` and `tracestate`, the first line of each. The cases are written from
//! the specification.

mod cases;

use Trace::{Continued, New};
use envoy_test_harness::client::{Connection, Request};
use envoy_test_harness::config::{Bootstrap, Cluster, HttpConnectionManager, Listener, Route};
use envoy_test_harness::upstream::RecordedRequest;
use envoy_test_harness::{Envoy, EnvoyBinary, OtlpSink, Upstream};
use meshtrace_test_support::common::{SPAN, newest};
use meshtrace_test_support::host::{Host, each_host};
use meshtrace_test_support::native;
use meshtrace_test_support::page;
use meshtrace_test_support::promises;
use meshtrace_test_support::reporting::{collector, forward, reporting, traceparent};

use self::cases::{Case, P, T, Trace, cases};

/// An application with the filter on both sides, and what it calls.
struct Service {
    envoy: Envoy,
    callback: Upstream,
    sink: OtlpSink,
    _application: Upstream,
}

impl Service {
    fn start(binary: &EnvoyBinary, host: Host, joins_lines: bool) -> Self {
        let [application, callback] = [(); 2].map(|()| Upstream::start().expect("a server"));
        let sink = OtlpSink::start().expect("a collector");
        let config = r#"{"trace_context": {"inject": ["tracecontext"]}}"#;
        let listener = |name: &str, cluster: &str, role: &str| {
            let mut both = reporting("http/protobuf", &format!(r#"{{"role": "{role}"}}"#));
            let context: serde_json::Value = serde_json::from_str(config).expect("JSON");
            both["trace_context"] = context["trace_context"].clone();
            let manager = HttpConnectionManager::new().route(Route::prefix("/").cluster(cluster));
            let manager = match joins_lines {
                true => manager.early_header_mutation(native::lines()),
                false => manager,
            };
            let manager = host.trace(manager, both);
            Listener::http(name, manager)
        };
        let bootstrap = Bootstrap::new()
            .listener(listener("ingress", "application", "server"))
            .listener(listener("egress", "callback", "client"))
            .cluster(Cluster::http1("application", application.address()))
            .cluster(Cluster::http1("callback", callback.address()))
            .cluster(collector("http/protobuf", &sink));
        let envoy =
            Envoy::start_with(binary, bootstrap, host.options()).expect("an Envoy that starts");
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

/// Envoy shows a tracer the first line of a header alone: with the native tracer, cases with further
/// lines are left out here. What becomes of them is in the table of `docs/native.md`.
#[test]
fn a_participant_continues_what_is_valid_and_restarts_what_is_not() {
    let all = cases().len();
    let mut of_one_line = cases();
    of_one_line.retain(|case| !case.has_further_lines());
    each_host(|host, envoy, at| {
        let mut cases = cases();
        assert!(cases.len() > 100);
        if host == Host::Native {
            cases.retain(|case| !case.has_further_lines());
            assert!(cases.len() > 75);
        }
        let service = Service::start(envoy, host, false);
        for case in &cases {
            let failure = service.participate(case);
            assert_eq!(failure, None, "{}: {:?} on {at}", case.says, case.headers);
        }
        let faults = match host {
            Host::Wasm => "host_errors",
            Host::Native => "panics",
        };
        assert_eq!(service.envoy.stat(&host.counter(faults)).ok(), Some(0));
    });
    promises::held(
        "Context and formats",
        "A tracer of ours takes part in a trace as W3C Trace Context says",
        "the sentences of its Level 2 about traceparent and tracestate, one or more requests for each; mesh_tracing on 4 \
         versions, the native tracer on 3",
        &format!(
            "{all} of {all} cases; the native tracer {} of {}, as Envoy shows it the first line of a header alone",
            of_one_line.len(),
            of_one_line.len()
        ),
    );
}

impl Service {
    /// What the service does otherwise than the specification says.
    fn participate(&self, case: &Case) -> Option<String> {
        let told = &self.call(&case.headers, 1)[0];
        if told.header_values("traceparent").len() != 1 {
            return Some("more than one traceparent left".to_owned());
        }
        let [trace_id, parent_id, flags] = traceparent(told);
        let digits = |text: &str, count| {
            let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            text.len() == count && text.bytes().all(is_digit)
        };
        let is_valid = digits(&trace_id, 32) && digits(&parent_id, 16);
        if !is_valid || trace_id.bytes().all(|byte| byte == b'0') || parent_id == P {
            return Some(format!("{trace_id}-{parent_id} left"));
        }
        let is_new = |(_, value): &(String, String)| !value.contains(&trace_id);
        match case.trace {
            Continued(expected) if trace_id != T || flags != expected => {
                return Some("the trace is not continued".to_owned());
            }
            New if !case.headers.iter().all(is_new) => {
                return Some("the trace is continued".to_owned());
            }
            Continued(_) | New => {}
        }
        let state = tracestate(told);
        match case.trace {
            // One in a hundred new traces is sampled, and says so.
            New if state == "ot=th:fd70a4" => None,
            New | Continued(_) => {
                (state != case.tracestate).then(|| format!("tracestate is {state:?}"))
            }
        }
    }
}

/// Without the early header mutation of the module, which Envoy 1.40 has first, the cases that
/// differ are those of the table. With it they are two.
#[test]
fn the_cases_in_which_the_native_tracer_differs_are_those_of_the_table() {
    let cases = cases();
    for envoy in native::envoys() {
        let at = envoy.reported_version();
        let service = Service::start(&envoy, Host::Native, false);
        let mut rows = Vec::new();
        for case in &cases {
            if let Some(failure) = service.participate(case) {
                assert!(
                    case.has_further_lines(),
                    "{}: {:?}",
                    case.says,
                    case.headers
                );
                rows.push((case, failure));
            }
        }
        page::hold("w3c", &table(&rows, cases.len()));
        if envoy.is_at_least(1, 40) {
            let service = Service::start(&envoy, Host::Native, true);
            let differs = |case: &&Case| service.participate(case).is_some();
            let rest: Vec<_> = cases.iter().filter(differs).collect();
            // Of one line the entries go on as they are, and one line is what the tracer sees.
            let says = rest.iter().map(|case| case.says);
            let one_entry = "3.3.1.3: one entry for a key";
            assert_eq!(says.collect::<Vec<_>>(), [one_entry; 2], "{at}");
        }
    }
}

/// The cases that differ, by the sentence of the specification, with the first case of each.
fn table(rows: &[(&Case, String)], count: usize) -> String {
    let mut text = format!(
        "{} of {count} cases do not hold. In each of them `traceparent` or `tracestate` comes in \
         several lines.\n\n\
         | the specification | cases | what comes, of the first | what happens |\n|---|---|---|---|\n",
        rows.len(),
    );
    let mut said: Vec<&str> = Vec::new();
    for (case, failure) in rows {
        if said.contains(&case.says) {
            continue;
        }
        said.push(case.says);
        let same = rows.iter().filter(|(other, _)| other.says == case.says);
        let short = |text: &str| match text.len() {
            0..60 => format!("`{text}`"),
            length => format!("{length} bytes"),
        };
        let repeated = |(name, _): &&(String, String)| {
            case.headers
                .iter()
                .filter(|(other, _)| other == name)
                .count()
                > 1
        };
        let lines = case.headers.iter().filter(repeated);
        let lines = lines.map(|(name, value)| format!("`{name}`: {}", short(value)));
        let lines = lines.collect::<Vec<_>>().join("; ");
        let failure = match failure.len() {
            0..60 => failure.as_str(),
            _ => "the first line's members are left",
        };
        text += &format!(
            "| {} | {} | {lines} | {failure} |\n",
            case.says,
            same.count()
        );
    }
    text
}

/// Each call that an application makes has a parent of its own.
#[test]
fn every_call_has_a_parent_of_its_own() {
    each_host(|host, envoy, _| {
        let service = Service::start(envoy, host, false);
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
    let service = Service::start(&envoy, Host::Wasm, false);
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
