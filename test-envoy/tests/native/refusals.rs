//! Configurations that are refused: one line with the path, and no listener.

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{
    Bootstrap, HttpConnectionManager, HttpFilter, Listener, Route, Tracing,
};
use envoy_test_harness::{Envoy, EnvoyBinary, Error};
use meshtrace_test_support::common::{self, SPAN, TRACE};
use meshtrace_test_support::host::Host;
use meshtrace_test_support::native::{envoys, export, flush, manager, options, tracing};
use meshtrace_test_support::promises;
use meshtrace_test_support::reporting::{Collected, reporting};
use serde_json::{Value, json};

/// A manager that answers itself, with this tracer.
fn answering(tracing: Tracing) -> HttpConnectionManager {
    HttpConnectionManager::new()
        .route(Route::prefix("/").direct_response(200, ""))
        .filter(export())
        .tracing(tracing)
}

/// The end of the log of an Envoy that does not start.
fn refused(envoy: &EnvoyBinary, manager: HttpConnectionManager) -> String {
    let bootstrap = Bootstrap::new().listener(Listener::http("ingress", manager));
    match Envoy::start_with(envoy, bootstrap, options()) {
        Err(error @ Error::EnvoyExited { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bad_configuration_is_refused_with_its_path() {
    for envoy in envoys() {
        for (config, line) in [
            (json!({}), "mesh_tracing.report: required"),
            (
                json!({"report": {"cluster": "c"}, "sampling": {"rules": [{"match": {"route": "r"}, "sample": "never"}]}}),
                "mesh_tracing.sampling.rules[0].match.route: not here",
            ),
            (
                json!({"report": {"cluster": "c", "colour": 1}}),
                "mesh_tracing.report.colour: ",
            ),
            (
                json!({"report": {"cluster": "c"}, "trace_context": {"placement": "upstream", "tracer": "b3"}}),
                "mesh_tracing.trace_context.placement: ",
            ),
        ] {
            let log = refused(&envoy, answering(tracing(config)));
            assert!(log.contains(line), "{line}: {log}");
            assert!(log.contains("(the tracer is refused)"), "{log}");
        }
    }
}

#[test]
fn names_that_the_module_does_not_have_are_refused() {
    let envoy = envoys().pop().expect("an Envoy");
    let config = reporting("http/protobuf", "{}");
    let other = tracing(&config).provider(json!({"tracer_name": "other"}));
    let log = refused(&envoy, answering(other));
    assert!(log.contains("expected \"mesh_tracing\""), "{log}");

    let filter = HttpFilter::raw(
        "export",
        json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter",
            "dynamic_module_config": {"name": "meshtrace", "do_not_close": true},
            "filter_name": "export",
        }),
    );
    let manager = HttpConnectionManager::new()
        .route(Route::prefix("/").direct_response(200, ""))
        .filter(filter)
        .tracing(tracing(config));
    let log = refused(&envoy, manager);
    assert!(log.contains("expected \"mesh_tracing_export\""), "{log}");
}

/// An Envoy that is too old says so: it has dynamic modules, and no tracers of them.
#[test]
fn an_envoy_without_what_the_module_needs_is_told_which_it_is() {
    for version in ["1.36.4", "1.37.0"] {
        let envoy = EnvoyBinary::version(version).expect("an old Envoy");
        let manager = HttpConnectionManager::new()
            .route(Route::prefix("/").direct_response(200, ""))
            .filter(export());
        let log = refused(&envoy, manager);
        assert!(log.contains("needs Envoy 1.38 or later"), "{log}");
    }
}

/// The listener in force stays, and what it reports goes on. A rule that comes with the bad tracer does
/// not land, what other listeners get does, and the rule lands with the tracer that is mended.
#[test]
fn a_refused_update_leaves_the_listener_as_it_was() {
    for envoy in envoys() {
        let good = || reporting("http/protobuf", "{}");
        let bad = json!({"report": {"cluster": "collector"}, "access_log": {}});
        let listener = |name: &str, config: Value, filters: Vec<HttpFilter>| {
            let manager = manager(tracing(config));
            let manager = filters
                .into_iter()
                .fold(manager, HttpConnectionManager::filter);
            Listener::http(name, manager)
        };
        let bootstrap = Bootstrap::new()
            .watched_listener(listener("ingress", good(), vec![]))
            .watched_listener(listener("other", good(), vec![]));
        let mesh = Collected::on(Host::Native, &envoy, "http/protobuf", bootstrap, options());
        let status = |name: &str| {
            let request = Request::get("/").header("traceparent", format!("00-{TRACE}-{SPAN}-01"));
            let address = mesh.envoy.address(name).expect("its address");
            request.send(address).expect("an answer").status
        };
        let statuses = || ["ingress", "other"].map(status);
        assert_eq!(statuses(), [200, 200]);

        let update = mesh.envoy.update_listeners(vec![
            listener("ingress", bad, vec![common::deny()]),
            listener("other", good(), vec![common::deny()]),
        ]);
        assert!(
            matches!(update, Err(Error::UpdateRefused { .. })),
            "{update:?}"
        );
        let log = mesh.envoy.log().expect("the log");
        assert!(log.contains("mesh_tracing.access_log: not here"), "{log}");
        let warming = "listener_manager.total_listeners_warming";
        let none = mesh.envoy.wait_for_stat(warming, |warming| warming == 0);
        none.expect("the other listener");
        assert_eq!(statuses(), [200, 403]);

        let listeners =
            ["ingress", "other"].map(|name| listener(name, good(), vec![common::deny()]));
        let update = mesh.envoy.update_listeners(listeners.into());
        update.expect("the mended update");
        assert_eq!(statuses(), [403, 403]);
        mesh.wait_for_counter("report.exported", 6);
    }
    promises::held(
        "Configuration",
        "A bad native tracer is refused with the update of its listener, and with no other listener's",
        "over LDS, a DENY rule for two listeners, and a bad tracer in one of them; then the mended update",
        "the one in force answers 200 and is traced, the other one 403; after that both 403; 3 versions",
    );
}

/// Every configuration is made, and nothing else happens.
#[test]
fn a_configuration_is_checked_without_running() {
    for envoy in envoys() {
        let config = reporting("http/protobuf", "{}");
        let manager = answering(tracing(config));
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("ingress", manager))
            .merge(flush());
        let options = options().argument("--mode").argument("validate");
        let Err(error) = Envoy::start_with(&envoy, bootstrap, options) else {
            panic!("it runs");
        };
        let text = error.to_string();
        assert!(text.contains("OK"), "{text}");
    }
}
