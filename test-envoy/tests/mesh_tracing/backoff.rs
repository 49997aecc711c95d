//! However a collector asks to be called again, it is called less and less often, and nothing is
//! lost meanwhile.

use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use envoy_test_harness::client::Connection;
use envoy_test_harness::config::{Bootstrap, Cluster, Listener};
use envoy_test_harness::upstream::{RecordedRequest, Reply};
use envoy_test_harness::{EnvoyBinary, Upstream};
use meshtrace_test_support::common::{SPAN, TRACE, get};
use meshtrace_test_support::host::{Host, each_host};
use meshtrace_test_support::promises;
use meshtrace_test_support::reporting::{Collected, reporting};
use serde_json::json;

/// Spans of each plugin, in full batches of ten.
const SPANS: u64 = 60;
const IN_FLIGHT: u64 = 4;

/// How a collector asks to be called again: a name, the status or gRPC's code, `retry-after` or the
/// delay of `google.rpc.RetryInfo` as seconds and nanoseconds.
enum Asks {
    Http(u16, Option<&'static str>),
    /// With the date of the answer beside it.
    Dated(&'static str, &'static str),
    Grpc(u32, Option<(i64, i32)>),
}

const NOW: &str = "Sat, 28 Nov 2026 06:00:00 GMT";
const BEFORE: &str = "Sat, 28 Nov 2026 05:59:00 GMT";

/// The two older forms of a date (RFC 9110, section 5.6.7).
const BEFORE_RFC_850: &str = "Saturday, 28-Nov-26 05:59:00 GMT";
const BEFORE_ASCTIME: &str = "Sat Nov 28 05:59:00 2026";

const HTTP: [(&str, Asks); 17] = [
    ("no-time", Asks::Http(503, Some("0"))),
    ("too-many", Asks::Http(429, Some("0"))),
    ("bad-gateway", Asks::Http(502, Some("0"))),
    ("timeout", Asks::Http(504, Some("0"))),
    ("nothing", Asks::Http(503, None)),
    ("below-nothing", Asks::Http(503, Some("-1"))),
    ("garbage", Asks::Http(503, Some("soon"))),
    ("empty", Asks::Http(503, Some(""))),
    (
        "passed",
        Asks::Http(503, Some("Thu, 01 Jan 1970 00:00:00 GMT")),
    ),
    ("now", Asks::Dated(NOW, NOW)),
    ("before", Asks::Dated(BEFORE, NOW)),
    ("before-rfc-850", Asks::Dated(BEFORE_RFC_850, NOW)),
    ("before-asctime", Asks::Dated(BEFORE_ASCTIME, NOW)),
    (
        "passed-rfc-850",
        Asks::Http(503, Some("Sunday, 06-Nov-94 08:49:37 GMT")),
    ),
    (
        "passed-asctime",
        Asks::Http(503, Some("Sun Nov  6 08:49:37 1994")),
    ),
    ("long", Asks::Http(503, Some("99999999999999999999"))),
    (
        "year-9999",
        Asks::Http(503, Some("Fri, 31 Dec 9999 23:59:59 GMT")),
    ),
];

const GRPC: [(&str, Asks); 9] = [
    ("unavailable", Asks::Grpc(14, None)),
    ("no-time", Asks::Grpc(14, Some((0, 0)))),
    ("below-nothing", Asks::Grpc(14, Some((-5, 0)))),
    ("below-nothing-nanos", Asks::Grpc(14, Some((0, -5)))),
    ("exhausted", Asks::Grpc(8, Some((0, 0)))),
    (
        "exhausted-below-nothing",
        Asks::Grpc(8, Some((i64::MIN, i32::MIN))),
    ),
    ("aborted", Asks::Grpc(10, Some((0, 1)))),
    ("of-a-proxy", Asks::Http(503, Some("0"))),
    ("long", Asks::Grpc(14, Some((i64::MAX, i32::MAX)))),
];

/// What is asked to wait for so long is not called again before the test ends.
fn is_long(name: &str) -> bool {
    ["long", "year-9999"].contains(&name)
}

impl Asks {
    fn reply(&self) -> Reply {
        match self {
            Self::Http(status, None) => Reply::status(*status),
            Self::Http(status, Some(after)) => Reply::status(*status).header("retry-after", after),
            Self::Dated(after, date) => Reply::status(503)
                .header("retry-after", after)
                .header("date", date),
            Self::Grpc(code, delay) => {
                let reply = Reply::ok()
                    .header("content-type", "application/grpc")
                    .header("grpc-status", code.to_string());
                match delay {
                    Some((seconds, nanos)) => reply.header(
                        "grpc-status-details-bin",
                        STANDARD_NO_PAD.encode(retry_info(*seconds, *nanos)),
                    ),
                    None => reply,
                }
            }
        }
    }
}

/// `google.rpc.Status` with a `RetryInfo`.
fn retry_info(seconds: i64, nanos: i32) -> Vec<u8> {
    let field = |number: u8, content: &[u8]| {
        let length = u8::try_from(content.len()).expect("a short message");
        [&[number << 3 | 2, length], content].concat()
    };
    let varint = |number: u8, value: u64| {
        let mut bytes = vec![number << 3];
        let mut rest = value;
        while rest >= 0x80 {
            bytes.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
        bytes
    };
    let delay = [
        varint(1, seconds.cast_unsigned()),
        varint(2, i64::from(nanos).cast_unsigned()),
    ]
    .concat();
    let info = field(1, &delay);
    let url = field(1, b"type.googleapis.com/google.rpc.RetryInfo");
    field(3, &[url, field(2, &info)].concat())
}

/// The most calls in `elapsed` of a plugin whose collector takes none: what was in flight at first,
/// and then one after each back-off (at least a quarter of a second, and twice as long each time).
fn most_calls(elapsed: Duration) -> u64 {
    let (mut calls, mut waited, mut next) = (IN_FLIGHT, 0.0, 0.25);
    while waited + next < elapsed.as_secs_f64() && next < 16.0 {
        waited += next;
        next *= 2.0;
        calls += 1;
    }
    calls
}

fn by_authority(requests: &[RecordedRequest], name: &str) -> u64 {
    let of_name = |request: &&RecordedRequest| request.header_text("host").as_deref() == Some(name);
    requests.iter().filter(of_name).count() as u64
}

/// One plugin for each way to ask; then the collector takes everything.
fn asked_on(
    host: Host,
    binary: &EnvoyBinary,
    at: &str,
    protocol: &str,
    ways: &'static [(&str, Asks)],
) {
    let collector = Upstream::start().expect("a server");
    collector.respond_with(|request| {
        let name = request.header_text("host").unwrap_or_default();
        let way = ways.iter().find(|(way, _)| *way == name);
        way.map_or_else(Reply::ok, |(_, asks)| asks.reply())
    });
    let cluster = match protocol {
        "grpc" => Cluster::http2("asking", collector.address()),
        _ => Cluster::http1("asking", collector.address()),
    };
    let bootstrap = ways
        .iter()
        .fold(Bootstrap::new(), |bootstrap, (name, _)| {
            let report = json!({"cluster": "asking", "authority": name,
                "batch": {"max_spans": 10, "max_in_flight": IN_FLIGHT}});
            let manager = host.manager(reporting(protocol, &report.to_string()));
            bootstrap.listener(Listener::http(name, manager))
        })
        .cluster(cluster);
    let mesh = host.start_with(binary, "http/protobuf", bootstrap);
    let started = Instant::now();
    for (name, _) in ways {
        let address = mesh.envoy.address(name).expect("its address");
        let mut connection = Connection::open(address).expect("a connection");
        for _ in 0..SPANS {
            let sampled = get(&[("traceparent", &format!("00-{TRACE}-{SPAN}-01"))]);
            assert_eq!(connection.send(&sampled).expect("a response").status, 200);
        }
    }
    thread::sleep(Duration::from_secs(3));
    let requests = collector.requests();
    let most = most_calls(started.elapsed());
    for (name, _) in ways {
        let calls = by_authority(&requests, name);
        let most = if is_long(name) { IN_FLIGHT } else { most };
        assert!(
            (1..=most).contains(&calls),
            "{at} {protocol} {name}: {calls} of {most}"
        );
        let again = calls > IN_FLIGHT;
        eprintln!("{at} {protocol} {name}: {calls} calls, at most {most}, again: {again}");
    }
    let dropped = |mesh: &Collected| {
        let counters = ["queue_full", "refused", "expired", "unknown_cluster"];
        let of = |name: &&str| mesh.counter(&format!("report.dropped.{name}"));
        counters.iter().map(of).sum::<u64>()
    };
    assert_eq!(dropped(&mesh), 0, "{at} {protocol}");
    assert_eq!(mesh.counter("report.exported"), 0, "{at} {protocol}");
    assert!(mesh.counter("report.retries") <= mesh.counter("report.calls"));

    let taken = || Reply::ok().header("grpc-status", "0");
    collector.respond_with(move |_| taken());
    let asked_for_long = ways.iter().filter(|(name, _)| is_long(name)).count() as u64;
    let expected = SPANS * (ways.len() as u64 - asked_for_long);
    mesh.wait_for_counter("report.exported", expected);
    assert_eq!(mesh.counter("report.exported"), expected, "{at} {protocol}");
    assert_eq!(dropped(&mesh), 0, "{at} {protocol}");
}

#[test]
fn a_collector_is_called_less_and_less_often_whatever_it_asks_for() {
    each_host(|host, envoy, at| {
        asked_on(host, envoy, at, "http/protobuf", &HTTP);
        asked_on(host, envoy, at, "grpc", &GRPC);
    });
    promises::held(
        "Export",
        "A collector that asks to be called again at once is called less and less often, and gets what waited",
        &format!(
            "{} answers over HTTP and {} over gRPC (Retry-After and RetryInfo: none, 0, passed in each form of a date, \
             negative, garbage, huge), {SPANS} spans waiting for each",
            HTTP.len(),
            GRPC.len()
        ),
        "4 calls at once, then one after each back-off (0.25 s at least, doubled each time); 0 of 60 spans lost; the Wasm filter on 4 versions, the native tracer on 3",
    );
}

/// A call that fails at once is a call too.
#[test]
fn a_cluster_without_endpoints_is_asked_less_and_less_often() {
    each_host(|host, envoy, at| {
        let nobody = Upstream::start().expect("a server");
        let cluster = Cluster::http1("nobody", nobody.address())
            .merge(json!({"load_assignment": {"cluster_name": "nobody", "endpoints": []}}));
        let report = r#"{"cluster": "nobody", "batch": {"max_spans": 10}}"#;
        let manager = host.manager(reporting("http/protobuf", report));
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("ingress", manager))
            .cluster(cluster);
        let mesh = host.start_with(envoy, "http/protobuf", bootstrap);
        let started = Instant::now();
        let mut connection = mesh.connect();
        for _ in 0..SPANS {
            let sampled = get(&[("traceparent", &format!("00-{TRACE}-{SPAN}-01"))]);
            connection.send(&sampled).expect("a response");
        }
        mesh.wait_for_counter("report.retries", 2);
        let (retries, calls) = (mesh.counter("report.retries"), mesh.counter("report.calls"));
        assert!(calls >= retries, "{at}: {calls} {retries}");
        assert!(calls <= most_calls(started.elapsed()), "{at}: {calls}");
        assert_eq!(mesh.counter("report.dropped.refused"), 0, "{at}");
    });
}
