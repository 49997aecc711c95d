//! No shipped manifest and no example moves a request to another route, but where the documentation
//! says so.

use envoy_test_harness::EnvoyBinary;
use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Cluster, Listener, Route};
use envoy_test_harness::upstream::Reply;
use meshtrace_test_support::applied;
use meshtrace_test_support::common;
use meshtrace_test_support::promises;
use meshtrace_test_support::rerouting::{B3, Filter, Rig, Way, adding_ext_authz, chain};
use serde_json::Value;

use crate::head::{files, manifests};

/// Where a manifest puts its filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In front of every other filter.
    First,
    /// Behind an external authoriser at most, and in front of JWT and RBAC: Istio's phase `AUTHN`.
    Authn,
    /// Istio's last phase.
    Last,
    /// Behind header mutation, external authorisation and JWT.
    EnvoyGateway,
}

/// A downstream filter of a manifest.
#[derive(Debug)]
struct Shipped {
    path: String,
    place: Place,
    filter: Filter,
}

/// Values that outlive the test: what a manifest says is compared and named like a constant.
fn leak(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}

fn filter(name: &str, config: &Value) -> Filter {
    let config = match config {
        Value::Null => "{}".to_owned(),
        Value::String(text) => text.clone(),
        object => object.to_string(),
    };
    Filter {
        name: leak(name),
        config: leak(&config),
    }
}

fn is_ours(name: &str) -> bool {
    common::root().join(format!("dist/{name}.wasm")).exists()
}

/// The filter of a resource, where it puts one among the downstream filters.
fn of_resource(resource: &Value) -> Option<(Place, Filter)> {
    let spec = &resource["spec"];
    match resource["kind"].as_str()? {
        kind @ ("WasmPlugin" | "TrafficExtension") => {
            let module = match kind {
                "WasmPlugin" => spec,
                _ => &spec["wasm"],
            };
            let place = match spec["phase"].as_str() {
                Some("AUTHN") => Place::Authn,
                _ => Place::Last,
            };
            let name = module["pluginName"].as_str()?;
            Some((place, filter(name, &module["pluginConfig"])))
        }
        "EnvoyExtensionPolicy" => {
            let wasm = &spec["wasm"][0];
            let filter = filter(wasm["name"].as_str()?, &wasm["config"]);
            Some((Place::EnvoyGateway, filter))
        }
        "EnvoyFilter" => {
            let patches = spec["configPatches"].as_array()?.iter();
            let values = patches.filter(|patch| patch["applyTo"] == "HTTP_FILTER");
            values.map(|patch| &patch["patch"]).find_map(|patch| {
                let config = &patch["value"]["typed_config"]["config"];
                let name = config["name"].as_str().filter(|name| is_ours(name))?;
                let place = match patch["operation"].as_str() {
                    Some("INSERT_FIRST") => Place::First,
                    _ => Place::Last,
                };
                Some((place, filter(name, &config["configuration"]["value"])))
            })
        }
        _ => None,
    }
}

fn shipped() -> Vec<Shipped> {
    let files = manifests().into_iter();
    let shipped = files.flat_map(|(path, _)| {
        let resources = applied::resources(&path).into_iter();
        let filters = resources.filter_map(|resource| of_resource(&resource));
        let of_file = |(place, filter)| Shipped {
            path: path.clone(),
            place,
            filter,
        };
        filters.map(of_file).collect::<Vec<_>>()
    });
    let shipped: Vec<_> = shipped.collect();
    assert!(shipped.len() > 15, "only {}", shipped.len());
    shipped
}

/// Something to edit for every filter that edits.
fn edited() -> Request {
    let lines = [
        ("b3", B3),
        ("x-user-id", "alice"),
        ("tracestate", "a=1"),
        ("x-b3-traceid", "zz"),
    ];
    let request = lines
        .iter()
        .fold(Request::get("/payments/1"), |request, (name, value)| {
            request.header(name, value)
        });
    // As the step before access_log_trace has written them.
    request
        .header("x-active-trace-id", &B3[..32])
        .header("x-active-span-id", "e457b5a2e4d86bd1")
}

fn routes() -> Vec<Route> {
    let admin = Route::prefix("/")
        .header("x-role", "admin")
        .cluster("admin");
    vec![admin, Route::prefix("/").cluster("public")]
}

#[test]
fn a_manifest_moves_no_request_from_its_place_but_behind_an_authoriser_that_adds_headers() {
    let envoy = EnvoyBinary::find().expect("an Envoy");
    let mut moved = Vec::new();
    for Shipped {
        path,
        place,
        filter,
    } in shipped()
    {
        let front = [adding_ext_authz()];
        let by_state = filter.routes().is_some();
        let ways = [
            Way::Without,
            Way::EditFirst,
            Way::EditBehind,
            Way::StateBehind,
        ];
        let ways = ways
            .into_iter()
            .filter(|way| by_state || *way != Way::StateBehind);
        let listeners = ways.clone().map(|way| {
            Listener::http(&filter.listener(way), chain(filter, way, &front, &routes()))
        });
        let rig = Rig::with(&envoy, listeners, Cluster::http1);
        rig.authz
            .respond_with(|_| Reply::ok().header("x-role", "admin"));
        for way in ways {
            let seen = rig.send(&filter.listener(way), &edited());
            assert_eq!(seen.response.status, 200, "{path} {way:?}");
            match way {
                // The documented exception, and only for what cannot stand in front.
                Way::EditBehind if place != Place::First => {
                    if seen.upstream() == "admin" {
                        assert_ne!(place, Place::Last, "{path} edits in the last place");
                        moved.push(path.clone());
                    }
                }
                Way::EditBehind => {}
                _ => assert_eq!(seen.upstream(), "public", "{path} {way:?}"),
            }
        }
    }
    assert!(!moved.is_empty());
    for path in &moved {
        let says_so = common::text(path).contains("docs/request-headers.md");
        let is_gateway = path.contains("envoy-gateway");
        assert!(says_so || !is_gateway, "{path} does not say so");
    }
    promises::held(
        "Manifests and examples",
        "A manifest's filter that edits request headers stands in the first place that its resource has",
        "every downstream manifest behind and in front of an authoriser that adds the header of a route",
        "0 moved in front; behind it those of WasmPlugin, TrafficExtension and Envoy Gateway, as docs/request-headers.md says",
    );
}

/// The filters of an example's first listener stand in front of what others a user adds; only the
/// steps that write their helper headers stand before them.
#[test]
fn in_the_examples_nothing_stands_in_front_but_helpers() {
    let mut seen = 0;
    for path in files("examples") {
        // Some are of other programs, in several documents.
        let Ok(bootstrap) = serde_saphyr::from_str::<Value>(&common::text(&path)) else {
            continue;
        };
        let listeners = &bootstrap["static_resources"]["listeners"];
        for listener in listeners.as_array().into_iter().flatten() {
            let manager = &listener["filter_chains"][0]["filters"][0]["typed_config"];
            let filters = manager["http_filters"].as_array().expect("filters");
            let is_own = |filter: &Value| {
                is_ours(
                    filter["typed_config"]["config"]["name"]
                        .as_str()
                        .unwrap_or(""),
                )
            };
            let Some(last) = filters.iter().rposition(is_own) else {
                continue;
            };
            seen += 1;
            for filter in filters[..last].iter().filter(|filter| !is_own(filter)) {
                let mutations = filter["typed_config"]["mutations"]["request_mutations"].as_array();
                let mutations = mutations.unwrap_or_else(|| panic!("{path}: {filter}"));
                for mutation in mutations {
                    let name = mutation["remove"].as_str();
                    let name = name.or(mutation["append"]["header"]["key"].as_str());
                    let name = name.expect("a header");
                    assert!(name.starts_with("x-active-"), "{path}: {name}");
                }
            }
        }
    }
    assert!(seen > 5, "only {seen}");
}
