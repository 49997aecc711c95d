//! Finds mistakes in plugin configurations, and in the files of Envoy, Istio and Kubernetes around
//! them.
//!
//! [`check`] reads all files together. It finds configurations that answer 200, log nothing, and do
//! not have the effect for which they were written. Every finding has a [`Code`] of one table, with
//! a section in `docs/troubleshooting.md`. [`diagnose`] does the same for a running Envoy, with its
//! counters.

#![forbid(unsafe_code)]

mod document;
mod files;
mod filter;
mod finding;
mod kind;
mod model;
mod rules;
mod running;
mod versions;

use std::slice;

pub use files::Input;
pub use filter::Filter;
pub use finding::{Code, Finding, Level};
pub use running::{
    Decisions, Diagnosis, FilterState, Moved, Observed, Share, State, Stats, diagnose,
};
pub use versions::Minor;

use files::Files;
use finding::Findings;
use kind::Kind;
use model::Model;
use model::plugin::Config;
use versions::Versions;

/// Facts that are not in the files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The filter whose configuration a file is, where the file is a plugin's configuration.
    pub filter: Option<Filter>,
    /// The version of Envoy for which the files are.
    pub envoy: Option<Minor>,
    /// The version of Istio for which the files are.
    pub istio: Option<Minor>,
}

/// The result of a check.
#[derive(Clone, Debug)]
pub struct Report {
    /// The findings, in the order of the files and of the lines in them.
    pub findings: Vec<Finding>,
    /// The files that could not be read as YAML or JSON; each has a finding.
    pub unreadable: usize,
}

impl Report {
    /// The number of findings of a level.
    #[must_use]
    pub fn count(&self, level: Level) -> usize {
        self.findings
            .iter()
            .filter(|finding| finding.level == level)
            .count()
    }
}

/// The filters whose plugin configuration a file may be, by the keys and the name of the file.
#[must_use]
pub fn filters_of(input: &Input) -> Vec<Filter> {
    let Ok(tree) = document::read(&input.name, &input.bytes) else {
        return Vec::new();
    };
    match tree
        .documents()
        .next()
        .map(|document| kind::of(document, &input.name, None))
    {
        Some(Kind::Plugin(filter)) => vec![filter],
        Some(Kind::OneOf(filters)) => filters,
        _ => Vec::new(),
    }
}

/// The filters in a file of Envoy, Istio or Envoy Gateway, each with its configuration as JSON, which
/// is empty where there is none. Those whose configuration cannot be read are left out.
#[must_use]
pub fn configurations_of(input: &Input) -> Vec<(Filter, String)> {
    let inputs = slice::from_ref(input);
    let (files, _) = Files::read(inputs);
    let model = Model::new(&files, inputs, None, Versions::default());
    let plugins = model.plugins.iter();
    plugins
        .filter_map(|plugin| match plugin.config {
            Config::Read(node) => Some((plugin.filter, node.to_json().to_string())),
            Config::Absent => Some((plugin.filter, String::new())),
            Config::Unreadable => None,
        })
        .collect()
}

/// Checks all files together.
#[must_use]
pub fn check(inputs: &[Input], options: &Options) -> Report {
    let name = |input: usize| inputs.get(input).map(|input| input.name.clone());
    examine(inputs, options, name, |_, _| ()).0
}

/// Checks all files together, and then runs `more`. `name` is the name of an input.
fn examine<T>(
    inputs: &[Input],
    options: &Options,
    name: impl Fn(usize) -> Option<String>,
    more: impl FnOnce(&Model<'_>, &mut Findings) -> T,
) -> (Report, T) {
    let (files, errors) = Files::read(inputs);
    let mut findings = Findings::default();
    for (input, error) in &errors {
        let message = error.message.clone();
        findings.add_at(Code::Syntax, *input, error.at, String::new(), message);
    }
    let asked = Versions::new(options.envoy, options.istio);
    let mut model = Model::new(&files, inputs, options.filter, asked);
    rules::run(&mut model, &mut findings);
    let result = more(&model, &mut findings);
    let mut all: Vec<Finding> = findings
        .all
        .into_iter()
        .map(|(code, place, message)| Finding {
            input: place.input,
            line: place.at.line,
            column: place.at.column,
            code,
            level: code.level(),
            file: name(place.input).unwrap_or_default(),
            path: place.path,
            message,
        })
        .collect();
    all.sort();
    all.dedup();
    let report = Report {
        findings: all,
        unreadable: errors.len(),
    };
    (report, result)
}
