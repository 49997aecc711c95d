//! W3C Trace Context, Level 2, as a participant: the filter on ingress and egress of an application
//! that copies `traceparent` and `tracestate`, the first line of each. The cases are written from
//! the specification.

mod cases;

use Trace::{Continued, New};
use envoy_test_harness::client::{Connection, Request};
use envoy_test_harness::config::{Bootstrap, Cluster, HttpConnectionManager, Listener, Route};
use envoy_test_harness::upstream::RecordedRequest;
use envoy_test_harness::{Envoy, EnvoyBinary, Options, OtlpSink, Upstream, each_supported};
use meshtrace_test_support::common::{SPAN, newest};
use meshtrace_test_support::native;
use meshtrace_test_support::reporting::{collector, forward, mesh_tracing, reporting, traceparent};

use self::cases::{Case, P, T, Trace, cases};

/// An application with the filter on both sides, and what it calls.
struct Service {
    envoy: Envoy,
    callback: Upstream,
    sink: OtlpSink,
    _application: Upstream,
}

/// What runs `mesh_tracing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host {
    /// The Wasm filter.
    Wasm,
    /// The native tracer.
    Native,
}

impl Service {
    fn start(binary: &EnvoyBinary, host: Host) -> Self {
        let [application, callback] = [(); 2].map(|()| Upstream::start().expect("a server"));
        let sink = OtlpSink::start().expect("a collector");
        let config = r#"{"trace_context": {"inject": ["tracecontext"]}}"#;
        let listener = |name: &str, cluster: &str, role: &str| {
            let mut both = reporting("http/protobuf", &format!(r#"{{"role": "{role}"}}"#));
            let context: serde_json::Value = serde_json::from_str(config).expect("JSON");
            both["trace_context"] = context["trace_context"].clone();
            let manager = HttpConnectionManager::new().route(Route::prefix("/").cluster(cluster));
            let manager = match host {
                Host::Wasm => manager.filter(mesh_tracing(both)),
                Host::Native => manager
                    .filter(native::export())
                    .tracing(native::tracing(both)),
            };
            Listener::http(name, manager)
        };
        let bootstrap = Bootstrap::new()
            .listener(listener("ingress", "application", "server"))
            .listener(listener("egress", "callback", "client"))
            .cluster(Cluster::http1("application", application.address()))
            .cluster(Cluster::http1("callback", callback.address()))
            .cluster(collector("http/protobuf", &sink));
        let options = match host {
            Host::Wasm => Options::new(),
            Host::Native => native::options(),
        };
        let envoy = Envoy::start_with(binary, bootstrap, options).expect("an Envoy that starts");
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
        let service = Service::start(envoy, Host::Wasm);
        participate(&service, envoy, &cases);
        assert_eq!(
            service.envoy.stat("wasmcustom.meshtrace.host_errors").ok(),
            Some(0)
        );
    });
}

/// Envoy shows a tracer the first line of a header alone: cases with further lines are left out.
#[test]
fn the_native_tracer_participates_alike() {
    let mut cases = cases();
    cases.retain(|case| {
        let mut names: Vec<_> = case.headers.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.windows(2).all(|pair| pair[0] != pair[1])
    });
    assert!(cases.len() > 75);
    for envoy in native::envoys() {
        let service = Service::start(&envoy, Host::Native);
        participate(&service, &envoy, &cases);
        let panics = "dynamicmodulescustom.meshtrace.panics";
        assert_eq!(service.envoy.stat(panics).ok(), Some(0));
    }
}

fn participate(service: &Service, envoy: &EnvoyBinary, cases: &[Case]) {
    for case in cases {
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
}

/// Each call that an application makes has a parent of its own.
#[test]
fn every_call_has_a_parent_of_its_own() {
    each_supported(|envoy| {
        let service = Service::start(envoy, Host::Wasm);
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
    let service = Service::start(&envoy, Host::Wasm);
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
