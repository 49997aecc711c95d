//! `trace_context` as an upstream filter, after the tracer: what leaves is compared with the spans
//! that are exported.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, HttpFilter, Listener, Route,
};
use envoy_test_harness::upstream::{RecordedRequest, Reply};
use envoy_test_harness::{EnvoyBinary, SpanKind, Upstream};
use meshtrace_test_support::common::{Mesh, trace_context, trace_headers};
use meshtrace_test_support::tracers::{Caller, Reader, Sinks, Told, Tracer};

/// Every request is refused twice, so it takes this many attempts.
const ATTEMPTS: usize = 3;

/// The spot where the filter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spot {
    /// `upstream_http_filters` of the router.
    Router,
    /// `http_filters` of the cluster.
    Cluster,
}

/// One listener.
#[derive(Clone, Copy, Debug)]
struct Hop {
    tracer: Tracer,
    /// What the filter is told about the tracer.
    writes: &'static str,
    /// Whether each attempt has a span of its own.
    spawn: bool,
    /// Zipkin: whether the proxy's span has the id of its caller's.
    shared: bool,
    spot: Spot,
    random_sampling: f64,
}

impl Hop {
    fn new(tracer: Tracer) -> Self {
        Self {
            tracer,
            writes: tracer.writes(),
            spawn: true,
            shared: false,
            spot: Spot::Router,
            random_sampling: 100.0,
        }
    }

    /// The tracers with every way to number the spans, in both spots.
    fn every() -> Vec<Self> {
        let mut hops = Vec::new();
        for tracer in Tracer::ALL {
            let hop = Self::new(tracer);
            hops.push(hop);
            hops.push(Self {
                spot: Spot::Cluster,
                ..hop
            });
            if tracer == Tracer::None {
                continue;
            }
            hops.push(Self {
                spawn: false,
                ..hop
            });
            if tracer != Tracer::OpenTelemetry {
                let shared = Self {
                    shared: true,
                    ..hop
                };
                hops.push(shared);
                hops.push(Self {
                    spawn: false,
                    ..shared
                });
            }
        }
        hops
    }

    fn name(&self) -> String {
        format!("{self:?}")
    }

    fn filter(&self) -> HttpFilter {
        let config = format!(
            r#"{{"placement": "upstream", "tracer": "{}",
                "inject": ["tracecontext", "b3", "b3multi"]}}"#,
            self.writes
        );
        trace_context(&config).into()
    }

    fn manager(&self) -> HttpConnectionManager {
        let cluster = match self.spot {
            Spot::Router => "upstream".to_owned(),
            Spot::Cluster => self.name(),
        };
        let manager = HttpConnectionManager::new()
            .route(Route::prefix("/").cluster(&cluster).retry("5xx", 5));
        let manager = match self.spot {
            Spot::Router => manager.upstream_filter(self.filter()),
            Spot::Cluster => manager,
        };
        let Some(tracing) = self.tracer.tracing() else {
            return manager;
        };
        let tracing = match self.tracer {
            Tracer::None | Tracer::OpenTelemetry => tracing,
            Tracer::ZipkinB3 | Tracer::ZipkinB3WithW3c => tracing.shared_span_context(self.shared),
        };
        manager.tracing(
            tracing
                .spawn_upstream_span(self.spawn)
                .random_sampling(self.random_sampling),
        )
    }
}

/// An Envoy with a listener for each hop, before an upstream that refuses twice.
struct Proxy {
    mesh: Mesh,
    filtered: Upstream,
    sinks: Sinks,
    version: String,
    /// Whether the Zipkin tracer writes `b3` where it came in.
    preserves_b3: bool,
}

impl Proxy {
    fn start(binary: &EnvoyBinary, hops: &[Hop]) -> Self {
        let sinks = Sinks::start();
        let filtered = Upstream::start().expect("an upstream");
        let bootstrap = hops.iter().fold(Bootstrap::new(), |bootstrap, hop| {
            let listener = Listener::http(&hop.name(), hop.manager());
            let bootstrap = bootstrap.listener(listener);
            match hop.spot {
                Spot::Router => bootstrap,
                Spot::Cluster => bootstrap
                    .cluster(Cluster::http1(&hop.name(), filtered.address()).filter(hop.filter())),
            }
        });
        let mesh = Mesh::with(binary, sinks.connect(bootstrap));
        for upstream in [&mesh.upstream, &filtered] {
            let count = AtomicUsize::new(1);
            upstream.respond_with(
                move |_| match count.fetch_add(1, Ordering::SeqCst) % ATTEMPTS {
                    0 => Reply::ok(),
                    _ => Reply::status(503),
                },
            );
        }
        Self {
            mesh,
            filtered,
            sinks,
            version: binary.reported_version().to_owned(),
            preserves_b3: binary.is_at_least(1, 40),
        }
    }

    /// Sends the request through the hop, and returns the attempts that arrived.
    fn send(&self, hop: &Hop, caller: &Caller, headers: &[&str]) -> Exchange {
        let case = format!("{} {hop:?} {headers:?} {}", self.version, caller.trace_id);
        let response = caller
            .request(&case, headers)
            .send(self.mesh.address(&hop.name()))
            .expect("a response");
        assert_eq!(response.status, 200, "{case}");
        let upstream = match hop.spot {
            Spot::Router => &self.mesh.upstream,
            Spot::Cluster => &self.filtered,
        };
        let attempts = upstream.take();
        assert_eq!(attempts.len(), ATTEMPTS, "{case}");
        Exchange {
            case,
            hop: *hop,
            attempts,
        }
    }

    /// Every format of every attempt names the span that the tracer exported for that attempt.
    fn assert_spans_are_told(&self, exchange: &Exchange) {
        let Exchange {
            case,
            hop,
            attempts,
        } = exchange;
        let told: Vec<_> = attempts.iter().map(|a| exchange.told(a)).collect();
        let trace_id = &told[0].trace_id;
        let count = if hop.spawn { 1 + ATTEMPTS } else { 1 };
        let spans = self.sinks.spans(hop.tracer, trace_id, case, count);
        assert_eq!(spans.len(), count, "{case}: {spans:#?}");
        let kind = match hop.spawn {
            true => SpanKind::Client,
            false => SpanKind::Server,
        };
        let exported: Vec<_> = spans.iter().filter(|span| span.kind == kind).collect();
        for (i, told) in told.iter().enumerate() {
            let span = exported[i % exported.len()];
            assert_eq!(told.span_id, span.span_id, "{case}: attempt {i}");
            assert_eq!(told.sampled, Some(true), "{case}: attempt {i}");
            let parent = attempts[i].header_text("x-b3-parentspanid");
            // Where its own span has no parent, Envoy leaves a client's.
            if parent.is_some() && span.parent_span_id.is_some() {
                assert_eq!(parent, span.parent_span_id, "{case}: attempt {i}");
            }
        }
    }
}

#[derive(Debug)]
struct Exchange {
    case: String,
    hop: Hop,
    attempts: Vec<RecordedRequest>,
}

impl Exchange {
    /// What all formats agree on.
    fn told(&self, attempt: &RecordedRequest) -> Told {
        let told = Reader::ALL.map(|reader| reader.read(attempt));
        let [Some(w3c), Some(b3), Some(b3multi)] = &told else {
            panic!("{}: not in every format: {told:#?}", self.case);
        };
        assert_eq!((w3c, w3c), (b3, b3multi), "{}", self.case);
        w3c.clone()
    }

    /// No attempt leaves with other trace headers than these.
    fn assert_left(&self, caller: &Caller, headers: &[&str]) {
        let mut expected: Vec<_> = headers.iter().map(|line| caller.fill(line)).collect();
        expected.sort();
        for attempt in &self.attempts {
            assert_eq!(trace_headers(attempt), expected, "{}", self.case);
        }
    }
}

/// Runs the promise on every supported Envoy, side by side.
fn on_every_envoy(hops: &[Hop], promise: impl Fn(&Proxy) + Sync) {
    let envoys = EnvoyBinary::all_supported().expect("the supported Envoys");
    thread::scope(|scope| {
        for envoy in &envoys {
            scope.spawn(|| promise(&Proxy::start(envoy, hops)));
        }
    });
}

const W3C: &str = "traceparent: 00-$T-$S-01";
const B3: &str = "b3: $T-$S-1";
const MULTI: [&str; 3] = ["x-b3-traceid: $T", "x-b3-spanid: $S", "x-b3-sampled: 1"];

#[test]
fn on_every_attempt_every_format_names_the_span_that_the_tracer_exports() {
    let [trace, span, sampled] = MULTI;
    let arrivals: [&[&str]; 13] = [
        &[],
        &[W3C],
        &[B3],
        &["b3: $S-$S-1"],
        &["b3: $T-$S-d"],
        &["b3: $T-$S-1-$V"],
        &["b3: $T-$S"],
        &["b3: 1"],
        &MULTI,
        &["x-b3-parentspanid: $V", trace, span, sampled],
        &["x-b3-traceid: $S", span, sampled],
        &["x-b3-flags: 1", trace, span],
        &[W3C, B3, trace, span, sampled],
    ];
    let hops = Hop::every();
    on_every_envoy(&hops, |proxy| {
        let traced = hops.iter().filter(|hop| hop.tracer != Tracer::None);
        let exchanges: Vec<_> = traced
            .flat_map(|hop| arrivals.map(|headers| proxy.send(hop, &Caller::fresh(), headers)))
            .collect();
        for exchange in exchanges {
            proxy.assert_spans_are_told(&exchange);
        }
    });
}

#[test]
fn stale_client_headers_never_win_and_never_leave_with_other_ids() {
    let other = ["x-b3-traceid: $U", "x-b3-spanid: $V", "x-b3-sampled: 1"];
    let [trace, span, sampled] = other;
    let stale: [&[&str]; 9] = [
        &[W3C, "b3: $U-$V-1"],
        &[W3C, trace, span, sampled],
        &[B3, "traceparent: 00-$U-$V-01"],
        &[B3, "traceparent: 00-$U-$V-01", trace, span, sampled],
        &[B3, trace, span, sampled],
        &[B3, trace, span, sampled, "x-b3-parentspanid: $V"],
        &["traceparent: 00-$U-$V-01", MULTI[0], MULTI[1], MULTI[2]],
        // Half a context, which no tracer takes.
        &[W3C, trace],
        &[B3, trace],
    ];
    let hops = Hop::every();
    on_every_envoy(&hops, |proxy| {
        let mut exchanges = Vec::new();
        for hop in hops.iter().filter(|hop| hop.tracer != Tracer::None) {
            for headers in stale {
                let caller = Caller::fresh();
                let exchange = proxy.send(hop, &caller, headers);
                for attempt in &exchange.attempts {
                    let told = exchange.told(attempt).trace_id;
                    let left = trace_headers(attempt).concat();
                    for sent in [&caller.trace_id, &caller.other_trace_id] {
                        let is_stale = *sent != told && left.contains(sent.as_str());
                        assert!(!is_stale, "{}: {left}", exchange.case);
                    }
                }
                exchanges.push(exchange);
            }
        }
        for exchange in exchanges {
            proxy.assert_spans_are_told(&exchange);
        }
    });
}

#[test]
fn the_shape_of_b3_that_is_named_decides_between_two_shapes_of_one_trace() {
    let hop = |writes| Hop {
        writes,
        ..Hop::new(Tracer::ZipkinB3)
    };
    let hops = [hop("b3"), hop("b3multi")];
    on_every_envoy(&hops, |proxy| {
        let [b3, b3multi] = &hops;
        let hop = if proxy.preserves_b3 { b3 } else { b3multi };
        let [trace, span, sampled] = MULTI;
        let parent = "x-b3-parentspanid: $V";
        let headers = ["b3: $T-$S-1-$V", trace, span, parent, sampled];
        proxy.assert_spans_are_told(&proxy.send(hop, &Caller::fresh(), &headers));
    });
}

#[test]
fn a_tracestate_stays_with_its_trace_and_an_empty_one_of_the_tracer_is_left() {
    let hops = [
        Tracer::OpenTelemetry,
        Tracer::ZipkinB3,
        Tracer::ZipkinB3WithW3c,
    ]
    .map(Hop::new);
    on_every_envoy(&hops, |proxy| {
        let tracestates = |hop, headers: &[&str]| -> Vec<_> {
            let exchange = proxy.send(hop, &Caller::fresh(), headers);
            let attempts = exchange.attempts.iter();
            attempts.map(|a| a.header_text("tracestate")).collect()
        };
        let [otel, zipkin, zipkin_with_w3c] = &hops;
        let kept = vec![Some("a=1".to_owned()); ATTEMPTS];
        let (empty, none) = (vec![Some(String::new()); ATTEMPTS], vec![None; ATTEMPTS]);

        assert_eq!(tracestates(otel, &[W3C, "tracestate: a=1"]), kept);
        assert_eq!(
            tracestates(zipkin_with_w3c, &[W3C, "tracestate: a=1"]),
            kept
        );
        assert_eq!(tracestates(otel, &[]), empty);
        assert_eq!(tracestates(otel, &["tracestate: a=1"]), empty);
        // It reads B3 alone, and starts a trace of its own.
        assert_eq!(tracestates(zipkin, &[W3C, "tracestate: a=1"]), none);
        assert_eq!(tracestates(zipkin, &["tracestate: a=1"]), none);
        // It prefers B3 and rewrites traceparent alone, which nobody can see afterwards.
        let foreign = tracestates(zipkin_with_w3c, &[W3C, "tracestate: a=1", "b3: $U-$V-1"]);
        assert_eq!(foreign, kept);
    });
}

#[test]
fn the_decision_is_the_tracers() {
    let unsampled: Vec<_> = Hop::every()
        .into_iter()
        .map(|hop| Hop {
            random_sampling: 0.0,
            ..hop
        })
        .collect();
    let hops: Vec<_> = unsampled.iter().copied().chain(Hop::every()).collect();
    let refused: [&[&str]; 5] = [
        &["traceparent: 00-$T-$S-00"],
        &["traceparent: 00-$T-$S-00", "b3: $T-$S-0"],
        &["b3: $T-$S-0", "x-b3-flags: 1"],
        &["b3: $T-$S-0"],
        &["x-b3-traceid: $T", "x-b3-spanid: $S", "x-b3-sampled: 0"],
    ];
    on_every_envoy(&hops, |proxy| {
        let traced = hops.iter().filter(|hop| hop.tracer != Tracer::None);
        let mut exchanges = Vec::new();
        for hop in traced {
            exchanges.extend(refused.map(|headers| proxy.send(hop, &Caller::fresh(), headers)));
            // Nobody but the tracer decides.
            let own = proxy.send(hop, &Caller::fresh(), &[]);
            let sampled = own.told(&own.attempts[0]).sampled;
            assert_eq!(sampled, Some(hop.random_sampling > 0.0), "{}", own.case);
            exchanges.push(own);
        }
        let (sampled, unsampled): (Vec<_>, Vec<_>) = exchanges
            .iter()
            .partition(|exchange| exchange.told(&exchange.attempts[0]).sampled == Some(true));
        for exchange in sampled {
            proxy.assert_spans_are_told(exchange);
        }
        for exchange in unsampled {
            let told = exchange.attempts.iter().map(|a| exchange.told(a).sampled);
            assert!(told.eq([Some(false); ATTEMPTS]), "{}", exchange.case);
            assert_eq!(proxy.sinks.arrived(&exchange.case), [], "{}", exchange.case);
        }
    });
}

#[test]
fn at_malformed_headers_the_tracer_writes_nothing_and_they_do_not_leave() {
    let hops = Hop::every();
    on_every_envoy(&hops, |proxy| {
        for hop in &hops {
            let (malformed, valid): (&[&str], _) = match hop.tracer {
                Tracer::None | Tracer::OpenTelemetry => {
                    (&["traceparent: junk", "tracestate: a=1"], "b3: $T-$S-1")
                }
                Tracer::ZipkinB3 | Tracer::ZipkinB3WithW3c => {
                    (&["b3: junk", "x-b3-traceid: junk", "x-b3-spanid: $S"], W3C)
                }
            };
            let caller = Caller::fresh();
            let exchange = proxy.send(hop, &caller, malformed);
            exchange.assert_left(&caller, &[]);

            let caller = Caller::fresh();
            let both = [malformed, &[valid]].concat();
            let exchange = proxy.send(hop, &caller, &both);
            match hop.tracer {
                // Its traceparent is the client's; it cannot be told from one of the tracer.
                Tracer::ZipkinB3WithW3c => {
                    let told = exchange.attempts.iter().map(|a| exchange.told(a).trace_id);
                    assert!(told.eq(vec![caller.trace_id.clone(); ATTEMPTS]));
                }
                Tracer::None | Tracer::OpenTelemetry | Tracer::ZipkinB3 => {
                    exchange.assert_left(&caller, &[valid]);
                }
            }
        }
    });
}

#[test]
fn malformed_headers_that_the_tracer_does_not_read_are_replaced() {
    let hops = Hop::every();
    on_every_envoy(&hops, |proxy| {
        let mut exchanges = Vec::new();
        for hop in &hops {
            let headers: &[&str] = match hop.tracer {
                Tracer::None => continue,
                Tracer::OpenTelemetry => &["b3: junk", "x-b3-traceid: junk", "x-b3-flags: 7"],
                Tracer::ZipkinB3 | Tracer::ZipkinB3WithW3c => &["traceparent: junk"],
            };
            exchanges.push(proxy.send(hop, &Caller::fresh(), headers));
        }
        for exchange in exchanges {
            proxy.assert_spans_are_told(&exchange);
        }
    });
}

#[test]
fn without_a_tracer_what_the_client_sent_in_the_named_format_is_written_in_the_others() {
    let hops: Vec<_> = Hop::every()
        .into_iter()
        .filter(|hop| hop.tracer == Tracer::None)
        .collect();
    on_every_envoy(&hops, |proxy| {
        for hop in &hops {
            let caller = Caller::fresh();
            let exchange = proxy.send(hop, &caller, &[]);
            exchange.assert_left(&caller, &[]);

            let exchange = proxy.send(hop, &caller, &[W3C, "tracestate: a=1", "b3: $U-$V-0"]);
            let [trace, span, sampled] = MULTI;
            let expected = [W3C, "tracestate: a=1", B3, trace, span, sampled];
            exchange.assert_left(&caller, &expected);

            let exchange = proxy.send(hop, &caller, &MULTI);
            exchange.assert_left(&caller, &MULTI);
        }
    });
}
