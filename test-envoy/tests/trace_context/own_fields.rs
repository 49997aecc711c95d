//! What one format alone knows stays with the trace, and what a format's readers disagree about is read.

use envoy_test_harness::config::{Bootstrap, HttpConnectionManager, Listener, Route};
use envoy_test_harness::{EnvoyBinary, each_supported};
use meshtrace_test_support::common::{SPAN, TRACE, trace_context};
use meshtrace_test_support::http2;
use meshtrace_test_support::promises;
use meshtrace_test_support::reporting::{Collected, mesh_tracing, reporting};
use serde_json::{Value, json};

const ROOT: &str = "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736";

/// A header, and what leaves in its place; `$S` stands for the span that is told.
fn cases() -> Vec<(&'static str, String, String)> {
    let xray = |sent: &str, left: &str| {
        let text = |fields: &str| fields.replace("ROOT", ROOT).replace("$P", SPAN);
        ("x-amzn-trace-id", text(sent), text(left))
    };
    let b3 = |sent: &str, left: &str| {
        let ids = format!("{TRACE}-{SPAN}");
        let left = left.replace("$T", TRACE);
        ("b3", sent.replace("IDS", &ids), left)
    };
    vec![
        xray(
            "ROOT;Parent=$P;Sampled=1;Lineage=a:1|b:0",
            "ROOT;Parent=$S;Sampled=1;Lineage=a:1|b:0",
        ),
        xray(
            "Self=1-67891234-12456789abcdef012345678;ROOT;Parent=$P;Sampled=1",
            "ROOT;Parent=$S;Sampled=1;Self=1-67891234-12456789abcdef012345678",
        ),
        xray(
            "Lineage=a:1 ; CalledFrom=app ;Sampled=1; Parent=$P; ROOT",
            "ROOT;Parent=$S;Sampled=1;Lineage=a:1;CalledFrom=app",
        ),
        xray(
            "ROOT;Parent=$P;Sampled=1;Sample=2",
            "ROOT;Parent=$S;Sampled=1;Sample=2",
        ),
        // A parent of zeros is no parent, and no reason to refuse the header.
        b3("IDS-1-0000000000000000", "$T-$S-1"),
        b3("IDS-d-0000000000000000", "$T-$S-d"),
    ]
}

/// The order of X-Ray's fields has no meaning.
fn fields(text: &str) -> Vec<String> {
    let mut fields: Vec<_> = text
        .split(';')
        .map(|field| field.trim().to_owned())
        .collect();
    fields.sort();
    fields
}

#[test]
fn what_one_format_alone_knows_stays_with_the_trace() {
    let formats = json!(["xray", "b3"]);
    let context = json!({"extract": formats, "inject": "preserve"});
    let upstream = |tracer: &str| {
        let formats = json!(["xray", "b3"]);
        json!({"placement": "upstream", "tracer": tracer, "inject": formats})
    };
    let plain = || HttpConnectionManager::new().route(Route::prefix("/").cluster("upstream"));
    let filtered = |config: &Value| plain().filter(trace_context(&config.to_string()));
    let behind = |tracer: &str| {
        let filter = trace_context(&upstream(tracer).to_string());
        plain().upstream_filter(filter)
    };
    let mut report = reporting("http/protobuf", "{}");
    report["trace_context"] = context.clone();
    let mut tried = 0;
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let listeners = [
            ("filter", filtered(&context)),
            ("xray behind", behind("xray")),
            ("b3 behind", behind("b3")),
            ("mesh", plain().filter(mesh_tracing(report.clone()))),
        ];
        let bootstrap = listeners
            .into_iter()
            .map(|(name, manager)| Listener::http(name, manager))
            .fold(Bootstrap::new(), Bootstrap::listener);
        let mesh = Collected::with(envoy, "http/protobuf", bootstrap);
        for (header, sent, left) in cases() {
            let upstream = if header == "b3" {
                "b3 behind"
            } else {
                "xray behind"
            };
            for listener in ["filter", upstream, "mesh"] {
                let address = mesh.envoy.address(listener).expect("its address");
                for (over, status) in http2::over_both(address, &[(header, &sent)]) {
                    assert_eq!(status, 200, "{over}");
                }
                for request in mesh.upstream.take() {
                    let told = request.header_text(header).expect("the header");
                    let at = format!("{listener} {sent} on {version}");
                    let span = match listener {
                        "mesh" => {
                            let spans = mesh.sink.wait_for_trace(TRACE, 1).expect("the span");
                            spans
                                .iter()
                                .map(|span| span.span_id.clone())
                                .find(|id| told.contains(id.as_str()))
                                .unwrap_or_else(|| panic!("{at}: {told} names no span"))
                        }
                        _ => SPAN.to_owned(),
                    };
                    let mut left = left.replace("$S", &span);
                    // The span that is opened here has a parent.
                    if listener == "mesh" && header == "b3" {
                        left = format!("{left}-{SPAN}");
                    }
                    assert_eq!(fields(&told), fields(&left), "{at}");
                    tried += 1;
                }
                mesh.sink.clear();
            }
        }
    });
    promises::held(
        "Context and formats",
        "What one format alone knows stays with the trace: `Lineage`, `Self` and other fields of X-Ray; B3 with a parent of \
         zeros is read",
        "6 headers; trace_context downstream and upstream, and mesh_tracing; HTTP/1.1 and HTTP/2",
        &format!(
            "{tried} of {tried} requests as documented, {} versions",
            EnvoyBinary::SUPPORTED.len()
        ),
    );
}

/// "Other words" are no decision: the ids are kept, the word does not leave.
#[test]
fn an_unknown_word_of_x_ray_leaves_the_decision_open() {
    let sent = format!("{ROOT};Parent={SPAN};Sampled=other");
    let config = |sampling: &str| {
        let mut config = reporting("http/protobuf", "{}");
        config["trace_context"] = json!({"extract": ["xray"], "inject": ["xray", "tracecontext"]});
        config["sampling"] = json!({"default": sampling});
        config
    };
    each_supported(|envoy| {
        let version = envoy.reported_version();
        for (sampling, decision) in [("always", "1"), ("never", "0")] {
            let manager = HttpConnectionManager::new()
                .route(Route::prefix("/").cluster("upstream"))
                .filter(mesh_tracing(config(sampling)));
            let bootstrap = Bootstrap::new().listener(Listener::http("ingress", manager));
            let mesh = Collected::with(envoy, "http/protobuf", bootstrap);
            let address = mesh.envoy.address("ingress").expect("its address");
            http2::over_both(address, &[("x-amzn-trace-id", &sent)]);
            let requests = mesh.upstream.take();
            assert_eq!(requests.len(), 2, "{version}");
            for request in requests {
                let told = request.header_text("x-amzn-trace-id").expect("the header");
                assert!(told.starts_with(ROOT), "{version}: {told}");
                let sampled = format!("Sampled={decision}");
                assert!(fields(&told).contains(&sampled), "{version}: {told}");
                let parent = request.header_text("traceparent").expect("the header");
                assert!(parent.contains(TRACE), "{version}: {parent}");
                assert!(
                    parent.ends_with(&format!("0{decision}")),
                    "{version}: {parent}"
                );
            }
        }
    });
    promises::held(
        "Context and formats",
        "An unknown word for a decision (`Sampled=other` of X-Ray) costs no trace: the ids stay, and the rules decide",
        "mesh_tracing with always and never, HTTP/1.1 and HTTP/2",
        "4 of 4 requests in the caller's trace, 4 versions",
    );
}
