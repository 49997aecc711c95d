//! Callers that are not believed, malformed headers and helper headers: what does not leave.

use std::collections::BTreeSet;

use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, Listener, Route, Tracing,
};
use envoy_test_harness::{EnvoyBinary, OtlpSink, each_supported};
use meshtrace_render::{Tracer, early_mutation};
use meshtrace_test_support::common::{self, Mesh};

use super::{Case, Hop, Proxies, STRICT, TRACERS, context, listener, parsed};

const W3C: (&str, &str) = (
    "traceparent",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
);
const SAME_IN_B3: (&str, &str) = ("b3", "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1");
const OTHER_IN_B3: (&str, &str) = ("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1");

fn case(name: &str, headers: &[(&str, &str)], expected: Hop) -> Case {
    Case {
        name: name.to_owned(),
        sent: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
            .collect(),
        expected,
    }
}

#[test]
fn headers_of_another_trace_and_malformed_ones_do_not_leave() {
    let b3_first = r#"{"extract": ["b3", "b3multi", "tracecontext"]}"#;
    let envoy = EnvoyBinary::find().expect("an Envoy");
    let proxies = Proxies::start(&envoy, &["{}", b3_first]);
    let multi = [
        ("x-b3-traceid", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("x-b3-spanid", "00f067aa0ba902b7"),
        ("x-b3-parentspanid", "05e3ac9a4f6e3b90"),
        ("x-b3-sampled", "1"),
    ];
    let state = ("tracestate", "vendor=1 \t,\tother=2");
    let not_ascii = ("tracestate", "vendor=\u{e9}");
    let lines = |headers: &[&[(&'static str, &'static str)]]| headers.concat();

    // What was sent, and which of it leaves as it came.
    let otel = Tracer::OpenTelemetry;
    for (tracer, config, sent, stays) in [
        (
            otel,
            "{}",
            lines(&[&[W3C, state, SAME_IN_B3], &multi]),
            lines(&[&[state, SAME_IN_B3], &multi]),
        ),
        (
            otel,
            "{}",
            lines(&[&[W3C, state, OTHER_IN_B3], &multi]),
            lines(&[&[state], &multi]),
        ),
        (
            otel,
            "{}",
            lines(&[&[W3C, ("b3", "junk"), ("x-b3-sampled", "1")]]),
            vec![],
        ),
        (
            otel,
            "{}",
            lines(&[&[state, ("b3", "0"), ("x-b3-traceid", "junk")]]),
            vec![("b3", "0")],
        ),
        (otel, "{}", lines(&[&[W3C, not_ascii]]), vec![]),
        (
            otel,
            b3_first,
            lines(&[&[W3C, state, OTHER_IN_B3]]),
            vec![OTHER_IN_B3],
        ),
        (
            Tracer::ZipkinB3,
            "{}",
            lines(&[&[W3C, state, OTHER_IN_B3]]),
            vec![W3C, state],
        ),
        (
            Tracer::ZipkinB3,
            b3_first,
            lines(&[&[W3C, state, SAME_IN_B3]]),
            vec![W3C, state],
        ),
        (
            Tracer::ZipkinB3,
            b3_first,
            lines(&[&[W3C, state, OTHER_IN_B3]]),
            vec![],
        ),
        (
            Tracer::ZipkinB3WithW3c,
            "{}",
            lines(&[&[W3C, state, OTHER_IN_B3]]),
            vec![state],
        ),
        (
            Tracer::ZipkinB3WithW3c,
            b3_first,
            lines(&[&[W3C, state, OTHER_IN_B3]]),
            vec![],
        ),
    ] {
        let mut connection = proxies.mesh.connect(&listener(tracer, config));
        let left = proxies.mesh.pass(&mut connection, &common::get(&sent));
        let stayed: Vec<_> = sent
            .iter()
            .filter(|(name, value)| left.header_text(name).as_deref() == Some(value))
            .copied()
            .collect();
        assert_eq!(stayed, stays, "{tracer:?} with {config}: {sent:?}");
        let others = sent.iter().filter(|header| !stays.contains(header));
        for (name, value) in others {
            let values = left.header_values(name);
            assert!(
                !values.contains(&value.as_bytes()),
                "{tracer:?}: {name} {value}"
            );
        }
        let helpers = left.headers.iter();
        let mut helpers = helpers.filter(|(name, _)| name.starts_with(b"x-meshtrace"));
        assert_eq!(helpers.next(), None);
    }
}

#[test]
fn helper_headers_of_a_client_are_not_read() {
    let envoy = EnvoyBinary::find().expect("an Envoy");
    let proxies = Proxies::start(&envoy, &["{}"]);
    let forged: Vec<_> = [
        "chosen",
        "from-tracecontext",
        "from-b3",
        "from-b3multi",
        "traceparent",
        "narrow",
    ]
    .map(|name| (format!("x-meshtrace-early-{name}"), W3C.1))
    .into();
    let forged: Vec<_> = forged
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    for tracer in TRACERS {
        let started = Hop::Started { sampled: true };
        let differences = proxies.differences(tracer, "{}", &[case("forged", &forged, started)]);
        assert_eq!(differences, Vec::<String>::new());
    }
}

#[test]
fn a_caller_that_is_not_believed_starts_a_trace_on_every_envoy() {
    let configs = [r#"{"incoming": "restart"}"#, r#"{"incoming": "ignore"}"#];
    each_supported(|envoy| {
        let proxies = Proxies::start(envoy, &configs);
        let started = Hop::Started { sampled: true };
        let cases = [
            case("W3C", &[W3C], started.clone()),
            case("B3", &[OTHER_IN_B3], started.clone()),
            case(
                "both, denied",
                &[W3C, ("b3", "0"), ("x-b3-sampled", "0")],
                started,
            ),
        ];
        for tracer in TRACERS {
            for config in configs {
                let differences = proxies.differences(tracer, config, &cases);
                assert_eq!(
                    differences,
                    Vec::<String>::new(),
                    "{}",
                    envoy.reported_version()
                );
            }
        }
    });
}

#[test]
fn an_acceptance_without_ids_samples_what_the_proxy_would_not() {
    each_supported(|envoy| {
        let sink = OtlpSink::start().expect("a sink");
        let rendered = early_mutation(&parsed("{}"), Tracer::OpenTelemetry).expect("a mutation");
        let manager = HttpConnectionManager::new()
            .tracing(Tracing::opentelemetry_grpc("otlp", "shop").random_sampling(0.0))
            .early_header_mutation(rendered.extension)
            .route(Route::prefix("/").cluster("upstream"));
        let bootstrap = Bootstrap::new()
            .cluster(Cluster::http2("otlp", sink.grpc_addr()))
            .listener(Listener::http("ingress", manager));
        let mesh = Mesh::with(envoy, bootstrap);
        let mut connection = mesh.connect("ingress");
        let mut traces = BTreeSet::new();
        for (header, sampled) in [
            (("b3", "1"), true),
            (("b3", "d"), true),
            (("x-b3-sampled", "1"), true),
            (("b3", "0"), false),
            (("x-b3-sampled", "0"), false),
            (("x-other", "1"), false),
        ] {
            let left = mesh.pass(&mut connection, &common::get(&[header]));
            let (trace, _, seen) = context(&left, Tracer::OpenTelemetry).expect("a context");
            assert!(traces.insert(trace), "each trace is a new one");
            assert_eq!(seen, sampled, "{header:?} on {}", envoy.reported_version());
        }
        assert!(
            sink.wait_for_spans(3)
                .expect("spans")
                .iter()
                .all(|s| s.parent_span_id.is_none())
        );
    });
}

/// The filter lowers upper-case B3; CEL cannot, and the OpenTelemetry tracer would pass it on.
#[test]
fn upper_case_b3_is_continued_by_the_tracers_that_lower_it() {
    let sent = [
        &[("b3", "80F198EE56343BA864FE8B2A57D3EFF7-E457B5A2E4D86BD1-1")][..],
        &[
            ("x-b3-traceid", "80F198EE56343BA864FE8B2A57D3EFF7"),
            ("x-b3-spanid", "E457B5A2E4D86BD1"),
            ("x-b3-sampled", "1"),
        ],
    ];
    let continued = Hop::Continued {
        trace: "80f198ee56343ba864fe8b2a57d3eff7".to_owned(),
        parent: Some("e457b5a2e4d86bd1".to_owned()),
        sampled: true,
    };
    let envoy = EnvoyBinary::find().expect("an Envoy");
    let proxies = Proxies::start(&envoy, &["{}", STRICT]);
    for (tracer, config, expected) in [
        (Tracer::OpenTelemetry, "{}", Hop::Started { sampled: true }),
        (Tracer::ZipkinB3, "{}", continued.clone()),
        (Tracer::ZipkinB3WithW3c, "{}", continued),
        (Tracer::ZipkinB3, STRICT, Hop::Started { sampled: true }),
    ] {
        let cases = sent.map(|headers| case("upper case", headers, expected.clone()));
        let differences = proxies.differences(tracer, config, &cases);
        assert_eq!(differences, Vec::<String>::new());
    }
}

#[test]
fn bytes_that_are_not_text_are_refused_and_harm_no_other_header() {
    let mut headers = case("bytes", &[W3C], Hop::Started { sampled: true }).sent;
    headers.extend([
        (
            "b3".to_owned(),
            b"80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd\xff-1".to_vec(),
        ),
        ("x-b3-traceid".to_owned(), b"\xff\xfe".to_vec()),
        ("x-b3-spanid".to_owned(), b"\xc3\x28".to_vec()),
    ]);
    let continued = |sent| Case {
        name: "bytes".to_owned(),
        sent,
        expected: Hop::Continued {
            trace: common::TRACE.to_owned(),
            parent: Some(common::SPAN.to_owned()),
            sampled: true,
        },
    };
    let alone = headers[1..].to_vec();
    let mut in_state = headers.clone();
    in_state.push(("tracestate".to_owned(), b"a=\xff".to_vec()));
    each_supported(|envoy| {
        let proxies = Proxies::start(envoy, &["{}"]);
        let cases = [
            continued(headers.clone()),
            continued(in_state.clone()),
            Case {
                sent: alone.clone(),
                ..case("bytes alone", &[], Hop::Started { sampled: true })
            },
        ];
        for tracer in TRACERS {
            let differences = proxies.differences(tracer, "{}", &cases);
            assert_eq!(
                differences,
                Vec::<String>::new(),
                "{}",
                envoy.reported_version()
            );
        }
    });
}
