//! What `meshtrace render` prints: nothing that `meshtrace check` finds anything in.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

use meshtrace_check::{Code, Input, Options};
use meshtrace_render::{
    EnvoyVersion, Filter, FilterSetup, Host, IstioVersion, ProxyTracer, Role, Setup, Tracer,
};

const TRACERS: [ProxyTracer; 4] = [
    ProxyTracer::None,
    ProxyTracer::Some(Tracer::OpenTelemetry),
    ProxyTracer::Some(Tracer::ZipkinB3),
    ProxyTracer::Some(Tracer::ZipkinB3WithW3c),
];

const ROLES: [Role; 3] = [Role::Sidecar, Role::Gateway, Role::Waypoint];

/// Filters with configurations that a check has nothing to say about.
fn sets() -> Vec<Vec<(Filter, &'static str)>> {
    use Filter::{
        AccessLogTrace, MeshTracing, Native, RouteSampling, SpanAttributes, TraceContext,
    };
    const RULES: &str = r#"{"rules": [{"match": {"path": {"prefix": "/health"}}, "sample": "never"},
        {"match": {"route": "pay"}, "sample": "always"}],
        "default": {"ratio": 0.1}, "force": {"header": "x-force", "value_env": "FORCE"}}"#;
    const IDS: &str = r#"{"ids": {"trace_id_header": "x-active-trace-id", "span_id_header": "x-active-span-id"}}"#;
    const REPORT: &str = r#"{"trace_context": {}, "sampling": {"default": {"ratio": 0.1}},
        "report": {"cluster": "outbound|4318||otel-collector.observability.svc.cluster.local"}}"#;
    const GRPC: &str = r#"{"sampling": {"default": {"ratio": 0.1}}, "access_log": {}, "span_attributes": {},
        "report": {"cluster": "outbound|4317||otel.o.svc.cluster.local", "protocol": "grpc"}}"#;
    let attributes = r#"{"emit": {"request_header_prefix": "x-span-attr-"}}"#;
    let secret = r#"{"attributes": [{"key": "user.id", "from": {"header": "x-user"},
        "transform": [{"hmac_sha256": {"key_env": "KEY"}}]}], "emit": {"request_header_prefix": "x-a-"}}"#;
    vec![
        vec![(TraceContext, "")],
        vec![(TraceContext, r#"{"incoming": "restart"}"#)],
        vec![(
            TraceContext,
            r#"{"extract": ["jaeger", "tracecontext"], "on_missing": "generate"}"#,
        )],
        vec![(TraceContext, r#"{"request_headers": "filter_state"}"#)],
        vec![(RouteSampling, RULES)],
        vec![(SpanAttributes, attributes)],
        vec![(SpanAttributes, secret)],
        vec![(AccessLogTrace, "")],
        vec![(AccessLogTrace, IDS)],
        vec![(MeshTracing, REPORT)],
        vec![(MeshTracing, GRPC)],
        vec![(
            MeshTracing,
            r#"{"sampling": {"default": {"ratio": 0.1}}, "access_log": {}}"#,
        )],
        vec![(
            Native,
            r#"{"report": {"cluster": "collector"}, "sampling": {"default": "always"}}"#,
        )],
        vec![
            (TraceContext, ""),
            (SpanAttributes, attributes),
            (AccessLogTrace, IDS),
        ],
        vec![
            (AccessLogTrace, IDS),
            (RouteSampling, RULES),
            (SpanAttributes, attributes),
            (TraceContext, r#"{"incoming": "ignore"}"#),
        ],
        vec![(TraceContext, ""), (RouteSampling, RULES)],
    ]
}

fn setup(host: Host, tracer: ProxyTracer, role: Role, set: &[(Filter, &str)]) -> Setup {
    let mut setup = Setup::new(host);
    let reports = set.iter().any(|(_, config)| config.contains("report"));
    setup.tracer = (!reports).then_some(tracer);
    setup.role = role;
    let filter = |(filter, config): &(Filter, &str)| FilterSetup::new(*filter, *config);
    setup.filters = set.iter().map(filter).collect();
    setup
}

fn hosts() -> impl Iterator<Item = Host> {
    let envoys = EnvoyVersion::ALL
        .iter()
        .map(|version| Host::Envoy(*version));
    envoys.chain(
        IstioVersion::ALL
            .iter()
            .map(|version| Host::Istio(*version)),
    )
}

#[test]
fn a_check_finds_nothing_but_placeholders() {
    let (mut rendered, mut refused) = (0, 0);
    for (place, set) in sets().iter().enumerate() {
        for host in hosts() {
            for (tracer, role) in TRACERS
                .iter()
                .flat_map(|tracer| ROLES.map(|role| (*tracer, role)))
            {
                // A standalone Envoy has no role, and a filter that reports no tracer beside it.
                let is_twice = matches!(host, Host::Envoy(_)) && role != Role::Sidecar
                    || tracer != ProxyTracer::None
                        && set.iter().any(|(_, config)| config.contains("report"));
                if is_twice {
                    continue;
                }
                let mut setup = setup(host, tracer, role, set);
                for has_url in [false, true] {
                    if has_url && matches!(host, Host::Istio(_)) {
                        for filter in &mut setup.filters {
                            filter.url = Some("oci://ghcr.io/me/meshtrace/m:1".to_owned());
                            filter.sha256 = Some("a1".repeat(32));
                        }
                    }
                    let label = format!("{place} {host:?} {tracer:?} {role:?}");
                    let rendering = match setup.render() {
                        Ok(rendering) => rendering,
                        Err(sentence) => {
                            refused += 1;
                            let sentence = sentence.to_string();
                            assert!(
                                sentence.len() > 40 && !sentence.contains('\n'),
                                "{sentence}"
                            );
                            continue;
                        }
                    };
                    rendered += 1;
                    let text = rendering.to_yaml();
                    let files = rendering.pieces.iter().map(|piece| Input {
                        name: piece.name.clone(),
                        bytes: rendering.file(piece).into_bytes(),
                    });
                    let whole = Input {
                        name: "whole.yaml".to_owned(),
                        bytes: text.clone().into_bytes(),
                    };
                    for inputs in [files.collect(), vec![whole]] {
                        let report = meshtrace_check::check(&inputs, &Options::default());
                        let found: Vec<_> = report
                            .findings
                            .iter()
                            .filter(|finding| has_url || finding.code != Code::Placeholder)
                            .map(ToString::to_string)
                            .collect();
                        assert!(found.is_empty(), "{label}: {found:#?}\n{text}");
                    }
                    if matches!(host, Host::Istio(_)) && !has_url {
                        assert!(
                            text.contains("registry.example.com")
                                || text.contains("/etc/meshtrace")
                                || !text.contains("wasm"),
                            "{label}: {text}"
                        );
                    }
                }
            }
        }
    }
    assert!(
        rendered > 500 && refused > 100,
        "{rendered} rendered, {refused} refused"
    );
}
