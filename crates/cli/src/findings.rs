//! How findings are printed.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use clap::ValueEnum;
use meshtrace_check::{Finding, Level, Report};
use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// A line each
    Text,
    /// One JSON document
    Json,
    /// Commands of GitHub's workflows: annotations of the files
    Github,
}

/// Whether standard output gets colours: it is a terminal, and NO_COLOR is not set, or empty
/// (https://no-color.org).
pub(crate) fn in_colour() -> bool {
    let is_forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !is_forbidden
}

/// A line each.
pub(crate) fn text(report: &Report, in_colour: bool) -> String {
    let mut lines = String::new();
    for finding in &report.findings {
        let line = finding.to_string();
        let level = finding.level.as_str();
        match line.strip_prefix(level).filter(|_| in_colour) {
            Some(rest) => {
                let colour = match finding.level {
                    Level::Error => 31,
                    Level::Warning => 33,
                    Level::Note => 36,
                };
                lines.push_str(&format!("\u{1b}[1;{colour}m{level}\u{1b}[0m{rest}\n"));
            }
            None => {
                lines.push_str(&line);
                lines.push('\n');
            }
        }
    }
    lines
}

/// The document of `--output json`.
pub(crate) fn json(report: &Report, files: usize) -> Value {
    let findings: Vec<_> = report
        .findings
        .iter()
        .map(|finding| {
            json!({
                "level": finding.level.as_str(),
                "code": finding.code.as_str(),
                "title": finding.code.title(),
                "file": finding.file,
                "line": finding.line,
                "column": finding.column,
                "path": finding.path,
                "message": finding.message,
            })
        })
        .collect();
    json!({
        "findings": findings,
        "summary": {
            "files": files,
            "errors": report.count(Level::Error),
            "warnings": report.count(Level::Warning),
            "notes": report.count(Level::Note),
        },
    })
}

/// Commands of GitHub's workflows.
pub(crate) fn github(report: &Report) -> String {
    report.findings.iter().map(annotation).collect()
}

fn annotation(finding: &Finding) -> String {
    let command = match finding.level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Note => "notice",
    };
    let place = match finding.path.is_empty() {
        true => String::new(),
        false => format!("{}: ", finding.short_path()),
    };
    workflow_command(
        command,
        &finding.file,
        (finding.line, Some(finding.column)),
        &format!("{} {}", finding.code, finding.code.title()),
        &format!("{place}{}", finding.message),
    )
}

/// A command of GitHub's workflows: an annotation at a line, and a column where one is known.
pub(crate) fn workflow_command(
    command: &str,
    file: &str,
    (line, column): (u32, Option<u32>),
    title: &str,
    message: &str,
) -> String {
    let data = |text: &str| {
        text.replace('%', "%25")
            .replace('\r', "%0D")
            .replace('\n', "%0A")
    };
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let column = column.map_or_else(String::new, |column| format!(",col={column}"));
    format!(
        "::{command} file={},line={line}{column},title={}::{}\n",
        property(file),
        property(title),
        data(message),
    )
}

/// The number of findings of each level: `2 errors, 1 note`; empty where there are none.
pub(crate) fn levels(report: &Report) -> String {
    let mut parts = Vec::new();
    for (level, what) in [
        (Level::Error, "error"),
        (Level::Warning, "warning"),
        (Level::Note, "note"),
    ] {
        let number = report.count(level);
        if number > 0 {
            parts.push(count(number, what));
        }
    }
    parts.join(", ")
}

/// `1 file`, `2 files`.
pub(crate) fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

/// 0: nothing at error level, 1: errors, 2: something could not be read.
pub(crate) fn exit_code(report: &Report) -> ExitCode {
    if report.unreadable > 0 {
        ExitCode::from(2)
    } else if report.count(Level::Error) > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
