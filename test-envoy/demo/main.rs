//! `make demo`: one request through two applications that propagate trace context in different formats, on real
//! Envoys without tracing, before and after the filter.

mod apps;
mod story;

use std::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, Listener, Route, WasmFilter,
};
use envoy_test_harness::span::Span;
use envoy_test_harness::waterfall::{self, Hop, Page, Terminal};
use envoy_test_harness::{Envoy, EnvoyBinary, OtlpSink};

use apps::{Python, Running};
use story::{ACTS, APPS, Act, App, PATH};

/// Twice the time after which the SDKs send what they have: a span too many would have come by then.
const SETTLE: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\ndemo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    println!("meshtrace demo: one request through two applications, before and after the filter\n");
    let stations = APPS.map(|app| format!(" → Envoy → {} ({} only)", app.name, app.format));
    println!("  client{}\n", stations.concat());
    println!(
        "The applications are plain Flask, instrumented from outside by the OpenTelemetry SDK."
    );
    println!("The Envoys have tracing off, and the client sends no trace headers.");
    let set = Set::prepare()?;

    let mut pictures = Vec::new();
    let mut failures = Vec::new();
    for (nth, act) in (1..).zip(&ACTS) {
        println!("\nAct {nth} of {}: {}", ACTS.len(), act.title);
        let spans = set.play(act)?;
        println!("\n{}", Terminal::of_stdout().render(&spans));
        let picture = match act.check(&spans) {
            Ok(()) => waterfall::Act {
                title: act.title.to_owned(),
                good: act.joined(),
                verdict: act.verdict.to_owned(),
                text: act.text.to_owned(),
                spans,
                ..waterfall::Act::default()
            },
            Err(why) => {
                failures.push(format!("act {nth} did not end as it should. {why}"));
                waterfall::Act {
                    title: act.title.to_owned(),
                    good: false,
                    verdict: "not as it should be".to_owned(),
                    text: why,
                    spans,
                    ..waterfall::Act::default()
                }
            }
        };
        println!(
            "  {} {}",
            if picture.good { "✓" } else { "✗" },
            picture.text
        );
        pictures.push(picture);
    }

    let page = set.write_page(pictures)?;
    println!("\nThe same as a page: {}", page.display());
    if failures.is_empty() {
        Ok(())
    } else {
        Err(failures.join("\n").into())
    }
}

/// What every act is played with.
#[derive(Debug)]
struct Set {
    root: PathBuf,
    filter: PathBuf,
    python: Python,
    envoy: EnvoyBinary,
}

impl Set {
    fn prepare() -> Result<Self, Box<dyn Error>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .ok_or("the crate is not in a workspace")?
            .to_owned();
        let filter = root.join("dist/trace_context.wasm");
        if !filter.is_file() {
            return Err(format!("{} is missing: run `make build`.", filter.display()).into());
        }
        let python = Python::from_env()?;
        println!("Looking for an Envoy; where there is none, one is downloaded the first time.");
        let envoy = EnvoyBinary::find()?;
        println!("Found Envoy {}.", envoy.reported_version());
        Ok(Self {
            root,
            filter,
            python,
            envoy,
        })
    }

    /// Starts everything anew, sends the request, and returns the spans that came of it.
    fn play(&self, act: &Act) -> Result<Vec<Span>, Box<dyn Error>> {
        let collector = OtlpSink::start()?;
        let logs = tempfile::tempdir()?;
        // Each ends when it is dropped.
        let mut running = Vec::new();
        let mut entry = None;
        // From the last one backwards: each is told where the next one's Envoy listens.
        for app in APPS.iter().rev() {
            println!(
                "  starting {} with OTEL_PROPAGATORS={}",
                app.name, app.propagator
            );
            let process =
                Running::start(app, &self.python, collector.http_addr(), entry, logs.path())?;
            println!("  starting the Envoy in front of {}", app.name);
            let envoy = Envoy::start(&self.envoy, self.bootstrap(act, app, process.address))?;
            entry = Some(envoy.address("in")?);
            running.push((process, envoy));
        }
        let entry = entry.ok_or("there is no application")?;

        println!("  sending GET {PATH}");
        let response = Request::get(PATH).send(entry)?;
        if response.status != 200 {
            return Err(format!(
                "the request was answered with {}: {}",
                response.status,
                response.text()
            )
            .into());
        }
        println!("  collecting the spans");
        // Too few are the act's to judge, and to show.
        let _ = collector.wait_for_spans(act.spans.len());
        std::thread::sleep(SETTLE);
        Ok(collector.spans())
    }

    fn bootstrap(&self, act: &Act, app: &App, address: SocketAddr) -> Bootstrap {
        let mut manager = HttpConnectionManager::new().route(Route::prefix("/").cluster(app.name));
        if act.filter {
            manager = manager.filter(WasmFilter::new("trace_context", &self.filter));
        }
        Bootstrap::new()
            .listener(Listener::http("in", manager))
            .cluster(Cluster::http1(app.name, address))
    }

    fn write_page(&self, acts: Vec<waterfall::Act>) -> Result<PathBuf, Box<dyn Error>> {
        let hop = |name: &str, note: String| Hop {
            name: name.to_owned(),
            note,
        };
        let mut path = vec![hop("client", "no trace headers".to_owned())];
        for app in &APPS {
            path.push(hop("Envoy", "tracing off".to_owned()));
            path.push(hop(app.name, format!("{} only", app.format)));
        }
        let page = Page {
            title: "One request, before and after the filter".to_owned(),
            lead: "A request passes two applications, each behind its own Envoy; one propagates its trace as B3, the \
                   other as W3C, so by themselves they report two traces. With trace_context.wasm in the Envoys, the \
                   same applications, unchanged, report one."
                .to_owned(),
            path,
            acts,
            footer: format!(
                "Envoy {}; the spans are those that the applications' OpenTelemetry SDKs exported. \
                 Times of one act share one axis; a click on a span shows its attributes.",
                self.envoy.reported_version()
            ),
        };
        let file = self.root.join("dist/demo/trace.html");
        fs::create_dir_all(file.with_file_name(""))?;
        fs::write(&file, page.render())?;
        Ok(file)
    }
}
