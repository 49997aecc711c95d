//! What is measured.

use envoy_test_harness::config::{HttpFilter, Tracing, WasmFilter};
use meshtrace_pipeline::{Composition as _, Proxy, TraceContext};
use meshtrace_test_support::native;
use serde_json::{Value, json};

use super::{dist, fixture};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";

/// One Envoy, and the context that its requests carry.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) context: Option<String>,
    pub(crate) filters: Vec<HttpFilter>,
    pub(crate) tracing: Option<Tracing>,
    /// Envoy's `tracing.opentelemetry.min_flush_spans`: by default 5.
    pub(crate) min_flush_spans: u64,
    pub(crate) collector: Collector,
    /// Merged into the route configuration.
    pub(crate) routes: Value,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Collector {
    Answers,
    /// It takes connections and says nothing.
    Hangs,
}

impl Case {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            context: Some(w3c(true)),
            filters: Vec::new(),
            tracing: None,
            min_flush_spans: 5,
            collector: Collector::Answers,
            routes: json!({}),
        }
    }

    fn context(mut self, header: String) -> Self {
        self.context = Some(header);
        self
    }

    fn no_context(mut self) -> Self {
        self.context = None;
        self
    }

    fn filter(mut self, filter: impl Into<HttpFilter>) -> Self {
        self.filters.push(filter.into());
        self
    }

    /// What writes the headers of W3C and B3 from filter state.
    fn by_filter_state(mut self) -> Self {
        let config = br#"{"request_headers": "filter_state"}"#;
        let filter = TraceContext::from_json(config, &Proxy::UNKNOWN).expect("a configuration");
        let headers = filter.by_filter_state().expect("by filter state");
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        let headers: Vec<_> = headers.leaving().map(text).collect();
        self.routes = meshtrace_render::route_configuration(&headers, &[]);
        self
    }

    fn tracing(mut self, tracing: Tracing) -> Self {
        self.tracing = Some(tracing);
        self
    }

    /// Batches as large as those of `mesh_tracing`.
    fn tuned(mut self) -> Self {
        self.min_flush_spans = 512;
        self
    }

    fn hanging_collector(mut self) -> Self {
        self.collector = Collector::Hangs;
        self
    }
}

fn w3c(sampled: bool) -> String {
    format!("traceparent: 00-{TRACE}-0{}", u8::from(sampled))
}

fn b3() -> String {
    format!("b3: {TRACE}-1")
}

fn ours(name: &str, config: &Value) -> WasmFilter {
    let module = dist().join(format!("{name}.wasm"));
    WasmFilter::new(name, module).configuration(config.to_string())
}

fn trace_context() -> WasmFilter {
    ours("trace_context", &json!({"inject": ["tracecontext"]}))
}

/// Four headers: `traceparent`, and B3's three.
fn to_four_headers(request_headers: &str) -> WasmFilter {
    let config = json!({"inject": ["tracecontext", "b3multi"], "request_headers": request_headers});
    ours("trace_context", &config)
}

fn span_attributes() -> WasmFilter {
    ours("span_attributes", &json!({}))
}

fn access_log_trace() -> WasmFilter {
    ours("access_log_trace", &json!({}))
}

fn sampling() -> Value {
    json!({"rules": [
        {"name": "health", "match": {"path": {"exact": "/healthz"}}, "sample": "never"},
        {"name": "api", "match": {"path": {"prefix": "/api/"}}, "sample": {"ratio": 0.01}},
    ]})
}

fn route_sampling() -> WasmFilter {
    ours("route_sampling", &sampling())
}

fn mesh_tracing(config: &Value) -> WasmFilter {
    let mut all = json!({"trace_context": {"inject": ["tracecontext"]}});
    merge(&mut all, config);
    ours("mesh_tracing", &all)
}

fn merge(into: &mut Value, from: &Value) {
    for (key, value) in from.as_object().into_iter().flatten() {
        into[key] = value.clone();
    }
}

fn report(role: &str, keep_errors: bool) -> Value {
    json!({"cluster": "collector", "role": role, "keep": {"errors": keep_errors}})
}

/// `libmeshtrace.so`, with its filter.
fn native(case: Case, keep_errors: bool, spawns: bool) -> Case {
    native_with(
        case,
        &json!({"report": report("server", keep_errors)}),
        spawns,
    )
}

/// The native tracer at one in a hundred, with so many rules. The last one fits.
fn native_by_rules(case: Case, rules: usize) -> Case {
    let rule = |number: usize| {
        let path = match number + 1 == rules {
            true => "/api".to_owned(),
            false => format!("/service-{number}"),
        };
        let name = format!("rule-{number}");
        json!({"name": name, "match": {"path": {"prefix": path}}, "sample": {"ratio": 0.01}})
    };
    let rules: Vec<Value> = (0..rules).map(rule).collect();
    let config = json!({"report": report("server", true), "sampling": {"rules": rules}});
    native_with(case.no_context(), &config, false)
}

fn native_with(case: Case, stages: &Value, spawns: bool) -> Case {
    let mut config = json!({"trace_context": {"inject": ["tracecontext"]}});
    merge(&mut config, stages);
    case.tracing(native::tracing(config).spawn_upstream_span(spawns))
        .filter(native::export())
}

fn empty() -> WasmFilter {
    WasmFilter::new("empty", fixture("empty_filter"))
}

/// The requests whose host calls a test counts.
const REQUESTS: &str = include_str!("../../../crates/host/tests/requests.json");

/// Two rows for each of the counted requests: the filter, and a module that makes its host calls alone.
fn with_its_calls_alone() -> Vec<Case> {
    let rows: Vec<Value> = serde_json::from_str(REQUESTS).expect("JSON");
    let pair = |row: &Value| {
        let text = |key: &str| row[key].as_str().expect("a text").to_owned();
        // A row lives as long as the benchmark.
        let name: &'static str = text("name").leak();
        let alone: &'static str = format!("{name}: its host calls alone").leak();
        let case = |name, filter: WasmFilter| {
            let mut case = Case::new(name).filter(filter);
            case.context = None;
            let headers = row["headers"].as_object().expect("headers");
            let of_context = headers
                .iter()
                .find(|(name, _)| ["traceparent", "b3"].contains(&name.as_str()));
            if let Some((name, value)) = of_context {
                case.context = Some(format!("{name}: {}", value.as_str().expect("a text")));
            }
            case
        };
        [
            case(name, ours(&text("filter"), &row["configuration"])),
            case(alone, host_calls(row)),
        ]
    };
    rows.iter().flat_map(pair).collect()
}

/// The module that makes the host calls of one of the counted requests, and does nothing else.
fn host_calls(row: &Value) -> WasmFilter {
    let mut written = row["written"].as_array().expect("names").iter();
    let mut letter = |call: &Value| match call.as_str() {
        Some("proxy_get_header_map_pairs") => 'h',
        Some("clock_time_get") => 'm',
        Some("proxy_get_current_time_nanoseconds") => 't',
        Some("proxy_increment_metric") => 'c',
        Some("proxy_get_property") => 'p',
        Some("proxy_set_property") => 's',
        Some("proxy_call_foreign_function") => 'e',
        Some("proxy_replace_header_map_value") => match written.next().and_then(Value::as_str) {
            Some("traceparent") => 'W',
            Some("b3") => 'B',
            Some("x-b3-traceid") => 'T',
            Some("x-b3-spanid") => 'S',
            Some("x-b3-sampled") => 'D',
            header => panic!("the module writes no {header:?}"),
        },
        call => panic!("the module makes no {call:?}"),
    };
    let mut letters = |calls: &Value| -> String {
        calls
            .as_array()
            .expect("calls")
            .iter()
            .map(&mut letter)
            .collect()
    };
    let at_request = letters(&row["at_request"]);
    let at_end = letters(&row["at_end"]);
    let expression = row["expression"].as_str().unwrap_or_default();
    WasmFilter::new("host_calls", fixture("host_calls"))
        .configuration(format!("{at_request}\n{at_end}\n{expression}"))
}

fn lua(name: &str, source: &str) -> HttpFilter {
    HttpFilter::lua(name, source)
}

/// Envoy's own filter, with the headers of the two attributes.
fn header_to_metadata() -> HttpFilter {
    let rule = |header: &str, key: &str| json!({"header": header, "on_header_present": {"metadata_namespace": "bench", "key": key}});
    let config = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config",
        "request_rules": [rule("x-user-id", "user.id"), rule("x-tenant-id", "tenant.id")],
    });
    HttpFilter::raw("envoy.filters.http.header_to_metadata", config)
}

const LUA_CONTEXT: &str = include_str!("lua/trace_context.lua");
const LUA_ATTRIBUTES: &str = include_str!("lua/span_attributes.lua");
const LUA_IDS: &str = include_str!("lua/access_log_trace.lua");
const LUA_SAMPLING: &str = include_str!("lua/route_sampling.lua");

/// The first is what the others are compared with.
pub(crate) fn cases() -> Vec<Case> {
    let otel = || Tracing::opentelemetry_http("collector", "bench");
    let one_in_a_hundred = || otel().random_sampling(1.0);
    let sample = || WasmFilter::new("copied_sample", fixture("copied_sample"));
    let everything = json!({
        "span_attributes": {}, "access_log": {}, "report": report("server", true),
    });
    let mut cases = vec![
        Case::new("no filter"),
        Case::new("empty filter").filter(empty()),
        Case::new("the copied sample").filter(sample()),
        Case::new("Lua: B3 to W3C")
            .context(b3())
            .filter(lua("context", LUA_CONTEXT)),
        Case::new("trace_context: W3C").filter(trace_context()),
        Case::new("trace_context: B3 to four headers")
            .context(b3())
            .filter(to_four_headers("edit")),
        Case::new("trace_context: the same by filter state")
            .context(b3())
            .filter(to_four_headers("filter_state"))
            .by_filter_state(),
        Case::new("Lua: two attributes").filter(lua("attributes", LUA_ATTRIBUTES)),
        Case::new("header_to_metadata: two headers").filter(header_to_metadata()),
        Case::new("Lua: ids for the log").filter(lua("ids", LUA_IDS)),
        Case::new("Lua: sampling by path")
            .no_context()
            .filter(lua("sampling", LUA_SAMPLING)),
        Case::new("Lua: all four scripts")
            .context(b3())
            .filter(lua("context", LUA_CONTEXT))
            .filter(lua("sampling", LUA_SAMPLING))
            .filter(lua("attributes", LUA_ATTRIBUTES))
            .filter(lua("ids", LUA_IDS)),
        Case::new("the four filters, chained")
            .context(b3())
            .filter(trace_context())
            .filter(route_sampling())
            .filter(span_attributes())
            .filter(access_log_trace()),
        Case::new("mesh_tracing, without report")
            .context(b3())
            .filter(mesh_tracing(
                &json!({"span_attributes": {}, "access_log": {}}),
            )),
        Case::new("OTel tracer, 1 %")
            .no_context()
            .tracing(one_in_a_hundred())
            .tuned(),
        Case::new("mesh_tracing, 1 %, keep.errors off")
            .no_context()
            .filter(mesh_tracing(&json!({"report": report("server", false)}))),
        Case::new("mesh_tracing, 1 %")
            .no_context()
            .filter(mesh_tracing(&json!({"report": report("server", true)}))),
        native(
            Case::new("native tracer, 1 %, keep.errors off").no_context(),
            false,
            false,
        ),
        native(Case::new("native tracer, 1 %").no_context(), true, false),
        native_by_rules(Case::new("native tracer, 1 % by one of 10 rules"), 10),
        native_by_rules(Case::new("native tracer, 1 % by one of 1,000 rules"), 1000),
        Case::new("OTel tracer, not sampled")
            .context(w3c(false))
            .tracing(otel())
            .tuned(),
        Case::new("OTel tracer, batches of 512")
            .tracing(otel())
            .tuned(),
        native(Case::new("native tracer"), true, false),
        Case::new("OTel tracer, batches of 512, upstream spans")
            .tracing(otel().spawn_upstream_span(true))
            .tuned(),
        native(Case::new("native tracer, upstream spans"), true, true),
        Case::new("OTel tracer, defaults").tracing(otel()),
        Case::new("Zipkin tracer").tracing(Tracing::zipkin("collector")),
        Case::new("mesh_tracing, headers by filter state")
            .filter(mesh_tracing(&json!({
                "report": report("server", true), "request_headers": "filter_state",
            })))
            .by_filter_state(),
        Case::new("mesh_tracing, attributes and log ids").filter(mesh_tracing(&everything)),
        Case::new("mesh_tracing, gateway (two spans)")
            .filter(mesh_tracing(&json!({"report": report("gateway", true)}))),
        Case::new("mesh_tracing, collector hangs")
            .filter(mesh_tracing(&json!({"report": report("server", true)})))
            .hanging_collector(),
    ];
    cases.extend(with_its_calls_alone());
    cases
}
