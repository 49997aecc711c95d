//! Envoys with `span_attributes` and the tags that are rendered for their version, before each
//! tracer.

use std::collections::BTreeMap;
use std::fmt;

use envoy_test_harness::client::{Request, Response};
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, HttpFilter, Listener, Route, Tracing,
};
use envoy_test_harness::upstream::{RecordedRequest, Reply};
use envoy_test_harness::{Envoy, EnvoyBinary, Options, Span, Upstream};
use meshtrace_render::{EnvoyTags, EnvoyVersion, envoy_tags};
use meshtrace_test_support::common;
use meshtrace_test_support::tracers::{CASE, Caller, Sinks, Tracer};
use serde_json::Value;

/// An Envoy with a listener for each tracer, and both ends of it.
#[derive(Debug)]
pub(crate) struct Rig {
    version: EnvoyVersion,
    envoy: Envoy,
    sinks: Sinks,
    upstream: Upstream,
    keys: Vec<String>,
}

impl fmt::Display for Rig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.version)
    }
}

impl Rig {
    /// Everything that the plugin configuration `json` needs is rendered from it; `env` is the
    /// environment of Envoy.
    pub(crate) fn start(binary: &EnvoyBinary, json: &str, env: &[(&str, &str)]) -> Self {
        let version = binary.reported_version().parse().expect("a version");
        let module = common::module("span_attributes");
        let module = module.to_str().expect("a path");
        let rendered = envoy_tags(json.as_bytes(), version, module).expect("tags");
        let keys = rendered.custom_tags.iter().map(|tag| &tag["tag"]);
        let keys = keys.map(|key| key.as_str().expect("a key").to_owned());

        let sinks = Sinks::start();
        let upstream = Upstream::start().expect("an upstream");
        upstream.respond_with(|request| match request.path.starts_with("/orders") {
            true => Reply::ok().header("x-answer-id", "a-1").body("with a body"),
            false => Reply::ok(),
        });
        let listeners = [Tracer::OpenTelemetry, Tracer::ZipkinB3].into_iter();
        let bootstrap = listeners.fold(Bootstrap::new(), |bootstrap, tracer| {
            let tracing = tracer.tracing().expect("a tracer");
            bootstrap.listener(Listener::http(name(tracer), manager(&rendered, tracing)))
        });
        let bootstrap = sinks
            .connect(bootstrap)
            .cluster(Cluster::http1("upstream", upstream.address()));
        let options = env.iter().fold(Options::new(), |options, (name, value)| {
            options.env(name, value)
        });
        let envoy = Envoy::start_with(binary, bootstrap, options).expect("an Envoy that starts");
        Self {
            version,
            envoy,
            sinks,
            upstream,
            keys: keys.collect(),
        }
    }

    pub(crate) fn tags_read_filter_state(&self) -> bool {
        self.version >= EnvoyVersion::V1_37
    }

    /// Sends the request as the caller, and waits for `count` spans of it.
    pub(crate) fn spans(
        &self,
        tracer: Tracer,
        caller: &Caller,
        request: Request,
        count: usize,
    ) -> Vec<Span> {
        let case = format!("case-{}", caller.span_id);
        let request = request
            .header(CASE, &case)
            .header("traceparent", caller.fill("00-$T-$S-01"))
            .header("b3", caller.fill("$T-$S-1"));
        self.send(tracer, &request);
        let spans = self.sinks.spans(tracer, &caller.trace_id, &case, count);
        assert_eq!(spans.len(), count, "{self} {tracer:?}: {spans:?}");
        spans
    }

    /// Sends the request as it is.
    pub(crate) fn send(&self, tracer: Tracer, request: &Request) -> Response {
        let address = self.envoy.address(name(tracer)).expect("the listener");
        request.send(address).expect("a response")
    }

    /// The attributes of a span that the configuration is about.
    pub(crate) fn attributes(&self, span: &Span) -> BTreeMap<String, String> {
        let mut attributes = span.attributes.clone();
        attributes.retain(|key, _| self.keys.contains(key));
        attributes
    }

    /// What the upstream saw last.
    pub(crate) fn last_request(&self) -> RecordedRequest {
        self.upstream.take().pop().expect("a request")
    }

    pub(crate) fn counter(&self, name: &str) -> u64 {
        self.stat(&format!("wasmcustom.meshtrace.span_attributes.{name}"))
    }

    pub(crate) fn stat(&self, name: &str) -> u64 {
        self.envoy.stat(name).expect("a counter")
    }
}

fn name(tracer: Tracer) -> &'static str {
    match tracer {
        Tracer::OpenTelemetry => "opentelemetry",
        _ => "zipkin",
    }
}

fn manager(rendered: &EnvoyTags, tracing: Tracing) -> HttpConnectionManager {
    let tags = rendered.custom_tags.iter().cloned();
    let tracing = tags.fold(tracing.spawn_upstream_span(true), Tracing::custom_tag);
    let filter = |filter: &Value| {
        let name = filter["name"].as_str().expect("a name");
        HttpFilter::raw(name, filter["typed_config"].clone())
    };
    let filters = rendered.http_filters.iter().map(filter);
    let deny = HttpFilter::lua(
        "deny",
        r#"function envoy_on_request(request)
             if request:headers():get(":path") == "/denied" then
               request:respond({[":status"] = "403"}, "")
             end
           end"#,
    );
    filters
        .fold(
            HttpConnectionManager::new().filter(deny),
            HttpConnectionManager::filter,
        )
        .tracing(tracing)
        .route(Route::prefix("/orders").cluster("upstream").name("orders"))
        .route(Route::path("/bare").cluster("upstream").name("bare"))
        .route(Route::path("/local").direct_response(200, "here"))
}

/// A JSON Web Token, unsigned.
pub(crate) fn jwt(payload: &str) -> String {
    use base64::Engine as _;
    let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.c2ln", encode(r#"{"alg":"none"}"#), encode(payload))
}

pub(crate) fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}
