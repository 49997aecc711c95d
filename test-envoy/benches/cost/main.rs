//! What a request costs: CPU of Envoy per proxied request, from `/proc`, in interleaved rounds.
//!
//! Every row is an Envoy of its own with one worker, before the same upstream and collector, which
//! are Envoys too. The measured ones have a core for themselves, on which nothing else of ours
//! runs. `BENCH_JSON` is the file to write, `BENCH_ONLY` parts of the names of the rows to measure,
//! with commas between them; the first row is always among them. A row's number is the median of
//! its rounds, and what it costs more than the first row is the median of the differences within a
//! round, so that a machine that becomes slower or faster counts for both.

mod load;
mod rows;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use envoy_test_harness::config::{Bootstrap, Cluster, HttpConnectionManager, Listener, Route};
use envoy_test_harness::{Envoy, EnvoyBinary};
use load::Load;
use meshtrace_test_support::native;
use rows::{Case, Collector};
use serde_json::{Value, json};

/// What is measured, and what came of it.
struct Row {
    name: &'static str,
    envoy: Envoy,
    load: Load,
    /// Whether its memory is measured after [`MANY`] requests too: it is a tracer, or the first.
    is_weighed: bool,
    /// The resident bytes: before the first request, after the rounds, and after [`MANY`].
    resident: Vec<(&'static str, u64)>,
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

/// The cores, where there are two: that of the Envoy that is measured, and that of everything else.
const MEASURED: &str = "0";
const OTHERS: &str = "1";

/// Has all threads of a process run on one core.
fn pin(process: u32, core: &str) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 {
        return;
    }
    let output = Command::new("taskset")
        .args([
            "--all-tasks",
            "--cpu-list",
            "--pid",
            core,
            &process.to_string(),
        ])
        .output()
        .expect("taskset, from the Debian package util-linux");
    assert!(output.status.success(), "{output:?}");
}

/// An Envoy that answers everything with 200.
fn answering(binary: &EnvoyBinary) -> Envoy {
    let manager = HttpConnectionManager::new().route(Route::prefix("/").direct_response(200, ""));
    let bootstrap = Bootstrap::new().listener(Listener::http("all", manager));
    let envoy = Envoy::start(binary, bootstrap).expect("an Envoy that starts");
    pin(envoy.process_id(), OTHERS);
    envoy
}

/// So many requests show whether a tracer's memory grows.
const MANY: u64 = 100_000;

/// Rounds that are not counted: the first ones of a process are slower.
const WARM_UP: u64 = 2;

fn main() {
    let binary = EnvoyBinary::find().expect("an Envoy");
    let rounds = setting("BENCH_ROUNDS", 40);
    let requests = setting("BENCH_REQUESTS", 1600);
    let [upstream, collector] = [(); 2].map(|()| answering(&binary));
    let address = |envoy: &Envoy, listener| envoy.address(listener).expect("its address");
    // The kernel takes the connections, and nobody reads from them.
    let hanging = TcpListener::bind("127.0.0.1:0").expect("a port");

    let start = |(place, case): (usize, Case)| {
        let is_weighed = place == 0 || case.tracing.is_some();
        let mut manager =
            HttpConnectionManager::new().route(Route::prefix("/").cluster("upstream"));
        manager = manager.merge(json!({"route_config": case.routes}));
        if let Some(tracing) = case.tracing {
            manager = manager.tracing(tracing);
        }
        for filter in case.filters {
            manager = manager.filter(filter);
        }
        let collector = match case.collector {
            Collector::Answers => address(&collector, "all"),
            Collector::Hangs => hanging.local_addr().expect("its address"),
        };
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("ingress", manager))
            .runtime(
                "tracing.opentelemetry.min_flush_spans",
                case.min_flush_spans,
            )
            .runtime("tracing.opentelemetry.flush_interval_ms", 5000)
            .cluster(Cluster::http1("upstream", address(&upstream, "all")))
            .cluster(Cluster::http1("collector", collector));
        let envoy = Envoy::start_with(&binary, bootstrap, native::options());
        let envoy = envoy.expect("an Envoy that starts");
        pin(envoy.process_id(), MEASURED);
        let business = ["x-user-id: alice", "x-tenant-id: acme"];
        let headers = case.context.iter().map(String::as_str).chain(business);
        Row {
            name: case.name,
            load: Load::new(address(&envoy, "ingress"), headers, envoy.process_id()),
            is_weighed,
            resident: vec![("at_first", resident(&envoy))],
            envoy,
            costs: Vec::new(),
            requests: 0,
        }
    };
    let only = std::env::var("BENCH_ONLY").unwrap_or_default();
    let is_chosen = |name: &str| only.split(',').any(|part| name.contains(part.trim()));
    let cases = rows::cases().into_iter().enumerate();
    let chosen = cases.filter(|(place, case)| *place == 0 || is_chosen(case.name));
    let mut rows: Vec<Row> = chosen.map(start).collect();
    pin(std::process::id(), OTHERS);

    for round in 0..WARM_UP + rounds {
        let measured = round.checked_sub(WARM_UP);
        match measured {
            None => eprintln!("    round {} of {WARM_UP} to warm up", round + 1),
            Some(round) => eprintln!("    round {} of {rounds}", round + 1),
        }
        for row in &mut rows {
            let (cost, sent) = row.load.round(requests);
            if measured.is_some() {
                row.costs.push(cost);
                row.requests += sent;
            }
        }
    }
    for row in &mut rows {
        row.weigh((WARM_UP + rounds) * requests);
    }
    let section = section(&rows, binary.reported_version(), rounds, requests);
    let path = std::env::var_os("BENCH_JSON").expect("BENCH_JSON, the file to write");
    fs::write(path, format!("{section:#}\n")).expect("the file of the section");
}

impl Row {
    /// Measures the memory after the rounds, in which so many requests were `sent`, and after
    /// [`MANY`].
    fn weigh(&mut self, sent: u64) {
        self.resident.push(("the_rounds", resident(&self.envoy)));
        if self.is_weighed && sent < MANY {
            self.load.round(MANY - sent);
        }
        if self.is_weighed {
            self.resident.push(("then_100000", resident(&self.envoy)));
        }
    }
}

/// The number below which `quarters` quarters of these are.
fn quartile(numbers: &[f64], quarters: usize) -> f64 {
    let mut numbers = numbers.to_vec();
    numbers.sort_by(f64::total_cmp);
    numbers[(numbers.len() - 1) * quarters / 4]
}

/// The section of `dist/bench.json`, which `.make/bench-table.py` shows.
fn section(rows: &[Row], version: &str, rounds: u64, requests: u64) -> Value {
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
            "us": quartile(&row.costs, 2),
            "more": quartile(&more, 2),
            "more_quartiles": [quartile(&more, 1), quartile(&more, 3)],
            "requests": row.requests,
            "spans": spans(&row.envoy),
            "resident_bytes": row.resident.iter().map(|(moment, bytes)| ((*moment).to_owned(), json!(bytes))).collect::<serde_json::Map<_, _>>(),
        })
    };
    json!({
        "name": "requests", "unit": "µs of CPU", "envoy": version,
        "statistic": format!("median of {rounds} rounds of {requests} requests"),
        "rows": rows.iter().map(of_row).collect::<Vec<_>>(),
    })
}

/// What the tracers say of their spans; those of the warm-up too.
fn spans(envoy: &Envoy) -> BTreeMap<String, u64> {
    let stats = envoy.stats().expect("the counters");
    let prefixes = [
        "wasmcustom.meshtrace.report.",
        "dynamicmodulescustom.meshtrace.report.",
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
