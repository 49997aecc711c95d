//! A filter behind another one that changes the headers by which routes are chosen.

use std::fmt;

use envoy_test_harness::client::{Connection, Request, Response};
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, HttpFilter, Listener, Route, RouteMatch, WasmFilter,
};
use envoy_test_harness::upstream::{RecordedRequest, Reply};
use envoy_test_harness::{Envoy, EnvoyBinary, Upstream};
use meshtrace_pipeline::{
    AccessLogTrace, Composition, MeshTracing, Proxy, RouteSampling, SpanAttributes, TraceContext,
};
use meshtrace_render::route_configuration;
use serde_json::{Value, json};

use crate::common::{get, module};
use crate::http2;

/// The name of Envoy's filter that calls an authoriser.
pub const EXT_AUTHZ: &str = "envoy.filters.http.ext_authz";
/// The name of Envoy's filter for role-based access control.
pub const RBAC: &str = "envoy.filters.http.rbac";
const TYPES: &str = "type.googleapis.com/envoy.extensions.filters.http";

/// A filter with its configuration.
#[derive(Clone, Copy, Debug)]
pub struct Filter {
    /// The filter's name.
    pub name: &'static str,
    /// Its configuration.
    pub config: &'static str,
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.config)
    }
}

impl Filter {
    fn filter(self, by_filter_state: bool) -> WasmFilter {
        let config = match by_filter_state {
            true => by_state(self.config),
            false => self.config.to_owned(),
        };
        WasmFilter::new(self.name, module(self.name))
            .configuration(config)
            .env("FORCE", "secret")
    }

    /// The name of the listener in which the filter is used in this way.
    pub fn listener(self, way: Way) -> String {
        format!("{way:?} {self}")
    }

    /// What `meshtrace render request-headers` prints for it. `None` where the command refuses the
    /// configuration.
    pub fn routes(self) -> Option<Value> {
        rendered(self.name, &by_state(self.config))
    }
}

fn rendered(name: &str, config: &str) -> Option<Value> {
    match name {
        "access_log_trace" => rendered_for::<AccessLogTrace>(config),
        "mesh_tracing" => rendered_for::<MeshTracing>(config),
        "route_sampling" => rendered_for::<RouteSampling>(config),
        "span_attributes" => rendered_for::<SpanAttributes>(config),
        "trace_context" => rendered_for::<TraceContext>(config),
        name => panic!("no filter {name}"),
    }
}

fn rendered_for<C: Composition>(config: &str) -> Option<Value> {
    let composition = C::from_json(config.as_bytes(), &Proxy::UNKNOWN).ok()?;
    let headers = composition.by_filter_state().expect("by filter state");
    let text = |name: &[u8]| String::from_utf8(name.to_vec()).expect("a header's name");
    let leaving: Vec<_> = headers.leaving().map(text).collect();
    let removed: Vec<_> = headers.removed().map(text).collect();
    Some(route_configuration(&leaving, &removed))
}

fn by_state(config: &str) -> String {
    let mut config: Value = serde_json::from_str(config).expect("JSON");
    config["request_headers"] = json!("filter_state");
    config.to_string()
}

/// The place of the filter, and the way in which its headers leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The filter is not in the list.
    Without,
    /// The filter edits headers, and is in front of all other filters.
    EditFirst,
    /// As `EditFirst`. A filter directly behind it reads the route and edits nothing.
    EditPinned,
    /// The filter edits headers, and is behind the filter that changes the headers by which routes
    /// are chosen.
    EditBehind,
    /// The filter edits no headers, and is behind that filter.
    StateBehind,
}

impl Way {
    /// Every way.
    pub const ALL: [Self; 5] = [
        Self::Without,
        Self::EditFirst,
        Self::EditPinned,
        Self::EditBehind,
        Self::StateBehind,
    ];
}

/// A filter that sets `x-role: admin`, as an authoriser or a JWT filter would.
pub fn role() -> HttpFilter {
    HttpFilter::header_mutation(
        "role",
        json!([{"append": {
            "header": {"key": "x-role", "value": "admin"},
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        }}]),
    )
}

/// A filter that calls an authoriser over HTTP.
pub fn ext_authz() -> HttpFilter {
    HttpFilter::raw(
        EXT_AUTHZ,
        json!({
            "@type": format!("{TYPES}.ext_authz.v3.ExtAuthz"),
            "transport_api_version": "V3",
            "http_service": {
                "server_uri": {"uri": "http://authz", "cluster": "authz", "timeout": "5s"},
            },
        }),
    )
}

/// The same filter for an authoriser that is set to allow everything. It adds `x-role` from the
/// answers.
pub fn adding_ext_authz() -> HttpFilter {
    ext_authz().merge(json!({"typed_config": {"http_service": {
        "authorization_response": {
            "allowed_upstream_headers": {"patterns": [{"exact": "x-role"}]},
        },
    }}}))
}

/// A filter that reads the route. Without a policy it has no other effect.
pub fn cors() -> HttpFilter {
    HttpFilter::raw(
        "envoy.filters.http.cors",
        json!({"@type": format!("{TYPES}.cors.v3.Cors")}),
    )
}

/// A filter that denies every request, except where the route allows it.
pub fn rbac() -> HttpFilter {
    HttpFilter::raw(
        RBAC,
        json!({"@type": format!("{TYPES}.rbac.v3.RBAC"), "rules": {"action": "ALLOW"}}),
    )
}

/// The route, without authorisation.
pub fn open(route: Route) -> Route {
    route.merge(json!({"typed_per_filter_config": {
        EXT_AUTHZ: {"@type": format!("{TYPES}.ext_authz.v3.ExtAuthzPerRoute"), "disabled": true},
        RBAC: {"@type": format!("{TYPES}.rbac.v3.RBACPerRoute")},
    }}))
}

/// A route for requests with this header and any value.
pub fn with_header(name: &str) -> RouteMatch {
    Route::prefix("/").merge(json!({"headers": [{"name": name, "present_match": true}]}))
}

/// Two upstreams, an authoriser that denies everything, and an Envoy in front of them with a
/// listener for each [`Way`].
#[derive(Debug)]
pub struct Rig {
    /// The Envoy.
    pub envoy: Envoy,
    /// The upstream of all other requests.
    pub public: Upstream,
    /// The upstream of the role `admin`.
    pub admin: Upstream,
    /// The authoriser. It denies every request until its answer is changed.
    pub authz: Upstream,
}

/// The upstream of a request, and the response to the client.
#[derive(Debug)]
pub struct Seen {
    /// The client's response.
    pub response: Response,
    /// The upstream and its request. `None` where the request reached no upstream.
    pub upstream: Option<(&'static str, RecordedRequest)>,
    /// How often the authoriser was called.
    pub asked: usize,
}

impl Seen {
    /// The name of the upstream, or `none`.
    pub fn upstream(&self) -> &'static str {
        self.upstream.as_ref().map_or("none", |(name, _)| name)
    }

    /// What the upstream received.
    pub fn request(&self) -> &RecordedRequest {
        let (_, request) = self.upstream.as_ref().expect("a request at an upstream");
        request
    }
}

impl Rig {
    /// Starts the servers. `front` has the filters in front of the one that is tested, and `routes`
    /// use the clusters `public` and `admin`.
    pub fn start(
        binary: &EnvoyBinary,
        filters: &[Filter],
        front: &[HttpFilter],
        routes: &[Route],
    ) -> Self {
        let listeners = filters.iter().flat_map(|filter| {
            let manager = |way| chain(*filter, way, front, routes);
            Way::ALL.map(|way| Listener::http(&filter.listener(way), manager(way)))
        });
        Self::with(binary, listeners, Cluster::http1)
    }

    /// Starts an Envoy with these listeners. `cluster` makes the clusters of its upstreams.
    pub fn with(
        binary: &EnvoyBinary,
        listeners: impl IntoIterator<Item = Listener>,
        cluster: fn(&str, std::net::SocketAddr) -> Cluster,
    ) -> Self {
        let upstream = || Upstream::start().expect("an upstream");
        let [public, admin, authz] = [upstream(), upstream(), upstream()];
        authz.respond_with(|_| Reply::status(403));
        let bootstrap = listeners
            .into_iter()
            .fold(Bootstrap::new(), Bootstrap::listener)
            .cluster(cluster("public", public.address()))
            .cluster(cluster("admin", admin.address()))
            .cluster(Cluster::http1("authz", authz.address()))
            // No collector listens there, because the exported spans are not read.
            .cluster(Cluster::http1("otlp", authz.address()));
        let envoy = Envoy::start(binary, bootstrap).expect("an Envoy that starts");
        Self {
            envoy,
            public,
            admin,
            authz,
        }
    }

    /// A counter of the filters; 0 where no filter has moved it.
    pub fn counter(&self, name: &str) -> u64 {
        let stats = self.envoy.stats().expect("the counters");
        let name = format!("wasmcustom.meshtrace.{name}");
        stats.get(&name).copied().unwrap_or(0)
    }

    /// Sends one request to the listener.
    pub fn send(&self, listener: &str, request: &Request) -> Seen {
        let address = self.address(listener);
        let mut connection = Connection::open(address).expect("a connection");
        let response = connection.send(request).expect("a response");
        let (upstream, asked) = self.taken();
        Seen {
            response,
            upstream,
            asked,
        }
    }

    /// Sends one request to the listener over each version of HTTP. Returns the version, the upstream
    /// or `none`, the status, and how often the authoriser was called.
    pub fn fates(
        &self,
        listener: &str,
        request: &Request,
    ) -> [(&'static str, (&'static str, u16, usize)); 2] {
        let first = self.send(listener, request);
        let mut client = http2::Client::new(self.address(listener));
        let (status, ..) = client
            .send("GET", request.path(), request.headers())
            .expect("an answer");
        let (upstream, asked) = self.taken();
        let second = upstream.map_or("none", |(name, _)| name);
        [
            (
                "HTTP/1.1",
                (first.upstream(), first.response.status, first.asked),
            ),
            ("HTTP/2", (second, status, asked)),
        ]
    }

    /// The listener's address. What the upstreams have seen before is forgotten.
    fn address(&self, listener: &str) -> std::net::SocketAddr {
        for upstream in [&self.public, &self.admin, &self.authz] {
            upstream.take();
        }
        self.envoy.address(listener).expect("the listener's")
    }

    /// The upstream that was called since, with the request, and the calls of the authoriser.
    fn taken(&self) -> (Option<(&'static str, RecordedRequest)>, usize) {
        let public = self.public.take().into_iter();
        let admin = self.admin.take().into_iter();
        let mut seen: Vec<_> = public
            .map(|request| ("public", request))
            .chain(admin.map(|request| ("admin", request)))
            .collect();
        assert!(seen.len() < 2, "{seen:?}");
        let is_question = |request: &&RecordedRequest| request.path != "/v1/traces";
        let asked = self.authz.take().iter().filter(is_question).count();
        (seen.pop(), asked)
    }
}

/// The filters of one listener, and its routes.
pub fn chain(
    filter: Filter,
    way: Way,
    front: &[HttpFilter],
    routes: &[Route],
) -> HttpConnectionManager {
    let own: Option<HttpFilter> = match way {
        Way::Without => None,
        Way::EditFirst | Way::EditPinned | Way::EditBehind => Some(filter.filter(false).into()),
        Way::StateBehind => Some(filter.filter(true).into()),
    };
    let (first, last) = match way {
        Way::EditFirst | Way::EditPinned => (own, None),
        _ => (None, own),
    };
    let pin = (way == Way::EditPinned).then(cors);
    let filters = first.into_iter().chain(pin).chain(front.to_vec());
    let filters = filters.chain(last);
    let mut manager = filters.fold(HttpConnectionManager::new(), |manager, filter| {
        manager.filter(filter)
    });
    for route in routes {
        manager = manager.route(route.clone());
    }
    if way == Way::StateBehind {
        let routes = filter.routes().expect("a configuration");
        manager = manager.merge(json!({"route_config": routes}));
    }
    manager
}

/// A context in the single header `b3`.
pub const B3: &str = "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1";
/// The same context as a `traceparent`.
pub const TRACEPARENT: &str = "00-80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-01";

/// `trace_context` with its defaults.
pub const TRACE_CONTEXT: Filter = Filter {
    name: "trace_context",
    config: "{}",
};
/// Filters that each have something to edit in the requests of [`edited`].
pub const FILTERS: &[Filter] = &[
    TRACE_CONTEXT,
    Filter {
        name: "span_attributes",
        config: r#"{"emit": {"request_header_prefix": "x-span-attr-", "baggage": true}}"#,
    },
    Filter {
        name: "access_log_trace",
        config: r#"{"ids": {"trace_id_header": "x-own-trace"}}"#,
    },
    Filter {
        name: "route_sampling",
        config: r#"{"request_header": null, "force": {"header": "x-force", "value_env": "FORCE"}}"#,
    },
    Filter {
        name: "mesh_tracing",
        config: r#"{"trace_context": {"clear": ["x-secret"]}, "sampling": {"force": {"header": "x-force",
                    "value_env": "FORCE"}}, "span_attributes": {"emit": {"baggage": true}},
                    "access_log": {}, "report": {"cluster": "otlp"}}"#,
    },
    Filter {
        name: "mesh_tracing",
        config: r#"{"trace_context": {"inject": "preserve"}, "access_log": {}}"#,
    },
];

/// A request in which every filter of [`FILTERS`] has something to edit.
pub fn edited() -> Request {
    get(&[
        ("b3", B3),
        ("tracestate", "a=1"),
        ("x-user-id", "alice"),
        ("x-own-trace", "80f198ee56343ba864fe8b2a57d3eff7"),
        ("x-force", "secret"),
        ("x-secret", "1"),
    ])
}

/// A route for the role `admin`, and one for everybody else.
pub fn by_role() -> [Route; 2] {
    let admin = Route::prefix("/")
        .header("x-role", "admin")
        .cluster("admin");
    [
        admin.name("admin"),
        open(Route::prefix("/").cluster("public")).name("public"),
    ]
}
