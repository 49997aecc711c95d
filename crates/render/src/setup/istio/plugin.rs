//! A filter as WasmPlugin or TrafficExtension.

use serde_json::{Value, json};

use super::super::input::{Filter, Role};
use super::super::part::Config;
use super::super::placed::Placed;
use super::Mesh;

/// What follows in the purpose: which requests.
pub(super) fn direction(role: Role, placed: &Placed) -> &'static str {
    match (role, is_both_ways(placed)) {
        (Role::Sidecar, false) => ", on the way in",
        (Role::Sidecar, true) => ", on the way in and out",
        _ => "",
    }
}

/// Whether it is on the way in and on the way out of a sidecar: both begin traces.
pub(super) fn is_both_ways(placed: &Placed) -> bool {
    match placed.filter {
        Filter::RouteSampling => true,
        Filter::MeshTracing => {
            placed.config.contains_key("report") || placed.config.contains_key("sampling")
        }
        _ => false,
    }
}

/// The higher number stands before the lower one, in one phase.
fn priority(filter: Filter) -> i32 {
    match filter {
        Filter::TraceContext | Filter::MeshTracing | Filter::Native => 1000,
        Filter::AccessLogTrace => 1100,
        Filter::RouteSampling => 900,
        Filter::SpanAttributes => 800,
    }
}

impl Mesh<'_> {
    pub(super) fn plugin(&self, placed: &Placed, name: &str, kind: &str) -> Value {
        let mut spec = Config::new();
        self.selection_of(placed).add_to(&mut spec);
        // Before authentication, so that an edit does not move a request behind it. Attributes may
        // be those of headers that authentication writes, so without an edit they come last.
        if placed.edits || placed.filter != Filter::SpanAttributes {
            spec.insert("phase".to_owned(), json!("AUTHN"));
            spec.insert("priority".to_owned(), json!(priority(placed.filter)));
        }
        let mode = match self.setup.role {
            Role::Sidecar | Role::Waypoint => "SERVER",
            // To Istio a gateway is a client of the services behind it.
            Role::Gateway => "CLIENT",
        };
        if !is_both_ways(placed) {
            spec.insert("match".to_owned(), json!([{"mode": mode}]));
        }
        let wasm = wasm(placed);
        if kind == "TrafficExtension" {
            spec.insert("wasm".to_owned(), Value::Object(wasm));
        } else {
            spec.extend(wasm);
        }
        json!({
            "apiVersion": "extensions.istio.io/v1alpha1",
            "kind": kind,
            "metadata": self.metadata(name),
            "spec": spec,
        })
    }
}

fn wasm(placed: &Placed) -> Config {
    let mut wasm = Config::new();
    let (url, sha256) = placed.module.of_istio();
    wasm.insert("url".to_owned(), json!(url));
    if let Some(sha256) = sha256 {
        wasm.insert("sha256".to_owned(), json!(sha256));
        wasm.insert("imagePullPolicy".to_owned(), json!("IfNotPresent"));
    }
    wasm.insert("pluginName".to_owned(), json!(placed.name));
    wasm.insert("failStrategy".to_owned(), json!("FAIL_OPEN"));
    wasm.insert("pluginConfig".to_owned(), json!(placed.config));
    if !placed.variables.is_empty() {
        let env = |name: &String| json!({"name": name, "valueFrom": "HOST"});
        let env: Vec<_> = placed.variables.iter().map(env).collect();
        wasm.insert("vmConfig".to_owned(), json!({"env": env}));
    }
    wasm
}
