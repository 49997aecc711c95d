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

const PAGE: &str = include_str!("../../../docs/render.md");

/// What the command prints in a folder with the files of the page.
fn printed(folder: &std::path::Path, command: &str) -> (bool, String) {
    let arguments: Vec<_> = command.split_whitespace().skip(1).collect();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_meshtrace"))
        .current_dir(folder)
        .args(arguments)
        .output()
        .expect("a process");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8(text).expect("text"),
    )
}

#[test]
fn the_page_shows_what_is_printed() {
    let folder = tempfile::tempdir().expect("a folder");
    let json = PAGE
        .split("```json\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    std::fs::write(
        folder.path().join("mesh.json"),
        json.expect("a configuration"),
    )
    .expect("a file");
    for name in ["a.json", "b.json", "c.json"] {
        std::fs::write(folder.path().join(name), "{}").expect("a file");
    }
    let mut run = 0;
    for block in PAGE.split("```console\n").skip(1) {
        let block = block.split("```").next().expect("the block");
        let (command, expected) = block.split_once('\n').expect("its output");
        let command = command.strip_prefix("$ ").expect("a command");
        assert_eq!(printed(folder.path(), command).1, expected, "{command}");
        run += 1;
    }
    for line in PAGE.lines() {
        let Some(command) = line.strip_prefix("    meshtrace") else {
            continue;
        };
        let (is_done, text) = printed(folder.path(), &format!("meshtrace{command}"));
        assert!(is_done, "{command}: {text}");
        run += 1;
    }
    assert_eq!(run, 3);
}

#[test]
fn what_contradicts_is_refused_with_a_cure() {
    use Filter::{
        AccessLogTrace, MeshTracing, Native, RouteSampling, SpanAttributes, TraceContext,
    };
    const REPORT: &str = r#"{"report": {"cluster": "c"}}"#;
    const UPSTREAM: &str = r#"{"placement": "upstream", "tracer": "tracecontext"}"#;
    let envoy = Host::Envoy(EnvoyVersion::V1_40);
    let istio = Host::Istio(IstioVersion::V1_31);
    let otel = ProxyTracer::Some(Tracer::OpenTelemetry);
    type Case<'c> = (Host, Role, ProxyTracer, Vec<(Filter, &'c str)>, &'c str);
    let cases: Vec<Case<'_>> = vec![
        (
            envoy,
            Role::Sidecar,
            ProxyTracer::None,
            vec![(MeshTracing, REPORT), (TraceContext, "")],
            "put its configuration under `trace_context` of mesh_tracing",
        ),
        (
            envoy,
            Role::Sidecar,
            ProxyTracer::None,
            vec![(MeshTracing, REPORT), (Native, REPORT)],
            "take one",
        ),
        (
            envoy,
            Role::Sidecar,
            otel,
            vec![(MeshTracing, REPORT)],
            "--tracer none",
        ),
        (
            istio,
            Role::Sidecar,
            ProxyTracer::None,
            vec![(Native, REPORT)],
            "take mesh-tracing",
        ),
        (
            Host::Envoy(EnvoyVersion::V1_37),
            Role::Sidecar,
            ProxyTracer::None,
            vec![(Native, REPORT)],
            "which came with Envoy 1.38",
        ),
        (
            envoy,
            Role::Sidecar,
            ProxyTracer::None,
            vec![(Native, "{}")],
            "mesh_tracing.report: required",
        ),
        (
            envoy,
            Role::Sidecar,
            otel,
            vec![(TraceContext, ""), (TraceContext, "")],
            "twice in one place",
        ),
        (
            envoy,
            Role::Sidecar,
            ProxyTracer::Some(Tracer::ZipkinB3),
            vec![(TraceContext, UPSTREAM)],
            "set \"b3multi\"",
        ),
        (
            envoy,
            Role::Sidecar,
            ProxyTracer::None,
            vec![(TraceContext, UPSTREAM)],
            "there is none",
        ),
        (
            envoy,
            Role::Sidecar,
            ProxyTracer::None,
            vec![(RouteSampling, "")],
            "take mesh-tracing",
        ),
        (
            envoy,
            Role::Sidecar,
            ProxyTracer::None,
            vec![(SpanAttributes, "")],
            "take mesh-tracing",
        ),
        (
            envoy,
            Role::Sidecar,
            ProxyTracer::None,
            vec![(AccessLogTrace, r#"{"ids": {"trace_id_header": "x-t"}}"#)],
            "remove `ids`",
        ),
        (
            envoy,
            Role::Sidecar,
            otel,
            vec![(AccessLogTrace, r#"{"tracer": "b3"}"#)],
            "access_log_trace.tracer",
        ),
        (
            envoy,
            Role::Sidecar,
            otel,
            vec![(MeshTracing, r#"{"trace_context": {}}"#)],
            "give it as trace-context",
        ),
        (
            istio,
            Role::Waypoint,
            otel,
            vec![(TraceContext, "")],
            "a waypoint takes no EnvoyFilter",
        ),
        (
            envoy,
            Role::Sidecar,
            ProxyTracer::Some(Tracer::ZipkinB3WithW3c),
            vec![
                (
                    TraceContext,
                    r#"{"request_headers": "filter_state", "baggage_from": ["jaeger"]}"#,
                ),
                (
                    SpanAttributes,
                    r#"{"request_headers": "filter_state", "emit": {"baggage": true}}"#,
                ),
            ],
            "both say by filter state how baggage leaves",
        ),
        (envoy, Role::Sidecar, otel, vec![], "name one"),
        (
            envoy,
            Role::Sidecar,
            otel,
            vec![(TraceContext, r#"{"extract": ["b4"]}"#)],
            "trace_context.extract[0]",
        ),
    ];
    for (host, role, tracer, set, expected) in cases {
        let mut setup = setup(host, tracer, role, &set);
        setup.tracer = Some(tracer);
        let refused = setup.render().map(|_| ()).expect_err(expected).to_string();
        assert!(refused.contains(expected), "{refused}");
    }
    let mut setup = Setup::new(envoy);
    for (url, sha256, expected) in [
        (Some("oci://r/i:1"), None, "fetches no images"),
        (Some("https://r/m.wasm"), None, "add --sha256"),
        (None, Some("00"), "64 hexadecimal digits"),
        (Some("ftp://r/m"), None, "expected oci"),
    ] {
        let mut filter = FilterSetup::new(TraceContext, "");
        filter.url = url.map(str::to_owned);
        filter.sha256 = sha256.map(str::to_owned);
        setup.filters = vec![filter];
        let refused = setup.render().map(|_| ()).expect_err(expected).to_string();
        assert!(refused.contains(expected), "{refused}");
    }
}
