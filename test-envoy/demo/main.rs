//! `make demo`: one request through two applications and two proxies that speak different trace
//! formats, before and after the filters; every span that anyone exports is drawn and checked.

mod apps;
mod proxies;
mod story;

use std::error::Error;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use envoy_test_harness::client::Request;
use envoy_test_harness::{EnvoyBinary, OtlpSink, ZipkinSink};
use span_waterfall::{Hop, Page, Span, Terminal};

use apps::{Python, Running};
use proxies::{Addresses, Modules, Proxies};
use story::{ACTS, Act, CAST, PAYMENTS, Piece, SIDECAR, STATIONS, STOREFRONT};

/// Twice the time after which the SDKs and the tracers send what they have: a span too many would
/// have come by then.
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
    introduce();
    let python = Python::from_env()?;
    println!("Looking for an Envoy; where there is none, one is downloaded the first time.");
    let envoy = EnvoyBinary::find()?;
    let has_native_tracer = envoy.is_at_least(1, 38);
    let modules = Modules {
        trace_context: released("trace_context.wasm")?,
        mesh_tracing: released("mesh_tracing.wasm")?,
        native: match has_native_tracer {
            true => Some(released("libmeshtrace.so")?),
            false => None,
        },
    };
    println!(
        "Starting Envoy {} twice, and both applications.",
        envoy.reported_version()
    );
    let set = Set::start(&envoy, &python, modules.clone())?;

    let mut pictures = Vec::new();
    let mut failures = Vec::new();
    for (nth, act) in (1..).zip(&ACTS) {
        if act.pieces.contains(&Piece::Native) && !has_native_tracer {
            println!("\nAct {nth} is left out: its module is for Envoy 1.38 and later.");
            continue;
        }
        println!("\nAct {nth} of {}: {}", ACTS.len(), act.title);
        if !act.pieces.is_empty() {
            println!("{}", act.intro);
            for piece in act.pieces {
                println!("  {:49}  {}", piece.name(), piece.effect());
            }
        }
        let is_tracer = Piece::is_tracer(act.pieces);
        if is_tracer {
            println!("with one configuration for both:");
            for (key, value, what) in proxies::stages(act.pieces) {
                println!("  {:49}  {what}", format!("{key:?}: {value}"));
            }
        }
        let spans = set.play(act.pieces)?;
        println!("\n{}", Terminal::of_stdout().render(&spans));
        let told = is_tracer.then(|| set.tell(act.pieces, &spans));
        let picture = picture(act, spans, &mut failures);
        println!("  {} {}", mark(picture.good), picture.text);
        pictures.push(picture);
        match told {
            Some(Ok(told)) => println!("\n{told}"),
            Some(Err(why)) => failures.push(why),
            None => {}
        }
        // After a failure they would only repeat it.
        if act.pieces == Piece::BESIDE && failures.is_empty() {
            set.leave_each_out(&mut failures)?;
        }
    }

    let page = write_page(&modules.trace_context, &envoy, pictures)?;
    println!("\nThe pictures as a page: {}", page.display());
    if failures.is_empty() {
        Ok(())
    } else {
        Err(failures.join("\n").into())
    }
}

/// A module as `make build` leaves it.
fn released(name: &str) -> Result<PathBuf, String> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(format!("../dist/{name}"))
        .canonicalize()
        .map_err(|_| format!("dist/{name} is missing: run `make build`."))
}

fn mark(good: bool) -> char {
    if good { '✓' } else { '✗' }
}

fn introduce() {
    println!("meshtrace demo: one request, before and after the filters\n");
    let (mut names, mut formats) = (String::new(), String::new());
    for (name, format) in STATIONS {
        let arrow = if names.is_empty() { "" } else { " → " };
        names += &format!("{arrow}{name}");
        let column = names.chars().count() - name.len();
        formats = format!("{formats:column$}{format}");
    }
    println!("  {names}\n  {formats}\n");
    for (name, what) in CAST {
        println!("  {name:10}  {what}");
    }
    println!(
        "\nFour acts: as they are; with trace_context.wasm beside the proxies' tracers; with mesh_tracing.wasm in the \
         place of those;\nwith libmeshtrace.so where those stand, and no filter.\nEvery span that any of them exports is drawn: █ applications, ━ proxies."
    );
}

fn traces(pieces: &[Piece]) -> String {
    match story::traces(pieces) {
        1 => "1 trace".to_owned(),
        number => format!("{number} traces"),
    }
}

/// What an act shows; that it did not end as it should is also told to `failures`.
fn picture(act: &Act, spans: Vec<Span>, failures: &mut Vec<String>) -> span_waterfall::Act {
    let (good, verdict, text) = match story::check(act.pieces, &spans) {
        Ok(()) => (
            story::traces(act.pieces) == 1,
            traces(act.pieces),
            act.text.to_owned(),
        ),
        Err(why) => {
            failures.push(format!(
                "the act \"{}\" did not end as it should. {why}",
                act.title
            ));
            (false, "not as it should be".to_owned(), why)
        }
    };
    span_waterfall::Act {
        title: act.title.to_owned(),
        good,
        verdict,
        text,
        changes: act
            .pieces
            .iter()
            .map(|piece| Hop {
                name: piece.name().to_owned(),
                note: piece.effect().to_owned(),
            })
            .collect(),
        spans,
    }
}

/// What every act is played with.
#[derive(Debug)]
struct Set {
    otlp: OtlpSink,
    zipkin: ZipkinSink,
    proxies: Proxies,
    apps: [Running; 2],
}

impl Set {
    fn start(
        envoy: &EnvoyBinary,
        python: &Python,
        modules: Modules,
    ) -> Result<Self, Box<dyn Error>> {
        let otlp = OtlpSink::start()?;
        let zipkin = ZipkinSink::start()?;
        // Proxies and applications call each other, so somebody's port must be known before it
        // runs.
        let socket = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let (storefront, payments) = (socket()?, socket()?);
        let proxies = Proxies::start(
            envoy,
            modules,
            Addresses {
                storefront: storefront.local_addr()?,
                payments: payments.local_addr()?,
                otlp: otlp.grpc_addr(),
                zipkin: zipkin.address(),
            },
        )?;
        let start = |app, socket, next| {
            Running::start(
                app,
                python,
                socket,
                otlp.http_addr(),
                next,
                proxies.folder(),
            )
        };
        let mut apps = [
            start(&STOREFRONT, storefront, proxies.inbound()?)?,
            start(&PAYMENTS, payments, proxies.outbound()?)?,
        ];
        for app in &mut apps {
            app.wait_until_ready()?;
        }
        Ok(Self {
            otlp,
            zipkin,
            proxies,
            apps,
        })
    }

    /// Gives the proxies these pieces, sends the request, and returns the spans that came of it.
    fn play(&self, pieces: &[Piece]) -> Result<Vec<Span>, Box<dyn Error>> {
        self.proxies.configure(pieces)?;
        self.otlp.clear();
        self.zipkin.clear();
        let request = Request::get(story::PATH).header("x-user-id", "ada");
        let is_tracer = Piece::is_tracer(pieces);
        let response = request.send(self.proxies.entrance()?)?;
        if response.status != 200 {
            let logs: Vec<_> = self.apps.iter().map(Running::log).collect();
            return Err(format!(
                "the request was answered with {}: {}\n{}",
                response.status,
                response.text(),
                logs.join("\n")
            )
            .into());
        }
        let is_zipkins = |service: &str| service == SIDECAR && !is_tracer;
        // Too few are the story's to judge, and to show.
        let _ = self
            .otlp
            .wait_for_spans(story::spans_of(|service| !is_zipkins(service)));
        let _ = self.zipkin.wait_for_spans(story::spans_of(is_zipkins));
        std::thread::sleep(SETTLE);
        Ok([self.otlp.spans(), self.zipkin.spans()].concat())
    }

    /// Plays the request without each of the pieces.
    fn leave_each_out(&self, failures: &mut Vec<String>) -> Result<(), Box<dyn Error>> {
        println!("\nEach of the three is needed:");
        for left_out in Piece::BESIDE {
            let pieces: Vec<_> = Piece::BESIDE
                .into_iter()
                .filter(|piece| *piece != left_out)
                .collect();
            let without = format!("without {}", left_out.name());
            match story::check(&pieces, &self.play(&pieces)?) {
                Ok(()) => println!("  {} {without}", traces(&pieces)),
                Err(why) => failures.push(format!("{without} it did not end as it should. {why}")),
            }
        }
        Ok(())
    }

    /// What the tracer put into the gateway's span, and the line of the log that leads to it.
    fn tell(&self, pieces: &[Piece], spans: &[Span]) -> Result<String, String> {
        let Some(span) = story::entrance(pieces, spans) else {
            return Err("the gateway's span did not arrive.".to_owned());
        };
        // A line for each request that a tracer of ours saw, in one file.
        let acts = ACTS.iter().map(|act| act.pieces);
        let before = acts.take_while(|earlier| *earlier != pieces);
        let written = before.filter(|earlier| Piece::is_tracer(earlier)).count();
        let lines = self.proxies.log().wait_for_lines(written + 1);
        let lines = lines.map_err(|error| error.to_string())?;
        let line = lines.last().ok_or("the gateway logged nothing.")?;
        for (key, id) in [("trace_id", &span.trace_id), ("span_id", &span.span_id)] {
            if line[key] != id.as_str() {
                return Err(format!("the log's {key} should be {id}: {line}"));
            }
        }
        if span.attribute("user.id") != Some("ada") {
            return Err(format!(
                "the gateway's span should have a user: {:?}",
                span.attributes
            ));
        }
        let mut told = format!(
            "  The gateway's first span, {}, as it was exported:\n",
            span.span_id
        );
        for (key, value) in &span.attributes {
            told += &format!("    {key:34}  {value}\n");
        }
        told += &format!(
            "\n  The line of the gateway's access log:\n    {line}\n  ✓ It names that span; user.id comes from the \
             request's x-user-id."
        );
        Ok(told)
    }
}

fn write_page(
    module: &Path,
    envoy: &EnvoyBinary,
    acts: Vec<span_waterfall::Act>,
) -> Result<PathBuf, Box<dyn Error>> {
    let path = STATIONS.map(|(name, format)| Hop {
        name: name.to_owned(),
        note: match format {
            "" => "no trace headers".to_owned(),
            format => format!("{format} only"),
        },
    });
    let page = Page {
        title: "One request, before and after the filters".to_owned(),
        lead: "Two applications and two proxies; each reads and writes one trace format only, so wherever B3 meets \
               W3C the trace breaks. With trace_context.wasm and an early header mutation in the proxies it does \
               not, nor with mesh_tracing.wasm alone in the place of their tracers, nor with libmeshtrace.so as Envoy's \
               own tracer. Nothing changes in the applications."
            .to_owned(),
        path: path.into(),
        acts,
        footer: format!(
            "Envoy {}. The spans are those that the applications' OpenTelemetry SDKs and the proxies' own tracers \
             exported, OpenTelemetry's in the gateway and Zipkin's in the sidecar; in the third act mesh_tracing's in \
             both, and in the fourth the module's. Times of one act share one axis; a click on a span shows its attributes.",
            envoy.reported_version()
        ),
    };
    let file = module.with_file_name("demo").join("trace.html");
    fs::create_dir_all(file.with_file_name(""))?;
    fs::write(&file, page.render())?;
    Ok(file)
}
