//! What the head of a file for users says is true of all of the file: each Envoy that it names
//! takes every piece of it, and answers requests through it.

use std::collections::BTreeMap;

use envoy_test_harness::upstream::ClosedPort;
use envoy_test_harness::{Envoy, EnvoyBinary, Options, Upstream, each_supported};
use meshtrace_test_support::applied::list;
use meshtrace_test_support::common::{self, get};
use meshtrace_test_support::promises;
use serde_json::{Value, json};

use crate::head::{Head, Product, files, manifests};
use crate::proxy::Proxy;

const ROUTER: &str = "envoy.filters.http.router";

/// One Envoy with a listener for each of the proxies.
fn bootstrap(proxies: &BTreeMap<String, Proxy>, upstream: &Upstream, closed: &ClosedPort) -> Value {
    let endpoint = |name: &str, address: std::net::SocketAddr| {
        json!({"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {
            "socket_address": {"address": address.ip(), "port_value": address.port()},
        }}}]}]})
    };
    let mut clusters: BTreeMap<String, Value> = BTreeMap::new();
    for name in ["otlp", "zipkin"] {
        clusters.insert(name.to_owned(), json!({"name": name}));
    }
    for cluster in proxies.values().flat_map(|proxy| &proxy.clusters) {
        let name = cluster["name"].as_str().expect("a name");
        let known = clusters.entry(name.to_owned()).or_insert(Value::Null);
        *known = cluster.clone();
    }
    for (name, cluster) in &mut clusters {
        // Here nobody has to be found, and nobody listens.
        cluster["type"] = json!("STATIC");
        cluster["load_assignment"] = endpoint(name, closed.address());
    }
    let mut clusters: Vec<_> = clusters.into_values().collect();
    clusters.push(json!({
        "name": "upstream",
        "load_assignment": endpoint("upstream", upstream.address()),
    }));
    let listener = |(name, proxy): (&String, &Proxy)| {
        json!({
            "name": name,
            "traffic_direction": "INBOUND",
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": proxy.manager,
            }]}],
        })
    };
    json!({
        "node": {"id": "sidecar~10.0.0.1~shop-1.default~svc", "cluster": "shop.default"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "static_resources": {
            "listeners": proxies.iter().map(listener).collect::<Vec<_>>(),
            "clusters": clusters,
        },
    })
}

/// Why an Envoy does not take the proxies, or answers otherwise than 200.
fn refusal(envoy: &EnvoyBinary, proxies: &BTreeMap<String, Proxy>) -> Option<String> {
    let upstream = Upstream::start().expect("an upstream");
    let closed = ClosedPort::reserve().expect("a port");
    // Where the files with the native tracer find its module.
    let options = Options::new()
        .env("ENVOY_DYNAMIC_MODULES_SEARCH_PATH", "dist")
        .working_directory(common::root());
    let running = match Envoy::start_raw(envoy, bootstrap(proxies, &upstream, &closed), options) {
        Ok(running) => running,
        Err(error) => return Some(error.to_string()),
    };
    let b3 = format!("{}-{}-1", common::TRACE, common::SPAN);
    for name in proxies.keys() {
        let address = running.address(name).expect("the listener's address");
        let response = get(&[("b3", &b3)]).send(address).expect("a response");
        if response.status != 200 {
            return Some(format!("{name}: {} {}", response.status, response.text()));
        }
    }
    let stats = running.stats().expect("the stats");
    let invalid = stats
        .iter()
        .find(|(name, value)| name.contains("config_invalid") && **value > 0);
    invalid.map(|(name, _)| format!("{name} is not 0"))
}

/// The same, file by file where they are not taken together, so that the file is named.
fn refusals(envoy: &EnvoyBinary, proxies: BTreeMap<String, Proxy>) -> Vec<String> {
    if refusal(envoy, &proxies).is_none() {
        return Vec::new();
    }
    let alone = |(path, proxy): (String, Proxy)| {
        let version = envoy.reported_version();
        let one = BTreeMap::from([(path.clone(), proxy)]);
        refusal(envoy, &one).map(|why| format!("{path} on Envoy {version}: {why}"))
    };
    let found: Vec<_> = proxies.into_iter().filter_map(alone).collect();
    assert!(!found.is_empty(), "refused together, and none alone");
    found
}

fn is_kustomize(path: &str) -> bool {
    path.starts_with("istio-manifests/kustomize/")
}

#[test]
fn every_envoy_that_a_head_names_takes_all_of_the_file() {
    let files: Vec<_> = manifests()
        .into_iter()
        .filter(|(path, _)| !is_kustomize(path))
        .collect();
    assert!(files.len() > 30, "only {} files", files.len());
    let mut loaded = 0;
    let mut found = Vec::new();
    each_supported(|envoy| {
        let is_named = |head: &Head| {
            let mut envoys = head.envoys().into_iter();
            envoys.any(|named| named.reported_version() == envoy.reported_version())
        };
        let named = files.iter().filter(|(_, head)| is_named(head));
        let proxies: BTreeMap<_, _> = named
            .map(|(path, head)| (path.clone(), Proxy::of(path, head)))
            .collect();
        loaded += proxies.len();
        found.extend(refusals(envoy, proxies));
    });
    assert_eq!(found, Vec::<String>::new());
    assert!(loaded >= 100, "only {loaded}");
    promises::held(
        "Manifests and examples",
        "A file is accepted by every version that its head names",
        "each file of istio-manifests on each Envoy of its head: it loads, and a request is answered",
        "0 files refused, 4 versions; a head that cannot be read fails the test",
    );
}

/// What a head excludes, it excludes for a reason: with it in there the file would be refused.
#[test]
fn an_envoy_without_span_ids_refuses_the_newer_access_log() {
    let path = "istio-manifests/access-log/envoyfilter-otel.yaml";
    let head = Head::parse(&common::text(path)).expect("a head");
    each_supported(|envoy| {
        let proxies = BTreeMap::from([(path.to_owned(), Proxy::of(path, &head))]);
        let refused = refusal(envoy, &proxies).is_some();
        assert_eq!(
            refused,
            !envoy.is_at_least(1, 38),
            "{}",
            envoy.reported_version()
        );
    });
}

/// What Istio's agent puts in the place of a module that it cannot fetch: it has to be taken too.
#[test]
fn where_a_module_is_discovered_what_stands_in_for_it_is_taken() {
    let mut seen = 0;
    for (path, head) in manifests() {
        if !common::text(&path).contains("config_discovery:") {
            continue;
        }
        seen += 1;
        let mut proxy = Proxy::of(&path, &head);
        let filters = list(&mut proxy.manager["http_filters"]);
        let discovered = match filters.iter().position(|one| one["name"] != ROUTER) {
            Some(downstream) => &mut filters[downstream],
            None => &mut filters[0]["typed_config"]["upstream_http_filters"][0],
        };
        discovered["typed_config"] = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
        });
        let proxies = BTreeMap::from([(path.clone(), proxy)]);
        each_supported(|envoy| {
            let named = head.envoys();
            let is_named = named
                .iter()
                .any(|e| e.reported_version() == envoy.reported_version());
            let refused = refusal(envoy, &proxies);
            assert_eq!(refused.is_none(), is_named, "{path}: {refused:?}");
        });
    }
    assert_eq!(seen, 5);
}

/// What istiod and the CRDs of a version do not have is not in a file for it.
#[test]
fn no_file_needs_a_newer_istio_than_its_head_names() {
    for (path, head) in manifests() {
        if head.product != Product::Istio {
            continue;
        }
        for (needs, since) in [
            ("kind: TrafficExtension", 30),
            ("formatter:", 29),
            ("%SPAN_ID%", 30),
            // As deep as an upstream filter is; a filter of a connection manager was always found so.
            ("            config_discovery:", 31),
            ("MERGE_AND_REPLACE_LIST", 31),
            ("disableContextPropagation", 30),
        ] {
            let without_comments: String = common::text(&path)
                .lines()
                .filter(|line| !line.trim_start().starts_with('#'))
                .map(|line| format!("{line}\n"))
                .collect();
            let has = without_comments.contains(needs);
            assert!(
                !has || head.first >= since,
                "{path}: {needs} since 1.{since}"
            );
        }
    }
}

/// The overlays are the plain files: what is loaded above is what they build.
#[test]
fn the_overlays_build_the_plain_files() {
    let mut built = 0;
    for (path, head) in manifests() {
        if !is_kustomize(&path) || !path.ends_with("/kustomization.yaml") {
            continue;
        }
        let (folder, _) = path.rsplit_once('/').expect("a folder");
        let kustomization = common::yaml(&path);
        let resource = kustomization["resources"][0].as_str().expect("a resource");
        let base = match resource {
            "../../base" => {
                let base = format!("{folder}/../../base");
                let file =
                    common::yaml(&format!("{base}/kustomization.yaml"))["resources"][0].take();
                common::yaml(&format!("{base}/{}", file.as_str().expect("a file")))
            }
            file => common::yaml(&format!("{folder}/{file}")),
        };
        let mut made = base;
        for patch in kustomization["patches"].as_array().into_iter().flatten() {
            let patch = patch["patch"].as_str().expect("a patch");
            let patch: Value = serde_saphyr::from_str(patch).expect("YAML");
            for key in ["apiVersion", "kind", "metadata"] {
                assert_eq!(patch[key], made[key], "{path}");
            }
            // A list is replaced.
            for (key, value) in patch["spec"].as_object().expect("a spec") {
                made["spec"][key] = value.clone();
            }
        }
        let name = made["metadata"]["name"]
            .as_str()
            .expect("a name")
            .to_owned();
        let name = name + kustomization["nameSuffix"].as_str().unwrap_or_default();
        made["metadata"]["name"] = json!(name);
        let kind = path.split('/').nth(2).expect("a kind");
        let plain = format!("istio-manifests/{kind}/{name}.yaml");
        assert_eq!(made, common::yaml(&plain), "{path}");
        let plain = Head::parse(&common::text(&plain)).expect("a head");
        assert_eq!(
            (head.first, head.last, &head.tracer),
            (plain.first, plain.last, &plain.tracer),
            "{path}"
        );
        built += 1;
    }
    assert_eq!(built, 6);
}

/// Every example's head: Envoy takes the file as it is, but for the ports, which are others' on a
/// machine of tests.
#[test]
fn every_envoy_that_an_examples_head_names_takes_the_example() {
    let is_envoys = |path: &String| common::text(path).contains("\nstatic_resources:");
    let mut seen = 0;
    for path in files("examples").into_iter().filter(is_envoys) {
        let head = Head::parse(&common::text(&path)).unwrap_or_else(|why| panic!("{path}: {why}"));
        assert_eq!(head.product, Product::Envoy, "{path}");
        for envoy in head.envoys() {
            let mut bootstrap = common::yaml(&path);
            let listeners = list(&mut bootstrap["static_resources"]["listeners"]).iter_mut();
            let ports =
                listeners.filter_map(|one| one.pointer_mut("/address/socket_address/port_value"));
            ports.for_each(|port| *port = json!(0));
            // Where an example with the native tracer finds its module.
            let options = Options::new()
                .env("ENVOY_DYNAMIC_MODULES_SEARCH_PATH", "dist")
                .working_directory(common::root());
            let version = envoy.reported_version().to_owned();
            let running = Envoy::start_raw(&envoy, bootstrap, options)
                .unwrap_or_else(|why| panic!("{path} on Envoy {version}: {why}"));
            let stats = running.stats().expect("the stats");
            let invalid =
                |(name, value): (&String, &u64)| name.contains("config_invalid") && *value > 0;
            assert!(!stats.iter().any(invalid), "{path} on Envoy {version}");
            seen += 1;
        }
    }
    assert!(seen >= 32, "only {seen}");
    promises::held(
        "Manifests and examples",
        "An example is accepted by every version that its head names",
        "each example that is an Envoy's configuration, on each Envoy of its head: it starts, and no plugin is refused",
        &format!("{seen} starts"),
    );
}

#[test]
fn a_head_of_another_form_is_refused() {
    let refused = |text: &str| Head::parse(text).is_err();
    assert!(!refused("# Istio: 1.28 to 1.31\n# Tracer: otel\n"));
    assert!(!refused("# Istio: 1.31\n# Tracer: any\n"));
    assert!(!refused("# Envoy: 1.36 to 1.40\n"));
    assert!(!refused("# Envoy Gateway: 1.9\n# Tracer: none\n"));
    for text in [
        "",
        "apiVersion: v1\n",
        "# tracer: otel\n# Istio 1.28 to 1.31\n",
        "# Istio: 1.28 to 1.31\n",
        "# Istio: 1.28 to 1.31\n# Tracer: jaeger\n",
        "# Istio: 1.28 to 1.31.\n# Tracer: otel\n",
        "# Istio: 1.30 and later\n# Tracer: otel\n",
        "# Istio: 1.31 to 1.28\n# Tracer: otel\n",
        "# Istio: 1.31 to 1.31\n# Tracer: otel\n",
        "# Istio: 1.27 to 1.31\n# Tracer: otel\n",
        "# Envoy: 1.36 to 1.41\n",
        "# Istio: 1.28 to 1.31 \n# Tracer: otel\n",
    ] {
        assert!(refused(text), "{text:?}");
    }
}
