//! Sends every request to one Envoy, and finds its line in the access log and its spans.

use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use envoy_test_harness::client::{Connection, Request};
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, HttpFilter, Listener, Route,
};
use envoy_test_harness::upstream::{ClosedPort, RecordedRequest, Reply};
use envoy_test_harness::{Envoy, EnvoyBinary, Span};
use meshtrace_render::{IdsFrom, access_log_fields};
use meshtrace_test_support::common::{Mesh, access_log_trace, expose_ids, log_ids};
use meshtrace_test_support::tracers::{self, CASE, Caller, Sinks, Tracer};
use serde_json::{Map, Value, json};

use super::requests::{
    ARRIVALS, Arrival, Exchange, Fate, SPAN_ID_HEADER, SPOOFED_SPAN, SPOOFED_TRACE, SetUp,
    TRACE_ID_HEADER, Told,
};

pub(super) fn listener_name(set_up: SetUp, told: Told) -> String {
    format!("{} {told:?}", set_up.title())
}

pub(super) fn denying(prefix: &str) -> HttpFilter {
    HttpFilter::raw(
        &format!("rbac {prefix}"),
        json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": {"action": "DENY", "policies": {"deny": {
                "permissions": [{"url_path": {"path": {"prefix": prefix}}}],
                "principals": [{"any": true}],
            }}},
        }),
    )
}

/// The rendered fields, and those that the test compares them with.
pub(super) fn fields(config: &str, envoy: &EnvoyBinary) -> Map<String, Value> {
    let (_, ids) = log_ids(config);
    let mut fields = access_log_fields(&ids, IdsFrom::Filter);
    let mut add = |name: &str, format: &str| fields.insert(name.to_owned(), json!(format));
    add("case", &format!("%REQ({CASE})%"));
    add("envoy_trace_id", "%TRACE_ID%");
    add("injected", "%REQ(TRACEPARENT)%");
    add("injected_b3_span", "%REQ(X-B3-SPANID)%");
    if envoy.is_at_least(1, 38) {
        add("envoy_span_id", "%SPAN_ID%");
    }
    fields
}

pub(super) fn manager(set_up: SetUp, told: Told, envoy: &EnvoyBinary) -> HttpConnectionManager {
    let config = told.config(set_up);
    let mut manager = HttpConnectionManager::new()
        .route(Route::path("/direct").direct_response(200, ""))
        .route(Route::path("/moved").redirect("/ok"))
        .route(Route::path("/refused").cluster("refused"))
        .route(Route::path("/no-endpoint").cluster("empty"))
        .route(Route::path("/retried").cluster("upstream").retry("5xx", 2))
        .route(
            Route::path("/moved-inside")
                .cluster("upstream")
                .merge(json!({
                    "route": {"internal_redirect_policy": {"redirect_response_codes": [302]}},
                })),
        )
        .route(Route::path("/socket").cluster("upstream").merge(json!({
            "route": {"upgrade_configs": [{"upgrade_type": "websocket"}]},
        })));
    for path in [
        "/ok",
        "/missing",
        "/slow",
        "/reset",
        "/denied-later",
        "/denied-before",
    ] {
        manager = manager.route(Route::path(path).cluster("upstream"));
    }
    if let Some(tracing) = set_up.tracing() {
        manager = manager.tracing(tracing);
    }
    manager = manager.filter(denying("/denied-before"));
    let (read, _) = log_ids(&config);
    if let Some(step) = expose_ids(&read, envoy) {
        manager = manager.filter(step);
    }
    manager
        .filter(access_log_trace(&config))
        .filter(denying("/denied-later"))
        .access_log(json!(fields(&config, envoy)))
}

pub(super) fn respond(request: &RecordedRequest, seen: &mut HashSet<String>) -> Reply {
    let case = request.header_text(CASE).unwrap_or_default();
    match request.path.as_str() {
        "/missing" => Reply::status(404),
        "/retried" if seen.insert(case) => Reply::status(503),
        "/moved-inside" => Reply::status(302).header("location", "http://localhost/ok"),
        "/reset" => Reply::reset(),
        "/slow" => Reply::ok().delay(Duration::from_secs(20)),
        "/socket" => Reply::status(101)
            .header("connection", "upgrade")
            .header("upgrade", "websocket"),
        _ => Reply::ok(),
    }
}

/// Turns HTTP/1.1 into HTTP/2, one listener for each of the mesh's.
pub(super) fn front(envoy: &EnvoyBinary, mesh: &Mesh, names: &[String]) -> Envoy {
    let mut bootstrap = Bootstrap::new();
    for name in names {
        let manager = HttpConnectionManager::new().route(Route::prefix("/").cluster(name));
        bootstrap = bootstrap
            .listener(Listener::http(name, manager))
            .cluster(Cluster::http2(name, mesh.address(name)));
    }
    Envoy::start(envoy, bootstrap).expect("a front proxy")
}

/// Every exchange with one Envoy.
pub(super) fn exchange(envoy: &EnvoyBinary) -> Vec<Exchange> {
    let sinks = Sinks::start();
    let refused = ClosedPort::reserve().expect("a port");
    let mut bootstrap = sinks
        .connect(Bootstrap::new())
        .cluster(Cluster::http1("refused", refused.address()))
        .cluster(
            Cluster::http1("empty", refused.address())
                .merge(json!({"load_assignment": {"endpoints": []}})),
        );
    let places: Vec<_> = SetUp::all()
        .into_iter()
        .flat_map(|set_up| Told::ALL.map(|told| (set_up, told)))
        .collect();
    let names: Vec<_> = places
        .iter()
        .map(|(set_up, told)| listener_name(*set_up, *told))
        .collect();
    for ((set_up, told), name) in places.iter().zip(&names) {
        let manager = manager(*set_up, *told, envoy);
        bootstrap = bootstrap.listener(Listener::http(name, manager));
    }
    let mesh = Mesh::with(envoy, bootstrap);
    let seen = Mutex::new(HashSet::new());
    mesh.upstream
        .respond_with(move |request| respond(request, &mut seen.lock().expect("no panic before")));
    let front = front(envoy, &mesh, &names);
    let addresses = mesh.envoy.listeners().expect("the listeners");
    let fronts = front.listeners().expect("the listeners");

    let mut exchanges = Vec::new();
    for ((set_up, told), name) in places.iter().zip(&names) {
        let mut direct = Connection::open(addresses[name]).expect("a connection");
        let mut http2 = Connection::open(fronts[name]).expect("a connection");
        for fate in Fate::ALL {
            for (arrival, arrives) in ARRIVALS.iter().enumerate() {
                if !fate.meets(arrives) {
                    continue;
                }
                let caller = Caller::fresh();
                let case = format!("{name} {fate:?} {}", arrives.name);
                send(
                    fate,
                    arrives,
                    &caller,
                    &case,
                    addresses[name],
                    &mut direct,
                    &mut http2,
                );
                exchanges.push(Exchange {
                    set_up: *set_up,
                    told: *told,
                    fate,
                    arrival,
                    case,
                    caller,
                    lines: Vec::new(),
                    spans: Vec::new(),
                });
            }
        }
    }
    assert_no_spoofed(&mesh);
    collect(&mesh, &sinks, &names, &mut exchanges);
    exchanges
}

pub(super) fn assert_no_spoofed(mesh: &Mesh) {
    for request in mesh.upstream.requests() {
        let case = request.header_text(CASE).unwrap_or_default();
        let helper = request.header_text(TRACE_ID_HEADER);
        if case.contains("TheTracerAndIds") {
            assert_eq!(helper, None, "{case}: {request:?}");
        } else {
            assert_eq!(
                helper.as_deref(),
                Some(SPOOFED_TRACE),
                "{case}: no concern of the filter"
            );
        }
    }
}

pub(super) fn send(
    fate: Fate,
    arrival: &Arrival,
    caller: &Caller,
    case: &str,
    address: SocketAddr,
    direct: &mut Connection,
    http2: &mut Connection,
) {
    let lines = [
        &[
            format!("{TRACE_ID_HEADER}: {SPOOFED_TRACE}"),
            format!("{SPAN_ID_HEADER}: {SPOOFED_SPAN}"),
        ][..],
        &arrival
            .headers
            .iter()
            .map(|line| caller.fill(line))
            .collect::<Vec<_>>(),
    ]
    .concat();
    let with_headers = |request: Request| {
        lines
            .iter()
            .fold(request.header(CASE, case), |request, line| {
                let (name, value) = line.split_once(": ").expect("a header line");
                request.header(name, value)
            })
    };
    let get = || with_headers(Request::get(fate.path()));
    let status = match fate {
        Fate::ClientGone => {
            let mut stream = TcpStream::connect(address).expect("a connection");
            let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            write!(
                stream,
                "GET /slow HTTP/1.1\r\nhost: a\r\n{CASE}: {case}\r\n{lines}\r\n"
            )
            .expect("a request");
            thread::sleep(Duration::from_millis(10));
            return;
        }
        Fate::WebSocket => {
            let upgrade = get()
                .header("connection", "upgrade")
                .header("upgrade", "websocket")
                .header("sec-websocket-version", "13");
            upgrade.send(address).expect("a response").status
        }
        Fate::NoHost => {
            get()
                .without_host()
                .send(address)
                .expect("a response")
                .status
        }
        Fate::HeadersTooLarge => {
            let large = get().header("x-large", vec![b'a'; 70_000]);
            large.send(address).expect("a response").status
        }
        Fate::Http2 => http2.send(&get()).expect("a response").status,
        Fate::Grpc => {
            let call = Request::post(fate.path(), vec![0; 5])
                .header("content-type", "application/grpc")
                .header("te", "trailers");
            http2.send(&with_headers(call)).expect("a response").status
        }
        _ => direct.send(&get()).expect("a response").status,
    };
    let expected = *fate.statuses().last().expect("a status");
    assert_eq!(u64::from(status), expected, "{case}");
}

/// Finds the lines and spans of every exchange.
pub(super) fn collect(mesh: &Mesh, sinks: &Sinks, names: &[String], exchanges: &mut [Exchange]) {
    let mut lines: HashMap<String, Vec<Value>> = HashMap::new();
    for name in names {
        let of_listener = exchanges
            .iter()
            .filter(|exchange| listener_name(exchange.set_up, exchange.told) == *name);
        let expected = of_listener
            .map(|exchange| exchange.fate.statuses().len())
            .sum();
        let log = mesh.envoy.access_log(name);
        for line in log.wait_for_lines(expected).expect("every line") {
            let case = line["case"].as_str().unwrap_or_default().to_owned();
            lines.entry(case).or_default().push(line);
        }
    }
    // Where its headers are too large, a line lacks the name of its case; there is no span.
    for line in lines.remove("").into_iter().flatten() {
        assert_eq!(line["response_code"], 431, "{line}");
        assert_eq!(line["span_id"], Value::Null, "{line}");
        assert!(!line.to_string().contains(SPOOFED_SPAN), "{line}");
    }
    // A tracer's spans arrive in order: after these, there are no others to come.
    for exchange in exchanges.iter() {
        if exchange.fate == Fate::Ok && exchange.arrival == 0 {
            let tracer = exchange.set_up.known();
            if tracer == Tracer::None {
                continue;
            }
            let case = format!("{} sentinel", exchange.case);
            let name = listener_name(exchange.set_up, exchange.told);
            let request = Request::get("/ok").header(CASE, &case);
            mesh.upstream.take();
            mesh.connect(&name).send(&request).expect("a response");
            let request = mesh.upstream.take().pop().expect("the request");
            let told = tracers::Reader::ALL
                .iter()
                .find_map(|reader| reader.read(&request));
            let trace_id = told.expect("a context").trace_id;
            let count = if exchange.set_up.spawns { 2 } else { 1 };
            sinks.spans(tracer, &trace_id, &case, count);
        }
    }
    let mut spans: HashMap<String, Vec<Span>> = HashMap::new();
    for span in sinks.all() {
        let case = span.attribute("case").unwrap_or_default().to_owned();
        spans.entry(case).or_default().push(span);
    }
    for exchange in exchanges {
        exchange.lines = lines.remove(&exchange.case).unwrap_or_default();
        exchange.spans = spans.remove(&exchange.case).unwrap_or_default();
    }
}
