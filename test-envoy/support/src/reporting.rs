//! An Envoy with `mesh_tracing.wasm` between a client, an upstream and a collector.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use envoy_test_harness::client::{Connection, Request, Response};
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, HttpFilter, Listener, Route, WasmFilter,
};
use envoy_test_harness::upstream::{RecordedRequest, Reply};
use envoy_test_harness::{Envoy, EnvoyBinary, Options, OtlpSink, Span, Upstream, expect};
use serde_json::{Value, json};

use crate::common::{SPAN, TRACE, get, module};
use crate::host::Host;

/// The filter with this configuration.
pub fn mesh_tracing(config: impl ToString) -> WasmFilter {
    WasmFilter::new("mesh_tracing", module("mesh_tracing")).configuration(config.to_string())
}

/// A configuration that reports to the cluster `collector`. `report` is merged into it.
pub fn reporting(protocol: &str, report: &str) -> Value {
    let mut config = json!({"report": {"cluster": "collector", "protocol": protocol}});
    let Value::Object(report) = serde_json::from_str(report).expect("JSON") else {
        panic!("an object");
    };
    for (key, value) in report {
        config["report"][key] = value;
    }
    config
}

/// The cluster of a collector.
pub fn collector(protocol: &str, sink: &OtlpSink) -> Cluster {
    match protocol {
        "grpc" => Cluster::http2("collector", sink.grpc_addr()),
        _ => Cluster::http1("collector", sink.http_addr()),
    }
}

/// One Envoy, with its upstream and its collector.
#[derive(Debug)]
pub struct Collected {
    /// The Envoy.
    pub envoy: Envoy,
    /// The upstream behind it.
    pub upstream: Upstream,
    /// The collector.
    pub sink: OtlpSink,
    /// What traces its requests.
    pub host: Host,
}

impl Collected {
    /// An Envoy whose filter reports with this protocol and these keys of `report`.
    pub fn start(binary: &EnvoyBinary, protocol: &str, report: &str) -> Self {
        let config = reporting(protocol, report);
        let listener = Listener::http("ingress", manager(mesh_tracing(config)));
        Self::with(binary, protocol, Bootstrap::new().listener(listener))
    }

    /// An Envoy with `bootstrap` and with the clusters `upstream` and `collector`.
    pub fn with(binary: &EnvoyBinary, protocol: &str, bootstrap: Bootstrap) -> Self {
        Self::with_arguments(binary, protocol, bootstrap, &[])
    }

    /// As [`Collected::with`], with these command line arguments.
    pub fn with_arguments(
        binary: &EnvoyBinary,
        protocol: &str,
        bootstrap: Bootstrap,
        arguments: &[&str],
    ) -> Self {
        let options = arguments.iter().fold(Options::new(), |options, argument| {
            options.argument(argument)
        });
        Self::with_options(binary, protocol, bootstrap, options)
    }

    /// As [`Collected::with`], with these options.
    pub fn with_options(
        binary: &EnvoyBinary,
        protocol: &str,
        bootstrap: Bootstrap,
        options: Options,
    ) -> Self {
        Self::on(Host::Wasm, binary, protocol, bootstrap, options)
    }

    /// As [`Collected::with_options`], on this host.
    pub fn on(
        host: Host,
        binary: &EnvoyBinary,
        protocol: &str,
        bootstrap: Bootstrap,
        options: Options,
    ) -> Self {
        let upstream = Upstream::start().expect("an upstream");
        let sink = OtlpSink::start().expect("a collector");
        let bootstrap = bootstrap
            .cluster(Cluster::http1("upstream", upstream.address()))
            .cluster(collector(protocol, &sink));
        let envoy = Envoy::start_with(binary, bootstrap, options).expect("an Envoy that starts");
        Self {
            envoy,
            upstream,
            sink,
            host,
        }
    }

    /// A connection to the listener `ingress`.
    pub fn connect(&self) -> Connection {
        let address = self.envoy.address("ingress").expect("its address");
        Connection::open(address).expect("a connection")
    }

    /// Sends one request over a connection of its own.
    pub fn send(&self, request: &Request) -> Response {
        self.connect().send(request).expect("a response")
    }

    /// The only span that was exported. The next call waits for the next span.
    #[track_caller]
    pub fn only_span(&self) -> Span {
        let spans = self.sink.wait_for_spans(1).expect("a span");
        self.sink.clear();
        expect::span().only_in(&spans).clone()
    }

    /// A counter of ours; 0 where it has not moved.
    pub fn counter(&self, name: &str) -> u64 {
        let stats = self.envoy.stats().expect("the counters");
        stats.get(&self.host.counter(name)).copied().unwrap_or(0)
    }
}

/// A manager with this filter. All requests go to `upstream`, except those to `/direct`.
pub fn manager(filter: impl Into<HttpFilter>) -> HttpConnectionManager {
    HttpConnectionManager::new()
        .route(Route::prefix("/direct").direct_response(404, "no"))
        .route(Route::prefix("/").cluster("upstream"))
        .filter(filter)
}

impl Collected {
    /// Asserts that no call of the host failed, and that no code of ours did.
    #[track_caller]
    pub fn assert_sound(&self, what: &str) {
        for counter in ["host_errors", "panics", "route_sampling.edits_dropped"] {
            assert_eq!(self.counter(counter), 0, "{what}: {counter}");
        }
    }

    /// Waits until a counter of ours is at least `value`.
    pub fn wait_for_counter(&self, name: &str, value: u64) {
        self.envoy
            .wait_for_stat(&self.host.counter(name), |found| found >= value)
            .expect("the counter");
    }
}

/// A request that continues the caller's sampled trace.
pub fn sampled() -> Request {
    get(&[("traceparent", &format!("00-{TRACE}-{SPAN}-01"))])
}

/// The trace id, the span id and the flags of the `traceparent` that left.
pub fn traceparent(request: &RecordedRequest) -> [String; 3] {
    let text = request.header_text("traceparent").expect("a traceparent");
    let fields: Vec<_> = text.split('-').collect();
    let ["00", trace_id, span_id, flags] = fields.as_slice() else {
        panic!("{text}");
    };
    [trace_id, span_id, flags].map(|field| (*field).to_owned())
}

/// The attributes of a span, in the type that the harness has for them.
pub fn attributes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// Makes `application` copy the trace headers of a request to requests to `next`. The body of the
/// request has their number (one, where the body is empty). It answers when all of them are
/// answered. Of a repeated header it copies the first line, because most frameworks return that one
/// for the name of a header.
pub fn forward(application: &Upstream, next: SocketAddr) {
    application.respond_with(move |request| {
        let request = request.clone();
        // Clients block, and this code runs among the servers' tasks.
        let forwarded = tokio::task::block_in_place(|| {
            std::thread::spawn(move || {
                let count = String::from_utf8_lossy(&request.body).parse().unwrap_or(1);
                for _ in 0..count {
                    let names = ["traceparent", "tracestate"].into_iter();
                    let lines = names.filter_map(|name| {
                        let values = request.header_values(name);
                        Some((name, values.first()?.to_vec()))
                    });
                    let next_request = lines
                        .fold(Request::get("/callback"), |next, (name, value)| {
                            next.header(name, value)
                        });
                    next_request.send(next).expect("a response");
                }
            })
            .join()
        });
        match forwarded {
            Ok(()) => Reply::ok(),
            Err(_) => Reply::status(500),
        }
    });
}
