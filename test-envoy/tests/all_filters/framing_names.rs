//! No key of a filter takes the name of a header that ends a message, routes it, or says how its body
//! is decoded: not to write it, and not to remove it.

use envoy_test_harness::config::{Bootstrap, HttpConnectionManager, Listener, Route, WasmFilter};
use meshtrace_headers::FRAMING;
use meshtrace_test_support::common::{Mesh, get, module, newest};
use meshtrace_test_support::promises;

/// Filter, configuration with `NAME` in it, and the key's path.
const KEYS: &[(&str, &str, &str)] = &[
    ("trace_context", r#"{"clear": ["NAME"]}"#, "clear[0]: "),
    (
        "trace_context",
        r#"{"overrides": [{"host": "a", "clear": ["NAME"]}]}"#,
        "overrides[0].clear[0]: ",
    ),
    (
        "access_log_trace",
        r#"{"ids": {"trace_id_header": "NAME"}}"#,
        "ids.trace_id_header: ",
    ),
    (
        "access_log_trace",
        r#"{"ids": {"trace_id_header": "x-t", "span_id_header": "NAME"}}"#,
        "ids.span_id_header: ",
    ),
    (
        "access_log_trace",
        r#"{"response_header": "NAME"}"#,
        "response_header: ",
    ),
    (
        "access_log_trace",
        r#"{"response_header": {"name": "NAME", "traceresponse": true}}"#,
        "response_header",
    ),
    (
        "route_sampling",
        r#"{"request_header": "NAME"}"#,
        "request_header: ",
    ),
    (
        "route_sampling",
        r#"{"ids": {"trace_id_header": "NAME"}}"#,
        "ids.trace_id_header: ",
    ),
    (
        "route_sampling",
        r#"{"force": {"header": "NAME", "value_env": "KEY"}}"#,
        "force.header: ",
    ),
    (
        "mesh_tracing",
        r#"{"report": {"cluster": "c", "headers": {"NAME": "x"}}}"#,
        "report.headers",
    ),
];

/// The beginnings of names, each with a dash at its end.
fn prefixes() -> Vec<String> {
    let mut prefixes: Vec<_> = FRAMING
        .iter()
        .filter_map(|name| name.rfind('-').map(|end| name[..=end].to_owned()))
        .collect();
    prefixes.dedup();
    prefixes
}

#[test]
fn no_key_takes_the_name_of_a_header_that_frames_a_message_or_decodes_it() {
    let decode = ["content-encoding", "grpc-encoding", "content-type", "te"];
    assert!(decode.iter().all(|name| FRAMING.contains(name)));
    let prefix = r#"{"emit": {"request_header_prefix": "NAME"}}"#;
    let names: Vec<_> = FRAMING.iter().map(|name| (*name).to_owned()).collect();
    let keys = KEYS.iter().copied().map(|key| (key, names.clone()));
    let emit = ("span_attributes", prefix, "emit.request_header_prefix: ");
    let keys: Vec<_> = keys.chain([(emit, prefixes())]).collect();
    let mut expected = Vec::new();
    let mut managers = Vec::new();
    for (i, ((filter, json, key), names)) in keys.iter().enumerate() {
        let mut manager =
            HttpConnectionManager::new().route(Route::prefix("/").cluster("upstream"));
        for name in names {
            let plugin = format!("k{i}.{name}");
            let config = json.replace("NAME", name);
            manager =
                manager.filter(WasmFilter::new(&plugin, module(filter)).configuration(config));
            expected.push((format!("{filter}.{key}"), format!("plugin {plugin:?}: ")));
        }
        managers.push((format!("key{i}"), manager));
    }
    let bootstrap = managers
        .iter()
        .fold(Bootstrap::new(), |bootstrap, (name, manager)| {
            bootstrap.listener(Listener::http(name, manager.clone()))
        });
    let mesh = Mesh::with(&newest(), bootstrap);
    let log = mesh.envoy.log().expect("the log");
    for (key, plugin) in &expected {
        let line = log.lines().find(|line| line.contains(plugin));
        let line = line.expect(plugin);
        assert!(
            line.contains(key) && line.contains("loaded inert"),
            "{line}"
        );
    }
    let sent = [
        ("content-encoding", "gzip"),
        ("te", "trailers"),
        ("grpc-encoding", "gzip"),
    ];
    for (name, _) in &managers {
        let told = mesh.pass(&mut mesh.connect(name), &get(&sent));
        for (header, value) in sent {
            let left = told.header_text(header);
            assert_eq!(left.as_deref(), Some(value), "{name} {header}");
        }
    }
    promises::held(
        "Configuration",
        "No key writes or removes a header that frames a message, routes it or says how to decode its body",
        &format!(
            "{} names in {} keys: clear, overrides, ids, response_header, request_header, force, report.headers, and \
             the prefix of emit",
            FRAMING.len(),
            keys.len()
        ),
        &format!(
            "{} of {} configurations refused with the key, and the headers of a request stay",
            expected.len(),
            expected.len()
        ),
    );
}
