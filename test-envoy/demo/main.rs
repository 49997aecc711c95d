//! `make demo`: one request through two applications and two proxies that speak different trace
//! formats, before and after the filters; every span that anyone exports is drawn and checked.

mod apps;
mod jaeger;
mod proxies;
mod say;
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
use jaeger::Jaeger;
use proxies::{Addresses, Modules, Proxies};
use say::{Voice, row, wrapped};
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
    let jaeger = Jaeger::from_env()?;
    let terminal = Terminal {
        width: say::width(),
        ..Terminal::of_stdout()
    };
    // Before the acts an Envoy is found and all are started; behind them the page is written.
    let mut voice = Voice::new(terminal.colour, ACTS.len() + 3);
    println!("{}", voice.step("Look for an Envoy"));
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
    let what = format!(
        "Start Envoy {} twice, and both applications",
        envoy.reported_version()
    );
    println!("{}", voice.step(&what));
    let set = Set::start(&envoy, &python, modules.clone())?;

    let mut pictures = Vec::new();
    let mut failures = Vec::new();
    for (nth, act) in (1..).zip(&ACTS) {
        println!("{}", voice.step(&format!("Act {nth}: {}", act.title)));
        if act.pieces.contains(&Piece::Native) && !has_native_tracer {
            println!("It is left out: its module is for Envoy 1.38 and later.");
            continue;
        }
        announce(act);
        let spans = set.play(act.pieces)?;
        println!("\n{}", terminal.render(&spans));
        if let Some(jaeger) = &jaeger {
            jaeger.send(&format!("{nth}: {}", act.title), &spans)?;
        }
        let is_tracer = Piece::is_tracer(act.pieces);
        let told = is_tracer.then(|| set.tell(act.pieces, &spans, &voice));
        let mut picture = picture(act, spans, &mut failures);
        picture.given = set.proxies.given()?;
        println!("{}", voice.verdict(picture.good, &picture.text));
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

    println!("{}", voice.step("Draw the page"));
    let page = write_page(&modules.trace_context, &envoy, pictures)?;
    if failures.is_empty() {
        let all =
            "Four traces before, one in every act after that. The proxies ran on all the time.";
        println!("{}", voice.verdict(true, all));
        what_next(&page, jaeger.as_ref());
        Ok(())
    } else {
        println!("The pictures as a page: {}", page.display());
        Err(failures.join("\n").into())
    }
}

/// Says what the proxies get now.
fn announce(act: &Act) {
    /// The room for what is given; what it does stands behind it.
    const GIVEN: usize = 49;
    const STAGE: usize = 34;
    if act.pieces.is_empty() {
        return;
    }
    println!("{}", wrapped(act.intro, ""));
    for piece in act.pieces {
        println!("{}", row(piece.name(), GIVEN, piece.effect()));
    }
    if Piece::is_tracer(act.pieces) {
        println!("with one configuration for both:");
        for (key, value, what) in proxies::stages(act.pieces) {
            println!("{}", row(&format!("{key:?}: {value}"), STAGE, what));
        }
    }
}

fn what_next(page: &Path, jaeger: Option<&Jaeger>) {
    println!("\nWhat next?");
    let page = format!("before and after as a page: open {}", page.display());
    let jaeger = jaeger.and_then(Jaeger::page);
    let jaeger = jaeger.map(|page| format!("the traces of every act in Jaeger: open {page}"));
    let own = [Some(page), jaeger].into_iter().flatten();
    let steps = own.chain(story::NEXT.map(str::to_owned));
    for (nth, what) in (1..).zip(steps) {
        println!("  {nth}. {}", wrapped(&what, "     ").trim_start());
    }
}

/// A module as `make build` leaves it.
fn released(name: &str) -> Result<PathBuf, String> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(format!("../dist/{name}"))
        .canonicalize()
        .map_err(|_| format!("dist/{name} is missing: run `make build`."))
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
        println!("{}", row(name, 10, what));
    }
    println!("\n{}", wrapped(story::PLAN, ""));
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
        given: Vec::new(),
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
    fn tell(&self, pieces: &[Piece], spans: &[Span], voice: &Voice) -> Result<String, String> {
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
        told += "\n  The line of the gateway's access log, field by field:\n";
        for (key, value) in line.as_object().into_iter().flatten() {
            told += &format!("    {key:34}  {value}\n");
        }
        let verdict = "The log names that span; user.id comes from the request's x-user-id.";
        Ok(told + "\n" + &voice.verdict(true, verdict))
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
        pair: true,
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
