//! What a request meets on either host, where the two differ: `docs/native.md` has it as a table.

use std::collections::BTreeSet;

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, Cluster, HttpConnectionManager, Listener, Route};
use envoy_test_harness::upstream::{ClosedPort, Reply};
use envoy_test_harness::{Envoy, EnvoyBinary, Span};
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::host::Host;
use meshtrace_test_support::page;
use meshtrace_test_support::reporting::{Collected, reporting, traceparent};
use serde_json::{Value, json};

const OTHER: &str = "11111111111111111111111111111111";

/// The observations of one Envoy: what is tried, and what came of it.
type Seen = Vec<(&'static str, String)>;

fn routes() -> HttpConnectionManager {
    HttpConnectionManager::new()
        .route(
            Route::prefix("/retried")
                .cluster("upstream")
                .retry("5xx", 2),
        )
        .route(
            Route::prefix("/rerouted")
                .header("x-b3-traceid", TRACE)
                .direct_response(418, "chosen by what was injected"),
        )
        .route(Route::prefix("/").cluster("upstream"))
}

fn config(changes: Value) -> Value {
    let mut config = reporting("http/protobuf", "{}");
    if let Value::Object(changes) = changes {
        for (key, value) in changes {
            config[key] = value;
        }
    }
    config
}

fn listener(host: Host, name: &str, config: Value) -> Listener {
    let manager = host.trace(routes(), config);
    // The tracer's own switch for the spans of attempts; the filter's is `report.role`.
    let manager = match (host, name) {
        (Host::Native, "calls") => manager.merge(json!({"tracing": {"spawn_upstream_span": true}})),
        _ => manager,
    };
    Listener::http(name, manager)
}

fn start(host: Host, envoy: &EnvoyBinary) -> Collected {
    let of_calls = match host {
        Host::Wasm => json!({"report": {"cluster": "collector", "role": "gateway"}}),
        Host::Native => json!({}),
    };
    let ignoring = json!({
        "trace_context": {"incoming": {"mode": "ignore"}}, "sampling": {"default": "always"},
    });
    let listeners = [
        ("plain", json!({})),
        ("calls", of_calls),
        ("roots", json!({"sampling": {"default": "always"}})),
        ("edge", ignoring),
    ];
    let bootstrap = listeners
        .into_iter()
        .fold(Bootstrap::new(), |bootstrap, (name, changes)| {
            bootstrap.listener(listener(host, name, config(changes)))
        });
    let mesh = host.start_with(envoy, "http/protobuf", bootstrap);
    mesh.upstream.respond_with(|request| match &*request.path {
        "/retried" => Reply::status(503),
        _ => Reply::ok(),
    });
    mesh
}

/// Sends a request to a listener; the status, and the spans that it made.
fn send(mesh: &Collected, to: &str, request: &Request, spans: usize) -> (u16, Vec<Span>) {
    mesh.sink.clear();
    mesh.upstream.take();
    let address = mesh.envoy.address(to).expect("its address");
    let status = request.send(address).expect("a response").status;
    mesh.sink.wait_for_spans(spans).expect("the spans");
    std::thread::sleep(std::time::Duration::from_millis(300));
    (status, mesh.sink.spans())
}

fn sampled() -> (&'static str, String) {
    ("traceparent", format!("00-{TRACE}-{SPAN}-01"))
}

fn request(path: &str, headers: &[(&str, String)]) -> Request {
    let add = |request: Request, (name, value): &(&str, String)| request.header(name, value);
    headers.iter().fold(Request::get(path), add)
}

fn observe(mesh: &Collected) -> Seen {
    let mut seen = Seen::new();
    let told = || traceparent(&mesh.upstream.take().remove(0));

    let lines = [sampled(), ("traceparent", format!("00-{OTHER}-{SPAN}-01"))];
    send(mesh, "roots", &request("/", &lines), 1);
    let outcome = match told()[0] == TRACE {
        true => "the first line's trace goes on",
        false => "a trace is started",
    };
    seen.push(("`traceparent` twice, with two traces", outcome.to_owned()));

    let states = [
        sampled(),
        ("tracestate", "a=1".to_owned()),
        ("tracestate", "b=2".to_owned()),
    ];
    send(mesh, "plain", &request("/", &states), 1);
    let state = mesh.upstream.take().remove(0).header_text("tracestate");
    let state = format!("`{}` leaves", state.unwrap_or_default());
    seen.push(("`tracestate` twice, `a=1` and `b=2`", state));

    let ignored = [sampled(), ("uberctx-user", "ann".to_owned())];
    send(mesh, "edge", &request("/", &ignored), 1);
    let stays = mesh
        .upstream
        .take()
        .remove(0)
        .header("uberctx-user")
        .is_some();
    let outcome = if stays { "it stays" } else { "it is removed" };
    seen.push((
        "`uberctx-user` where `incoming` is `ignore`",
        outcome.to_owned(),
    ));

    let forwarded = [sampled(), ("x-forwarded-for", "192.0.2.7".to_owned())];
    let (_, spans) = send(mesh, "plain", &request("/", &forwarded), 1);
    let client = spans[0].attribute("client.address").unwrap_or("none");
    seen.push((
        "`x-forwarded-for: 192.0.2.7`",
        format!("`client.address` is `{client}`"),
    ));
    let upstream = match spans[0].attribute("upstream_address") {
        Some(_) => "with `upstream_address`",
        None => "without `upstream_address`",
    };
    seen.push((
        "the SERVER span, where calls have no span",
        upstream.to_owned(),
    ));

    let (status, _) = send(mesh, "plain", &request("/rerouted", &[sampled()]), 1);
    let outcome = match status {
        418 => "is taken",
        _ => "is not taken: Envoy does not choose again",
    };
    seen.push((
        "a route that asks for an injected header",
        outcome.to_owned(),
    ));

    let (_, spans) = send(mesh, "calls", &request("/retried", &[sampled()]), 2);
    let attempts = mesh.upstream.take();
    let told: BTreeSet<_> = attempts
        .iter()
        .map(|sent| traceparent(sent)[1].clone())
        .collect();
    let outcome = format!(
        "{} spans; {} upstreams are told {} spans",
        spans.len(),
        attempts.len(),
        told.len(),
    );
    seen.push(("three attempts, where calls have spans", outcome));
    seen
}

/// What comes of a configuration in a listener of a bootstrap.
fn configured(host: Host, envoy: &EnvoyBinary, changes: Value) -> String {
    let listener = listener(host, "ingress", config(changes));
    let closed = ClosedPort::reserve().expect("a port");
    let bootstrap = Bootstrap::new()
        .listener(listener)
        .cluster(Cluster::http1("upstream", closed.address()))
        .cluster(Cluster::http1("collector", closed.address()));
    match Envoy::start_with(envoy, bootstrap, host.options()) {
        Err(error) => {
            let log = error.to_string();
            assert!(log.contains("(the tracer is refused)"), "{log}");
            "Envoy does not start".to_owned()
        }
        Ok(envoy) => match envoy.stat(&host.counter("config_invalid")) {
            Ok(1) => "Envoy starts, and nothing is traced".to_owned(),
            _ => "it runs".to_owned(),
        },
    }
}

fn configurations() -> [(&'static str, Value); 8] {
    let attribute = |from: Value| json!({"attributes": [{"key": "a", "from": from}]});
    let rule = |key: &str| json!({"rules": [{"match": {key: "x"}, "sample": "never"}]});
    [
        ("a key that does not exist", json!({"colour": 1})),
        (
            "a rule with `route` or `cluster`",
            json!({"sampling": rule("route")}),
        ),
        (
            "an attribute from `property`",
            json!({"span_attributes": attribute(json!({"property": ["xds", "cluster_name"]}))}),
        ),
        (
            "an attribute from `response_header`",
            json!({"span_attributes": attribute(json!({"response_header": "x"}))}),
        ),
        ("`access_log`", json!({"access_log": {}})),
        (
            "`request_headers: \"filter_state\"`",
            json!({"request_headers": "filter_state"}),
        ),
        (
            "`on_repeated: \"reject\"`",
            json!({"trace_context": {"on_repeated": "reject"}}),
        ),
        (
            "`incoming.when.not_from_cidrs`",
            json!({"trace_context": {"incoming": {"mode": "restart", "when": {"not_from_cidrs": ["10.0.0.0/8"]}}}}),
        ),
    ]
}

/// What every Envoy of a host shows alike, and what the newest makes of configurations.
fn on(host: Host) -> Seen {
    let mut envoys = host.envoys();
    let mut alike: Option<Seen> = None;
    for envoy in &envoys {
        let mesh = start(host, envoy);
        let seen = observe(&mesh);
        mesh.assert_sound(envoy.reported_version());
        match &alike {
            Some(before) => assert_eq!(before, &seen, "{}", envoy.reported_version()),
            None => alike = Some(seen),
        }
    }
    let newest = envoys.pop().expect("an Envoy");
    let tried = configurations().into_iter();
    let outcomes = tried.map(|(what, changes)| (what, configured(host, &newest, changes)));
    alike.into_iter().flatten().chain(outcomes).collect()
}

#[test]
fn what_differs_between_the_hosts_is_in_the_table() {
    let [wasm, native] = Host::ALL.map(on);
    let mut text = "| | Wasm filter | native tracer |\n|---|---|---|\n".to_owned();
    let rows: Vec<_> = wasm.iter().zip(&native).collect();
    let same: Vec<_> = rows
        .iter()
        .filter(|(wasm, native)| wasm == native)
        .collect();
    assert!(same.is_empty(), "no difference: {same:#?}");
    for ((what, wasm), (_, native)) in rows {
        text += &format!("| {what} | {wasm} | {native} |\n");
    }
    page::hold("hosts", &text);
}
