//! `meshtrace explain`.

use std::collections::BTreeMap;
use std::path::Path;

use clap::{Args, ValueEnum, ValueHint};
use meshtrace_check::{Filter, Input, filters_of};
use meshtrace_explain::{
    Explanation, SentRequest, explain, explain_mesh_tracing, header_line, text,
};
use meshtrace_pipeline::{AccessLogTrace, RouteSampling, SpanAttributes, TraceContext};
use meshtrace_propagation::Direction;

use crate::{filter, findings, input};

/// The filter, and the request.
#[derive(Args, Debug)]
#[command(
    override_usage = "meshtrace explain [OPTIONS] [FILTER] <CONFIG>",
    after_help = "Examples:\n  \
    meshtrace explain trace-context.json --header 'b3: 4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1'\n  \
    meshtrace explain route-sampling rules.yaml --method POST --path /checkout\n  \
    echo '{}' | meshtrace explain trace-context - --output json"
)]
pub(crate) struct Command {
    /// The file with the filter's configuration as JSON or YAML, `-` is standard input; before it the filter's name, where
    /// the configuration does not tell it
    #[arg(value_name = "CONFIG", num_args = 1..=2, required = true, value_hint = ValueHint::FilePath)]
    target: Vec<String>,
    /// The filter's name, as before the configuration
    #[arg(long, value_name = "NAME", value_parser = filter::parser())]
    filter: Option<Filter>,
    /// A header line of the request; several times for several lines
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = header_line)]
    headers: Vec<(String, String)>,
    /// The request's method
    #[arg(long, default_value = "GET")]
    method: String,
    /// The request's path, with its query
    #[arg(long, default_value = "/")]
    path: String,
    /// The request's host
    #[arg(long, default_value = "localhost")]
    authority: String,
    /// The address of the client or proxy that sent the request
    #[arg(long, value_name = "ADDRESS")]
    peer: Option<String>,
    /// The direction of the listener
    #[arg(long)]
    direction: Option<Side>,
    /// The upstream cluster that the request is routed to
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// The name of the request's route
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// Another property of the proxy, with dots between the elements of its path
    #[arg(long = "property", value_name = "PATH=VALUE", value_parser = pair)]
    properties: Vec<(String, String)>,
    /// A variable of the environment of the filter's VM
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = pair)]
    environment: Vec<(String, String)>,
    /// How the explanation is printed
    #[arg(long, value_name = "FORM", default_value = "text")]
    output: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// In plain English
    Text,
    /// One JSON document
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Side {
    /// From the network to the workload
    Inbound,
    /// From the workload
    Outbound,
}

impl Command {
    /// The text to print, or why there is none.
    pub(crate) fn run(&self) -> Result<String, String> {
        let (filter, file) = match self.target.as_slice() {
            [name, file] => (Some(named(name)?), file),
            [file] => (self.filter, file),
            _ => return Err("expected FILTER and CONFIG, or CONFIG alone".to_owned()),
        };
        let bytes = input::read(Path::new(file))?;
        let filter = match filter {
            Some(filter) => filter,
            None => guessed(file, &bytes)?,
        };
        let sent = self.request();
        let explanation = run(filter, &input::json(bytes), &sent)?;
        match self.output {
            Form::Text => Ok(text(&explanation, &sent, findings::in_colour())),
            Form::Json => serde_json::to_string_pretty(&explanation)
                .map(|text| text + "\n")
                .map_err(|error| format!("the explanation cannot be written: {error}")),
        }
    }

    fn request(&self) -> SentRequest {
        let mut sent = SentRequest::new(&self.method, &self.path, &self.authority);
        for (name, value) in &self.headers {
            sent.add(name, value);
        }
        let map = |pairs: &[(String, String)]| -> BTreeMap<String, String> {
            pairs.iter().cloned().collect()
        };
        SentRequest {
            headers: sent.headers,
            peer: self.peer.clone(),
            direction: match self.direction {
                None => Direction::Unspecified,
                Some(Side::Inbound) => Direction::Inbound,
                Some(Side::Outbound) => Direction::Outbound,
            },
            cluster: self.cluster.clone(),
            route: self.route.clone(),
            properties: map(&self.properties),
            environment: map(&self.environment),
        }
    }
}

/// Runs `filter` over a request.
pub(crate) fn run(filter: Filter, json: &[u8], sent: &SentRequest) -> Result<Explanation, String> {
    match filter {
        Filter::AccessLogTrace => explain::<AccessLogTrace>(json, sent),
        Filter::MeshTracing => explain_mesh_tracing(json, sent),
        Filter::RouteSampling => explain::<RouteSampling>(json, sent),
        Filter::SpanAttributes => explain::<SpanAttributes>(json, sent),
        Filter::TraceContext => explain::<TraceContext>(json, sent),
    }
    .map_err(|error| error.to_string())
}

/// The filter of a name with dashes or underscores.
pub(crate) fn named(name: &str) -> Result<Filter, String> {
    let names = || names(&Filter::ALL);
    Filter::named(name).ok_or_else(|| format!("unknown filter {name:?}, expected {}", names()))
}

/// The filter whose configuration a file is.
pub(crate) fn guessed(file: &str, bytes: &[u8]) -> Result<Filter, String> {
    let input = Input {
        name: file.to_owned(),
        bytes: bytes.to_vec(),
    };
    match filters_of(&input).as_slice() {
        [one] => Ok(*one),
        [] => Err(format!(
            "{file} does not tell whose configuration it is; name the filter first: {}",
            names(&Filter::ALL)
        )),
        several => Err(format!(
            "{file} may be the configuration of several filters; name one of them first: {}",
            names(several)
        )),
    }
}

fn names(filters: &[Filter]) -> String {
    let names: Vec<_> = filters
        .iter()
        .map(|filter| filter.name().replace('_', "-"))
        .collect();
    names.join(", ")
}

/// `NAME=VALUE`.
fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
