//! The lines of the log about a configuration: one for each, however many workers load it.

use envoy_test_harness::config::{
    Bootstrap, HttpConnectionManager, HttpFilter, Listener, Route, WasmFilter,
};
use envoy_test_harness::{Envoy, EnvoyBinary, Options, each_supported};
use meshtrace_test_support::common::module;

const IN_FORCE: &str = "the configuration is in force: the filter ";

/// A filter, a configuration, and the words about it.
type Case = (&'static str, &'static str, &'static str);

const CASES: &[Case] = &[
    (
        "trace_context",
        r#"{"inject": ["b3"], "on_missing": "generate"}"#,
        "reads tracecontext, b3 and b3multi and writes b3, starts a trace where none came in",
    ),
    (
        "trace_context",
        r#"{"placement": "upstream", "tracer": "b3multi"}"#,
        "reads the b3multi headers that this proxy's tracer writes and writes tracecontext and \
         b3multi",
    ),
    (
        "route_sampling",
        r#"{"rules": [{"name": "probes", "match": {"path": {"exact": "/healthz"}}, "sample": "never"}], "default": {"ratio": 0.01}}"#,
        "samples by rule (probes: none; other requests: 1 trace in 100); a caller's decision stands",
    ),
    // It has no rule, and no caution: it passes on what the filter in front decided.
    (
        "route_sampling",
        r#"{"placement": "upstream", "tracer": "tracecontext"}"#,
        "changes what this proxy's tracer decided in its tracecontext headers: samples by rule (no \
         rule; other requests: as the tracer decided); a caller's decision stands",
    ),
    (
        "span_attributes",
        "{}",
        "gathers user.id and tenant.id as filter state",
    ),
    (
        "access_log_trace",
        r#"{"response_header": "x-trace-id"}"#,
        "sets the ids of the trace as filter state for the access log, and writes them into the \
         response",
    ),
    (
        "mesh_tracing",
        r#"{"report": {"cluster": "collector"}}"#,
        "reads tracecontext, b3 and b3multi and writes tracecontext and b3multi; it samples 1 \
         trace in 100 of those that begin here; a caller's decision stands; it exports to the \
         cluster \"collector\" over OTLP/HTTP the spans of sampled requests and of requests that fail",
    ),
];

/// Valid configurations that cannot do what is asked of them.
const CAUTIONS: &[Case] = &[
    (
        "mesh_tracing",
        "{}",
        "mesh_tracing: no stage is configured, so the filter does nothing; write {\"report\": \
         {\"cluster\": \"CLUSTER\"}} for spans",
    ),
    (
        "mesh_tracing",
        "",
        "mesh_tracing: no stage is configured, so the filter does nothing",
    ),
    (
        "route_sampling",
        "{}",
        "route_sampling: no rule and no default decides about a request, so the stage does nothing",
    ),
    (
        "route_sampling",
        r#"{"force": {"header": "x-force", "value_env": "SECRET"}}"#,
        "route_sampling: `force` keeps no request: the environment does not have the variable",
    ),
    (
        "span_attributes",
        r#"{"attributes": [{"key": "user.hash", "from": {"header": "x-user"}, "transform": [{"hmac_sha256": {"key_env": "KEY"}}]}]}"#,
        "span_attributes: the attribute user.hash is left out of every request: the environment \
         does not have the variable that `hmac_sha256.key_env` names",
    ),
    (
        "mesh_tracing",
        r#"{"span_attributes": {"attributes": [{"key": "pod", "from": {"env": "POD"}}]}}"#,
        "mesh_tracing.span_attributes: the attribute pod is left out of every request: the \
         environment does not have the variable that `env` names",
    ),
];

fn plugin(filter: &str, config: &str) -> WasmFilter {
    WasmFilter::new(filter, module(filter)).configuration(config)
}

pub(crate) fn ingress(filters: impl IntoIterator<Item = HttpFilter>) -> Listener {
    let manager = HttpConnectionManager::new().route(Route::prefix("/").direct_response(200, ""));
    let manager = filters
        .into_iter()
        .fold(manager, HttpConnectionManager::filter);
    Listener::http("ingress", manager)
}

pub(crate) fn start(envoy: &EnvoyBinary, workers: u32, bootstrap: Bootstrap) -> Envoy {
    let options = Options::default().concurrency(workers);
    Envoy::start_with(envoy, bootstrap, options).expect("an Envoy that starts")
}

/// The lines of the log with this text, each without its time and its place in Envoy's source.
pub(crate) fn lines(envoy: &Envoy, text: &str) -> Vec<String> {
    let log = envoy.log().expect("the log");
    let lines = log.lines().filter(|line| line.contains(text));
    lines
        .map(|line| {
            // During a request the plugin's name stands behind "wasm log".
            let (head, said) = line.split_once("wasm log").expect("a filter's line");
            let (_, said) = said.split_once(": ").expect("a filter's line");
            let level = ["[info]", "[warning]", "[error]"].map(|level| head.contains(level));
            let level = match level {
                [true, ..] => "info",
                [_, true, _] => "warning",
                [.., true] => "error",
                _ => "?",
            };
            format!("{level} {said}")
        })
        .collect()
}

#[test]
fn a_configuration_that_comes_in_force_is_one_line() {
    const FILTERS: [&str; 5] = [
        "trace_context",
        "route_sampling",
        "span_attributes",
        "access_log_trace",
        "mesh_tracing",
    ];

    each_supported(|envoy| {
        for (filter, workers) in FILTERS.into_iter().flat_map(|f| [(f, 1), (f, 4)]) {
            let of_filter = |cases: &'static [Case]| {
                let cases = cases.iter().filter(|(of, ..)| *of == filter);
                cases.collect::<Vec<_>>()
            };
            assert_lines(envoy, workers, &of_filter(CASES), &of_filter(CAUTIONS));
        }
    });
}

/// Loads the configurations, those with a caution last, in an Envoy with this number of workers.
fn assert_lines(envoy: &EnvoyBinary, workers: u32, cases: &[&Case], cautions: &[&Case]) {
    let version = env!("CARGO_PKG_VERSION");
    let filters = cases.iter().chain(cautions).enumerate();
    let filters = filters.map(|(i, (filter, config, _))| {
        let name = format!("plugin-{i}");
        let named = plugin(filter, config).merge(serde_json::json!({"name": name}));
        HttpFilter::from(named)
    });
    let envoy = start(envoy, workers, Bootstrap::new().listener(ingress(filters)));
    let said = lines(&envoy, IN_FORCE);
    assert_eq!(said.len(), cases.len() + cautions.len(), "{said:#?}");
    for ((i, (filter, _, words)), said) in cases.iter().enumerate().zip(&said) {
        assert_eq!(
            *said,
            format!("info {filter} {version}: plugin \"plugin-{i}\": {IN_FORCE}{words}")
        );
    }
    let warned = lines(&envoy, "wasm log: ");
    let warned = warned.iter().filter(|line| line.starts_with("warning "));
    let warned: Vec<_> = warned.collect();
    assert_eq!(warned.len(), cautions.len(), "{warned:#?}");
    for ((_, _, words), said) in cautions.iter().zip(warned) {
        let said = said.strip_prefix("warning ").expect("its level");
        assert!(said.starts_with(words), "{said}\n{words}");
    }
}

#[test]
fn an_update_is_one_line_over_lds_and_over_ecds() {
    const FIRST: &str = r#"{"inject": ["b3"]}"#;
    const SECOND: &str = r#"{"inject": ["tracecontext"]}"#;
    const BAD: &str = r#"{"inject": 1}"#;

    each_supported(|envoy| {
        for workers in [1, 4] {
            for over_ecds in [false, true] {
                let given = |config: &str| plugin("trace_context", config);
                let bootstrap = match over_ecds {
                    true => {
                        let discovered = given(FIRST).discovered();
                        Bootstrap::new().listener(ingress([discovered]))
                    }
                    false => Bootstrap::new().watched_listener(ingress([given(FIRST).into()])),
                };
                let envoy = start(envoy, workers, bootstrap);
                let update = |config: &str| {
                    match over_ecds {
                        true => envoy.update_extension(given(config)),
                        false => envoy.update_listener(ingress([given(config).into()])),
                    }
                    .expect("an update that is taken");
                };
                assert_eq!(lines(&envoy, IN_FORCE).len(), 1);
                update(SECOND);
                let said = lines(&envoy, IN_FORCE);
                let writes = |format: &str| format!("and writes {format}");
                let words = [writes("b3"), writes("tracecontext")];
                let pairs = said.iter().zip(&words);
                let fits = pairs.filter(|(said, words)| said.ends_with(words.as_str()));
                assert_eq!((said.len(), fits.count()), (2, 2), "{said:#?}");
                // A worker that were late with the second one would bring one more change after the
                // bad one.
                std::thread::sleep(std::time::Duration::from_millis(200));
                update(BAD);
                envoy
                    .wait_for_log("trace_context.inject")
                    .expect("a refusal");
                let refusals = lines(&envoy, "trace_context.inject");
                let [refusal] = refusals.as_slice() else {
                    panic!("{refusals:#?}");
                };
                assert!(
                    refusal.starts_with("error trace_context.inject: "),
                    "{refusal}"
                );
                assert!(
                    refusal.contains("(plugin \"trace_context\": the configuration in force stays"),
                    "{refusal}"
                );
                assert_eq!(lines(&envoy, IN_FORCE).len(), 2);
            }
        }
    });
}
