//! `meshtrace init`.

mod answers;
mod envoy;
mod files;
mod gateway;
mod plan;
mod questions;
mod readme;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueHint};
use meshtrace_render::{EnvoyVersion, IstioVersion};

use crate::address::host_and_port;
use answers::{Answers, Attribute, Formats, Place, Proxy, TracerName, YesNo};

/// What stands where. Without any of these flags, and on a terminal, the command asks.
#[derive(Args, Debug)]
#[command(
    group = ArgGroup::new("proxy").args(["envoy", "istio", "envoy_gateway"]),
    after_help = "Exit codes: 0, written; 1, nothing was written: the answers do not go together, or the folder is there; 2, \
    the command line is wrong.\n\nExamples:\n  \
    meshtrace init\n  \
    meshtrace init --istio 1.31 --tracer zipkin-with-w3c --formats tracecontext,b3multi --out tracing/\n  \
    meshtrace init --envoy 1.40 --tracer native --attributes user.id=x-user-id"
)]
pub(crate) struct Command {
    /// A standalone Envoy of this version: 1.36 to 1.40
    #[arg(long, value_name = "VERSION")]
    envoy: Option<EnvoyVersion>,
    /// An Istio mesh of this version: 1.28 to 1.31
    #[arg(long, value_name = "VERSION")]
    istio: Option<IstioVersion>,
    /// Envoy Gateway
    #[arg(long)]
    envoy_gateway: bool,
    /// The proxy's tracer. none: there is none, and mesh_tracing is the tracer
    #[arg(long, ignore_case = true)]
    tracer: Option<TracerName>,
    /// The formats that callers and applications speak, such as tracecontext,b3multi
    #[arg(long, value_name = "FORMATS")]
    formats: Option<Formats>,
    /// Where the proxy stands. edge: clients are not believed
    #[arg(long)]
    place: Option<Place>,
    /// Whether the access log gets trace ids
    #[arg(long, value_name = "YES|NO")]
    logs: Option<YesNo>,
    /// Attributes of spans, each from a request header: user.id=x-user-id,tenant.id=x-tenant-id; or none
    #[arg(long, value_name = "KEY=HEADER,…")]
    attributes: Option<AttributeList>,
    /// The collector. Default: in Kubernetes otel-collector.observability.svc.cluster.local:4318, else 127.0.0.1:4318;
    /// beside Zipkin port 9411
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    collector: Option<(String, u16)>,
    /// The modules: a path, or oci://… with {filter} for the filter's name
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The namespace of all resources
    #[arg(long)]
    namespace: Option<String>,
    /// The folder to write
    #[arg(long, value_name = "FOLDER", default_value = "meshtrace-setup", value_hint = ValueHint::DirPath)]
    out: PathBuf,
    /// Write into a folder that is there, over the files in it
    #[arg(long)]
    force: bool,
}

/// The attributes of `--attributes`.
#[derive(Clone, Debug)]
struct AttributeList(Vec<Attribute>);

impl std::str::FromStr for AttributeList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        answers::attributes(text).map(Self)
    }
}

impl Command {
    /// The text to print, or why there is none.
    pub(crate) fn run(&self) -> Result<String, String> {
        let answers = if self.is_answered() || !io::stdin().is_terminal() {
            self.answers()
        } else {
            let defaults = self.answers();
            questions::ask(defaults, &mut io::stdin().lock(), &mut io::stderr())
                .map_err(|error| format!("the answers cannot be read: {error}"))?
        };
        let options = files::Options {
            collector: self.collector.clone(),
            url: self.url.clone(),
            namespace: self.namespace.clone(),
            folder: self.out.display().to_string(),
        };
        let files = files::of(&answers, &options)?;
        files::write(&self.out, &files, self.force)?;
        let mut text = format!("{}:\n", self.out.display());
        for file in &files {
            text.push_str(&format!("  {}\n", file.name));
        }
        for sentence in plan::advice(&answers) {
            text.push_str(&format!("{sentence}\n"));
        }
        text.push_str(&format!("Read {}/README.md next.\n", self.out.display()));
        Ok(text)
    }

    fn is_answered(&self) -> bool {
        self.proxy().is_some()
            || self.tracer.is_some()
            || self.formats.is_some()
            || self.place.is_some()
            || self.logs.is_some()
            || self.attributes.is_some()
    }

    fn proxy(&self) -> Option<Proxy> {
        let envoy = self.envoy.map(Proxy::Envoy);
        let istio = self.istio.map(Proxy::Istio);
        envoy
            .or(istio)
            .or(self.envoy_gateway.then_some(Proxy::Gateway))
    }

    /// The answers of the flags, and the defaults of the others.
    fn answers(&self) -> Answers {
        let proxy = self.proxy().unwrap_or(Proxy::Istio(IstioVersion::V1_31));
        let place = self.place.unwrap_or(match proxy {
            Proxy::Gateway => Place::Edge,
            Proxy::Envoy(_) | Proxy::Istio(_) => Place::Inside,
        });
        Answers {
            proxy,
            tracer: self.tracer.unwrap_or(TracerName::None),
            formats: self.formats.clone().unwrap_or_default(),
            place,
            logs: self.logs.unwrap_or(YesNo::Yes) == YesNo::Yes,
            attributes: match &self.attributes {
                Some(AttributeList(attributes)) => attributes.clone(),
                // Clients could claim to be anybody.
                None if place == Place::Edge => Vec::new(),
                None => answers::usual_attributes(),
            },
        }
    }
}
