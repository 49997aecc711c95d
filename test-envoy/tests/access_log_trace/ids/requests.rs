//! The requests of every kind: through which tracer, from which caller, and what becomes of them.

use envoy_test_harness::Span;
use envoy_test_harness::config::Tracing;
use meshtrace_test_support::tracers::{Caller, Tracer};
use serde_json::{Value, json};

pub(super) const TRACE_ID_HEADER: &str = "x-active-trace-id";
pub(super) const SPAN_ID_HEADER: &str = "x-active-span-id";
/// What a client sends under the names of the helper's headers: never to be seen again.
pub(super) const SPOOFED_TRACE: &str = "ffffffffffffffffffffffffffffffff";
pub(super) const SPOOFED_SPAN: &str = "ffffffffffffffff";

/// A tracer as a proxy has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SetUp {
    pub(super) tracer: Kind,
    pub(super) spawns: bool,
    pub(super) shares: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    OpenTelemetry,
    Zipkin,
    ZipkinWithW3c,
    None,
}

impl SetUp {
    pub(super) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for tracer in [
            Kind::OpenTelemetry,
            Kind::Zipkin,
            Kind::ZipkinWithW3c,
            Kind::None,
        ] {
            for spawns in [false, true] {
                for shares in [false, true] {
                    let exists = match tracer {
                        Kind::None => !spawns && !shares,
                        Kind::OpenTelemetry => !shares,
                        Kind::Zipkin | Kind::ZipkinWithW3c => true,
                    };
                    if exists {
                        all.push(Self {
                            tracer,
                            spawns,
                            shares,
                        });
                    }
                }
            }
        }
        all
    }

    pub(super) fn known(self) -> Tracer {
        match self.tracer {
            Kind::OpenTelemetry => Tracer::OpenTelemetry,
            Kind::Zipkin => Tracer::ZipkinB3,
            Kind::ZipkinWithW3c => Tracer::ZipkinB3WithW3c,
            Kind::None => Tracer::None,
        }
    }

    pub(super) fn tracing(self) -> Option<Tracing> {
        let tracing = self.known().tracing()?.spawn_upstream_span(self.spawns);
        Some(match self.tracer {
            Kind::Zipkin | Kind::ZipkinWithW3c => tracing.shared_span_context(self.shares),
            Kind::OpenTelemetry | Kind::None => tracing,
        })
    }

    pub(super) fn title(self) -> String {
        let name = match self.tracer {
            Kind::OpenTelemetry => "OpenTelemetry",
            Kind::Zipkin => "Zipkin",
            Kind::ZipkinWithW3c => "Zipkin with W3C",
            Kind::None => return "none".to_owned(),
        };
        let spawns = if self.spawns { ", spawn" } else { "" };
        let shares = if self.shares { ", shared" } else { "" };
        format!("{name}{spawns}{shares}")
    }
}

/// What the filter is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Told {
    Nothing,
    TheTracer,
    TheTracerAndIds,
}

impl Told {
    pub(super) const ALL: [Self; 3] = [Self::Nothing, Self::TheTracer, Self::TheTracerAndIds];

    pub(super) fn config(self, set_up: SetUp) -> String {
        let formats = match set_up.tracer {
            Kind::OpenTelemetry => json!("tracecontext"),
            Kind::Zipkin => json!("b3"),
            Kind::ZipkinWithW3c => json!(["b3", "tracecontext"]),
            Kind::None => json!("none"),
        };
        let mut config = json!({});
        if self != Self::Nothing {
            config["tracer"] = formats;
            config["spawn_upstream_span"] = json!(set_up.spawns);
            if matches!(set_up.tracer, Kind::Zipkin | Kind::ZipkinWithW3c) {
                config["shared_span_context"] = json!(set_up.shares);
            }
        }
        if self == Self::TheTracerAndIds {
            config["ids"] = json!({
                "trace_id_header": TRACE_ID_HEADER,
                "span_id_header": SPAN_ID_HEADER,
            });
        }
        config.to_string()
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Nothing => "With no configuration",
            Self::TheTracer => {
                "With `tracer`, `spawn_upstream_span` and `shared_span_context`, without `ids`"
            }
            Self::TheTracerAndIds => "With all of these and `ids`",
        }
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    Ok,
    Http2,
    Grpc,
    WebSocket,
    NotFoundUpstream,
    Retried,
    ConnectionRefused,
    Reset,
    ClientGone,
    RedirectedInside,
    DirectResponse,
    Redirect,
    NoRoute,
    NoEndpoint,
    DeniedLater,
    DeniedBefore,
    NoHost,
    HeadersTooLarge,
}

/// How far a request comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// The tracer writes its headers.
    Upstream,
    /// Envoy or a filter answers.
    Filter,
    /// An answer is made before the filter.
    End,
}

impl Fate {
    pub(super) const ALL: [Self; 18] = [
        Self::Ok,
        Self::Http2,
        Self::Grpc,
        Self::WebSocket,
        Self::NotFoundUpstream,
        Self::Retried,
        Self::ConnectionRefused,
        Self::Reset,
        Self::ClientGone,
        Self::RedirectedInside,
        Self::DirectResponse,
        Self::Redirect,
        Self::NoRoute,
        Self::NoEndpoint,
        Self::DeniedLater,
        Self::DeniedBefore,
        Self::NoHost,
        Self::HeadersTooLarge,
    ];

    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Ok | Self::Http2 | Self::Grpc | Self::NoHost | Self::HeadersTooLarge => "/ok",
            Self::WebSocket => "/socket",
            Self::NotFoundUpstream => "/missing",
            Self::Retried => "/retried",
            Self::ConnectionRefused => "/refused",
            Self::Reset => "/reset",
            Self::ClientGone => "/slow",
            Self::RedirectedInside => "/moved-inside",
            Self::DirectResponse => "/direct",
            Self::Redirect => "/moved",
            Self::NoRoute => "/nowhere",
            Self::NoEndpoint => "/no-endpoint",
            Self::DeniedLater => "/denied-later",
            Self::DeniedBefore => "/denied-before",
        }
    }

    /// The status in each of its lines.
    pub(super) fn statuses(self) -> &'static [u64] {
        match self {
            Self::Ok | Self::Http2 | Self::Grpc | Self::Retried | Self::DirectResponse => &[200],
            Self::WebSocket => &[101],
            Self::NotFoundUpstream | Self::NoRoute => &[404],
            Self::ConnectionRefused | Self::Reset | Self::NoEndpoint => &[503],
            Self::ClientGone => &[0],
            Self::RedirectedInside => &[302, 200],
            Self::Redirect => &[301],
            Self::DeniedLater | Self::DeniedBefore => &[403],
            Self::NoHost => &[400],
            Self::HeadersTooLarge => &[431],
        }
    }

    /// Where only the reach of a request matters, a few arrivals are enough.
    pub(super) fn meets(self, arrival: &Arrival) -> bool {
        let all = [
            Self::Ok,
            Self::Retried,
            Self::RedirectedInside,
            Self::DirectResponse,
            Self::DeniedLater,
            Self::DeniedBefore,
            Self::NoHost,
        ];
        all.contains(&self) || ["nothing", "W3C", "x-b3-*"].contains(&arrival.name)
    }

    pub(super) fn reach(self) -> Reach {
        match self {
            Self::Ok
            | Self::Http2
            | Self::Grpc
            | Self::WebSocket
            | Self::NotFoundUpstream
            | Self::Retried
            | Self::ConnectionRefused
            | Self::Reset
            | Self::ClientGone
            | Self::RedirectedInside => Reach::Upstream,
            Self::DirectResponse
            | Self::Redirect
            | Self::NoRoute
            | Self::NoEndpoint
            | Self::DeniedLater => Reach::Filter,
            Self::DeniedBefore | Self::NoHost | Self::HeadersTooLarge => Reach::End,
        }
    }
}

/// What a caller sends.
pub(super) struct Arrival {
    pub(super) name: &'static str,
    pub(super) headers: &'static [&'static str],
    pub(super) brings: Brings,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Brings {
    Nothing,
    W3c,
    B3,
    Both,
    Junk,
}

pub(super) static ARRIVALS: [Arrival; 11] = [
    Arrival {
        name: "nothing",
        headers: &[],
        brings: Brings::Nothing,
    },
    Arrival {
        name: "W3C",
        headers: &["traceparent: 00-$T-$S-01", "tracestate: a=1"],
        brings: Brings::W3c,
    },
    Arrival {
        name: "W3C, unsampled",
        headers: &["traceparent: 00-$T-$S-00"],
        brings: Brings::W3c,
    },
    Arrival {
        name: "b3",
        headers: &["b3: $T-$S-1"],
        brings: Brings::B3,
    },
    Arrival {
        name: "x-b3-*",
        headers: &[
            "x-b3-traceid: $T",
            "x-b3-spanid: $S",
            "x-b3-parentspanid: $V",
            "x-b3-sampled: 1",
        ],
        brings: Brings::B3,
    },
    Arrival {
        name: "x-b3-*, unsampled",
        headers: &["x-b3-traceid: $T", "x-b3-spanid: $S", "x-b3-sampled: 0"],
        brings: Brings::B3,
    },
    Arrival {
        name: "x-b3-*, 64 bits",
        headers: &["x-b3-traceid: $V", "x-b3-spanid: $S", "x-b3-sampled: 1"],
        brings: Brings::B3,
    },
    Arrival {
        name: "both, disagreeing",
        headers: &["traceparent: 00-$T-$S-01", "b3: $U-$V-1"],
        brings: Brings::Both,
    },
    Arrival {
        name: "malformed",
        headers: &["traceparent: junk", "b3: junk"],
        brings: Brings::Junk,
    },
    // Envoy reads these short ids where the specification of B3 has none.
    Arrival {
        name: "short ids",
        headers: &["x-b3-traceid: abc", "x-b3-spanid: abc", "x-b3-sampled: 1"],
        brings: Brings::Junk,
    },
    // The tracer leaves this one beside its own where the trace begins here.
    Arrival {
        name: "a parent alone",
        headers: &["x-b3-parentspanid: $S"],
        brings: Brings::Junk,
    },
];

/// A request and where it went.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) set_up: SetUp,
    pub(super) told: Told,
    pub(super) fate: Fate,
    pub(super) arrival: usize,
    pub(super) case: String,
    pub(super) caller: Caller,
    pub(super) lines: Vec<Value>,
    pub(super) spans: Vec<Span>,
}

impl Exchange {
    /// Where the trace of a line comes from; `None` where that is left to the malformed header's
    /// tracer.
    pub(super) fn origin(&self, line: &Value) -> Option<Origin> {
        // The second pass reads what the first has written.
        let second_pass = self.fate == Fate::RedirectedInside && line["response_code"] == 200;
        let tracer = self.set_up.tracer;
        let continues = match ARRIVALS[self.arrival].brings {
            Brings::Junk => return None,
            Brings::Nothing => second_pass && tracer != Kind::None,
            _ if second_pass => true,
            Brings::W3c => tracer != Kind::Zipkin,
            Brings::B3 => tracer != Kind::OpenTelemetry,
            Brings::Both => true,
        };
        Some(if continues {
            Origin::Continued
        } else {
            Origin::Begun
        })
    }
}

/// Where a trace comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    Begun,
    Continued,
}
