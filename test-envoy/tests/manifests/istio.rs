//! The Istio manifests: their plugin configuration in real Envoys, beside the tracers that they are for.

use meshtrace_test_support::applied;
use meshtrace_test_support::common;
use meshtrace_test_support::rendered;
use std::collections::BTreeSet;

use envoy_test_harness::config::{
    Bootstrap, Cluster, FailurePolicy, HttpConnectionManager, Listener, Route, TraceContextOption,
    Tracing, TrafficDirection, WasmFilter,
};
use envoy_test_harness::upstream::ClosedPort;
use envoy_test_harness::{EnvoyBinary, each_supported};
use meshtrace_config::read;
use meshtrace_propagation::{Placement, Propagation, TraceContextConfig};
use meshtrace_test_support::common::{
    Mesh, SPAN, TRACE, envoys, get, trace_context, trace_headers,
};
use serde_json::{Value, json};

const OTHER_TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";
const OTHER_SPAN: &str = "e457b5a2e4d86bd1";

/// The configuration as the filter reads it.
fn read_and_compile(json: &str) -> TraceContextConfig {
    let config: TraceContextConfig = read(json.as_bytes()).expect("a configuration");
    Propagation::new(&config).expect("one that compiles");
    config
}

/// Starts one listener, as a sidecar has it for what comes in.
fn inbound(envoy: &EnvoyBinary, managers: Vec<(&str, HttpConnectionManager)>) -> Mesh {
    let collector = ClosedPort::reserve().expect("a port");
    let bootstrap = Bootstrap::new().cluster(Cluster::http2("collector", collector.address()));
    let bootstrap = managers
        .into_iter()
        .fold(bootstrap, |bootstrap, (name, manager)| {
            let manager = manager.route(Route::prefix("/").cluster("upstream"));
            let listener = Listener::http(name, manager).direction(TrafficDirection::Inbound);
            bootstrap.listener(listener)
        });
    Mesh::with(envoy, bootstrap)
}

fn leaving(mesh: &Mesh, listener: &str, headers: &[(&str, &str)]) -> Vec<String> {
    trace_headers(&mesh.pass(&mut mesh.connect(listener), &get(headers)))
}

/// The traces and spans that the headers name, in any format.
fn spans(headers: &[String]) -> BTreeSet<String> {
    let value = |name: &str| {
        let line = headers.iter().find_map(|header| header.strip_prefix(name));
        line.and_then(|rest| rest.strip_prefix(": "))
    };
    let pair = |text: &str| text.split('-').take(2).collect::<Vec<_>>().join("-");
    let multi = value("x-b3-traceid").zip(value("x-b3-spanid"));
    let named = [
        value("traceparent").map(|text| pair(text.trim_start_matches("00-"))),
        value("b3").map(pair),
        multi.map(|(trace, span)| format!("{trace}-{span}")),
    ];
    named.into_iter().flatten().collect()
}

mod beside_the_zipkin_tracer {
    use super::*;

    fn manifest() -> Value {
        common::yaml("istio-manifests/wasmplugin/trace-context-zipkin.yaml")["spec"].take()
    }

    /// The tracer as Istio sets it, alone and with the filter of the manifest.
    fn meshes() -> impl Iterator<Item = (String, Mesh)> {
        let spec = manifest();
        assert_eq!(spec["failStrategy"], "FAIL_OPEN");
        let json = spec["pluginConfig"].to_string();
        envoys().into_iter().map(move |envoy| {
            let filter = trace_context(&json).failure_policy(FailurePolicy::FailOpen);
            let manager = || {
                let tracing = Tracing::zipkin("collector")
                    .trace_context_option(TraceContextOption::B3WithW3c)
                    .shared_span_context(false);
                HttpConnectionManager::new().tracing(tracing)
            };
            let managers = vec![("alone", manager()), ("filtered", manager().filter(filter))];
            (
                envoy.reported_version().to_owned(),
                inbound(&envoy, managers),
            )
        })
    }

    #[test]
    fn the_configuration_is_read() {
        let config = read_and_compile(&manifest()["pluginConfig"].to_string());
        assert_eq!(config.placement, Placement::Downstream);
    }

    #[test]
    fn whatever_comes_in_what_leaves_names_one_span() {
        let w3c = format!("00-{TRACE}-{SPAN}-01");
        let w3c = [("traceparent", w3c.as_str()), ("tracestate", "a=1")];
        let b3 = format!("{OTHER_TRACE}-{OTHER_SPAN}-1");
        let b3 = [("b3", b3.as_str())];
        let multi = [("x-b3-traceid", OTHER_TRACE), ("x-b3-spanid", OTHER_SPAN)];
        let arrivals: [Vec<_>; 6] = [
            vec![],
            w3c.to_vec(),
            b3.to_vec(),
            multi.to_vec(),
            [&w3c[..], &b3].concat(),
            [&w3c[..], &multi].concat(),
        ];
        for (envoy, mesh) in meshes() {
            for arrival in &arrivals {
                let left = leaving(&mesh, "filtered", arrival);
                assert_eq!(spans(&left).len(), 1, "{envoy}: {arrival:?}: {left:?}");
                let continues_b3 = left.iter().any(|header| header.contains(OTHER_TRACE));
                let b3_came = arrival.iter().any(|(_, value)| value.contains(OTHER_TRACE));
                assert_eq!(continues_b3, b3_came, "{envoy}: {arrival:?}: {left:?}");
            }
        }
    }

    #[test]
    fn a_single_b3_is_stale_behind_the_tracer_before_1_40_and_not_with_the_filter() {
        let b3 = format!("{OTHER_TRACE}-{OTHER_SPAN}-1");
        for (envoy, mesh) in meshes() {
            let alone = leaving(&mesh, "alone", &[("b3", &b3)]);
            let told = if envoy.starts_with("1.40") { 1 } else { 2 };
            assert_eq!(spans(&alone).len(), told, "{envoy}: {alone:?}");
            let filtered = leaving(&mesh, "filtered", &[("b3", &b3)]);
            assert_eq!(spans(&filtered).len(), 1, "{envoy}: {filtered:?}");
        }
    }

    #[test]
    fn the_tracestate_of_another_trace_does_not_leave() {
        let w3c = format!("00-{TRACE}-{SPAN}-01");
        let arrival = [
            ("traceparent", w3c.as_str()),
            ("tracestate", "a=1"),
            ("x-b3-traceid", OTHER_TRACE),
            ("x-b3-spanid", OTHER_SPAN),
        ];
        for (envoy, mesh) in meshes() {
            let has_state = |listener| {
                let left = leaving(&mesh, listener, &arrival);
                left.contains(&"tracestate: a=1".to_owned())
            };
            assert!(has_state("alone"), "{envoy}");
            assert!(!has_state("filtered"), "{envoy}");
        }
    }

    #[test]
    fn malformed_b3_does_not_leave_and_a_good_traceparent_does() {
        let w3c = format!("00-{TRACE}-{SPAN}-01");
        let malformed = [
            vec![("b3", "hello")],
            vec![("x-b3-spanid", OTHER_SPAN), ("x-b3-traceid", "hello")],
        ];
        let lines = |headers: &[(&str, &str)]| {
            let lines = headers
                .iter()
                .map(|(name, value)| format!("{name}: {value}"));
            lines.collect::<BTreeSet<_>>()
        };
        for (envoy, mesh) in meshes() {
            for b3 in &malformed {
                let good = [("traceparent", w3c.as_str())];
                for (arrival, kept) in [(b3.clone(), &good[..0]), ([b3, &good[..]].concat(), &good)]
                {
                    let left = |listener| BTreeSet::from_iter(leaving(&mesh, listener, &arrival));
                    assert_eq!(left("alone"), lines(&arrival), "{envoy}");
                    assert_eq!(left("filtered"), lines(kept), "{envoy}");
                }
            }
        }
    }
}

mod behind_the_opentelemetry_tracer {
    use super::*;

    /// The router that the EnvoyFilter makes of Istio's, which has no configuration of its own there.
    fn router() -> Value {
        let mut manifest =
            common::yaml("istio-manifests/envoyfilter/trace-context-otel-upstream.yaml");
        let patch = &mut manifest["spec"]["configPatches"][0];
        assert_eq!(patch["applyTo"], "HTTP_FILTER");
        assert_eq!(patch["patch"]["operation"], "MERGE");
        let matched = "/match/listener/filterChain/filter/subFilter/name";
        assert_eq!(
            patch.pointer(matched),
            Some(&patch["patch"]["value"]["name"])
        );
        patch["patch"]["value"]["typed_config"].take()
    }

    #[test]
    fn the_configuration_is_read() {
        let text = router()["upstream_http_filters"][0]["typed_config"]["config"]["configuration"]
            ["value"]
            .take();
        let config = read_and_compile(text.as_str().expect("text"));
        assert_eq!(config.placement, Placement::Upstream);
    }

    #[test]
    fn the_patch_adds_b3_that_names_the_tracers_span() {
        let mut router = router();
        let module = "/upstream_http_filters/0/typed_config/config/vm_config/code/local/filename";
        *router.pointer_mut(module).expect("the module's path") =
            json!(common::module("trace_context"));
        let w3c = format!("00-{TRACE}-{SPAN}-01");
        let stale = format!("{OTHER_TRACE}-{OTHER_SPAN}-0");
        each_supported(|envoy| {
            let manager = || {
                let tracing = Tracing::opentelemetry_grpc("collector", "sidecar");
                HttpConnectionManager::new().tracing(tracing)
            };
            let patched = manager().router(router.clone());
            let mesh = inbound(envoy, vec![("alone", manager()), ("patched", patched)]);
            let arrival = [("traceparent", w3c.as_str()), ("b3", stale.as_str())];

            let alone = leaving(&mesh, "alone", &arrival);
            assert_eq!(spans(&alone).len(), 2, "{alone:?}");
            let patched = leaving(&mesh, "patched", &arrival);
            assert_eq!(spans(&patched).len(), 1, "{patched:?}");
            assert!(patched.contains(&format!("x-b3-traceid: {TRACE}")));
            assert!(!patched.contains(&format!("x-b3-spanid: {SPAN}")));
        });
    }
}

mod in_the_place_of_an_examples_own {
    use super::*;
    use envoy_test_harness::client::Response;
    use envoy_test_harness::{Envoy, Options};
    use meshtrace_test_support::applied::{envoy_filter, list};
    use meshtrace_test_support::example::{MANAGER, set_cluster, with_new_ids_named};

    const EARLY: &str = "istio-manifests/envoyfilter/trace-context-otel-early.yaml";
    const ZIPKIN_EARLY: &str = "istio-manifests/envoyfilter/trace-context-zipkin-b3-early.yaml";
    const EDGE: &str = "istio-manifests/envoyfilter/trace-context-edge.yaml";
    const UPSTREAM: &str = "istio-manifests/envoyfilter/trace-context-otel-upstream.yaml";
    const DOWNSTREAM: &str = "istio-manifests/envoyfilter/trace-context-no-tracer.yaml";

    /// Applies an EnvoyFilter to the first listener as Istio does.
    fn apply(manifest: &Value, bootstrap: &mut Value) {
        applied::apply(
            manifest,
            bootstrap.pointer_mut(MANAGER).expect("the manager"),
        );
    }

    /// What `bootstrap` answers to a request with each of `arrivals`; ids that it makes are named.
    fn answers(
        envoy: &EnvoyBinary,
        bootstrap: &Value,
        arrivals: &[Vec<(&str, &str)>],
    ) -> Vec<(u16, String)> {
        let options = Options::new().working_directory(common::root());
        let envoy = Envoy::start_raw(envoy, bootstrap.clone(), options).expect("an Envoy");
        let address = envoy.address("ingress").expect("the listener's address");
        let answer = |headers: &Vec<(&str, &str)>| {
            let response: Response = get(headers).send(address).expect("a response");
            let named = with_new_ids_named(&response.text(), &format!("{headers:?}"));
            (response.status, named)
        };
        arrivals.iter().map(answer).collect()
    }

    #[test]
    fn the_early_mutations_are_what_is_rendered() {
        for path in [EARLY, ZIPKIN_EARLY, EDGE] {
            let rendered = rendered::early_mutation_of(path);
            let mut patched = json!({"route_config": {"virtual_hosts": [{}]}});
            applied::apply(&common::yaml(path), &mut patched);
            assert_eq!(
                patched["early_header_mutation_extensions"],
                json!([rendered.extension])
            );
            let mut settings = rendered.manager.to_json();
            // Istio merges messages as protobuf does: a zero in the patch changes nothing.
            settings["tracing"].take();
            assert_eq!(patched["tracing"], settings["tracing"]);
            rendered::assert_has(&patched, &settings);
            let host = &patched["route_config"]["virtual_hosts"][0];
            assert_eq!(*host, rendered.virtual_host, "{path}");
        }
    }

    #[test]
    fn edge_does_what_the_example_edge_does() {
        let collector = ClosedPort::reserve().expect("a port");
        let mut example = common::yaml("examples/edge/envoy.yaml");
        set_cluster(&mut example, "collector", collector.address());
        let manager = example.pointer_mut(MANAGER).expect("the manager");
        // As Istio sets the tracing of a gateway.
        manager["tracing"]["random_sampling"] = json!({"value": 0});
        let mut without = example.clone();
        let manager = without.pointer_mut(MANAGER).expect("the manager");
        manager["early_header_mutation_extensions"] = json!([]);
        manager["tracing"]["client_sampling"] = json!({"value": 100});
        let mut patched = without.clone();
        apply(&envoy_filter(EDGE), &mut patched);

        let w3c = format!("00-{TRACE}-{SPAN}-01");
        let b3 = format!("{OTHER_TRACE}-{OTHER_SPAN}-1");
        let arrivals = [
            vec![("traceparent", w3c.as_str()), ("tracestate", "a=1")],
            vec![("b3", b3.as_str())],
            vec![("x-client-trace-id", "forced")],
            vec![("x-request-id", "12345678-1234-a234-9234-123456789abc")],
            vec![],
        ];
        each_supported(|envoy| {
            let told = answers(envoy, &patched, &arrivals);
            for (_, answer) in &told {
                assert!(answer.contains("-00\n"), "{answer}");
            }
            assert_eq!(told, answers(envoy, &example, &arrivals));
            assert_ne!(told, answers(envoy, &without, &arrivals));
        });
    }

    #[test]
    fn early_and_upstream_do_what_the_example_both_sides_does() {
        let collector = ClosedPort::reserve().expect("a port");
        let mut example = common::yaml("examples/both-sides/envoy.yaml");
        set_cluster(&mut example, "collector", collector.address());
        let mut without = example.clone();
        let manager = without.pointer_mut(MANAGER).expect("the manager");
        manager["early_header_mutation_extensions"] = json!([]);
        manager["route_config"]["virtual_hosts"][0]["request_headers_to_remove"] = json!([]);
        let router = list(&mut manager["http_filters"]).last_mut();
        router.expect("the router")["typed_config"]["upstream_http_filters"] = json!([]);
        let mut patched = without.clone();
        for path in [EARLY, UPSTREAM] {
            apply(&envoy_filter(path), &mut patched);
        }

        let w3c = format!("00-{TRACE}-{SPAN}-01");
        let b3 = format!("{OTHER_TRACE}-{OTHER_SPAN}-1");
        let arrivals = [
            vec![("b3", b3.as_str())],
            vec![("x-b3-traceid", OTHER_TRACE), ("x-b3-spanid", OTHER_SPAN)],
            vec![("traceparent", "hello"), ("b3", &b3)],
            vec![("traceparent", &w3c), ("b3", &b3)],
            vec![("traceparent", &w3c)],
            vec![("b3", "0")],
            vec![],
        ];
        each_supported(|envoy| {
            let told = answers(envoy, &patched, &arrivals);
            let (_, continued) = &told[0];
            assert!(
                continued.contains(&format!("traceparent: 00-{OTHER_TRACE}-")),
                "{continued}"
            );
            assert_eq!(told, answers(envoy, &example, &arrivals));
            assert_ne!(told, answers(envoy, &without, &arrivals));
        });
    }

    #[test]
    fn downstream_does_what_the_example_does_before_an_authoriser() {
        let example = common::yaml("examples/trace-context/envoy.yaml");
        let mut behind = example.clone();
        let manager = behind.pointer_mut(MANAGER).expect("the manager");
        list(&mut manager["http_filters"])[0] = json!({
            "name": "authoriser",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
                "default_source_code": {"inline_string": r#"
                    function envoy_on_request(request)
                      if request:headers():get("traceparent") == nil then
                        request:respond({[":status"] = "403"}, "no traceparent")
                      end
                    end"#
                },
            },
        });
        let mut patched = behind.clone();
        apply(&envoy_filter(DOWNSTREAM), &mut patched);

        let w3c = format!("00-{TRACE}-{SPAN}-01");
        let b3 = format!("{OTHER_TRACE}-{OTHER_SPAN}-1");
        let arrivals = [
            vec![("b3", b3.as_str())],
            vec![("x-b3-traceid", OTHER_TRACE), ("x-b3-spanid", OTHER_SPAN)],
            vec![("traceparent", "hello"), ("b3", &b3)],
            vec![("traceparent", &w3c), ("b3", &b3)],
        ];
        each_supported(|envoy| {
            let told = answers(envoy, &patched, &arrivals);
            assert_eq!(told, answers(envoy, &example, &arrivals));
            let (status, _) = answers(envoy, &behind, &arrivals)[0];
            assert_eq!(status, 403);
        });
    }

    #[test]
    fn downstream_spells_the_defaults_out_and_fails_open() {
        let manifest = common::yaml(DOWNSTREAM);
        let filter = &manifest["spec"]["configPatches"][0]["patch"]["value"]["typed_config"];
        let config = &filter["config"];
        assert_eq!(config["failure_policy"], "FAIL_OPEN");
        let text = config["configuration"]["value"].as_str().expect("text");
        let compiled = |json: &str| {
            let config = read_and_compile(json);
            format!("{:?}", Propagation::new(&config).expect("it compiled"))
        };
        assert_eq!(compiled(text), compiled("{}"));
    }

    mod access_log {
        use super::*;

        use envoy_test_harness::AccessLog;
        use meshtrace_access_log::{AccessLogIds, AccessLogTraceConfig};
        use meshtrace_render::{
            EnvoyVersion, IdsFrom, access_log_fields, expose_ids, istio_envoy_filter,
            istio_provider, istio_telemetry,
        };

        const FILTER: &str = "istio-manifests/access-log/envoyfilter-otel.yaml";
        const FILTER_1_28: &str = "istio-manifests/access-log/envoyfilter-otel-1.28.yaml";
        const PROVIDER: &str = "json-with-trace";

        fn value(manifest: &Value, patch: usize) -> &Value {
            &manifest["spec"]["configPatches"][patch]["patch"]["value"]
        }

        fn config(manifest: &Value) -> AccessLogTraceConfig {
            let config = &value(manifest, 0)["typed_config"]["config"];
            assert_eq!(config["failure_policy"], "FAIL_OPEN");
            let text = config["configuration"]["value"].as_str().expect("text");
            read(text.as_bytes()).expect("a configuration")
        }

        #[test]
        fn the_manifests_are_what_is_rendered() {
            let [_, ids] = [
                (FILTER_1_28, EnvoyVersion::V1_37),
                (FILTER, EnvoyVersion::V1_38),
            ]
            .map(|(path, envoy)| {
                let manifest = common::yaml(path);
                let config = config(&manifest);
                let step = expose_ids(&config.ids, envoy);
                let name = manifest["metadata"]["name"].as_str().expect("one");
                let filter = value(&manifest, 0);
                assert_eq!(manifest, istio_envoy_filter(name, step.as_ref(), filter));
                AccessLogIds::new(&config).expect("one that compiles")
            });

            let fields = access_log_fields(&ids, IdsFrom::Filter);
            let mesh = common::yaml("istio-manifests/access-log/mesh-config.yaml");
            assert_eq!(
                mesh,
                json!({"extensionProviders": [istio_provider(PROVIDER, &fields)]})
            );
            let telemetry = common::yaml("istio-manifests/access-log/telemetry.yaml");
            assert_eq!(telemetry, istio_telemetry(PROVIDER));
        }

        #[test]
        fn in_the_place_of_the_examples_filters_every_line_names_the_span_that_called() {
            let mesh = common::yaml("istio-manifests/access-log/mesh-config.yaml");
            let labels =
                &mesh["extensionProviders"][0]["envoyFileAccessLog"]["logFormat"]["labels"];
            let collector = ClosedPort::reserve().expect("a port");
            let mut patched = common::yaml("examples/access-log/envoy.yaml");
            set_cluster(&mut patched, "collector", collector.address());
            let manager = patched.pointer_mut(MANAGER).expect("the manager");
            list(&mut manager["http_filters"]).drain(..2);
            let w3c = format!("00-{TRACE}-{SPAN}-01");
            each_supported(|envoy| {
                let mut patched = patched.clone();
                let path = match envoy.is_at_least(1, 38) {
                    true => FILTER,
                    false => FILTER_1_28,
                };
                apply(&envoy_filter(path), &mut patched);
                let manager = patched.pointer_mut(MANAGER).expect("the manager");
                let folder = tempfile::tempdir().expect("a folder");
                let log = folder.path().join("access.log");
                let logger = &mut manager["access_log"][0]["typed_config"];
                logger["path"] = json!(log);
                logger["log_format"]["json_format"] = labels.clone();
                let arrivals = [vec![("traceparent", w3c.as_str())]];
                let options = Options::new().working_directory(common::root());
                let running = Envoy::start_raw(envoy, patched, options).expect("an Envoy");
                let address = running.address("ingress").expect("the listener's address");
                let response = get(&arrivals[0]).send(address).expect("a response");
                let lines = AccessLog::new(&log).wait_for_lines(1).expect("a line");
                let ids = ["trace_id", "span_id", "trace_flags"]
                    .map(|key| lines[0][key].as_str().unwrap_or_default());
                assert_eq!(
                    response.text(),
                    format!("called from 00-{}\n", ids.join("-"))
                );
                assert_eq!(lines[0]["parent_span_id"], SPAN);
            });
        }
    }
}

mod attributes_on_the_sidecars_spans {
    use super::*;
    use envoy_test_harness::client::Request;
    use envoy_test_harness::config::HttpFilter;
    use meshtrace_render::{IstioNames, IstioVersion, istio_tags};
    use meshtrace_test_support::tracers::{CASE, Caller, Sinks, Tracer};

    /// The manifests for the version: the WasmPlugin and the Telemetry.
    fn manifests(version: IstioVersion) -> [Value; 2] {
        let file = match version {
            IstioVersion::V1_28 => "istio-manifests/wasmplugin/span-attributes-1.28.yaml",
            _ => "istio-manifests/wasmplugin/span-attributes.yaml",
        };
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(&common::text(file)).expect("documents");
        documents.try_into().expect("two of them")
    }

    #[test]
    fn the_manifests_are_what_is_rendered() {
        for version in IstioVersion::ALL {
            let [plugin, telemetry] = manifests(*version);
            let text = |value: &Value| value.as_str().expect("text").to_owned();
            let names = IstioNames {
                name: text(&plugin["metadata"]["name"]),
                namespace: None,
                url: text(&plugin["spec"]["url"]),
            };
            let json = plugin["spec"]["pluginConfig"].to_string();
            let rendered = istio_tags(json.as_bytes(), *version, &names).expect("manifests");
            assert_eq!(plugin, rendered.wasm_plugin, "{version}");
            assert_eq!(telemetry, rendered.telemetry, "{version}");
        }
    }

    #[test]
    fn the_attributes_are_on_the_spans() {
        each_supported(|envoy| {
            let version = match envoy.reported_version() {
                version if version.starts_with("1.36") => IstioVersion::V1_28,
                version if version.starts_with("1.37") => IstioVersion::V1_29,
                _ => IstioVersion::V1_31,
            };
            let [plugin, telemetry] = manifests(version);
            let json = plugin["spec"]["pluginConfig"].to_string();
            let filter: HttpFilter =
                WasmFilter::new("span_attributes", common::module("span_attributes"))
                    .configuration(json)
                    .failure_policy(FailurePolicy::FailOpen)
                    .into();
            let tags = telemetry["spec"]["tracing"][0]["customTags"].as_object();
            let tags = tags.expect("tags").iter();
            let sinks = Sinks::start();
            let tracing = Tracer::OpenTelemetry.tracing().expect("a tracer");
            let tracing = tags.fold(tracing, |tracing, (key, value)| {
                tracing.custom_tag(applied::tag(key, value))
            });
            let manager = HttpConnectionManager::new()
                .tracing(tracing)
                .filter(filter)
                .route(Route::prefix("/").cluster("upstream"));
            let listener = Listener::http("inbound", manager).direction(TrafficDirection::Inbound);
            let mesh = Mesh::with(envoy, sinks.connect(Bootstrap::new().listener(listener)));

            let caller = Caller::fresh();
            let request = Request::get("/")
                .header(CASE, "attributes")
                .header("traceparent", caller.fill("00-$T-$S-01"))
                .header("x-user-id", "alice")
                .header("x-tenant-id", "acme");
            mesh.pass(&mut mesh.connect("inbound"), &request);
            let spans = sinks.spans(Tracer::OpenTelemetry, &caller.trace_id, "attributes", 1);
            assert_eq!(spans[0].attribute("user.id"), Some("alice"), "{version}");
            assert_eq!(spans[0].attribute("tenant.id"), Some("acme"), "{version}");
        });
    }
}

mod around_route_sampling {
    use super::*;
    use envoy_test_harness::config::WasmFilter;
    use meshtrace_sampling::{Sampling, SamplingConfig};

    const SETTINGS: &str = "istio-manifests/envoyfilter/route-sampling-otel.yaml";
    const PLUGIN: &str = "istio-manifests/wasmplugin/route-sampling-otel.yaml";
    const TELEMETRY: &str = "istio-manifests/telemetry/route-sampling.yaml";

    fn plugin_config() -> String {
        let spec = common::yaml(PLUGIN)["spec"].take();
        assert_eq!(spec["failStrategy"], "FAIL_OPEN");
        spec["pluginConfig"].to_string()
    }

    #[test]
    fn the_settings_are_what_is_rendered_and_all_three_are_for_the_same_pods() {
        let config: SamplingConfig = read(plugin_config().as_bytes()).expect("a configuration");
        Sampling::new(&config, &|_| None).expect("one that compiles");
        let settings = rendered::sampling_settings_in(SETTINGS, &plugin_config());
        if std::env::var_os("UPDATE_EXAMPLES").is_some() {
            return;
        }
        let label = ("meshtrace-sampling", "enabled");
        let rendered = settings.to_envoy_filter("route-sampling-otel", label);
        assert_eq!(common::yaml(SETTINGS), rendered);
        for path in [PLUGIN, TELEMETRY] {
            let labels = &common::yaml(path)["spec"]["selector"]["matchLabels"];
            assert_eq!(labels[label.0], label.1, "{path}");
        }
        let tracing = &common::yaml(TELEMETRY)["spec"]["tracing"][0];
        assert_eq!(tracing["randomSamplingPercentage"], 0);
    }

    /// The settings of the files on a connection manager, with the percentage that the Telemetry has.
    #[test]
    fn together_they_decide_by_rule_and_respect_a_parent() {
        let manifest = common::yaml(SETTINGS);
        let patch = |i: usize| manifest["spec"]["configPatches"][i]["patch"]["value"].clone();
        let mut manager_patch = patch(0)["typed_config"].take();
        if let Some(fields) = manager_patch.as_object_mut() {
            fields.remove("@type");
        }
        let percentage =
            common::yaml(TELEMETRY)["spec"]["tracing"][0]["randomSamplingPercentage"].as_f64();
        let module = common::module("route_sampling");
        each_supported(|envoy| {
            let filter = WasmFilter::new("route_sampling", &module)
                .configuration(plugin_config())
                .failure_policy(FailurePolicy::FailOpen);
            let tracing = Tracing::opentelemetry_grpc("collector", "sidecar");
            let manager = HttpConnectionManager::new()
                .tracing(tracing.random_sampling(percentage.expect("a number")))
                .virtual_host(patch(1))
                .merge(manager_patch.clone())
                .filter(filter);
            let mesh = inbound(envoy, vec![("ingress", manager)]);
            let w3c = |flags: &str| format!("00-{TRACE}-{SPAN}-{flags}");
            for (path, parent, flags) in [
                ("/payments/1", None, "-01"),
                ("/health", None, "-00"),
                ("/metrics", None, "-00"),
                ("/health", Some(w3c("01")), "-01"),
                ("/payments", Some(w3c("00")), "-00"),
            ] {
                let mut request = envoy_test_harness::client::Request::get(path);
                if let Some(parent) = &parent {
                    request = request.header("traceparent", parent);
                }
                let seen = mesh.pass(&mut mesh.connect("ingress"), &request);
                let told = seen.header_text("traceparent").expect("a context");
                let version = envoy.reported_version();
                assert!(
                    told.ends_with(flags),
                    "{path} {parent:?} on {version}: {told}"
                );
                assert_eq!(seen.header_text("x-envoy-force-trace"), None, "{version}");
            }
        });
    }
}
