//! Six questions, each with a default.

use std::io::{self, BufRead, Write};
use std::str::FromStr;

use clap::ValueEnum as _;

use super::answers::{self, Answers, Formats, Place, Proxy, TracerName, YesNo};

/// Asks for everything. An empty line takes the default, and so does the end of the input.
pub(super) fn ask(
    defaults: Answers,
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> io::Result<Answers> {
    writeln!(output, "Six questions. Enter takes what is in brackets.")?;
    let mut dialogue = Dialogue { input, output };
    let proxy = dialogue.question(
        "Which proxy, and which version?",
        "envoy 1.36 to 1.40, istio 1.28 to 1.31, or envoy-gateway",
        &defaults.proxy.to_string().to_ascii_lowercase(),
        Proxy::from_str,
    )?;
    let tracer = dialogue.question(
        "Which tracer does it have?",
        "opentelemetry, zipkin, zipkin-with-w3c; none: mesh_tracing.wasm is the tracer, the simplest; native: \
         libmeshtrace.so is, in Envoy 1.38 and later",
        "none",
        |text| TracerName::from_str(text, true),
    )?;
    let formats = dialogue.question(
        "Which trace headers do callers and applications speak?",
        "tracecontext (OpenTelemetry SDKs), b3, b3multi (Zipkin, older Istio), jaeger, xray, datadog …, with commas",
        &defaults.formats.to_string(),
        Formats::from_str,
    )?;
    let usual_place = match proxy {
        Proxy::Gateway => "edge",
        Proxy::Envoy(_) | Proxy::Istio(_) => "inside",
    };
    let place = dialogue.question(
        "Where does it stand?",
        "edge: clients from outside, which must not decide about traces; inside: other services",
        usual_place,
        |text| Place::from_str(text, true),
    )?;
    let logs = dialogue.question(
        "Should the access log have the trace ids?",
        "yes or no",
        "yes",
        |text| YesNo::from_str(text, true),
    )?;
    let usual_attributes = match place {
        Place::Edge => "none",
        Place::Inside => "user.id=x-user-id,tenant.id=x-tenant-id",
    };
    let attributes = dialogue.question(
        "Which attributes do spans get, from which request headers?",
        "KEY=HEADER, with commas; none. At an edge a client can write any header",
        usual_attributes,
        answers::attributes,
    )?;
    Ok(Answers {
        proxy,
        tracer,
        formats,
        place,
        logs: logs == YesNo::Yes,
        attributes,
    })
}

struct Dialogue<'d, I, O> {
    input: &'d mut I,
    output: &'d mut O,
}

impl<I: BufRead, O: Write> Dialogue<'_, I, O> {
    /// Asks until the answer can be read.
    fn question<T>(
        &mut self,
        question: &str,
        help: &str,
        default: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> io::Result<T> {
        writeln!(self.output, "\n{question}\n  {help}")?;
        loop {
            write!(self.output, "[{default}] ")?;
            self.output.flush()?;
            let mut line = String::new();
            let is_over = self.input.read_line(&mut line)? == 0;
            let answer = match line.trim() {
                "" => default,
                answer => answer,
            };
            match read(answer) {
                Ok(answer) => return Ok(answer),
                Err(error) if is_over => return Err(io::Error::other(error)),
                Err(error) => writeln!(self.output, "  {error}")?,
            }
        }
    }
}
