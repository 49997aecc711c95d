//! What a file for users makes of a proxy: its connection manager and its clusters, as Istio and
//! Envoy Gateway make them.

use meshtrace_test_support::applied::{self, apply, list, manager, merge, plugin, wasm};
use meshtrace_test_support::common;
use serde_json::{Value, json};

use crate::head::Head;

/// Where the log formats are that a Telemetry selects by the name of their provider.
const MESH_CONFIG: &str = "istio-manifests/access-log/mesh-config.yaml";
const GUIDE: &str = "docs/istio.md";

/// What a file makes of a proxy.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) manager: Value,
    pub(crate) clusters: Vec<Value>,
}

impl Proxy {
    pub(crate) fn of(path: &str, head: &Head) -> Self {
        let mut proxy = Self {
            manager: manager(&head.tracer),
            clusters: Vec::new(),
        };
        for resource in applied::resources(path) {
            proxy.add(path, &resource);
        }
        proxy
    }

    fn add(&mut self, path: &str, resource: &Value) {
        match resource["kind"].as_str() {
            Some("EnvoyFilter") => apply(resource, &mut self.manager),
            Some("WasmPlugin" | "TrafficExtension") => self.filter(plugin(resource)),
            Some("Telemetry") => self.telemetry(path, resource),
            Some("ServiceEntry") => self.service(resource),
            Some("DestinationRule") => self.destination(resource),
            Some("EnvoyExtensionPolicy") => self.policy(path, resource),
            Some("EnvoyProxy") => {
                let text = resource["spec"]["bootstrap"]["value"].as_str();
                let bootstrap: Value = serde_saphyr::from_str(text.expect("text")).expect("YAML");
                let clusters = bootstrap["static_resources"]["clusters"].as_array();
                self.clusters
                    .extend(clusters.expect("clusters").iter().cloned());
            }
            // A part of the bootstrap, which `native.rs` runs.
            Some("ConfigMap") => {}
            // The mesh configuration's extensionProviders.
            None => {
                let providers = resource["extensionProviders"].as_array();
                for provider in providers.unwrap_or_else(|| panic!("{path}: {resource}")) {
                    self.log(provider);
                }
            }
            Some(other) => panic!("{path}: {other} is not known here"),
        }
    }

    fn filter(&mut self, filter: Value) {
        let text = filter["typed_config"]["config"]["configuration"]["value"].as_str();
        let config: Value = serde_json::from_str(text.unwrap_or("{}")).expect("JSON");
        if let Some(name) = config["report"]["cluster"].as_str()
            && !self.clusters.iter().any(|cluster| cluster["name"] == name)
        {
            self.clusters.push(json!({"name": name}));
        }
        list(&mut self.manager["http_filters"]).insert(0, filter);
    }

    fn policy(&mut self, path: &str, resource: &Value) {
        for filter in resource["spec"]["wasm"].as_array().expect("filters") {
            assert_eq!(filter["failOpen"], true, "{path}");
            let name = filter["name"].as_str().expect("a name");
            let (root, url) = (&filter["rootID"], &filter["code"]["image"]["url"]);
            let config = &filter["config"];
            self.filter(wasm(name, root.as_str(), url.as_str(), config, "FAIL_OPEN"));
        }
    }

    fn telemetry(&mut self, path: &str, resource: &Value) {
        for tracing in resource["spec"]["tracing"].as_array().into_iter().flatten() {
            if tracing["disableSpanReporting"] == true {
                self.manager
                    .as_object_mut()
                    .expect("fields")
                    .remove("tracing");
                continue;
            }
            if let Some(percent) = tracing["randomSamplingPercentage"].as_f64() {
                self.manager["tracing"]["random_sampling"] = json!({"value": percent});
            }
            for (key, tag) in tracing["customTags"].as_object().into_iter().flatten() {
                let tag = applied::tag(key, tag);
                merge(&mut self.manager["tracing"], &json!({"custom_tags": [tag]}));
            }
        }
        for logging in resource["spec"]["accessLogging"]
            .as_array()
            .into_iter()
            .flatten()
        {
            for selected in logging["providers"].as_array().expect("providers") {
                let name = selected["name"].as_str().expect("a name");
                self.log(&provider(name).unwrap_or_else(|| panic!("{path}: no provider {name}")));
            }
        }
    }

    /// As istiod makes an access log of a provider.
    fn log(&mut self, provider: &Value) {
        let file = &provider["envoyFileAccessLog"];
        let format = json!({
            "json_format": file["logFormat"]["labels"],
            "omit_empty_values": file["omitEmptyValues"].as_bool().unwrap_or(false),
        });
        assert!(format["json_format"].is_object(), "{provider}");
        merge(
            &mut self.manager,
            &json!({"access_log": [{
                "name": "envoy.access_loggers.file",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                    "path": "/dev/null",
                    "log_format": format,
                },
            }]}),
        );
    }

    /// The clusters that istiod makes of a service outside of the mesh.
    fn service(&mut self, resource: &Value) {
        let host = resource["spec"]["hosts"][0].as_str().expect("a host");
        for port in resource["spec"]["ports"].as_array().expect("ports") {
            let mut cluster = json!({"name": format!("outbound|{}||{host}", port["number"])});
            if port["protocol"] == "GRPC" {
                cluster["typed_extension_protocol_options"] = json!({
                    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                        "explicit_http_config": {"http2_protocol_options": {}},
                    },
                });
            }
            self.clusters.push(cluster);
        }
    }

    fn destination(&mut self, resource: &Value) {
        let tls = &resource["spec"]["trafficPolicy"]["tls"];
        assert_eq!(tls["mode"], "SIMPLE");
        let host = format!("||{}", resource["spec"]["host"].as_str().expect("a host"));
        let of_host =
            |cluster: &&mut Value| cluster["name"].as_str().is_some_and(|n| n.ends_with(&host));
        let mut found = 0;
        for cluster in self.clusters.iter_mut().filter(of_host) {
            found += 1;
            cluster["transport_socket"] = json!({
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                    "sni": tls["sni"],
                },
            });
        }
        assert!(found > 0, "no cluster of {host}");
    }
}

/// A provider of the access log: of its own file, or of the guide.
fn provider(name: &str) -> Option<Value> {
    let of_guide = common::text(GUIDE);
    let blocks = of_guide.split("```yaml\n").skip(1);
    let of_guide =
        blocks.filter_map(|block| serde_saphyr::from_str(block.split("```").next()?).ok());
    let all: Vec<Value> = std::iter::once(common::yaml(MESH_CONFIG))
        .chain(of_guide)
        .collect();
    let providers = all
        .iter()
        .filter_map(|file| file["extensionProviders"].as_array());
    let is_file = |provider: &&Value| provider["envoyFileAccessLog"].is_object();
    let mut providers = providers.flatten().filter(is_file);
    providers.find(|provider| provider["name"] == name).cloned()
}
