//! `examples/access-log`: the configuration and the commands of its page.

use std::net::SocketAddr;

use envoy_test_harness::AccessLog;
use envoy_test_harness::{EnvoyBinary, OtlpSink};
use meshtrace_access_log::{AccessLogIds, AccessLogTraceConfig};
use meshtrace_config::read;
use meshtrace_render::EnvoyVersion;
use meshtrace_render::{IdsFrom, access_log_fields, expose_ids};
use meshtrace_test_support::common::{self, envoys};
use meshtrace_test_support::example::MANAGER;
use serde_json::{Value, json};

use crate::page::{Example, set_collector};

const FILES: [(&str, EnvoyVersion); 2] = [
    ("examples/access-log/envoy-1.36.yaml", EnvoyVersion::V1_36),
    ("examples/access-log/envoy.yaml", EnvoyVersion::V1_40),
];
const LOG: &str = "/access_log/0/typed_config";

fn manager(bootstrap: &mut Value) -> &mut Value {
    bootstrap.pointer_mut(MANAGER).expect("the manager")
}

/// The example with its spans and its log elsewhere, as the page wants it for this Envoy.
fn adapted(envoy: &EnvoyBinary, collector: SocketAddr, log: &str) -> Value {
    let [(old, _), (new, _)] = FILES;
    let mut bootstrap = common::yaml(if envoy.is_at_least(1, 38) { new } else { old });
    set_collector(&mut bootstrap, collector);
    let manager = manager(&mut bootstrap);
    manager.pointer_mut(LOG).expect("the log")["path"] = json!(log);
    bootstrap
}

#[test]
fn both_files_have_what_is_rendered() {
    for (path, version) in FILES {
        let mut bootstrap = common::yaml(path);
        let manager = manager(&mut bootstrap);
        let text = manager.pointer("/http_filters/1/typed_config/config/configuration/value");
        let text = text.and_then(Value::as_str).expect("the configuration");
        let config: AccessLogTraceConfig = read(text.as_bytes()).expect("a configuration");
        let ids = AccessLogIds::new(&config).expect("one that compiles");
        let step = expose_ids(&config.ids, version).expect("a step");
        assert_eq!(manager["http_filters"][0], step);
        let format = &manager.pointer(LOG).expect("the log")["log_format"]["json_format"];
        assert_eq!(*format, json!(access_log_fields(&ids, IdsFrom::Filter)));
    }
}

#[test]
fn it_does_what_its_page_shows_and_every_line_leads_to_its_span() {
    // The tracer reports every 5 s: all are asked before the first one is waited for.
    let asked: Vec<_> = envoys()
        .into_iter()
        .map(|envoy| {
            let collector = OtlpSink::start().expect("a collector");
            let folder = tempfile::tempdir().expect("a folder");
            let log = folder.path().join("access.log");
            let text = log.to_str().expect("a path");
            let bootstrap = adapted(&envoy, collector.grpc_addr(), text);
            let example = Example::start("access-log", &envoy, &bootstrap);
            example.follow_page();
            let lines = AccessLog::new(&log).wait_for_lines(3).expect("the lines");
            (envoy, example, collector, lines)
        })
        .collect();
    for (envoy, _running, collector, lines) in &asked {
        let text = |line: &Value, key: &str| line[key].as_str().map(str::to_owned);
        for line in lines {
            let trace_id = text(line, "trace_id").expect("a trace id");
            let span = &collector.wait_for_trace(&trace_id, 1).expect("its span")[0];
            let written = line["path"] == "/" || envoy.is_at_least(1, 38);
            let span_id = written.then(|| span.span_id.clone());
            assert_eq!(text(line, "span_id"), span_id, "{line}");
            assert_eq!(text(line, "parent_span_id"), span.parent_span_id, "{line}");
        }
    }
}
