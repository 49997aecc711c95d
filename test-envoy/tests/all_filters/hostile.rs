//! Hostile requests: whatever a client sends, each is answered as without the filter, the strict
//! upstream's connection stays, and so does the VM. The same requests every time: the seed is
//! fixed.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use envoy_test_harness::EnvoyBinary;
use envoy_test_harness::client::{Connection, Request};
use envoy_test_harness::config::{Bootstrap, Cluster, HttpConnectionManager, Route, WasmFilter};
use envoy_test_harness::upstream::ClosedPort;
use meshtrace_propagation::Field;
use meshtrace_test_support::common::{access_log_trace, module, trace_context};
use meshtrace_test_support::rerouting::Filter;
use meshtrace_test_support::{http2, native, promises};
use serde_json::json;

use crate::strict::StrictMesh;

/// How many requests each filter gets; `make long` asks for more.
fn requests_per_filter() -> usize {
    match std::env::var("HOSTILE_REQUESTS_PER_FILTER") {
        Ok(number) => number
            .parse()
            .expect("HOSTILE_REQUESTS_PER_FILTER: a number of requests"),
        Err(_) => 1000,
    }
}

const SEED: u64 = 0x6d65_7368_7472_6163;

const FORMATS: &str = r#"["tracecontext", "b3", "b3multi", "jaeger", "ottrace", "xray", "gcp", "datadog", "grpc-trace-bin"]"#;

/// The stage that the native tracer does not have.
const ACCESS_LOG: &str =
    r#""access_log": {"response_header": {"name": "x-trace", "traceresponse": true}},"#;

/// Room for more than Envoy takes by default, so that the filters see it.
fn roomy(manager: HttpConnectionManager) -> HttpConnectionManager {
    manager
        .route(Route::prefix("/").cluster("upstream"))
        .merge(json!({
            "max_request_headers_kb": 512,
            "common_http_protocol_options": {"max_headers_count": 2000},
        }))
}

fn filter(name: &str, config: &str) -> WasmFilter {
    WasmFilter::new(name, module(name))
        .configuration(config)
        .env("KEY", "Jefe")
}

fn managers() -> Vec<(&'static str, HttpConnectionManager)> {
    let attributes = r#"{"attributes": [
        {"key": "q", "from": {"query": "a"}, "transform": ["trim", "lowercase", {"truncate": 9}]},
        {"key": "c", "from": {"cookie": "c"}, "transform": [{"replace": {"pattern": "(\\w+)\\W", "with": "$1 "}}]},
        {"key": "u", "from": {"header": "x-user-id"}, "default": "none"},
        {"key": "h", "from": {"header": "x-user-id"}, "transform": [{"hmac_sha256": {"key_env": "KEY"}}]},
        {"key": "p", "from": {"path": "/users/{id}/**", "capture": "id"}, "max_length": 7},
        {"key": "j", "from": {"jwt_claim": {"claim": "sub"}}},
        {"key": "m", "from": {"baggage": "m"}, "transform": [{"allow": ["a", " b "]}], "default": "other"},
        {"key": "r", "from": {"property": ["request", "query"]}}
    ], "emit": {"request_header_prefix": "x-p-", "baggage": true}}"#;
    let context = format!(
        r#"{{"extract": {FORMATS}, "inject": {FORMATS}, "baggage_from": ["jaeger", "ottrace"], "on_missing": "generate",
            "on_conflict": "restart"}}"#
    );
    let preserve = format!(
        r#"{{"extract": {FORMATS}, "inject": "preserve", "clear": ["jaeger", "ottrace", "baggage"], "b3_strict": true}}"#
    );
    let log = r#"{"ids": {"trace_id_header": "x-trace-id"}, "shapes": ["datadog", "b3_64", {"gcp": {"project": "p"}}],
        "response_header": {"name": "x-trace", "traceresponse": true}}"#;
    let rules = r#"{"rules": [
        {"match": {"path": {"template": "/users/{id}/**"}, "headers": [{"name": "x-user-id", "prefix": "a"}]}, "sample": "never"},
        {"match": {"path": {"regex": "/[a-f]+/.*"}}, "sample": {"per_second": 5}},
        {"match": {"host": "*.example", "methods": ["POST"]}, "sample": "always"}
    ], "default": {"ratio": 0.5}, "parent": "ignore", "force": {"header": "x-force", "value_env": "KEY"}}"#;
    let mesh = format!(
        r#"{{"trace_context": {context}, "span_attributes": {attributes}, "sampling": {rules},
            {ACCESS_LOG} "report": {{"cluster": "collector"}}}}"#
    );
    let mesh = mesh.replace(r#""on_missing": "generate","#, "");
    let upstream = r#"{"placement": "upstream", "tracer": "b3", "inject": ["tracecontext", "b3multi", "datadog"]}"#;
    let gateway = format!(
        r#"{{"trace_context": {{"extract": {FORMATS}, "incoming": {{"mode": "restart", "when": {{"header_absent": "x-force"}}}},
            "clear": ["jaeger", "skywalking", "sentry-trace"]}},
            "access_log": {{"response_header": {{"server_timing": true}}}},
            "report": {{"cluster": "collector", "role": "gateway", "keep": {{"errors": true}}}}}}"#
    );
    let later = r#"{"placement": "upstream", "tracer": "tracecontext", "rules": [
        {"match": {"path": {"template": "/users/{id}/**"}}, "sample": "never"}], "default": {"ratio": 0.5}}"#;
    let of = |name, config: &str| roomy(HttpConnectionManager::new().filter(filter(name, config)));
    // Envoy shows a tracer no properties, and no headers by the beginning of their names.
    let native = mesh
        .replace(
            r#""from": {"property": ["request", "query"]}"#,
            r#""from": {"literal": "r"}"#,
        )
        .replace(r#""baggage_from": ["jaeger", "ottrace"],"#, "")
        .replace(ACCESS_LOG, "");
    let by_state = |name, config: &str| {
        let config: &'static str = config.to_owned().leak();
        let routes = Filter { name, config }.routes().expect("its headers");
        let state = config.replacen('{', r#"{"request_headers": "filter_state", "#, 1);
        of(name, &state).merge(json!({"route_config": routes}))
    };
    vec![
        ("context", of("trace_context", &context)),
        ("preserve", of("trace_context", &preserve)),
        ("ignore", of("trace_context", r#"{"incoming": "ignore"}"#)),
        ("attributes", of("span_attributes", attributes)),
        (
            "log",
            roomy(HttpConnectionManager::new().filter(access_log_trace(log))),
        ),
        ("sampling", of("route_sampling", rules)),
        ("mesh", of("mesh_tracing", &mesh)),
        (
            "upstream",
            roomy(HttpConnectionManager::new().upstream_filter(trace_context(upstream))),
        ),
        (
            "later",
            roomy(HttpConnectionManager::new().upstream_filter(filter("route_sampling", later))),
        ),
        ("gateway", of("mesh_tracing", &gateway)),
        ("state context", by_state("trace_context", &context)),
        ("state attributes", by_state("span_attributes", attributes)),
        ("state mesh", by_state("mesh_tracing", &mesh)),
        ("native", roomy(native::manager(native::tracing(&native)))),
        ("without", roomy(HttpConnectionManager::new())),
    ]
}

/// SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).expect("a limit")).expect("below it")
    }

    fn one_in(&mut self, number: usize) -> bool {
        self.below(number) == 0
    }

    fn of<'l, T: ?Sized>(&mut self, list: &[&'l T]) -> &'l T {
        list[self.below(list.len())]
    }
}

/// Headers that the filters or Envoy look at, besides those of trace context.
const NAMES: &[&str] = &[
    "baggage",
    "baggage",
    "uberctx-user",
    "uberctx-",
    "ot-baggage-user",
    "jaeger-debug-id",
    "jaeger-baggage",
    "sentry-trace",
    "elastic-apm-traceparent",
    "x-instana-t",
    "request-id",
    "newrelic",
    "sw8-correlation",
    "x-request-id",
    "x-client-trace-id",
    "x-envoy-force-trace",
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-force",
    "x-user-id",
    "x-trace-id",
    "x-p-q",
    "x-p-other",
    "x_b3_traceid",
    "cookie",
    "authorization",
    "content-type",
    "x-forwarded-for",
    "user-agent",
    "forwarded",
];

/// Where mutations begin.
const VALUES: &[&str] = &[
    "",
    "0",
    "1",
    "d",
    "true",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
    "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what",
    "4bf92f3577b34da6a3ce929d0e0e4736",
    "00f067aa0ba902b7",
    "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1-05e3ac9a4f6e3b90",
    "4bf92f3577b34da6a3ce929d0e0e4736:00f067aa0ba902b7:0:3",
    "Root=1-68ef9936-5f4df7cb590e654d2f659b2c;Parent=00f067aa0ba902b7;Sampled=1;Lineage=a:1|b:0",
    "4bf92f3577b34da6a3ce929d0e0e4736/67667974448284343;o=1",
    "AABL+S81d7NNpqPOkp0ODkc2AQDwZ6oLqQK3AgE=",
    "11803532876627986230",
    "_dd.p.dm=-1,_dd.p.tid=4bf92f3577b34da6,a=b",
    "ot=th:8;rv:0123456789abcd,a=1,b@c=2",
    "a=1,b = 2 ;p=1,,m=%20a%20,junk,=x",
    "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiIgYSBcdTAwMDAifQ.",
    "Bearer e30.W1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1s.",
    "a=b; c= x y ;c=\"z\"; d",
    "application/grpc+proto",
    "%00%01%7f%ff%C3%28+%",
    "alice",
    "Jefe",
    "18446744073709551616",
    "-1",
    "\u{1f980} \u{e9}\u{85}",
];

/// Bytes that end, divide, or break something somewhere.
const BYTES: &[u8] =
    b" \t,;=:-/%+&?#\"\\'{}[]()<>@|~^`$!*.0aAfFgzZ_\x80\xa0\xc3\xff\xf0\xfe\xed\xbf";

fn value(random: &mut Random) -> Vec<u8> {
    let mut value = random.of(VALUES).as_bytes().to_vec();
    for _ in 0..random.below(4) {
        let at = random.below(value.len() + 1);
        match random.below(7) {
            0 => value.insert(at, BYTES[random.below(BYTES.len())]),
            1 if at < value.len() => value[at] = BYTES[random.below(BYTES.len())],
            2 if at < value.len() => {
                value.remove(at);
            }
            3 => value.truncate(at),
            4 => value.extend_from_slice(random.of(VALUES).as_bytes()),
            5 => value.insert(at, b','),
            _ if random.one_in(8) => {
                let byte = BYTES[random.below(BYTES.len())];
                value.extend(std::iter::repeat_n(byte, 1 << random.below(14)));
            }
            _ => {}
        }
    }
    value
}

type Headers = Vec<(Vec<u8>, Vec<u8>)>;

struct Hostile {
    method: &'static str,
    path: String,
    headers: Headers,
    over_http2: bool,
}

impl std::fmt::Debug for Hostile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let protocol = if self.over_http2 {
            "HTTP/2"
        } else {
            "HTTP/1.1"
        };
        writeln!(f, "{} {} {protocol}", self.method, self.path)?;
        self.headers.iter().try_for_each(|(name, value)| {
            writeln!(f, "{}: {}", name.escape_ascii(), value.escape_ascii())
        })
    }
}

impl Hostile {
    fn new(random: &mut Random, over_http2: bool) -> Self {
        let fields: Vec<&str> = Field::ALL
            .iter()
            .map(|field| str::from_utf8(field.name()).expect("a name"))
            .collect();
        let mut headers: Headers = Vec::new();
        let lines = match random.below(20) {
            0 => 150 + random.below(150),
            few => few,
        };
        let repeated = random.of(&fields);
        for _ in 0..lines {
            let name = match random.below(4) {
                0 => random.of(NAMES),
                1 if lines > 20 => repeated,
                _ => random.of(&fields),
            };
            let mut value = value(random);
            // Over HTTP/1.1 a codec refuses control characters, and trims; over HTTP/2 Envoy hands
            // on spaces by itself.
            match over_http2 {
                true => value = value.trim_ascii().to_vec(),
                false if random.one_in(60) => value.push(*random.of(&[&0, &1, &b'\r', &127])),
                false => {}
            }
            // Envoy joins lines of `cookie`: with an empty one at the end, a space is the last
            // byte, and the upstream closes the connection, with or without a filter.
            if name == "cookie" && headers.iter().any(|(known, _)| known == b"cookie") {
                continue;
            }
            headers.push((name.as_bytes().to_vec(), value));
        }
        if random.one_in(10) {
            for i in 0..random.below(300) {
                headers.push((format!("uberctx-k{i}").into_bytes(), b"v".to_vec()));
            }
        }
        let mut path = random
            .of(&["/", "/users/", "/users//", "/abc/", "//", "/users/%20/"])
            .to_owned();
        for _ in 0..random.below(6) {
            match random.below(4) {
                0 => path.push_str(&format!("%{:02x}", random.below(256))),
                1 => path.push(
                    random
                        .of(&["/", ".", "%", "~", ";", "=", "\"", "{"])
                        .chars()
                        .next()
                        .expect("one"),
                ),
                _ => path.push(char::from(
                    b'a' + u8::try_from(random.below(26)).expect("a letter"),
                )),
            }
        }
        path.push_str("?a=");
        for _ in 0..random.below(8) {
            match random.below(3) {
                0 => path.push_str(&format!("%{:02X}", random.below(256))),
                1 => path.push_str(random.of(&["+", "&", "a=", "%", "%2", "=", "?", "&a"])),
                _ => path.push('x'),
            }
        }
        Self {
            method: random.of(&["GET", "GET", "POST", "DELETE", "OPTIONS", "PURGE"]),
            path,
            headers,
            over_http2,
        }
    }
}

/// Both ways into one listener.
struct Ways {
    address: SocketAddr,
    http1: Option<Connection>,
    http2: http2::Client,
}

impl Ways {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            http1: None,
            http2: http2::Client::new(address),
        }
    }

    /// The status; `None` where the connection or the stream was closed without one.
    fn send(&mut self, hostile: &Hostile) -> Option<u16> {
        if hostile.over_http2 {
            let answer = self
                .http2
                .send(hostile.method, &hostile.path, &hostile.headers);
            return answer.map(|(status, ..)| status);
        }
        let request = Request::new(hostile.method, &hostile.path);
        let request = hostile
            .headers
            .iter()
            .fold(request, |request, (name, value)| {
                request.header(name, value)
            });
        let mut connection = match self.http1.take() {
            Some(connection) => connection,
            None => Connection::open(self.address).expect("a connection"),
        };
        let response = connection.send(&request).ok()?;
        let closes = response.header("connection") == Some(b"close");
        // After a refusal the codec reads no further.
        if !closes && response.status == 200 {
            self.http1 = Some(connection);
        }
        Some(response.status)
    }
}

#[test]
fn no_hostile_request_changes_its_outcome_or_costs_a_connection_or_a_vm() {
    let envoy = EnvoyBinary::find().expect("an Envoy");
    let collector = ClosedPort::reserve().expect("a port");
    let bootstrap = Bootstrap::new().cluster(Cluster::http1("collector", collector.address()));
    let mesh = StrictMesh::start_on(&envoy, managers(), bootstrap);
    let active = "wasm.envoy.wasm.runtime.v8.active";
    let before = mesh.envoy.stat(active).expect("a statistic");
    let mut listeners: BTreeMap<_, _> = managers()
        .iter()
        .map(|(name, _)| (*name, Ways::new(mesh.address(name))))
        .collect();
    let mut without = listeners
        .remove("without")
        .expect("a listener without a filter");
    let mut statuses: BTreeMap<Option<u16>, usize> = BTreeMap::new();

    let mut random = Random(SEED);
    let count = requests_per_filter();
    for number in 0..count {
        let hostile = Hostile::new(&mut random, number % 2 == 0);
        let expected = without.send(&hostile);
        *statuses.entry(expected).or_default() += 1;
        for (name, ways) in &mut listeners {
            let status = ways.send(&hostile);
            assert_eq!(
                status,
                expected,
                "{name}, request {number}, connections {:?}: {hostile:?}",
                mesh.connections()
            );
        }
    }
    println!("statuses without a filter: {statuses:?}");

    // Most reach the upstream; those that Envoy itself refuses are few.
    let passed = statuses.get(&Some(200)).copied().unwrap_or_default();
    assert!(passed * 10 > count * 8, "{statuses:?}");
    assert_eq!(mesh.connections(), (1, 0));
    assert_eq!(mesh.envoy.stat(active).ok(), Some(before), "VMs");
    assert_eq!(
        mesh.envoy.stat("wasmcustom.meshtrace.host_errors").ok(),
        Some(0)
    );
    assert_eq!(
        mesh.envoy.stat("wasmcustom.meshtrace.config_invalid").ok(),
        Some(0)
    );
    assert_eq!(
        mesh.envoy
            .stat("dynamicmodulescustom.meshtrace.host_errors")
            .ok(),
        Some(0)
    );
    let log = mesh.envoy.log().expect("the log");
    for word in [
        "VM failed",
        "wasm_vm_failed",
        "Function: proxy_on",
        "panicked",
    ] {
        assert!(!log.contains(word), "{word}: {log}");
    }
    promises::held(
        "Headers and connections",
        "No hostile request is answered otherwise than without the filter, and none costs the upstream's connection or \
         a VM.",
        "Generated requests from a fixed seed, half over HTTP/1.1 and half over HTTP/2, through 14 configurations: all \
         filters, by edits and by filter state, upstream, as a gateway, and the native tracer; Hypercorn over HTTP/2 behind; \
         1,000 a configuration in make test, 10,000 in make long.",
        "0 statuses differ, 1 connection, every VM stays",
    );
}
