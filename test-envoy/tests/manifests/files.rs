//! The manifests that are written by a program: one plugin configuration a need, read as the filter
//! reads it, in every way of loading it. `UPDATE_EXAMPLES=1` writes them; without it they must be
//! what would be written.

use meshtrace_config::read;
use meshtrace_propagation::{Placement, Propagation, TraceContextConfig};
use serde_json::Value;

use crate::plugins::{KINDS, Kind, NO_DIGEST, check_files, image, indented};

const UPDATE: &str = "UPDATE_EXAMPLES=1 cargo test -p envoy-test-harness --test manifests files::";
/// Beside the Zipkin tracer with `USE_B3_WITH_W3C_PROPAGATION`: key, value, and why.
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
    /// Behind `trace-context-zipkin` in the names of files and resources.
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
        "# Istio: {}\n\
         # Tracer: zipkin\n\
         # trace_context {}, beside a Zipkin provider with traceContextOption: USE_B3_WITH_W3C_PROPAGATION, and no other\n\
         # tracer: beside OpenTelemetry's it takes the caller's b3 away, and beside USE_B3 (Istio's default) a W3C caller's\n\
         # trace ends here. Their files are in ../envoyfilter.\n\
         # A fetch that fails: requests pass as they are (failStrategy).\n\
         # Resources: about 40 MB for a proxy's first Wasm plugin, and 0.4 MB of the agent's disk for the module.\n\
         # Generated: {UPDATE}\n",
        kind.versions, place.title
    )
}

fn metadata(kind: Kind, suffix: &str) -> String {
    format!(
        "apiVersion: extensions.istio.io/v1alpha1\n\
         kind: {}\n\
         metadata:\n  \
           name: trace-context-zipkin{suffix}\n\
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
        "apiVersion: extensions.istio.io/v1alpha1\nkind: {}\nmetadata:\n  name: trace-context-zipkin\n\
         spec:\n{}",
        kind.name,
        indented(&(place.attachment.to_owned() + &matching(place)), 2)
    );
    format!(
        "# Istio: {}\n\
         # Tracer: zipkin\n\
         # trace_context {}: the base with another attachment. Rendered: ../../../../{}/trace-context-zipkin{}.yaml\n\
         # Generated: {UPDATE}\n\
         apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n- ../../base\n\
         nameSuffix: {}\npatches:\n- patch: |\n{}",
        kind.versions,
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
        "# Envoy Gateway: 1.9\n\
         # Tracer: none\n\
         # trace_context in Envoy Gateway, with its defaults: W3C and both shapes of B3 are read, W3C and x-b3-* written.\n\
         # For proxies without a tracer (no EnvoyProxy has `telemetry.tracing`).\n\
         # The filter edits request headers, and stands behind header mutation, external authorisation and JWT: read\n\
         # docs/request-headers.md first where one of them adds a header that a route asks for.\n\
         # Envoy Gateway itself fetches the image and serves it to its proxies. A fetch that fails: the policy's status\n\
         # says so, and with failOpen requests pass as they are; without it they are answered 500.\n\
         # Generated: {UPDATE}\n\
         apiVersion: gateway.envoyproxy.io/v1alpha1\n\
         kind: EnvoyExtensionPolicy\n\
         metadata:\n  name: trace-context-no-tracer\n\
         spec:\n  targetRefs:\n  # A Gateway is all of its routes; an HTTPRoute here is that route alone.\n  \
         - group: gateway.networking.k8s.io\n    kind: Gateway\n    name: eg\n  \
         wasm:\n  - name: trace_context\n    rootID: trace_context\n    \
         # A module that cannot be fetched or crashes must not fail requests; the default is false.\n    failOpen: true\n    \
         code:\n      type: Image\n      \
         # A pinned module never changes: it is fetched once.\n      pullPolicy: IfNotPresent\n      \
         image:\n        # A registry that wants credentials: `pullSecretRef` with a dockerconfigjson Secret of this namespace.\n        \
         url: {}\n        # The digest that `make push` prints, without `sha256:`.\n        sha256: \"{NO_DIGEST}\"\n    \
         # No key: the defaults.\n    config: {{}}\n",
        image("trace_context")
    )
}

/// A tracer behind which the filter stands.
#[derive(Debug, Clone, Copy)]
struct Behind {
    /// As heads and file names call it.
    tracer: &'static str,
    title: &'static str,
    configuration: &'static str,
    why: &'static str,
}

const OTEL: Behind = Behind {
    tracer: "otel",
    title: "behind the OpenTelemetry tracer",
    configuration: r#"{"placement": "upstream", "tracer": "tracecontext", "inject": ["b3multi"]}"#,
    why: "Reads what the tracer writes, and writes B3 beside it.",
};

const ZIPKIN_B3: Behind = Behind {
    tracer: "zipkin-b3",
    title: "behind the Zipkin tracer with USE_B3",
    configuration: r#"{"placement": "upstream", "tracer": "b3multi", "inject": ["tracecontext", "b3multi"]}"#,
    why: "Reads what the tracer writes, and writes W3C beside it; a b3 that the tracer left stale is written anew.",
};

/// What all files of the upstream placement begin with.
fn upstream_metadata(name: &str, label: &str) -> String {
    format!(
        "# Generated: {UPDATE}\n\
         apiVersion: networking.istio.io/v1alpha3\n\
         kind: EnvoyFilter\n\
         metadata:\n  name: {name}\n\
         spec:\n  \
         # The order is in docs/istio.md; this piece adds to none of the others.\n  \
         priority: 50\n  \
         # {label}\n  \
         workloadSelector:\n    labels:\n      meshtrace-upstream: enabled\n"
    )
}

/// The patch of the router, up to the filter's own configuration.
const ROUTER: &str = "  \
configPatches:
  - applyTo: HTTP_FILTER
    match:
      # Inbound, so that the application is told; outbound, so that the next hop is.
      context: ANY
      listener:
        filterChain:
          filter:
            name: envoy.filters.network.http_connection_manager
            subFilter:
              name: envoy.filters.http.router
    patch:
      # Istio leaves the router's list empty, so these two are all of it; another EnvoyFilter must not add to it.
      operation: MERGE
      value:
        name: envoy.filters.http.router
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
          upstream_http_filters:
          - name: meshtrace.trace_context_upstream
";
const CODEC: &str = "          \
# Envoy wants it last.
          - name: envoy.filters.http.upstream_codec
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec
";

/// The configuration that the filter is told; it must be what the filter takes.
fn upstream_configuration(behind: Behind) -> &'static str {
    let config: TraceContextConfig =
        read(behind.configuration.as_bytes()).expect("a configuration");
    assert_eq!(config.placement, Placement::Upstream);
    Propagation::new(&config).expect("one that compiles");
    behind.configuration
}

/// With the module mounted into the pod.
fn upstream_mounted(behind: Behind) -> String {
    let config = format!(
        "typed_config:\n  \
           \"@type\": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm\n  \
           config:\n    \
             # Not the name of trace-context-no-tracer.yaml's: both may be in one proxy.\n    \
             name: trace_context_upstream\n    \
             root_id: trace_context_upstream\n    \
             # After a crash requests pass on as they are; Envoy's default answers 503.\n    \
             failure_policy: FAIL_OPEN\n    \
             vm_config:\n      \
               runtime: envoy.wasm.runtime.v8\n      \
               # A mounted file: the agent's image fetch has no safe fallback among upstream filters.\n      \
               code: {{local: {{filename: /etc/meshtrace/trace_context.wasm}}}}\n    \
             configuration:\n      \
               # JSON in a StringValue: a Struct would reach the filter as protobuf.\n      \
               \"@type\": type.googleapis.com/google.protobuf.StringValue\n      \
               # {}\n      \
               value: '{}'\n",
        behind.why,
        upstream_configuration(behind)
    );
    format!(
        "# Istio: 1.28 to 1.31\n\
         # Tracer: {}\n\
         # trace_context {}, in pods that carry the label and have the module mounted. It goes together with\n\
         # trace-context-{}-early.yaml where callers speak a format that the tracer does not read.\n{}{ROUTER}{}{CODEC}",
        behind.tracer,
        behind.title,
        behind.tracer,
        upstream_metadata(
            &format!("trace-context-{}-upstream", behind.tracer),
            "A proxy without the file refuses the listeners that name it: label only pods that mount it."
        ),
        indented(&config, 12),
    )
}

/// With the module from an image, which Envoy's agent fetches.
fn upstream_from_image(behind: Behind) -> String {
    let types = "type.googleapis.com/envoy.extensions.filters.http";
    let discovery = format!(
        "config_discovery:\n  \
           # Without a limit a listener waits until the agent has fetched; nothing runs unfiltered meanwhile.\n  \
           config_source: {{ads: {{}}, resource_api_version: V3, initial_fetch_timeout: 0s}}\n  \
           # RBAC is what the agent puts there when it cannot fetch.\n  \
           type_urls:\n  - {types}.wasm.v3.Wasm\n  - {types}.rbac.v3.RBAC\n"
    );
    let extension = format!(
        "# The agent fetches images for what is discovered, and for nothing that stands in place.\n\
         - applyTo: EXTENSION_CONFIG\n  match:\n    context: ANY\n  patch:\n    operation: ADD\n    value:\n      \
         name: meshtrace.trace_context_upstream\n      typed_config:\n        \"@type\": {types}.wasm.v3.Wasm\n        \
         config:\n          name: trace_context_upstream\n          root_id: trace_context_upstream\n          \
         # A module that cannot be fetched or crashes lets requests pass as they are.\n          failure_policy: FAIL_OPEN\n          \
         configuration:\n            # JSON in a StringValue: a Struct would reach the filter as protobuf.\n            \
         \"@type\": type.googleapis.com/google.protobuf.StringValue\n            # {}\n            value: '{}'\n          \
         vm_config:\n            runtime: envoy.wasm.runtime.v8\n            code:\n              remote:\n                \
         http_uri: {{uri: \"oci://{}\", cluster: _, timeout: 30s}}\n                \
         # The digest that `make push` prints, without `sha256:`.\n                sha256: \"{NO_DIGEST}\"\n",
        behind.why,
        upstream_configuration(behind),
        image("trace_context")
    );
    format!(
        "# Istio: 1.31\n\
         # Tracer: {}\n\
         # trace_context {}, in pods that carry the label, from an image.\n\
         # A fetch that fails: the agent puts an RBAC filter that allows everything in its place. Envoy 1.36 and 1.37 (Istio\n\
         # 1.28 and 1.29) know none among upstream filters and refuse the listener: there, and in 1.30, which nobody has run,\n\
         # it is trace-context-{}-upstream.yaml with a mounted file. Apply one of the two.\n{}{ROUTER}{}{CODEC}{}",
        behind.tracer,
        behind.title,
        behind.tracer,
        upstream_metadata(
            &format!("trace-context-{}-upstream-image", behind.tracer),
            "A proxy older than 1.31 must not get it: label only pods that are newer."
        ),
        indented(&discovery, 12),
        indented(&extension, 2),
    )
}

/// The selection of a tracing provider.
fn telemetry(provider: &str, why: &str, decision: &str) -> String {
    format!(
        "# Istio: 1.28 to 1.31\n\
         # Tracer: {provider}\n\
         # Selects the tracing provider `{provider}` of the mesh configuration, and JSON access logs with the trace id.\n\
         # {why}\n\
         # Istio takes one Telemetry without a selector a namespace: put this into yours where you have one.\n\
         # Generated: {UPDATE}\n\
         apiVersion: telemetry.istio.io/v1\n\
         kind: Telemetry\n\
         metadata:\n  name: tracing-{provider}\n\
         spec:\n  tracing:\n  - providers:\n    - name: {provider}\n{}    randomSamplingPercentage: 10\n  \
         accessLogging:\n  - providers:\n    # Of the mesh configuration; its fields are in docs/istio.md.\n    - name: json-log\n",
        indented(decision, 4)
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
                format!("{}/trace-context-zipkin{}.yaml", kind.folder, place.suffix),
                text.clone(),
            ));
            if let Some(name) = place.overlay {
                let path = format!("{kustomize}/overlays/{name}/kustomization.yaml");
                files.push((path, overlay(kind, place)));
            } else {
                files.push((format!("{kustomize}/base/trace-context-zipkin.yaml"), text));
                let base = format!(
                    "# Istio: {}\n# Tracer: zipkin\n# trace_context in sidecars: the base of the overlays beside.\n\
                     # Generated: {UPDATE}\n\
                     apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n- trace-context-zipkin.yaml\n",
                    kind.versions
                );
                files.push((format!("{kustomize}/base/kustomization.yaml"), base));
            }
        }
    }
    let mut file = |path: &str, text: String| files.push((path.to_owned(), text));
    file(
        "envoy-gateway/trace-context-no-tracer.yaml",
        envoy_gateway(),
    );
    for behind in [OTEL, ZIPKIN_B3] {
        let path = format!("envoyfilter/trace-context-{}-upstream", behind.tracer);
        file(&format!("{path}.yaml"), upstream_mounted(behind));
        file(&format!("{path}-image.yaml"), upstream_from_image(behind));
    }
    file(
        "telemetry/zipkin.yaml",
        telemetry(
            "zipkin",
            "Goes with wasmplugin/ or trafficextension/trace-context-zipkin*.yaml: this tracer reads and writes B3 and W3C.",
            "# Percent of the requests that come without a decision. A caller's decision stays the caller's.\n",
        ),
    );
    file(
        "telemetry/opentelemetry.yaml",
        telemetry(
            "otel",
            "Goes with envoyfilter/trace-context-otel-*.yaml: this tracer knows W3C alone.",
            "# Percent of the requests that come without a decision. From Istio 1.31 on this tracer asks it for the others too,\n\
             # so that a caller's sampled trace may end here: trace-context-otel-early.yaml keeps the caller's decision.\n",
        ),
    );
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
