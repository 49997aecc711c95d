//! `meshtrace doctor --bundle` beside an Envoy full of secrets: none of them is in the bundle.

use std::process::Command;

use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, HttpFilter, Listener, Route, Tracing,
};
use envoy_test_harness::{Envoy, EnvoyBinary, Upstream, each_supported};
use meshtrace_test_support::common::command_line;
use meshtrace_test_support::reporting::mesh_tracing;
use serde_json::json;

/// Every secret below begins with it.
const MARK: &str = "s3cr3t";

/// The secrets, by where they stand.
const PLACES: [&str; 12] = [
    "report",
    "report-other",
    "environment",
    "lua",
    "mutation",
    "route",
    "body",
    "tracer",
    "metadata",
    "generic",
    "basic-auth",
    "cluster",
];

fn secret(place: &str) -> String {
    assert!(PLACES.contains(&place), "{place}");
    format!("{MARK}-{place}")
}

fn start(binary: &EnvoyBinary, upstream: &Upstream) -> Envoy {
    let plugin = mesh_tracing(json!({
        "report": {
            "cluster": "collector",
            "role": "server",
            "headers": {
                "authorization": format!("Bearer {}", secret("report")),
                "x-team": secret("report-other"),
            },
        },
        "sampling": {"default": {"ratio": 0.5}},
        "span_attributes": {"attributes": [{
            "key": "user.id",
            "from": {"header": "x-user"},
            "transform": [{"hmac_sha256": {"key_env": "HMAC_KEY"}}],
        }]},
    }));
    let added =
        |name: &str, value: String| json!([{"append": {"header": {"key": name, "value": value}}}]);
    let authorization = added("authorization", format!("Basic {}", secret("mutation")));
    let users = format!("user:{{SHA}}{}", secret("basic-auth"));
    let basic_auth = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.basic_auth.v3.BasicAuth",
        "users": {"inline_string": format!("{users:A<37}=")},
    });
    let lua = format!(
        "-- {}\nfunction envoy_on_request(handle) end",
        secret("lua")
    );
    let header = json!({"header": {"key": "x-own", "value": secret("route")}});
    let tracer = Tracing::raw(
        "envoy.tracers.opentelemetry",
        json!({
            "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
            "grpc_service": {
                "envoy_grpc": {"cluster_name": "collector"},
                "initial_metadata": [{"key": "x-lightstep", "value": secret("tracer")}],
            },
            "service_name": "shop",
        }),
    );
    let manager = HttpConnectionManager::new()
        .route(Route::prefix("/closed").direct_response(403, &secret("body")))
        .route(
            Route::prefix("/")
                .cluster("upstream")
                .merge(json!({"request_headers_to_add": [header]})),
        )
        .filter(plugin.env("HMAC_KEY", &secret("environment")))
        .filter(HttpFilter::lua("lua", &lua))
        .filter(HttpFilter::header_mutation("mutation", authorization))
        .filter(HttpFilter::raw("basic_auth", basic_auth).merge(json!({"disabled": true})))
        .tracing(tracer);
    let collector = Cluster::http1("collector", upstream.address());
    let generic = json!({"name": "generic", "generic_secret": {"secret": {"inline_string": secret("generic")}}});
    let bootstrap = Bootstrap::new()
        .listener(Listener::http("ingress", manager))
        .cluster(Cluster::http1("upstream", upstream.address()))
        .cluster(collector.merge(json!({
            "metadata": {"filter_metadata": {"own": {"api_key": secret("cluster")}}},
        })))
        .merge(json!({
            "node": {"metadata": {"NAMESPACE": "shop", "ANNOTATIONS": {"own": secret("metadata")}}},
            "static_resources": {"secrets": [generic]},
        }));
    Envoy::start(binary, bootstrap).expect("an Envoy that starts")
}

#[test]
fn a_bundle_has_no_secret_and_what_helps() {
    each_supported(|binary| {
        let upstream = Upstream::start().expect("an upstream");
        let envoy = start(binary, &upstream);
        // Envoy itself hides what its own types call sensitive, and nothing else.
        let dump = envoy.admin("GET", "/config_dump").expect("the dump").text();
        for place in PLACES
            .into_iter()
            .filter(|place| !["generic", "basic-auth"].contains(place))
        {
            assert!(dump.contains(&secret(place)), "{place} is not in the dump");
        }

        let bundle = envoy.folder().join("support.tar.gz");
        let admin = format!("http://{}", envoy.admin_address());
        let output = Command::new(command_line())
            .args(["doctor", &admin, "--seconds", "1", "--bundle"])
            .arg(&bundle)
            .output()
            .expect("the command line");
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code().is_some_and(|code| code < 2),
            "{printed}"
        );
        let file = |name: &str| {
            let output = Command::new("tar")
                .arg("-xzOf")
                .args([&bundle, &format!("meshtrace-support/{name}").into()])
                .output()
                .expect("tar");
            let text = String::from_utf8(output.stdout).expect("text");
            assert!(!text.is_empty(), "{name}");
            text
        };
        for name in [
            "README.txt",
            "versions.txt",
            "server_info.json",
            "config_dump.json",
            "stats-before.json",
            "stats-after.json",
            "findings.txt",
            "findings.json",
        ] {
            assert!(!file(name).contains(MARK), "{name}");
        }
        let dump = file("config_dump.json");
        for help in [
            "HMAC_KEY",
            "[removed]",
            "\"NAMESPACE\": \"shop\"",
            "mesh_tracing",
            "x-lightstep",
            "user.id",
        ] {
            assert!(dump.contains(help), "{help}: {dump}");
        }
        assert!(file("stats-after.json").contains("wasmcustom.meshtrace.config_invalid"));
        assert!(file("versions.txt").contains(binary.reported_version()));
        assert!(file("findings.txt").contains("mesh_tracing (listener): in force"));
        // Two tracers: the finding is about the cleaned dump.
        assert!(
            file("findings.json").contains("MT033"),
            "{}",
            file("findings.json")
        );
    });
}
