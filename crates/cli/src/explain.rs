//! `meshtrace explain`.

use std::collections::BTreeMap;
use std::path::Path;
use std::slice;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum, ValueHint};
use meshtrace_check::{Code, Filter, Input, Level, Options, check, configurations_of, filters_of};
use meshtrace_explain::{
    Explanation, SentRequest, explain, explain_mesh_tracing, header_line, text,
};
use meshtrace_pipeline::{AccessLogTrace, RouteSampling, SpanAttributes, TraceContext};
use meshtrace_propagation::Direction;
use serde_json::Value;

use crate::{filter, findings, input};

/// The filter, and the request.
#[derive(Args, Debug)]
#[command(
    override_usage = "meshtrace explain [OPTIONS] [FILTER] <CONFIG>",
    after_help = "Examples:\n  \
    meshtrace explain context.json -H 'b3: 4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1'\n  \
    meshtrace explain route-sampling rules.yaml --method POST --path /checkout\n  \
    echo '{}' | meshtrace explain trace-context - --output json"
)]
pub(crate) struct Command {
    /// The file with the filter's configuration as JSON or YAML, or a file of Envoy or Istio with one such filter; `-` is
    /// standard input, and {…} the configuration itself. Before it the filter's name, where the configuration does not tell it
    #[arg(value_name = "CONFIG", num_args = 1..=2, required = true, value_hint = ValueHint::FilePath)]
    target: Vec<String>,
    /// The filter's name, as before the configuration
    #[arg(long, value_name = "NAME", value_parser = filter::parser())]
    filter: Option<Filter>,
    /// A header line of the request; several times for several lines
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = header_line)]
    headers: Vec<(String, String)>,
    /// The request's method
    #[arg(long, default_value = "GET", value_parser = NonEmptyStringValueParser::new())]
    method: String,
    /// The request's path, with its query
    #[arg(long, default_value = "/", value_parser = path)]
    path: String,
    /// The request's host
    #[arg(long, default_value = "localhost", value_parser = NonEmptyStringValueParser::new())]
    authority: String,
    /// The address of the client or proxy that sent the request
    #[arg(long, value_name = "ADDRESS", value_parser = meshtrace_explain::peer)]
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
        let input = Input {
            name: match file.as_str() {
                "-" => "<stdin>".to_owned(),
                text if text.starts_with('{') => "<argument>".to_owned(),
                file => file.to_owned(),
            },
            bytes: input::read(Path::new(file))?,
        };
        let (filter, json) = configuration(filter, &input)?;
        let sent = self.request();
        let explanation =
            run(filter, &json, &sent).map_err(|reason| refusal(filter, input).unwrap_or(reason))?;
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

/// The filter whose configuration a file is or has, and the configuration as JSON.
pub(crate) fn configuration(
    asked: Option<Filter>,
    input: &Input,
) -> Result<(Filter, Vec<u8>), String> {
    let file = &input.name;
    let of_file = filters_of(input);
    let own = || input::json(input.bytes.clone());
    let whole = |filter| match mistakes(Some(filter), input) {
        Some(mistakes) => Err(mistakes),
        None => Ok((filter, own())),
    };
    if let Some(filter) = asked.filter(|_| !of_file.is_empty()) {
        return whole(filter);
    }
    match of_file.as_slice() {
        [one] => return whole(*one),
        [] => {}
        several => {
            return Err(format!(
                "{file} may be the configuration of several filters; name one of them first: {}",
                names(several)
            ));
        }
    }
    let all = configurations_of(input);
    let mut found: Vec<_> = all
        .iter()
        .filter(|(filter, _)| asked.is_none_or(|asked| asked == *filter))
        .collect();
    found.sort();
    found.dedup();
    match (found.as_slice(), asked) {
        ([(filter, json)], _) => Ok((*filter, json.clone().into_bytes())),
        ([], Some(filter)) if all.is_empty() => Ok((filter, own())),
        ([], Some(filter)) => Err(format!(
            "{file} has no {}, but {}",
            names(&[filter]),
            names(&all.iter().map(|(filter, _)| *filter).collect::<Vec<_>>())
        )),
        ([], None) => Err(mistakes(None, input).unwrap_or(format!(
            "{file} does not tell whose configuration it is; name the filter first: {}",
            names(&Filter::ALL)
        ))),
        (several, _) => Err(format!(
            "{file} has several configurations, of {}; name the filter first, or put the \
             configuration into a file of its own",
            names(
                &several
                    .iter()
                    .map(|(filter, _)| *filter)
                    .collect::<Vec<_>>()
            )
        )),
    }
}

/// The codes of what makes a text no configuration. Reading it as YAML, as is done here, hides some of it.
const NO_CONFIGURATION: [Code; 3] = [Code::Syntax, Code::NotJson, Code::KeyTwice];

/// What is wrong with the text of a configuration, with lines. `None` where nothing is.
fn mistakes(filter: Option<Filter>, input: &Input) -> Option<String> {
    let options = Options {
        filter,
        ..Options::default()
    };
    let report = check(slice::from_ref(input), &options);
    let findings = report.findings.iter();
    let found = findings.filter(|finding| NO_CONFIGURATION.contains(&finding.code));
    let lines: Vec<_> = found.map(|finding| format!("\n  {finding}")).collect();
    (!lines.is_empty()).then(|| format!("{} has mistakes{}", input.name, lines.concat()))
}

/// What `check` finds in a configuration that the filter refuses: with lines, and what to write.
pub(crate) fn refusal(filter: Filter, input: Input) -> Option<String> {
    let options = Options {
        filter: Some(filter),
        ..Options::default()
    };
    let inputs = [input];
    let report = check(&inputs, &options);
    let errors = report.findings.iter();
    let errors = errors.filter(|finding| finding.level == Level::Error);
    let lines: Vec<_> = errors.map(|finding| format!("\n  {finding}")).collect();
    if !lines.is_empty() {
        let (name, lines) = (filter.name(), lines.concat());
        return Some(format!("{name} refuses the configuration{lines}"));
    }
    let [input] = &inputs;
    let text = str::from_utf8(&input.bytes).ok()?;
    let error = serde_saphyr::from_str::<Value>(text).err()?.to_string();
    // What follows is for programmers.
    let error = error.split(['\n', ';']).next().unwrap_or_default();
    Some(format!(
        "{} is no YAML of one document: {error}",
        input.name
    ))
}

fn names(filters: &[Filter]) -> String {
    let mut names: Vec<_> = filters
        .iter()
        .map(|filter| filter.name().replace('_', "-"))
        .collect();
    names.sort();
    names.dedup();
    names.join(", ")
}

/// A path as requests have it.
fn path(text: &str) -> Result<String, String> {
    match text.starts_with('/') || text == "*" {
        true => Ok(text.to_owned()),
        false => Err("expected a path that begins with /, such as /users/7?q=a".to_owned()),
    }
}

/// `NAME=VALUE`.
fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
