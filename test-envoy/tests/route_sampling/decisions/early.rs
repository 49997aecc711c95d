//! Before the tracer the rules decide about traces that come in too.

use std::collections::BTreeSet;

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, Listener};
use envoy_test_harness::each_supported;
use meshtrace_test_support::common::{self, Mesh};
use meshtrace_test_support::tracers::{CASE, Sinks, Tracer};

use super::{TRACERS, config, exported, sampling, send, to_upstream, told};

/// What the rules of [`EARLY`] say about a request.
fn early_rule(path: &str, host: &str, randomness: &str) -> bool {
    match (path, host) {
        ("/health", _) => false,
        ("/users/7" | "/pay/1", _) => true,
        (_, "a.example:80") => true,
        _ => randomness >= "80000000000000",
    }
}

const EARLY: &str = r#""rules": [
    {"match": {"path": {"exact": "/health"}}, "sample": "never"},
    {"match": {"path": {"template": "/users/{id}"}}, "sample": "always"},
    {"match": {"path": {"prefix": "/pay"}}, "sample": "always"},
    {"match": {"path": {"exact": "/last"}}, "sample": "always"},
    {"match": {"host": "*.example", "methods": ["GET", "HEAD"],
               "headers": [{"name": "x-tenant", "prefix": "go"}]}, "sample": "always"}
  ],
  "default": {"ratio": 0.5}"#;

/// What is rendered before the tracer lets the rules decide about traces that come in: the proxy's
/// own span and the application follow, as parts of the caller's trace.
#[test]
fn before_the_tracer_any_policy_decides_about_traces_that_come_in() {
    const RANDOM: [&str; 2] = ["ffffffffffffff", "00000000000001"];
    let w3c = ("traceparent", "00-$T-$S-0$D");
    let single = ("b3", "$T-$S-$D");
    each_supported(|envoy| {
        let sinks = Sinks::start();
        let policies = ["ignore", "respect_sampled", "respect_dropped"];
        let name = |tracer: Tracer, policy: &str| format!("{tracer:?} {policy}");
        let listener = |(tracer, policy): (Tracer, &str)| {
            let keys = format!(r#""parent": "{policy}", {EARLY}"#);
            let json = config(tracer, &keys);
            Listener::http(&name(tracer, policy), to_upstream(sampling(tracer, &json)))
        };
        let bootstrap = TRACERS
            .iter()
            .flat_map(|tracer| policies.map(|policy| (*tracer, policy)))
            .map(listener)
            .fold(sinks.connect(Bootstrap::new()), Bootstrap::listener);
        let mesh = Mesh::with(envoy, bootstrap);
        let mut expected = BTreeSet::new();
        let mut count = 0;
        for (tracer, arrivals) in [
            (Tracer::OpenTelemetry, vec![Some(w3c)]),
            (Tracer::ZipkinB3, vec![Some(single), None]),
            (Tracer::ZipkinB3WithW3c, vec![Some(w3c), Some(single), None]),
        ] {
            for policy in policies {
                let mut connection = mesh.connect(&name(tracer, policy));
                for arrival in &arrivals {
                    for (path, host, randomness, came) in [
                        ("/health", "h", RANDOM[0], true),
                        ("/users/7?x", "h", RANDOM[1], false),
                        ("/users/7", "h", RANDOM[1], true),
                        ("/pay/1", "h", RANDOM[1], false),
                        ("/payment", "h", RANDOM[1], true),
                        ("/other", "h", RANDOM[0], false),
                        ("/other", "h", RANDOM[1], true),
                        ("/other", "a.example:80", RANDOM[1], false),
                    ] {
                        count += 1;
                        let trace_id = format!("4bf92f3577b34d{count:04x}{randomness}");
                        let digit = if came { "1" } else { "0" };
                        let fill = |text: &str| {
                            text.replace("$T", &trace_id)
                                .replace("$S", common::SPAN)
                                .replace("$D", digit)
                        };
                        let request = Request::get(path)
                            .header(CASE, "early")
                            .header("host", host)
                            .header("x-tenant", "gold");
                        let request = match arrival {
                            Some((name, value)) => request.header(name, fill(value)),
                            None => request
                                .header("x-b3-traceid", &trace_id)
                                .header("x-b3-spanid", common::SPAN)
                                .header("x-b3-sampled", digit),
                        };
                        let seen = mesh.pass(&mut connection, &request);
                        let path = path.trim_end_matches("?x");
                        let rule = early_rule(path, host, randomness);
                        let stands = match policy {
                            "ignore" => false,
                            "respect_sampled" => came,
                            _ => !came,
                        };
                        let keeps = if stands { came } else { rule };
                        let what = format!(
                            "{policy} {arrival:?} {path} {host} {randomness} {came}, {tracer:?} on {}",
                            envoy.reported_version()
                        );
                        assert_eq!(told(tracer, &seen), (trace_id.clone(), keeps), "{what}");
                        let helpers = seen.headers.iter().filter(|(name, _)| {
                            let name = String::from_utf8_lossy(name).to_lowercase();
                            name.starts_with("x-meshtrace-") || name == "x-client-trace-id"
                        });
                        assert_eq!(helpers.count(), 0, "{what}");
                        if keeps {
                            expected.insert(trace_id);
                        }
                    }
                }
            }
            let last = send(&mesh, &name(tracer, "ignore"), tracer, "/last", 1);
            let found = exported(&sinks, tracer, "early", &last[0].0, 1);
            assert_eq!(
                found,
                expected,
                "{tracer:?} on {}",
                envoy.reported_version()
            );
            let children = sinks.arrived("early");
            assert!(
                children
                    .iter()
                    .all(|span| span.parent_span_id.as_deref() == Some(common::SPAN)),
                "{tracer:?} on {}",
                envoy.reported_version()
            );
        }
    });
}
