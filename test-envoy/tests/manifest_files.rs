//! The manifests that are written by a program: one plugin configuration a need, read as the filter reads it, in every
//! way of loading it. `UPDATE_EXAMPLES=1` writes them; without it they must be what would be written.

mod common;
mod plugins;

use meshtrace_config::read;
use meshtrace_propagation::{Placement, Propagation, TraceContextConfig};
use plugins::{KINDS, Kind, NO_DIGEST, check_files, image, indented};
use serde_json::Value;

const UPDATE: &str = "UPDATE_EXAMPLES=1 cargo test -p envoy-test-harness --test manifest_files";
/// Beside the Zipkin tracer: key, value, and why.
const BESIDE_ZIPKIN: [(&str, &str, &str); 3] = [
    (
        "extract",
        r#"["b3", "b3multi", "tracecontext"]"#,
        "The order in which the tracer reads, so that both take the same trace when the formats disagree.",
    ),
    (
        "inject",
        r#"["tracecontext"]"#,
        "B3 is the tracer's to write: in which of its two shapes depends on Istio's version.",
    ),
    (
        "clear",
        r#"["b3"]"#,
        "The tracer has read it; up to Istio 1.31 it writes x-b3-* and leaves the caller's b3 as it was.",
    ),
];

/// Where a plugin runs.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Behind `trace-context` in the names of files and resources.
    suffix: &'static str,
    /// The overlay's folder; the sidecar is the base.
    overlay: Option<&'static str>,
    title: &'static str,
    /// Lines of the spec, before everything else.
    attachment: &'static str,
    mode: &'static str,
    why: &'static str,
}

const PLACES: [Place; 3] = [
    Place {
        suffix: "",
        overlay: None,
        title: "in sidecars",
        attachment: "",
        mode: "SERVER",
        why: "Inbound only: without `match` a request passes the filter twice in every pod, on its way in and on its way out.",
    },
    Place {
        suffix: "-gateway",
        overlay: Some("ingress-gateway"),
        title: "in ingress gateways",
        attachment: "selector:\n  matchLabels:\n    # The label of Istio's own ingress gateway; in its namespace.\n    istio: ingressgateway\n",
        mode: "CLIENT",
        why: "To Istio a gateway is a client of the services behind it, and has nothing that is SERVER.",
    },
    Place {
        suffix: "-waypoint",
        overlay: Some("waypoint"),
        title: "in a waypoint",
        attachment: "targetRefs:\n# A waypoint takes what names its Gateway, and no selector.\n- group: gateway.networking.k8s.io\n  kind: Gateway\n  name: waypoint\n",
        mode: "SERVER",
        why: "To Istio a waypoint is the server's side of every service behind it.",
    },
];

/// The JSON that the plugin is given; it must be what the filter takes.
fn configuration(keys: &[(&str, &str, &str)]) -> Value {
    let fields: Vec<_> = keys
        .iter()
        .map(|(key, value, _)| format!("{key:?}: {value}"))
        .collect();
    let text = format!("{{{}}}", fields.join(", "));
    let config: TraceContextConfig = read(text.as_bytes()).expect("a configuration");
    assert_eq!(config.placement, Placement::Downstream);
    Propagation::new(&config).expect("one that compiles");
    serde_json::from_str(&text).expect("JSON")
}

/// The configuration as YAML, each key with its reason.
fn commented(keys: &[(&str, &str, &str)]) -> String {
    configuration(keys);
    let line = |(key, value, why): &(&str, &str, &str)| format!("# {why}\n{key}: {value}\n");
    keys.iter().map(line).collect()
}

fn order() -> &'static str {
    "# The earliest place of a plugin, before authentication and authorisation; only an external authoriser\n\
     # (AuthorizationPolicy with action CUSTOM) is earlier.\n\
     phase: AUTHN\n\
     # Before other plugins of this phase, which then see one context. Without a number it would be the last.\n\
     priority: 1000\n"
}

fn matching(place: Place) -> String {
    format!("# {}\nmatch:\n- mode: {}\n", place.why, place.mode)
}

fn head(kind: Kind, place: Place) -> String {
    format!(
        "# tracer: zipkin\n\
         # trace_context {}, beside a Zipkin tracing provider with traceContextOption: USE_B3_WITH_W3C_PROPAGATION.\n\
         # Istio {}. A fetch that fails: requests pass as they are (failStrategy).\n\
         # Resources: about 35 MB for a proxy's first Wasm plugin, and 0.3 MB of the agent's disk for the module.\n\
         # Generated: {UPDATE}\n",
        place.title, kind.since
    )
}

fn metadata(kind: Kind, suffix: &str) -> String {
    format!(
        "apiVersion: extensions.istio.io/v1alpha1\n\
         kind: {}\n\
         metadata:\n  \
           name: trace-context{suffix}\n  \
           # One namespace; in the mesh's root namespace it is for the whole mesh.\n  \
           namespace: default\n\
         spec:\n",
        kind.name
    )
}

fn resource(kind: Kind, place: Place) -> String {
    let mut spec = place.attachment.to_owned();
    spec.push_str(&matching(place));
    spec.push_str(order());
    spec.push_str(&kind.module("trace_context", &commented(&BESIDE_ZIPKIN)));
    head(kind, place) + &metadata(kind, place.suffix) + &indented(&spec, 2)
}

/// An overlay: what differs from the base, which is the sidecars'.
fn overlay(kind: Kind, place: Place) -> String {
    let patch = format!(
        "apiVersion: extensions.istio.io/v1alpha1\nkind: {}\nmetadata:\n  name: trace-context\n  namespace: default\n\
         spec:\n{}",
        kind.name,
        indented(&(place.attachment.to_owned() + &matching(place)), 2)
    );
    format!(
        "# trace_context {}: the base with another attachment. Rendered: ../../../{}/trace-context{}.yaml\n\
         # Generated: {UPDATE}\n\
         apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n- ../../base\n\
         nameSuffix: {}\npatches:\n- patch: |\n{}",
        place.title,
        kind.folder,
        place.suffix,
        place.suffix,
        indented(&patch, 4)
    )
}

fn envoy_gateway() -> String {
    configuration(&[]);
    format!(
        "# trace_context in Envoy Gateway, with its defaults: W3C and both shapes of B3 are read, W3C and x-b3-* written.\n\
         # Envoy Gateway itself fetches the image and serves it to its proxies. A fetch that fails: the policy's status\n\
         # says so, and with failOpen requests pass as they are; without it they are answered 500.\n\
         # Generated: {UPDATE}\n\
         apiVersion: gateway.envoyproxy.io/v1alpha1\n\
         kind: EnvoyExtensionPolicy\n\
         metadata:\n  name: trace-context\n  namespace: default\n\
         spec:\n  targetRefs:\n  # A Gateway is all of its routes; an HTTPRoute here is that route alone.\n  \
         - group: gateway.networking.k8s.io\n    kind: Gateway\n    name: eg\n  \
         wasm:\n  - name: trace_context\n    rootID: trace_context\n    \
         # A module that cannot be fetched or crashes must not fail requests; the default is false.\n    failOpen: true\n    \
         code:\n      type: Image\n      \
         # A pinned module never changes: it is fetched once.\n      pullPolicy: IfNotPresent\n      \
         image:\n        # A registry that wants credentials: `pullSecretRef` with a dockerconfigjson Secret of this namespace.\n        \
         url: {}\n        # The digest that `make push` prints, without `sha256:`.\n        sha256: \"{NO_DIGEST}\"\n    \
         # No key: the defaults. Beside the proxy's own tracer see docs/early-mutation.md.\n    config: {{}}\n",
        image("trace_context")
    )
}

/// Behind the OpenTelemetry tracer, with the module from an image.
fn upstream_from_image() -> String {
    let text = r#"{"placement": "upstream", "tracer": "tracecontext", "inject": ["b3multi"]}"#;
    let config: TraceContextConfig = read(text.as_bytes()).expect("a configuration");
    assert_eq!(config.placement, Placement::Upstream);
    Propagation::new(&config).expect("one that compiles");
    let types = "type.googleapis.com/envoy.extensions.filters.http";
    format!(
        "# tracer: otel\n\
         # Istio >= 1.31: trace_context behind the OpenTelemetry tracer, in pods that carry the label, from an image.\n\
         # A fetch that fails: the agent puts an RBAC filter that allows everything in its place. Envoy 1.36 and 1.37 (Istio\n\
         # 1.28 and 1.29) know none among upstream filters and refuse the listener: there, and in 1.30, which nobody has run,\n\
         # it is trace-context-upstream.yaml with a mounted file. Apply one of the two.\n\
         # Generated: {UPDATE}\n\
         apiVersion: networking.istio.io/v1alpha3\n\
         kind: EnvoyFilter\n\
         metadata:\n  name: trace-context-upstream-image\n  \
         # One namespace; in the mesh's root namespace it is for the whole mesh.\n  namespace: default\n\
         spec:\n  \
         # A proxy older than 1.31 must not get it: label only pods that are newer.\n  \
         workloadSelector:\n    labels:\n      meshtrace: upstream-image\n  \
         configPatches:\n  - applyTo: HTTP_FILTER\n    match:\n      \
         # Inbound, so that the application is told; outbound, so that the next hop is.\n      context: ANY\n      \
         listener:\n        filterChain:\n          filter:\n            \
         name: envoy.filters.network.http_connection_manager\n            subFilter:\n              name: envoy.filters.http.router\n    \
         patch:\n      \
         # Istio leaves the router's list empty, so these two are all of it; another EnvoyFilter must not add to it.\n      \
         operation: MERGE\n      value:\n        name: envoy.filters.http.router\n        typed_config:\n          \
         \"@type\": {types}.router.v3.Router\n          upstream_http_filters:\n          \
         - name: meshtrace.trace_context\n            config_discovery:\n              \
         # Without a limit a listener waits until the agent has fetched; nothing runs unfiltered meanwhile.\n              \
         config_source: {{ads: {{}}, resource_api_version: V3, initial_fetch_timeout: 0s}}\n              \
         # RBAC is what the agent puts there when it cannot fetch.\n              type_urls:\n              \
         - {types}.wasm.v3.Wasm\n              - {types}.rbac.v3.RBAC\n          \
         # Envoy wants it last.\n          \
         - name: envoy.filters.http.upstream_codec\n            typed_config:\n              \
         \"@type\": {types}.upstream_codec.v3.UpstreamCodec\n  \
         # The agent fetches images for what is discovered, and for nothing that stands in place.\n  \
         - applyTo: EXTENSION_CONFIG\n    match:\n      context: ANY\n    patch:\n      operation: ADD\n      value:\n        \
         name: meshtrace.trace_context\n        typed_config:\n          \"@type\": {types}.wasm.v3.Wasm\n          config:\n            \
         name: trace_context\n            root_id: trace_context\n            \
         # A module that cannot be fetched or crashes lets requests pass as they are.\n            failure_policy: FAIL_OPEN\n            \
         configuration:\n              # JSON in a StringValue: a Struct would reach the filter as protobuf.\n              \
         \"@type\": type.googleapis.com/google.protobuf.StringValue\n              value: '{text}'\n            \
         vm_config:\n              runtime: envoy.wasm.runtime.v8\n              code:\n                remote:\n                  \
         http_uri: {{uri: \"oci://{}\", cluster: _, timeout: 30s}}\n                  \
         # The digest that `make push` prints, without `sha256:`.\n                  sha256: \"{NO_DIGEST}\"\n",
        image("trace_context")
    )
}

/// The early place for a tracing provider.
fn telemetry(provider: &str, since: &str, why: &str) -> String {
    format!(
        "# tracer: none\n\
         # Selects the tracing provider `{provider}` of the mesh configuration, and JSON access logs with the trace id.\n\
         # {why}\n\
         # Istio {since}. Nothing is fetched for it.\n\
         # Generated: {UPDATE}\n\
         apiVersion: telemetry.istio.io/v1\n\
         kind: Telemetry\n\
         metadata:\n  name: tracing-{provider}\n  \
         # One namespace; in the mesh's root namespace it is for the whole mesh. A namespace has one without selector.\n  namespace: default\n\
         spec:\n  tracing:\n  - providers:\n    - name: {provider}\n    \
         # Percent of the requests that come without a decision. A caller's decision stays the caller's.\n    randomSamplingPercentage: 10\n  \
         accessLogging:\n  - providers:\n    # Of the mesh configuration; its fields are in ../README.md.\n    - name: json-log\n"
    )
}

/// Every generated file by its path.
fn files() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for kind in KINDS {
        let kustomize = format!("kustomize/{}", kind.folder);
        for place in PLACES {
            let text = resource(kind, place);
            files.push((
                format!("{}/trace-context{}.yaml", kind.folder, place.suffix),
                text.clone(),
            ));
            if let Some(name) = place.overlay {
                let path = format!("{kustomize}/overlays/{name}/kustomization.yaml");
                files.push((path, overlay(kind, place)));
            } else {
                files.push((format!("{kustomize}/base/trace-context.yaml"), text));
                let base = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n- trace-context.yaml\n";
                files.push((
                    format!("{kustomize}/base/kustomization.yaml"),
                    base.to_owned(),
                ));
            }
        }
    }
    files.push((
        "envoy-gateway/trace-context.yaml".to_owned(),
        envoy_gateway(),
    ));
    files.push((
        "envoyfilter/trace-context-upstream-image.yaml".to_owned(),
        upstream_from_image(),
    ));
    files.push((
        "telemetry/zipkin.yaml".to_owned(),
        telemetry(
            "zipkin",
            "1.28 to 1.31",
            "Goes with wasmplugin/ or trafficextension/: this tracer reads and writes B3 and W3C.",
        ),
    ));
    files.push((
        "telemetry/opentelemetry.yaml".to_owned(),
        telemetry(
            "otel",
            "1.28 to 1.31",
            "Goes with envoyfilter/trace-context-upstream.yaml and -early.yaml: this tracer knows W3C alone.",
        ),
    ));
    files
}

#[test]
fn the_files_are_what_the_configuration_makes_of_them() {
    check_files(&files(), UPDATE);
}

#[test]
fn every_one_is_yaml_with_the_configuration_in_it() {
    let mut configured = 0;
    for (path, text) in files() {
        let parsed: Value =
            serde_saphyr::from_str(&text).unwrap_or_else(|why| panic!("{path}: {why}"));
        let spec = &parsed["spec"];
        for plugin in [spec, &spec["wasm"]] {
            if plugin["pluginConfig"].is_object() {
                assert_eq!(
                    plugin["pluginConfig"],
                    configuration(&BESIDE_ZIPKIN),
                    "{path}"
                );
                assert_eq!(plugin["failStrategy"], "FAIL_OPEN", "{path}");
                configured += 1;
            }
        }
    }
    assert_eq!(configured, 8);
}
