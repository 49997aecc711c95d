//! Trace headers that are not converted: what a caller from outside sends of them is told to nobody
//! where the configuration says so, by the filters and by the rendered early mutation.

use envoy_test_harness::config::{Bootstrap, HttpConnectionManager, Listener, Route};
use envoy_test_harness::upstream::RecordedRequest;
use envoy_test_harness::{EnvoyBinary, each_supported};
use meshtrace_propagation::{Vendor, families};
use meshtrace_render::{Tracer, early_mutation};
use meshtrace_test_support::common::{TRACE, trace_context};
use meshtrace_test_support::http2;
use meshtrace_test_support::promises;
use meshtrace_test_support::reporting::{Collected, mesh_tracing, reporting};
use serde_json::{Value, json};

/// What vendors' documentation names; of those that only begin alike, some of each.
const DOCUMENTED: [&str; 24] = [
    "sentry-trace",
    "elastic-apm-traceparent",
    "x-instana-t",
    "x-instana-s",
    "x-instana-l",
    "request-id",
    "request-context",
    "newrelic",
    "x-newrelic-id",
    "x-newrelic-transaction",
    "jaeger-debug-id",
    "jaeger-baggage",
    "uberctx-user",
    "uberctx-tenant-id",
    "ot-baggage-user",
    "ot-baggage-x.y",
    "sw8",
    "sw8-correlation",
    "sw8-x",
    "x-ot-span-context",
    "x-dynatrace",
    "x-honeycomb-trace",
    "X-Instana-L",
    "UberCtx-Role",
];

/// The same, each by its own name, or by its beginning.
const BY_NAME: [&str; 16] = [
    "sentry-trace",
    "elastic-apm-traceparent",
    "x-instana-*",
    "Request-Id",
    "request-context",
    "newrelic",
    "x-newrelic-id",
    "x-newrelic-transaction",
    "jaeger-debug-id",
    "jaeger-baggage",
    "uberctx-*",
    "ot-baggage-*",
    "SW8*",
    "x-ot-span-context",
    "x-dynatrace",
    "x-honeycomb-trace",
];

/// The documented names, one of each name that is known, and two of each that only begins alike.
fn every_header() -> Vec<String> {
    let names = families().flat_map(|family| {
        let prefixed = (!family.prefix.is_empty())
            .then(|| ["t", "some-other"].map(|end| format!("{}{end}", family.prefix)));
        let names = family.names.iter().map(|name| (*name).to_owned());
        names
            .chain(prefixed.into_iter().flatten())
            .collect::<Vec<_>>()
    });
    let documented = DOCUMENTED.iter().map(|name| (*name).to_owned());
    documented.chain(names).collect()
}

/// What is left of a request over each version of HTTP.
fn left(mesh: &Collected, listener: &str, names: &[String]) -> Vec<RecordedRequest> {
    let mut headers: Vec<_> = names.iter().map(|name| (name.as_str(), TRACE)).collect();
    headers.push(("x-harmless", "1"));
    let address = mesh.envoy.address(listener).expect("its address");
    for (version, status) in http2::over_both(address, &headers) {
        assert_eq!(status, 200, "{version}");
    }
    let requests = mesh.upstream.take();
    assert_eq!(requests.len(), 2);
    for request in &requests {
        assert!(request.header("x-harmless").is_some());
    }
    requests
}

fn plain() -> HttpConnectionManager {
    HttpConnectionManager::new().route(Route::prefix("/").cluster("upstream"))
}

fn early(config: &Value) -> HttpConnectionManager {
    let config = meshtrace_config::read(config.to_string().as_bytes()).expect("a configuration");
    let mutation =
        early_mutation(&config, Tracer::OpenTelemetry).expect("one that can be rendered");
    plain()
        .early_header_mutation(mutation.extension)
        .merge(mutation.manager.to_json())
}

#[test]
fn an_ignored_callers_headers_reach_nobody() {
    let names = every_header();
    let ignore = json!({"incoming": "ignore"});
    let by_name: Vec<_> = Vendor::ALL.iter().map(|vendor| vendor.name()).collect();
    let mut clear = by_name.clone();
    clear.extend(["jaeger", "ottrace", "jaeger-baggage"]);
    let restart = json!({"incoming": "restart", "clear": clear});
    let by_pattern = json!({"incoming": "restart", "clear": BY_NAME});
    let mut tried = 0;
    each_supported(|envoy| {
        let reporting = |context: &Value| {
            let mut config = reporting("http/protobuf", "{}");
            config["trace_context"] = context.clone();
            plain().filter(mesh_tracing(config))
        };
        let managers = [
            (
                "filter ignore",
                plain().filter(trace_context(&ignore.to_string())),
            ),
            (
                "filter restart",
                plain().filter(trace_context(&restart.to_string())),
            ),
            (
                "filter by name",
                plain().filter(trace_context(&by_pattern.to_string())),
            ),
            (
                "mesh_tracing without report",
                plain().filter(mesh_tracing(json!({"trace_context": ignore}))),
            ),
            ("mesh_tracing by name", reporting(&by_pattern)),
            ("early by name", early(&by_pattern)),
            ("mesh_tracing ignore", reporting(&ignore)),
            ("mesh_tracing restart", reporting(&restart)),
            ("early ignore", early(&ignore)),
            ("early restart", early(&restart)),
            ("alone", plain()),
        ];
        let listeners = managers.map(|(name, manager)| Listener::http(name, manager));
        let bootstrap = listeners
            .into_iter()
            .fold(Bootstrap::new(), Bootstrap::listener);
        let mesh = Collected::with(envoy, "http/protobuf", bootstrap);
        for listener in [
            "filter ignore",
            "filter restart",
            "mesh_tracing ignore",
            "mesh_tracing restart",
            "early ignore",
            "early restart",
            "filter by name",
            "mesh_tracing without report",
            "mesh_tracing by name",
            "early by name",
        ] {
            for request in left(&mesh, listener, &names) {
                for name in &names {
                    let at = envoy.reported_version();
                    assert_eq!(request.header(name), None, "{name} {listener} {at}");
                    tried += 1;
                }
            }
        }
        for request in left(&mesh, "alone", &names) {
            for name in &names {
                assert!(request.header(name).is_some(), "{name}: the test can fail");
            }
        }
    });
    promises::held(
        "Headers and connections",
        "The headers of vendors that are not converted reach nobody from a caller who is ignored, or where they are cleared",
        "trace_context, mesh_tracing with and without report, and the rendered early mutation; ignore, and restart with \
         clear of vendors, of names and of beginnings such as `uberctx-*`; HTTP/1.1 and HTTP/2",
        &format!(
            "{tried} of {tried} headers gone, {} versions",
            EnvoyBinary::SUPPORTED.len()
        ),
    );
}

/// Where some callers are believed, a mutation cannot put back what it does not know by name.
#[test]
fn a_mutation_with_a_condition_leaves_what_only_begins_alike() {
    let envoy = EnvoyBinary::find().expect("an Envoy");
    let config = json!({"incoming": {"mode": "ignore", "when": {"header_absent": "x-known"}}});
    let bootstrap = Bootstrap::new().listener(Listener::http("ingress", early(&config)));
    let mesh = Collected::with(&envoy, "http/protobuf", bootstrap);
    let mut names = vec!["sentry-trace".to_owned(), "uberctx-user".to_owned()];
    for request in left(&mesh, "ingress", &names) {
        assert_eq!(request.header("sentry-trace"), None);
        assert!(request.header("uberctx-user").is_some());
    }
    names.push("x-known".to_owned());
    for request in left(&mesh, "ingress", &names) {
        let kept = request.header("sentry-trace").is_some();
        assert!(kept, "a caller who is believed");
    }
}
