//! What a request costs: CPU of Envoy per proxied request, from `/proc`, in interleaved rounds.
//!
//! Every row is an Envoy of its own with one worker, before the same upstream and collector, which are Envoys too. The
//! load is wrk's. `BENCH_JSON` is the file to write, `BENCH_ONLY` a part of the names of the rows to measure; the first
//! row is always among them. A row's number is the median of its rounds, and what it costs more than the first row is
//! the median of the differences within a round, so that a machine that becomes slower or faster counts for both.

mod rows;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use envoy_test_harness::config::{Bootstrap, Cluster, HttpConnectionManager, Listener, Route};
use envoy_test_harness::{Envoy, EnvoyBinary};
use rows::{Case, Collector};
use serde_json::{Value, json};

/// What is measured, and what came of it.
struct Row {
    name: &'static str,
    context: Option<String>,
    envoy: Envoy,
    /// Microseconds of CPU per request, by round.
    costs: Vec<f64>,
    requests: u64,
}

fn setting(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(crate) fn dist() -> PathBuf {
    root().join("dist")
}

pub(crate) fn fixture(name: &str) -> PathBuf {
    root().join(format!("target/fixtures/{name}.wasm"))
}

/// An Envoy that answers everything with 200.
fn answering(binary: &EnvoyBinary) -> Envoy {
    let manager = HttpConnectionManager::new().route(Route::prefix("/").direct_response(200, ""));
    let bootstrap = Bootstrap::new().listener(Listener::http("all", manager));
    Envoy::start(binary, bootstrap).expect("an Envoy that starts")
}

fn main() {
    let binary = EnvoyBinary::find().expect("an Envoy");
    let (rounds, seconds) = (setting("BENCH_ROUNDS", 15), setting("BENCH_SECONDS", 1));
    let [upstream, collector] = [(); 2].map(|()| answering(&binary));
    let address = |envoy: &Envoy| envoy.address("all").expect("its address");
    // The kernel takes the connections, and nobody reads from them.
    let hanging = TcpListener::bind("127.0.0.1:0").expect("a port");

    let start = |case: Case| {
        let mut manager =
            HttpConnectionManager::new().route(Route::prefix("/").cluster("upstream"));
        if let Some(tracing) = case.tracing {
            manager = manager.tracing(tracing);
        }
        for filter in case.filters {
            manager = manager.filter(filter);
        }
        let collector = match case.collector {
            Collector::Answers => address(&collector),
            Collector::Hangs => hanging.local_addr().expect("its address"),
        };
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("ingress", manager))
            .runtime(
                "tracing.opentelemetry.min_flush_spans",
                case.min_flush_spans,
            )
            .runtime("tracing.opentelemetry.flush_interval_ms", 5000)
            .cluster(Cluster::http1("upstream", address(&upstream)))
            .cluster(Cluster::http1("collector", collector));
        Row {
            name: case.name,
            context: case.context,
            envoy: Envoy::start(&binary, bootstrap).expect("an Envoy that starts"),
            costs: Vec::new(),
            requests: 0,
        }
    };
    let only = std::env::var("BENCH_ONLY").unwrap_or_default();
    let cases = rows::cases().into_iter().enumerate();
    let chosen = cases.filter(|(place, case)| *place == 0 || case.name.contains(&only));
    let mut rows: Vec<Row> = chosen.map(|(_, case)| start(case)).collect();

    for round in 0..=rounds {
        // The first round warms up.
        let of = if round == 0 { "to warm up" } else { "measured" };
        eprintln!("    round {round} of {rounds}, {of}");
        for row in &mut rows {
            let (cpu, requests) = (cpu_us(&row.envoy), count(&row.envoy));
            load(row, seconds);
            let cpu = cpu_us(&row.envoy) - cpu;
            let requests = count(&row.envoy) - requests;
            if round > 0 {
                row.costs.push(cpu / requests as f64);
                row.requests += requests;
            }
        }
    }
    let section = section(&rows, binary.reported_version(), rounds, seconds);
    let path = std::env::var_os("BENCH_JSON").expect("BENCH_JSON, the file to write");
    fs::write(path, format!("{section:#}\n")).expect("the file of the section");
}

fn load(row: &Row, seconds: u64) {
    let address = row.envoy.address("ingress").expect("its address");
    let business = ["x-user-id: alice", "x-tenant-id: acme"];
    let headers = row.context.iter().map(String::as_str).chain(business);
    let output = Command::new("wrk")
        .args(["-t1", "-c16", &format!("-d{seconds}s")])
        .args(headers.flat_map(|header| ["-H", header]))
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

fn median(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.into_iter().collect();
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// The section of `dist/bench.json`, which `.make/bench-table.py` shows.
fn section(rows: &[Row], version: &str, rounds: u64, seconds: u64) -> Value {
    let base = &rows[0];
    let of_row = |row: &Row| {
        let more = row
            .costs
            .iter()
            .zip(&base.costs)
            .map(|(cost, of)| cost - of);
        let more: Vec<f64> = more.collect();
        json!({
            "name": row.name,
            "us": median(row.costs.iter().copied()),
            "more": median(more.iter().copied()),
            "least": more.iter().copied().fold(f64::INFINITY, f64::min),
            "most": more.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            "requests": row.requests,
            "spans": spans(&row.envoy),
            "resident_bytes": resident(&row.envoy),
        })
    };
    json!({
        "name": "requests", "unit": "µs of CPU", "envoy": version,
        "statistic": format!("median of {rounds} rounds of {seconds} s"),
        "rows": rows.iter().map(of_row).collect::<Vec<_>>(),
    })
}

/// What the tracers say of their spans; those of the warm-up too.
fn spans(envoy: &Envoy) -> BTreeMap<String, u64> {
    let stats = envoy.stats().expect("the counters");
    let prefixes = [
        "wasmcustom.meshtrace.report.",
        "tracing.opentelemetry.",
        "tracing.zipkin.",
    ];
    let of_spans = |name: &str| {
        let name = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix));
        name.filter(|name| {
            name.starts_with("exported")
                || name.starts_with("dropped.")
                || name.starts_with("spans_")
        })
        .map(str::to_owned)
    };
    stats
        .into_iter()
        .filter(|(_, value)| *value > 0)
        .filter_map(|(name, value)| Some((of_spans(&name)?, value)))
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
