//! A request that the proxy answers before `mesh_tracing` sees it: what is not believed of a caller
//! is not believed of one that is refused.
//!
//! Envoy's own tracer decides what is reported: it has a span of a request that any filter answered.

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, Cluster, HttpFilter, Listener, TrafficDirection};
use envoy_test_harness::upstream::Reply;
use envoy_test_harness::{EnvoyBinary, Upstream, each_supported};
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::promises;
use meshtrace_test_support::reporting::{Collected, manager, mesh_tracing};
use serde_json::{Value, json};

/// Denies the path `/denied`.
fn rbac() -> HttpFilter {
    let denied = json!({"url_path": {"path": {"exact": "/denied"}}});
    HttpFilter::raw(
        "rbac",
        json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": {"action": "DENY", "policies": {"denied": {
                "permissions": [denied], "principals": [{"any": true}],
            }}},
        }),
    )
}

/// Asks the cluster `authority`.
fn ext_authz() -> HttpFilter {
    HttpFilter::raw(
        "ext_authz",
        json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
            "http_service": {"server_uri": {
                "uri": "http://authority", "cluster": "authority", "timeout": "10s",
            }},
        }),
    )
}

/// Who is believed: the condition, and what makes a request fulfil it or not.
#[derive(Debug, Clone, Copy)]
struct Caller {
    name: &'static str,
    when: &'static str,
    direction: TrafficDirection,
    header: Option<&'static str>,
    is_believed: bool,
}

const fn caller(
    name: &'static str,
    when: &'static str,
    direction: TrafficDirection,
    header: Option<&'static str>,
    is_believed: bool,
) -> Caller {
    Caller {
        name,
        when,
        direction,
        header,
        is_believed,
    }
}

const CALLERS: [Caller; 7] = {
    use TrafficDirection::{Inbound, Outbound, Unspecified};
    const OF_DIRECTION: &str = r#"{"direction": "inbound"}"#;
    const OF_HEADER: &str = r#"{"header_absent": "x-inside"}"#;
    [
        caller("inbound", OF_DIRECTION, Inbound, None, false),
        caller("outbound", OF_DIRECTION, Outbound, None, true),
        caller("nowhere", OF_DIRECTION, Unspecified, None, true),
        caller(
            "elsewhere",
            r#"{"not_from_cidrs": ["10.0.0.0/8"]}"#,
            Inbound,
            None,
            false,
        ),
        caller(
            "here",
            r#"{"not_from_cidrs": ["127.0.0.0/8"]}"#,
            Inbound,
            None,
            true,
        ),
        caller("outside", OF_HEADER, Inbound, None, false),
        caller("inside", OF_HEADER, Inbound, Some("x-inside"), true),
    ]
};

const MODES: [&str; 2] = ["restart", "ignore"];
/// Refused by RBAC and by the authoriser, and led to another path before any filter.
const ANSWERED: [(&str, u16); 3] = [("/denied", 403), ("/forbidden", 403), ("/a%2Fb", 307)];

/// An Envoy with a listener for each mode and caller. The filter has the stages `others` too.
fn start(envoy: &EnvoyBinary, authority: &Upstream, others: &Value) -> Collected {
    let mut bootstrap = Bootstrap::new().cluster(Cluster::http1("authority", authority.address()));
    for mode in MODES {
        for caller in CALLERS {
            let when: Value = serde_json::from_str(caller.when).expect("JSON");
            let mut config = others.clone();
            config["trace_context"] = json!({"incoming": {"mode": mode, "when": when}});
            let manager = manager(rbac())
                .filter(ext_authz())
                .filter(mesh_tracing(config))
                .merge(json!({
                    "path_with_escaped_slashes_action": "UNESCAPE_AND_REDIRECT",
                }))
                .access_log(
                    json!({"trace": "%FILTER_STATE(wasm.trace_id:PLAIN)%", "path": "%PATH%"}),
                );
            let name = format!("{mode}-{}", caller.name);
            bootstrap =
                bootstrap.listener(Listener::http(&name, manager).direction(caller.direction));
        }
    }
    Collected::with(envoy, "http/protobuf", bootstrap)
}

#[test]
fn a_caller_that_is_not_believed_is_not_believed_of_a_refused_request_either() {
    let mut tried = 0;
    each_supported(|envoy| {
        let authority = Upstream::start().expect("an authoriser");
        authority.respond_with(|request| match request.path.as_str() {
            "/forbidden" => Reply::status(403),
            _ => Reply::ok(),
        });
        let reported = json!({
            "report": {"cluster": "collector"},
            "sampling": {"default": "never"},
        });
        let mesh = start(envoy, &authority, &reported);
        let mut expected = 0;
        for is_believed in [false, true] {
            for mode in MODES {
                for caller in CALLERS.iter().filter(|c| c.is_believed == is_believed) {
                    let name = format!("{mode}-{}", caller.name);
                    let address = mesh.envoy.address(&name).expect("its address");
                    for (path, status) in ANSWERED {
                        let request = Request::get(path)
                            .header("traceparent", format!("00-{TRACE}-{SPAN}-01"));
                        let request = caller
                            .header
                            .iter()
                            .fold(request, |request, name| request.header(name, "1"));
                        let response = request.send(address).expect("a response");
                        assert_eq!(response.status, status, "{name} {path}");
                        expected += usize::from(is_believed);
                        tried += usize::from(!is_believed);
                    }
                }
            }
        }
        // A caller that is believed is sampled as it says: so the others' spans would be here too.
        let spans = mesh.sink.wait_for_spans(expected).expect("the spans");
        std::thread::sleep(std::time::Duration::from_millis(300));
        let version = envoy.reported_version();
        assert_eq!(mesh.sink.spans().len(), expected, "{version}");
        for span in spans {
            assert_eq!(span.trace_id, TRACE, "{version}");
            assert_eq!(span.parent_span_id.as_deref(), Some(SPAN), "{version}");
            assert!(span.start_unix_nanos <= span.end_unix_nanos, "{version}");
        }
        assert_eq!(mesh.counter("host_errors"), 0, "{version}");
    });
    let versions = EnvoyBinary::SUPPORTED.len();
    promises::held(
        "Context and formats",
        "`incoming.when` holds of requests that are answered before the filter sees them",
        "RBAC, ext_authz and a path redirect in front; direction, not_from_cidrs and header_absent; restart and ignore",
        &format!(
            "0 of {} requests exported in the trace of a caller that is not believed, {versions} versions",
            tried / versions
        ),
    );
}

/// Without `report` nobody opens a span: the log has the caller's trace where it is believed, and no
/// id of a caller that is not. `/direct` is answered by Envoy behind the filter.
#[test]
fn the_log_names_no_trace_of_a_caller_that_is_not_believed() {
    let paths = ANSWERED.map(|(path, _)| path);
    let paths = paths.iter().chain(&["/direct", "/"]);
    let mut tried = 0;
    each_supported(|envoy| {
        let authority = Upstream::start().expect("an authoriser");
        authority.respond_with(|request| match request.path.as_str() {
            "/forbidden" => Reply::status(403),
            _ => Reply::ok(),
        });
        let mesh = start(envoy, &authority, &json!({"access_log": {}}));
        let version = envoy.reported_version();
        for mode in MODES {
            for caller in CALLERS {
                let name = format!("{mode}-{}", caller.name);
                let address = mesh.envoy.address(&name).expect("its address");
                for path in paths.clone() {
                    let request =
                        Request::get(path).header("traceparent", format!("00-{TRACE}-{SPAN}-01"));
                    let request = caller
                        .header
                        .iter()
                        .fold(request, |request, name| request.header(name, "1"));
                    request.send(address).expect("a response");
                }
                let lines = mesh
                    .envoy
                    .access_log(&name)
                    .wait_for_lines(paths.clone().count());
                for line in lines.expect("the lines") {
                    let is_callers = line["trace"] == json!(TRACE);
                    assert_eq!(is_callers, caller.is_believed, "{version} {name}: {line}");
                    tried += 1;
                }
            }
        }
    });
    promises::held(
        "Context and formats",
        "The access log names no trace of a caller that is not believed",
        "mesh_tracing without report: RBAC, ext_authz and a path redirect in front, a local answer behind, and a proxied \
         request; direction, not_from_cidrs and header_absent; restart and ignore",
        &format!(
            "{tried} of {tried} lines, {} versions",
            EnvoyBinary::SUPPORTED.len()
        ),
    );
}

/// A request for which a matcher leaves the filter out ends with the filter's callback all the same.
#[test]
fn a_request_that_was_sent_without_the_filter_is_not_reported() {
    each_supported(|envoy| {
        let filter = mesh_tracing(json!({"report": {"cluster": "collector"}}));
        let filter = HttpFilter::from(filter).skipped_with("x-skip", "1");
        let bootstrap = Bootstrap::new().listener(Listener::http("ingress", manager(filter)));
        let mesh = Collected::with(envoy, "http/protobuf", bootstrap);
        let sampled = || Request::get("/").header("traceparent", format!("00-{TRACE}-{SPAN}-01"));
        mesh.send(&sampled().header("x-skip", "1"));
        mesh.send(&sampled().header("user-agent", "reported"));
        mesh.sink.wait_for_spans(1).expect("a span");
        std::thread::sleep(std::time::Duration::from_millis(300));
        let spans = mesh.sink.spans();
        let agents: Vec<_> = spans
            .iter()
            .map(|span| span.attribute("user_agent.original"))
            .collect();
        assert_eq!(agents, [Some("reported")], "{}", envoy.reported_version());
    });
}
