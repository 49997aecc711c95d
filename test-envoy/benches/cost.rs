//! What a request costs: CPU of Envoy per proxied request, from `/proc`, in interleaved rounds.
//!
//! Every row is an Envoy of its own with one worker, before the same upstream and collector, which are Envoys too. The
//! load is wrk's. `BENCH_JSON` is the file to write. A row's number is the median of its rounds; the spread is their least and greatest.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, Listener, Route, Tracing, WasmFilter,
};
use envoy_test_harness::{Envoy, EnvoyBinary};
use serde_json::{Value, json};

const SAMPLED: &str = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const NOT_SAMPLED: &str = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

/// What is measured, and the header that its requests carry.
struct Row {
    name: &'static str,
    header: &'static str,
    envoy: Envoy,
    /// Microseconds of CPU per request, by round.
    costs: Vec<f64>,
    requests: u64,
}

fn setting(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn dist() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../dist"))
}

/// An Envoy that answers everything with 200.
fn answering(binary: &EnvoyBinary) -> Envoy {
    let manager = HttpConnectionManager::new().route(Route::prefix("/").direct_response(200, ""));
    let bootstrap = Bootstrap::new().listener(Listener::http("all", manager));
    Envoy::start(binary, bootstrap).expect("an Envoy that starts")
}

fn main() {
    let binary = EnvoyBinary::find().expect("an Envoy");
    let (rounds, seconds) = (setting("BENCH_ROUNDS", 5), setting("BENCH_SECONDS", 3));
    let [upstream, collector] = [(); 2].map(|()| answering(&binary));
    let address = |envoy: &Envoy| envoy.address("all").expect("its address");
    let (upstream, collector) = (
        (address(&upstream), upstream),
        (address(&collector), collector),
    );

    let row = |name, header, tracing: Option<Tracing>, filter: Option<String>, min_flush: u64| {
        let mut manager =
            HttpConnectionManager::new().route(Route::prefix("/").cluster("upstream"));
        if let Some(tracing) = tracing {
            manager = manager.tracing(tracing);
        }
        if let Some(config) = filter {
            let module = dist().join("mesh_tracing.wasm");
            manager = manager.filter(WasmFilter::new("mesh_tracing", module).configuration(config));
        }
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("ingress", manager))
            .runtime("tracing.opentelemetry.min_flush_spans", min_flush)
            .runtime("tracing.opentelemetry.flush_interval_ms", 5000)
            .cluster(Cluster::http1("upstream", upstream.0))
            .cluster(Cluster::http1("collector", collector.0));
        Row {
            name,
            header,
            envoy: Envoy::start(&binary, bootstrap).expect("an Envoy that starts"),
            costs: Vec::new(),
            requests: 0,
        }
    };
    let report = |keep: bool, role: &str| {
        let report = json!({"cluster": "collector", "role": role, "keep": {"errors": keep}});
        Some(json!({"trace_context": {"inject": ["tracecontext"]}, "report": report}).to_string())
    };
    let native = || Some(Tracing::opentelemetry_http("collector", "bench"));
    let context = Some(r#"{"trace_context": {"inject": ["tracecontext"]}}"#.to_owned());
    let mut rows = vec![
        row("no tracing", SAMPLED, None, None, 5),
        row(
            "mesh_tracing, trace_context alone",
            SAMPLED,
            None,
            context,
            5,
        ),
        row(
            "mesh_tracing, not sampled, keep.errors off",
            NOT_SAMPLED,
            None,
            report(false, "server"),
            5,
        ),
        row(
            "mesh_tracing, not sampled, keep.errors on",
            NOT_SAMPLED,
            None,
            report(true, "server"),
            5,
        ),
        row("OTel tracer, not sampled", NOT_SAMPLED, native(), None, 512),
        row(
            "mesh_tracing, sampled",
            SAMPLED,
            None,
            report(true, "server"),
            5,
        ),
        row(
            "mesh_tracing, sampled, gateway (two spans)",
            SAMPLED,
            None,
            report(true, "gateway"),
            5,
        ),
        row(
            "OTel tracer, sampled, min_flush_spans 512",
            SAMPLED,
            native(),
            None,
            512,
        ),
        row("OTel tracer, sampled, defaults", SAMPLED, native(), None, 5),
    ];

    for round in 0..=rounds {
        for row in &mut rows {
            let (cpu, requests) = (cpu_us(&row.envoy), count(&row.envoy));
            load(&row.envoy, row.header, seconds);
            let cpu = cpu_us(&row.envoy) - cpu;
            let requests = count(&row.envoy) - requests;
            // The first round warms up.
            if round > 0 {
                row.costs.push(cpu / requests as f64);
                row.requests += requests;
            }
        }
    }
    let section = section(&mut rows, binary.reported_version(), rounds, seconds);
    let path = std::env::var_os("BENCH_JSON").expect("BENCH_JSON, the file to write");
    fs::write(path, format!("{section:#}\n")).expect("the file of the section");
}

fn load(envoy: &Envoy, header: &str, seconds: u64) {
    let address = envoy.address("ingress").expect("its address");
    let output = Command::new("wrk")
        .args(["-t1", "-c16", &format!("-d{seconds}s"), "-H", header])
        .arg(format!("http://{address}/api/items?id=7"))
        .output()
        .expect("wrk, from the Debian package of that name");
    assert!(output.status.success(), "{output:?}");
}

/// CPU time of the whole process, in microseconds.
fn cpu_us(envoy: &Envoy) -> f64 {
    let stat =
        fs::read_to_string(format!("/proc/{}/stat", envoy.process_id())).expect("the process");
    let (_, fields) = stat.rsplit_once(") ").expect("its fields");
    let fields: Vec<f64> = fields
        .split(' ')
        .skip(11)
        .take(2)
        .map(|field| field.parse().expect("a number"))
        .collect();
    // In hundredths of a second, as on every Linux that Envoy is built for.
    fields.iter().sum::<f64>() * 10_000.0
}

fn count(envoy: &Envoy) -> u64 {
    let name = "http.ingress.downstream_rq_completed";
    envoy.stat(name).expect("the counter")
}

/// The section of `dist/bench.json`, which `.make/bench-table.py` shows.
fn section(rows: &mut [Row], version: &str, rounds: u64, seconds: u64) -> Value {
    let mut base = None;
    let mut section = Vec::new();
    for row in rows {
        row.costs.sort_by(f64::total_cmp);
        let (least, most) = (row.costs[0], row.costs[row.costs.len() - 1]);
        let median = row.costs[row.costs.len() / 2];
        let base = *base.get_or_insert(median);
        section.push(json!({
            "name": row.name, "us": median, "more": median - base, "least": least, "most": most,
            "requests": row.requests, "spans": spans(&row.envoy),
            "resident_bytes": resident(&row.envoy),
        }));
    }
    json!({
        "name": "requests", "unit": "µs of CPU", "envoy": version,
        "statistic": format!("median of {rounds} rounds of {seconds} s"), "rows": section,
    })
}

/// What the tracers say of their spans; those of the warm-up too.
fn spans(envoy: &Envoy) -> BTreeMap<String, u64> {
    let stats = envoy.stats().expect("the counters");
    let of_spans = |name: &str| {
        name.contains("meshtrace.report.exported")
            || name.contains("meshtrace.report.dropped")
            || name.contains("opentelemetry.spans_")
    };
    stats
        .into_iter()
        .filter(|(name, value)| of_spans(name) && *value > 0)
        .map(|(name, value)| {
            let short = name.trim_start_matches("wasmcustom.meshtrace.report.");
            (
                short
                    .trim_start_matches("tracing.opentelemetry.")
                    .to_owned(),
                value,
            )
        })
        .collect()
}

fn resident(envoy: &Envoy) -> u64 {
    let path = format!("/proc/{}/statm", envoy.process_id());
    let text = fs::read_to_string(path).expect("the process's memory");
    let pages = text.split_ascii_whitespace().nth(1);
    pages
        .and_then(|pages| pages.parse::<u64>().ok())
        .expect("its pages")
        * 4096
}
