//! `meshtrace doctor` beside running Envoys.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use envoy_test_harness::client::{Connection, Request};
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, HttpFilter, Listener, Route,
};
use envoy_test_harness::sink::Fault;
use envoy_test_harness::{Envoy, EnvoyBinary, OtlpSink, Upstream, each_supported};
use meshtrace_test_support::common::{SPAN, TRACE, command_line, get, trace_context};
use meshtrace_test_support::native;
use meshtrace_test_support::reporting::{mesh_tracing, sampled};
use serde_json::{Value, json};

/// An Envoy with a filter, and all that it sends to.
struct Proxy {
    envoy: Envoy,
    sink: OtlpSink,
    _upstream: Upstream,
}

impl Proxy {
    fn start(binary: &EnvoyBinary, filters: Vec<HttpFilter>) -> Self {
        let upstream = Upstream::start().expect("an upstream");
        let sink = OtlpSink::start().expect("a collector");
        let manager = HttpConnectionManager::new().route(Route::prefix("/").cluster("upstream"));
        let manager = filters
            .into_iter()
            .fold(manager, HttpConnectionManager::filter);
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("ingress", manager))
            .cluster(Cluster::http1("upstream", upstream.address()))
            .cluster(Cluster::http1("collector", sink.http_addr()));
        let envoy = Envoy::start(binary, bootstrap).expect("an Envoy that starts");
        Self {
            envoy,
            sink,
            _upstream: upstream,
        }
    }

    /// What the doctor says while requests come.
    fn examine(&self) -> Examined {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let address = self.envoy.address("ingress").expect("its address");
                let mut connection = Connection::open(address).expect("a connection");
                let unsampled = get(&[("traceparent", &format!("00-{TRACE}-{SPAN}-00"))]);
                while !done.load(Ordering::Relaxed) {
                    // Both decisions: of one alone it would be told that nothing else is there.
                    for request in [&sampled(), &unsampled] {
                        connection.send(request).expect("a response");
                    }
                    thread::sleep(Duration::from_millis(20));
                }
            });
            let examined = self.run();
            done.store(true, Ordering::Relaxed);
            examined
        })
    }

    fn run(&self) -> Examined {
        examine(&self.envoy)
    }
}

/// What the doctor says of an Envoy, after a second.
fn examine(envoy: &Envoy) -> Examined {
    let admin = format!("http://{}", envoy.admin_address());
    let output = Command::new(command_line())
        .args(["doctor", &admin, "--seconds", "1", "--output", "json"])
        .output()
        .expect("the command line");
    Examined::of(output)
}

/// What the doctor said.
#[derive(Debug)]
struct Examined {
    code: Option<i32>,
    codes: Vec<String>,
    document: Value,
    stderr: String,
}

impl Examined {
    fn of(output: Output) -> Self {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let document: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {output:?}"));
        let findings = document["findings"].as_array().expect("a list").iter();
        let codes = findings.map(|finding| finding["code"].as_str().expect("a code").to_owned());
        Self {
            code: output.status.code(),
            codes: codes.collect(),
            stderr,
            document,
        }
    }

    fn has_moved(&self, name: &str) -> bool {
        let moved = self.document["moved"].as_array().expect("a list");
        moved.iter().any(|counter| counter["name"] == name)
    }

    fn states(&self) -> Vec<&str> {
        let filters = self.document["filters"].as_array().expect("a list");
        filters
            .iter()
            .map(|filter| filter["state"].as_str().expect("a state"))
            .collect()
    }
}

fn reporting() -> HttpFilter {
    let report = json!({"cluster": "collector", "role": "server"});
    mesh_tracing(json!({"report": report, "sampling": {"default": {"ratio": 0.5}}})).into()
}

#[test]
fn all_is_well_where_it_is() {
    each_supported(|envoy| {
        let proxy = Proxy::start(envoy, vec![reporting()]);
        let examined = proxy.examine();
        assert_eq!(examined.codes, [""; 0], "{examined:#?}");
        assert_eq!(examined.code, Some(0), "{examined:#?}");
        assert_eq!(examined.states(), ["in force"], "{examined:#?}");
        assert!(
            examined.has_moved("meshtrace.report.exported"),
            "{examined:#?}"
        );
        assert!(
            examined
                .stderr
                .contains("looking at what moves for 1 second\n")
        );
        assert!(
            examined.stderr.ends_with("all well\n"),
            "{}",
            examined.stderr
        );
        let version = &examined.document["envoy"]["version"];
        assert_eq!(version, envoy.reported_version(), "{examined:#?}");
    });
}

#[test]
fn a_collector_that_refuses_is_told() {
    each_supported(|envoy| {
        for (status, expected) in [(403, "MT120"), (503, "MT121")] {
            let proxy = Proxy::start(envoy, vec![reporting()]);
            proxy.sink.set_fault(Some(Fault::status(status)));
            let examined = proxy.examine();
            assert_eq!(examined.codes, [expected], "{examined:#?}");
            assert_eq!(examined.code, Some(1), "{examined:#?}");
            assert_eq!(examined.states(), ["in force"], "{examined:#?}");
        }
    });
}

#[test]
fn a_configuration_that_is_not_in_force_is_told() {
    each_supported(|envoy| {
        let bad = trace_context(r#"{"injct": ["b3"]}"#);
        let proxy = Proxy::start(envoy, vec![bad.into(), reporting()]);
        let examined = proxy.examine();
        assert_eq!(examined.codes, ["MT110", "MT011"], "{examined:#?}");
        assert_eq!(examined.code, Some(1), "{examined:#?}");
        // Both have counters of the trace context, so that those do not tell which of them is inert.
        assert_eq!(
            examined.states(),
            ["configuration refused", "in force"],
            "{examined:#?}"
        );
    });
}

#[test]
fn a_proxy_without_requests_or_without_a_filter_is_told() {
    each_supported(|envoy| {
        let idle = Proxy::start(envoy, vec![reporting()]).run();
        assert_eq!(idle.codes, ["MT130"], "{idle:#?}");
        assert_eq!(idle.code, Some(0), "{idle:#?}");

        let other = Proxy::start(envoy, Vec::new()).run();
        assert_eq!(other.codes, ["MT117"], "{other:#?}");
    });
}

#[test]
fn requests_that_another_filter_answers_pass_by() {
    each_supported(|envoy| {
        let everything = json!({"permissions": [{"any": true}], "principals": [{"any": true}]});
        let deny = HttpFilter::raw(
            "deny",
            json!({
                "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
                "rules": {"action": "DENY", "policies": {"all": everything}},
            }),
        );
        let examined = Proxy::start(envoy, vec![deny, trace_context("{}").into()]).examine();
        assert!(
            examined.codes.contains(&"MT131".to_owned()),
            "{examined:#?}"
        );
    });
}

/// A manager that answers itself, with trace_context.
fn answering() -> HttpConnectionManager {
    HttpConnectionManager::new().route(Route::prefix("/").direct_response(200, ""))
}

#[test]
fn an_update_that_envoy_rejects_is_told() {
    each_supported(|binary| {
        let good = Listener::http("ingress", answering().filter(trace_context("{}")));
        let bootstrap = Bootstrap::new().watched_listener(good);
        let envoy = Envoy::start(binary, bootstrap).expect("an Envoy that starts");
        let before = examine(&envoy);
        assert!(!before.codes.contains(&"MT111".to_owned()), "{before:#?}");
        let lua = HttpFilter::lua("lua", "this is no Lua");
        let bad = Listener::http("ingress", answering().filter(lua));
        assert!(envoy.update_listener(bad).is_err());
        let examined = examine(&envoy);
        assert!(
            examined.codes.contains(&"MT111".to_owned()),
            "{examined:#?}"
        );
        assert_eq!(examined.code, Some(1));
        let document = examined.document.to_string();
        assert!(document.contains("ingress"), "{document}");
    });
}

#[test]
fn counters_that_are_hidden_are_told() {
    each_supported(|binary| {
        let hidden = json!({"stats_config": {"stats_matcher": {
            "exclusion_list": {"patterns": [{"prefix": "wasm"}]},
        }}});
        let listener = Listener::http("ingress", answering().filter(trace_context("{}")));
        let bootstrap = Bootstrap::new().listener(listener).merge(hidden);
        let envoy = Envoy::start(binary, bootstrap).expect("an Envoy that starts");
        let examined = examine(&envoy);
        assert!(
            examined.codes.contains(&"MT113".to_owned()),
            "{examined:#?}"
        );
        assert_eq!(examined.states(), ["unknown"], "{examined:#?}");
    });
}

#[test]
fn a_module_that_cannot_be_fetched_is_told() {
    each_supported(|binary| {
        // It answers 200 with what is no module of this digest.
        let upstream = Upstream::start().expect("an upstream");
        let filter = HttpFilter::raw(
            "trace_context",
            json!({
                "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
                "config": {
                    "name": "trace_context",
                    "failure_policy": "FAIL_OPEN",
                    "vm_config": {"runtime": "envoy.wasm.runtime.v8", "code": {"remote": {
                        "http_uri": {
                            "uri": "http://modules/trace_context.wasm",
                            "cluster": "modules",
                            "timeout": "1s",
                        },
                        "sha256": "a1".repeat(32),
                        "retry_policy": {"num_retries": 0},
                    }}},
                },
            }),
        );
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("ingress", answering().filter(filter)))
            .cluster(Cluster::http1("modules", upstream.address()));
        let envoy = Envoy::start(binary, bootstrap).expect("an Envoy that starts");
        let failed = |failures: u64| failures > 0;
        envoy
            .wait_for_stat("wasm.remote_load_fetch_failures", failed)
            .expect("a failure");
        let examined = examine(&envoy);
        for code in ["MT112", "MT114"] {
            assert!(examined.codes.contains(&code.to_owned()), "{examined:#?}");
        }
        assert_eq!(examined.states(), ["not loaded"], "{examined:#?}");
    });
}

#[test]
fn the_native_tracer_is_told_by_its_counters() {
    for binary in native::envoys() {
        let config = json!({
            "report": {"cluster": "collector"},
            "trace_context": {},
            "sampling": {"rules": [{"name": "pay", "match": {"path": {"prefix": "/pay"}}, "sample": "always"}],
                         "default": "never"},
        });
        let mesh = native::start(
            &binary,
            "http/protobuf",
            native::manager(native::tracing(config)),
        );
        let idle = examine(&mesh.envoy);
        assert_eq!(idle.states(), ["in force"], "{idle:#?}");
        assert_eq!(idle.document["filters"][0]["place"], "tracer", "{idle:#?}");
        let done = AtomicBool::new(false);
        let examined = thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    mesh.send(&Request::get("/pay"));
                    mesh.send(&Request::get("/"));
                    thread::sleep(Duration::from_millis(20));
                }
            });
            let examined = examine(&mesh.envoy);
            done.store(true, Ordering::Relaxed);
            examined
        });
        assert_eq!(examined.code, Some(0), "{examined:#?}");
        assert!(
            examined.has_moved("meshtrace.report.exported"),
            "{examined:#?}"
        );
        let shares = examined.document["sampling"].as_array().expect("a list");
        let kept: Vec<_> = shares
            .iter()
            .map(|share| (share["by"].as_str(), share["moved"]["dropped"] == 0))
            .collect();
        assert_eq!(
            kept,
            [(Some("rule pay"), true), (Some("default"), false)],
            "{examined:#?}"
        );
    }
}
