//! A trace id that came without a span, as load balancers send it, and decisions that one format
//! leaves to another.

use envoy_test_harness::config::{Bootstrap, HttpConnectionManager, Listener, Route};
use envoy_test_harness::upstream::RecordedRequest;
use envoy_test_harness::{EnvoyBinary, each_supported};
use meshtrace_test_support::common::{self, Mesh, SPAN, TRACE, get, trace_context};
use meshtrace_test_support::promises;
use meshtrace_test_support::reporting::{Collected, mesh_tracing, reporting, traceparent};
use serde_json::{Value, json};

type Headers = &'static [(&'static str, &'static str)];

/// The format, a header without a span, and the same with the decisions "no" and "yes".
const WITHOUT_SPAN: [(&str, Headers, [Headers; 2]); 3] = [
    (
        "xray",
        &[(
            "x-amzn-trace-id",
            "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736",
        )],
        [
            &[(
                "x-amzn-trace-id",
                "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Sampled=0",
            )],
            &[(
                "x-amzn-trace-id",
                "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Sampled=1;Lineage=a:1",
            )],
        ],
    ),
    (
        "gcp",
        &[("x-cloud-trace-context", "4bf92f3577b34da6a3ce929d0e0e4736")],
        [
            &[(
                "x-cloud-trace-context",
                "4bf92f3577b34da6a3ce929d0e0e4736/0;o=0",
            )],
            &[(
                "x-cloud-trace-context",
                "4bf92f3577b34da6a3ce929d0e0e4736/0;o=1",
            )],
        ],
    ),
    (
        "datadog",
        &[
            ("x-datadog-trace-id", "11803532876627986230"),
            ("x-datadog-tags", "_dd.p.tid=4bf92f3577b34da6"),
        ],
        [
            &[
                ("x-datadog-trace-id", "11803532876627986230"),
                ("x-datadog-parent-id", "0"),
                ("x-datadog-tags", "_dd.p.tid=4bf92f3577b34da6"),
                ("x-datadog-sampling-priority", "-1"),
            ],
            &[
                ("x-datadog-trace-id", "11803532876627986230"),
                ("x-datadog-parent-id", "0"),
                ("x-datadog-tags", "_dd.p.tid=4bf92f3577b34da6"),
                ("x-datadog-sampling-priority", "2"),
            ],
        ],
    ),
];

/// One listener for each configuration, by its place.
fn start(envoy: &EnvoyBinary, configs: &[Value]) -> Collected {
    let listener = |(i, config): (usize, &Value)| {
        let manager = HttpConnectionManager::new()
            .route(Route::prefix("/").cluster("upstream"))
            .filter(mesh_tracing(config))
            .access_log(json!({
                "trace_id": "%FILTER_STATE(wasm.trace_id:PLAIN)%",
                "parent": "%FILTER_STATE(wasm.parent_span_id:PLAIN)%",
                "format": "%FILTER_STATE(wasm.trace_format:PLAIN)%",
            }));
        Listener::http(&i.to_string(), manager)
    };
    let listeners = configs.iter().enumerate().map(listener);
    let bootstrap = listeners.fold(Bootstrap::new(), Bootstrap::listener);
    Collected::with(envoy, "http/protobuf", bootstrap)
}

fn pass(mesh: &Collected, listener: usize, headers: &[(&str, &str)]) -> RecordedRequest {
    let address = mesh.envoy.address(&listener.to_string());
    let response = get(headers).send(address.expect("its address"));
    assert_eq!(response.expect("a response").status, 200);
    mesh.upstream.take().remove(0)
}

#[test]
fn a_trace_id_without_a_span_is_the_hops_trace_and_its_decision_is_the_callers() {
    let config = |format: &str, parent: &str| {
        let mut config = reporting("http/protobuf", "{}");
        config["trace_context"] = json!({"extract": [format], "inject": ["tracecontext", format]});
        config["sampling"] = json!({"default": "always", "parent": parent});
        config["access_log"] = json!({});
        config
    };
    let mut tried = 0;
    each_supported(|envoy| {
        let at = envoy.reported_version();
        let policies = ["respect", "ignore", "respect_dropped"];
        let configs: Vec<_> = WITHOUT_SPAN
            .iter()
            .flat_map(|(format, ..)| policies.map(|parent| config(format, parent)))
            .collect();
        let mesh = start(envoy, &configs);
        for (i, (format, open, [no, yes])) in WITHOUT_SPAN.into_iter().enumerate() {
            for (j, parent) in policies.into_iter().enumerate() {
                let listener = i * policies.len() + j;
                // The caller's "no" stands where the policy says so.
                let overruled = parent == "ignore";
                for (headers, sampled) in [(open, true), (yes, true), (no, overruled)] {
                    let at = format!("{format} {parent} {headers:?} {at}");
                    let left = traceparent(&pass(&mesh, listener, headers));
                    let flags = if sampled { "01" } else { "00" };
                    assert_eq!([&left[0], &left[2]], [TRACE, flags], "{at}");
                    if sampled {
                        let span = mesh.only_span();
                        assert_eq!(span.trace_id, TRACE, "{at}");
                        assert_eq!(span.span_id, left[1], "{at}");
                        assert_eq!(span.parent_span_id, None, "{at}");
                    }
                    tried += 1;
                }
                let log = mesh.envoy.access_log(&listener.to_string());
                for line in log.wait_for_lines(3).expect("its lines") {
                    assert_eq!(line["trace_id"], TRACE, "{format} {at}: {line}");
                    assert_eq!(line["format"], format, "{at}: {line}");
                    assert_eq!(line["parent"], Value::Null, "{at}: {line}");
                }
            }
        }
        assert_eq!(mesh.counter("host_errors"), 0, "{at}");
    });
    promises::held(
        "Context and formats",
        "A trace id that came without a span is continued by the hop's span, with the decision that came with it",
        "mesh_tracing: xray, gcp and datadog, with \"yes\", \"no\" and no decision, 3 policies about parents",
        &format!(
            "{tried} of {tried} requests in the caller's trace, {} versions",
            EnvoyBinary::SUPPORTED.len()
        ),
    );
}

/// A caller who is not believed names no trace either.
#[test]
fn a_trace_id_of_a_caller_who_is_not_believed_is_kept_for_the_log_alone() {
    let envoy = EnvoyBinary::find().expect("an Envoy");
    let mut config = reporting("http/protobuf", "{}");
    config["trace_context"] = json!({"extract": ["xray"], "incoming": "restart"});
    config["sampling"] = json!({"default": "always"});
    let mesh = start(&envoy, &[config]);
    let (_, open, _) = WITHOUT_SPAN[0];
    let left = traceparent(&pass(&mesh, 0, open));
    assert_ne!(left[0], TRACE);
    assert_eq!(mesh.only_span().trace_id, left[0]);
}

/// `S2` of an open decision, and the caller's own in W3C.
const OPEN_BESIDE_DECIDED: [(&str, &str); 4] = [
    ("x-b3-traceid", TRACE),
    ("x-b3-spanid", "a8e0bed6092f2234"),
    (
        "traceparent",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ),
    ("tracestate", "vendor=1,ot=th:8"),
];

#[test]
fn an_open_decision_takes_the_one_of_its_trace_and_th_never_contradicts_the_flag() {
    let mut tried = 0;
    let context = json!({"extract": ["b3multi", "tracecontext"]});
    each_supported(|envoy| {
        let at = envoy.reported_version();
        let mesh = Mesh::start_on(
            envoy,
            vec![(
                "ingress",
                common::manager(trace_context(&context.to_string())),
            )],
        );
        let mut connection = mesh.connect("ingress");
        let mut left = |headers: &[(&str, &str)]| {
            tried += 1;
            let request = mesh.pass(&mut connection, &get(headers));
            let text = |name| request.header_text(name).unwrap_or_default();
            [
                text("traceparent"),
                text("x-b3-sampled"),
                text("tracestate"),
            ]
        };
        let told = format!("00-{TRACE}-a8e0bed6092f2234-01");
        assert_eq!(
            left(&OPEN_BESIDE_DECIDED),
            [&told, "1", "vendor=1,ot=th:8"],
            "{at}"
        );

        // The format listed first has decided otherwise than W3C's flag, and so than `th`.
        let mut contrary = OPEN_BESIDE_DECIDED.to_vec();
        contrary.push(("x-b3-sampled", "0"));
        let told = format!("00-{TRACE}-a8e0bed6092f2234-00");
        assert_eq!(left(&contrary), [&told, "0", "vendor=1"], "{at}");
        contrary[3].1 = "ot=th:8";
        assert_eq!(left(&contrary), [&told, "0", ""], "{at}");
        contrary[3].1 = "ot=rv:00000000000001;th:8";
        let told_consistently = left(&contrary);
        assert_eq!(
            told_consistently[2], "ot=rv:00000000000001;th:8",
            "{at}: it says the same"
        );

        let mut config = reporting("http/protobuf", "{}");
        config["trace_context"] = context.clone();
        let mesh = start(envoy, &[config]);
        let request = pass(&mesh, 0, &OPEN_BESIDE_DECIDED);
        assert_eq!(traceparent(&request)[2], "01", "{at}");
        let span = mesh.only_span();
        assert_eq!(
            span.parent_span_id.as_deref(),
            Some("a8e0bed6092f2234"),
            "{at}"
        );
        assert_eq!(span.trace_state, "vendor=1,ot=th:8", "{at}");
        contrary[3].1 = "vendor=1,ot=th:8";
        let request = pass(&mesh, 0, &contrary);
        assert_eq!(traceparent(&request)[2], "00", "{at}");
        assert_eq!(
            request.header_text("tracestate").as_deref(),
            Some("vendor=1"),
            "{at}"
        );
        assert_ne!(traceparent(&request)[1], SPAN, "{at}");
        tried += 2;
    });
    promises::held(
        "Sampling",
        "A decision wins over one that another format of the same trace leaves open, and `th` never contradicts the flag",
        "x-b3-* without a decision listed before a traceparent with one; trace_context and mesh_tracing",
        &format!(
            "{tried} of {tried} requests as decided, {} versions",
            EnvoyBinary::SUPPORTED.len()
        ),
    );
}
