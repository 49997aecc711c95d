//! Starting, changing and ending an Envoy.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{
    Bootstrap, Cluster, FailurePolicy, HttpConnectionManager, HttpFilter, Listener, Route,
    WasmFilter,
};
use envoy_test_harness::{Envoy, EnvoyBinary, Error, Options, Upstream};
use serde_json::json;

fn answering(name: &str, text: &str) -> Listener {
    Listener::http(
        name,
        HttpConnectionManager::new().route(Route::prefix("/").direct_response(200, text)),
    )
}

fn start(bootstrap: Bootstrap) -> Result<Envoy, Error> {
    Envoy::start(&EnvoyBinary::find().unwrap(), bootstrap)
}

fn ask(envoy: &Envoy, listener: &str) -> String {
    let address = envoy.address(listener).unwrap();
    Request::get("/").send(address).unwrap().text()
}

fn is_running(process_id: u32) -> bool {
    Path::new(&format!("/proc/{process_id}")).exists()
}

#[test]
fn a_refused_configuration_is_an_error_with_envoys_reason() {
    let listener = answering("ingress", "hi").merge(json!({"no_such_field": 1}));
    let error = start(Bootstrap::new().listener(listener)).unwrap_err();
    assert!(matches!(error, Error::EnvoyExited { .. }), "{error}");
    assert!(error.to_string().contains("no_such_field"), "{error}");
}

#[test]
fn a_missing_module_is_an_error_with_envoys_reason() {
    let listener = Listener::http(
        "ingress",
        HttpConnectionManager::new().filter(WasmFilter::new("lost", "/no/such/file.wasm")),
    );
    let error = start(Bootstrap::new().listener(listener)).unwrap_err();
    assert!(error.to_string().contains("/no/such/file.wasm"), "{error}");
}

#[test]
fn a_wasm_filter_takes_every_option() {
    let module = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(module.path(), SMALLEST_FILTER).unwrap();
    let filter = WasmFilter::new("smallest", module.path())
        .root_id("root")
        .vm_id("vm")
        .configuration("{\"key\": \"value\"}")
        .vm_configuration("vm configuration")
        .failure_policy(FailurePolicy::FailReload)
        .reload_backoff(Duration::from_millis(10))
        .env("NAME", "value");
    let manager = HttpConnectionManager::new()
        .route(Route::prefix("/").direct_response(200, "passed"))
        .filter(filter)
        .filter(WasmFilter::new("discovered", module.path()).discovered());
    let options = Options::new().wasm_debug_log();
    let envoy = Envoy::start_with(
        &EnvoyBinary::find().unwrap(),
        Bootstrap::new().listener(Listener::http("ingress", manager)),
        options,
    )
    .unwrap();
    assert_eq!(ask(&envoy, "ingress"), "passed");
    assert!(envoy.stat("wasm.envoy.wasm.runtime.v8.active").unwrap() > 0);
    envoy
        .update_extension(WasmFilter::new("discovered", module.path()).configuration("new"))
        .unwrap();
    assert_eq!(ask(&envoy, "ingress"), "passed");
}

#[test]
fn nothing_is_left_after_drop() {
    let envoy = start(Bootstrap::new().listener(answering("ingress", "hi"))).unwrap();
    let (process_id, folder) = (envoy.process_id(), envoy.folder().to_owned());
    assert_eq!(ask(&envoy, "ingress"), "hi");
    assert!(is_running(process_id) && folder.exists());

    drop(envoy);
    assert!(!is_running(process_id));
    assert!(!folder.exists());
}

#[test]
fn nothing_is_left_after_a_panic() {
    let mut process_id = 0;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let envoy = start(Bootstrap::new()).unwrap();
        process_id = envoy.process_id();
        panic!("as a failed assertion does");
    }));
    assert!(outcome.is_err());
    assert!(process_id != 0 && !is_running(process_id));
}

#[test]
fn a_value_that_is_never_dropped_does_not_keep_its_envoy() {
    const CHILD: &str = "ENVOY_TEST_HARNESS_LEAK";
    if let Some(report) = std::env::var_os(CHILD) {
        let envoy = start(Bootstrap::new()).unwrap();
        let folder = envoy.folder().to_str().unwrap().to_owned();
        std::fs::write(report, format!("{} {folder}", envoy.process_id())).unwrap();
        std::mem::forget(envoy);
        return;
    }

    let report = tempfile::NamedTempFile::new().unwrap();
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "lifecycle::a_value_that_is_never_dropped_does_not_keep_its_envoy",
        ])
        .env(CHILD, report.path())
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let report = std::fs::read_to_string(report.path()).unwrap();
    let (process_id, folder) = report.split_once(' ').unwrap();
    let process_id = process_id.parse().unwrap();

    for _ in 0..1000 {
        if !is_running(process_id) && !Path::new(folder).exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("process {process_id} or {folder} is still there");
}

#[test]
fn listeners_change_while_envoy_runs() {
    let envoy = start(
        Bootstrap::new()
            .listener(answering("fixed", "fixed"))
            .watched_listener(answering("ingress", "one")),
    )
    .unwrap();
    assert_eq!(ask(&envoy, "ingress"), "one");

    envoy.update_listener(answering("ingress", "two")).unwrap();
    assert_eq!(ask(&envoy, "ingress"), "two");

    let wrong = answering("ingress", "three")
        .merge(json!({"filter_chains": [{"filters": [{"name": "unknown"}]}]}));
    let error = envoy.update_listener(wrong).unwrap_err();
    assert!(matches!(error, Error::UpdateRefused { .. }), "{error}");
    assert!(error.to_string().contains("unknown"), "{error}");
    assert_eq!(ask(&envoy, "ingress"), "two");

    envoy
        .update_listener(answering("second", "second"))
        .unwrap();
    assert_eq!(ask(&envoy, "second"), "second");
    envoy.remove_listener("second").unwrap();
    let error = envoy.address("second").unwrap_err();
    assert!(error.to_string().contains("\"ingress\""), "{error}");
    assert_eq!(ask(&envoy, "fixed"), "fixed");
}

#[test]
fn discovered_filters_change_while_envoy_runs() {
    let say_as = |name: &str, text: &str| {
        HttpFilter::lua(
            name,
            &format!(
                "function envoy_on_request(handle) handle:respond({{[':status'] = '200'}}, '{text}') end"
            ),
        )
    };
    let say = |text: &str| say_as("say", text);
    let manager = HttpConnectionManager::new()
        .filter(say("one").discovered())
        .route(Route::prefix("/").direct_response(200, "not filtered"));
    let envoy =
        start(Bootstrap::new().watched_listener(Listener::http("ingress", manager))).unwrap();
    assert_eq!(ask(&envoy, "ingress"), "one");

    envoy.update_extension(say("two")).unwrap();
    assert_eq!(ask(&envoy, "ingress"), "two");

    let error = envoy
        .update_extension(HttpFilter::lua("say", "this is not Lua"))
        .unwrap_err();
    assert!(matches!(error, Error::UpdateRefused { .. }), "{error}");
    assert_eq!(ask(&envoy, "ingress"), "two");

    let manager = HttpConnectionManager::new().filter(say_as("new", "three").discovered());
    envoy
        .update_listener(Listener::http("second", manager))
        .unwrap();
    assert_eq!(ask(&envoy, "second"), "three");
    envoy.update_extension(say_as("new", "four")).unwrap();
    assert_eq!(ask(&envoy, "second"), "four");

    let error = envoy
        .update_extension(HttpFilter::lua("other", ""))
        .unwrap_err();
    assert!(matches!(error, Error::Configuration(_)), "{error}");
}

#[test]
fn discovered_upstream_filters_change_too() {
    let mark = |name: &str, value: &str| {
        HttpFilter::header_mutation(
            name,
            json!([{"append": {
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                "header": {"key": "x-mark", "value": value},
            }}]),
        )
    };
    let upstream = Upstream::start().unwrap();
    let manager = HttpConnectionManager::new()
        .route(Route::path("/own").cluster("own"))
        .route(Route::prefix("/").cluster("plain"))
        .upstream_filter(mark("of-router", "1").discovered());
    let envoy = start(
        Bootstrap::new()
            .listener(Listener::http("ingress", manager))
            .cluster(Cluster::http1("plain", upstream.address()))
            .cluster(
                Cluster::http1("own", upstream.address())
                    .filter(mark("of-cluster", "2").discovered()),
            ),
    )
    .unwrap();
    let address = envoy.address("ingress").unwrap();
    let marks = || {
        for path in ["/", "/own"] {
            Request::get(path).send(address).unwrap();
        }
        let requests = upstream.take();
        [0, 1].map(|index: usize| requests[index].header_text("x-mark").unwrap())
    };
    assert_eq!(marks(), ["1", "2"]);

    envoy.update_extension(mark("of-router", "3")).unwrap();
    envoy.update_extension(mark("of-cluster", "4")).unwrap();
    assert_eq!(marks(), ["3", "4"]);
}

#[test]
fn an_envoy_without_watched_listeners_says_so() {
    let envoy = start(Bootstrap::new().listener(answering("ingress", "hi"))).unwrap();
    let error = envoy
        .update_listener(answering("ingress", "two"))
        .unwrap_err();
    assert!(error.to_string().contains("watched_listener"), "{error}");
}

#[test]
fn the_log_and_the_options_reach_the_test() {
    let options = Options::new()
        .concurrency(2)
        .component_log_level("lua:debug")
        .env("SOME_NAME", "some value");
    let envoy = Envoy::start_with(
        &EnvoyBinary::find().unwrap(),
        Bootstrap::new()
            .runtime("some.key", 7)
            .listener(Listener::http(
                "ingress",
                HttpConnectionManager::new()
                    .filter(HttpFilter::lua(
                        "log",
                        "function envoy_on_request(handle) handle:logInfo('seen ' .. os.getenv('SOME_NAME')) end",
                    ))
                    .route(Route::prefix("/").direct_response(200, "")),
            )),
        options,
    )
    .unwrap();
    ask(&envoy, "ingress");
    envoy.wait_for_log("seen some value").unwrap();
    assert_eq!(envoy.stat("server.concurrency").unwrap(), 2);
    assert_eq!(envoy.stat("no.such.statistic").unwrap(), 0);
    assert!(
        envoy
            .admin("GET", "/runtime")
            .unwrap()
            .text()
            .contains("some.key")
    );
}

/// A module that exports `memory`, `malloc` and `proxy_abi_version_0_2_1`, and handles no event.
const SMALLEST_FILTER: &[u8] = b"\x00asm\x01\x00\x00\x00\
      \x01\x09\x02\x60\x00\x00\x60\x01\x7f\x01\x7f\
      \x03\x03\x02\x00\x01\
      \x05\x03\x01\x00\x01\
      \x07\x2d\x03\x06memory\x02\x00\x17proxy_abi_version_0_2_1\x00\x00\x06malloc\x00\x01\
      \x0a\x09\x02\x02\x00\x0b\x04\x00A\x00\x0b";
