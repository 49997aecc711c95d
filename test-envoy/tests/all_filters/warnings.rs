//! Warnings about what requests show: the proxy's own tracer undoes the work of a filter, the filter
//! stands in the wrong chain, or the step in front of it is missing.

use envoy_test_harness::client::Connection;
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, HttpFilter, Listener, Route, Tracing, WasmFilter,
};
use envoy_test_harness::{EnvoyBinary, OtlpSink, each_supported};
use meshtrace_test_support::common::{Mesh, get, module};
use meshtrace_test_support::promises;
use meshtrace_test_support::tracers::{Sinks, Tracer};

use crate::log_lines::{ingress, lines, start};

const REPORT: &str = r#"{"report": {"cluster": "collector"}}"#;

fn plugin(filter: &str, config: &str) -> WasmFilter {
    WasmFilter::new(filter, module(filter)).configuration(config)
}

/// The warnings about requests, after 20 of them have passed a manager with `filters` and `tracing`.
fn warnings(
    envoy: &EnvoyBinary,
    tracing: Option<Tracing>,
    filters: impl FnOnce(HttpConnectionManager) -> HttpConnectionManager,
) -> Vec<String> {
    let (sinks, collector) = (Sinks::start(), OtlpSink::start().expect("a collector"));
    let manager = HttpConnectionManager::new().route(Route::prefix("/").cluster("upstream"));
    let manager = filters(manager);
    let manager = match tracing {
        Some(tracing) => manager.tracing(tracing),
        None => manager,
    };
    let bootstrap = Bootstrap::new()
        .listener(Listener::http("ingress", manager))
        .cluster(Cluster::http1("collector", collector.http_addr()));
    let mesh = Mesh::with(envoy, sinks.connect(bootstrap));
    for _ in 0..20 {
        mesh.pass(&mut mesh.connect("ingress"), &get(&[]));
    }
    lines(&mesh.envoy, "(MT0")
}

#[test]
fn a_tracer_of_the_proxys_own_is_one_warning() {
    each_supported(|envoy| {
        for (tracer, header) in [
            (Tracer::None, None),
            (Tracer::OpenTelemetry, Some("traceparent")),
            (Tracer::ZipkinB3, Some("x-b3-spanid")),
        ] {
            for (config, code) in [(REPORT, "MT033"), (r#"{"trace_context": {}}"#, "MT030")] {
                let said = warnings(envoy, tracer.tracing(), |manager| {
                    manager.filter(plugin("mesh_tracing", config))
                });
                let expected = header.map(|header| {
                    format!("warning mesh_tracing: `{header}` was written again after this filter")
                });
                assert_eq!(said.len(), expected.iter().len(), "{tracer:?}: {said:#?}");
                for (said, expected) in said.iter().zip(expected) {
                    assert!(said.starts_with(&expected), "{said}");
                    assert!(said.ends_with(&format!("({code})")), "{said}");
                }
            }
        }
    });
    promises::held(
        "Configuration",
        "mesh_tracing says that the proxy's own tracer writes over it",
        "OpenTelemetry, Zipkin and no tracer, with report and without; 20 requests",
        "one line at warning level with a tracer, none without; 4 versions",
    );
}

#[test]
fn of_all_workers_one_says_a_warning() {
    let behind = r#"{"placement": "upstream", "tracer": "tracecontext"}"#;
    each_supported(|envoy| {
        let filter = plugin("trace_context", behind);
        let bootstrap = Bootstrap::new().listener(ingress([filter.into()]));
        let envoy = start(envoy, 4, bootstrap);
        let address = envoy.address("ingress").expect("a listener");
        // Connections are spread over the workers, and three requests of a worker are enough.
        for _ in 0..24 {
            let mut connection = Connection::open(address).expect("a connection");
            for _ in 0..4 {
                let response = connection.send(&get(&[])).expect("a response");
                assert_eq!(response.status, 200);
            }
        }
        let said = lines(&envoy, "(MT0");
        assert_eq!(said.len(), 1, "{said:#?}");
    });
}

#[test]
fn a_filter_for_behind_the_tracer_says_that_it_finds_no_tracer() {
    each_supported(|envoy| {
        for filter in ["trace_context", "route_sampling"] {
            for (tracer, is_upstream, finds_it) in [
                ("tracecontext", true, true),
                ("b3multi", true, false),
                ("tracecontext", false, false),
            ] {
                let config = format!(r#"{{"placement": "upstream", "tracer": "{tracer}"}}"#);
                let said = warnings(envoy, Tracer::OpenTelemetry.tracing(), |manager| {
                    let filter = plugin(filter, &config);
                    match is_upstream {
                        true => manager.upstream_filter(filter),
                        false => manager.filter(filter),
                    }
                });
                let case = format!("{filter} {tracer} {is_upstream}: {said:#?}");
                assert_eq!(said.len(), usize::from(!finds_it), "{case}");
                let begin = format!(
                    "warning {filter}: placement \"upstream\", and no request has the {tracer} \
                     headers of this proxy's tracer"
                );
                assert!(said.iter().all(|said| said.starts_with(&begin)), "{case}");
            }
        }
    });
    promises::held(
        "Configuration",
        "A filter for behind the tracer says that no tracer has written in front of it",
        "trace_context and route_sampling upstream, with the tracer's format, another one, and among a listener's filters; 20 requests",
        "one line at warning level where no tracer writes, none where it does; 4 versions",
    );
}

#[test]
fn a_rule_that_drops_what_the_tracer_records_is_one_warning() {
    each_supported(|envoy| {
        let tracing = || Tracer::OpenTelemetry.tracing();
        let all = tracing();
        let none = tracing().map(|tracing| tracing.random_sampling(0.0));
        for (tracing, is_warned) in [(all, true), (none, false), (None, false)] {
            let said = warnings(envoy, tracing, |manager| {
                manager.filter(plugin("route_sampling", r#"{"default": "never"}"#))
            });
            assert_eq!(said.len(), usize::from(is_warned), "{said:#?}");
            let begin =
                "warning route_sampling: a rule drops a trace that this proxy's tracer records";
            assert!(said.iter().all(|said| said.starts_with(begin)), "{said:#?}");
        }
    });
}

#[test]
fn a_filter_for_a_listener_says_that_it_stands_among_upstream_filters() {
    let filters = [
        "trace_context",
        "route_sampling",
        "access_log_trace",
        "mesh_tracing",
    ];
    each_supported(|envoy| {
        for is_upstream in [true, false] {
            let said = warnings(envoy, None, |manager| {
                filters.iter().fold(manager, |manager, filter| {
                    let filter = plugin(filter, "");
                    match is_upstream {
                        true => manager.upstream_filter(filter),
                        false => manager.filter(filter),
                    }
                })
            });
            let expected = if is_upstream { filters.len() } else { 0 };
            assert_eq!(said.len(), expected, "{said:#?}");
            for filter in filters {
                let begin = format!("warning {filter}: the filter stands among upstream filters");
                let fits = |said: &&String| said.starts_with(&begin) && said.ends_with("(MT023)");
                let found = said.iter().filter(fits).count();
                assert_eq!(found, usize::from(is_upstream), "{filter}: {said:#?}");
            }
        }
    });
    promises::held(
        "Configuration",
        "A filter for a listener says that it stands among upstream filters",
        "4 filters in both lists; 20 requests",
        "one line at warning level among upstream filters, none in a listener; 4 versions",
    );
}

#[test]
fn ids_without_the_step_that_writes_them_are_one_warning() {
    let header = "x-active-trace-id";
    let ids = format!(r#""ids": {{"trace_id_header": "{header}"}}"#);
    let written = serde_json::json!([{"append": {
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        "header": {"key": header, "value": "%TRACE_ID%"},
    }}]);
    let step = || HttpFilter::header_mutation("step", written.clone());
    each_supported(|envoy| {
        for (filter, config) in [
            ("access_log_trace", format!("{{{ids}}}")),
            (
                "route_sampling",
                format!(r#"{{{ids}, "default": "always"}}"#),
            ),
            ("mesh_tracing", format!(r#"{{"access_log": {{{ids}}}}}"#)),
        ] {
            for has_step in [false, true] {
                let said = warnings(envoy, Tracer::OpenTelemetry.tracing(), |manager| {
                    let manager = match has_step {
                        true => manager.filter(step()),
                        false => manager,
                    };
                    manager.filter(plugin(filter, &config))
                });
                let case = format!("{filter} {has_step}: {said:#?}");
                assert_eq!(said.len(), usize::from(!has_step), "{case}");
                let begin = format!(
                    "warning {filter}: no request has the header that `ids.trace_id_header` names"
                );
                let fits = |said: &String| said.starts_with(&begin) && said.ends_with("(MT050)");
                assert!(said.iter().all(fits), "{case}");
            }
        }
    });
    promises::held(
        "Configuration",
        "A filter says that the step is missing that writes its ids",
        "access_log_trace, route_sampling and mesh_tracing with the step in front and without; 20 requests",
        "one line at warning level without the step, none with it; 4 versions",
    );
}
