//! `meshtrace check`.

use std::fs;
use std::io::{self, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use meshtrace_check::{Filter, Finding, Input, Level, Minor, Options, Report, check};
use serde_json::json;

use crate::{filter, output};

/// The files, and what is known besides them.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit codes: 0, nothing at error level; 1, errors were found; 2, the command line is wrong or a file \
    cannot be read.\n\nExamples:\n  \
    meshtrace check envoy.yaml\n  \
    meshtrace check istio/ mesh-config.yaml deployment.yaml --istio 1.29\n  \
    meshtrace check attributes.json --filter span-attributes\n  \
    curl -s localhost:9901/config_dump | meshtrace check -"
)]
pub(crate) struct Command {
    /// Files, and folders with *.yaml, *.yml and *.json files; `-` is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Whose configuration it is, where a file is a plugin's
    #[arg(long, value_name = "NAME", value_parser = filter::parser())]
    filter: Option<Filter>,
    /// The version of Envoy that the files are for
    #[arg(long, value_name = "VERSION")]
    envoy: Option<Minor>,
    /// The version of Istio that the files are for
    #[arg(long, value_name = "VERSION")]
    istio: Option<Minor>,
    /// How findings are printed
    #[arg(long, value_name = "FORM", default_value = "text")]
    output: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// A line each
    Text,
    /// One JSON document
    Json,
    /// Commands of GitHub's workflows: annotations of the files
    Github,
}

impl Command {
    pub(crate) fn run(&self) -> ExitCode {
        let inputs = match self.read() {
            Ok(inputs) => inputs,
            Err(sentence) => {
                eprintln!("meshtrace: {sentence}");
                return ExitCode::from(2);
            }
        };
        let options = Options {
            filter: self.filter,
            envoy: self.envoy,
            istio: self.istio,
        };
        let report = check(&inputs, &options);
        output::print(&match self.output {
            Form::Text => text(&report),
            Form::Json => json(&report, inputs.len()),
            Form::Github => report.findings.iter().map(github).collect(),
        });
        eprintln!("{}", summary(&report, inputs.len()));
        if report.unreadable > 0 {
            ExitCode::from(2)
        } else if report.count(Level::Error) > 0 {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }

    fn read(&self) -> Result<Vec<Input>, String> {
        let mut inputs = Vec::new();
        for path in &self.files {
            if path.as_os_str() == "-" {
                let mut bytes = Vec::new();
                io::stdin()
                    .read_to_end(&mut bytes)
                    .map_err(|error| format!("standard input cannot be read: {error}"))?;
                let name = "<stdin>".to_owned();
                inputs.push(Input { name, bytes });
            } else if path.is_dir() {
                let files = files_of(path)?;
                if files.is_empty() {
                    let path = path.display();
                    return Err(format!("{path} has no *.yaml, *.yml or *.json file"));
                }
                for file in files {
                    inputs.push(file_at(&file)?);
                }
            } else {
                inputs.push(file_at(path)?);
            }
        }
        Ok(inputs)
    }
}

fn file_at(path: &Path) -> Result<Input, String> {
    let bytes =
        fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let name = path.display().to_string();
    Ok(Input { name, bytes })
}

/// The files of a folder that can be checked, in the order of their names.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let sentence = |error: io::Error| format!("{} cannot be read: {error}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(sentence)? {
        let path = entry.map_err(sentence)?.path();
        let ending = path.extension().map(|ending| ending.to_string_lossy());
        if path.is_file() && matches!(ending.as_deref(), Some("yaml" | "yml" | "json")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn text(report: &Report) -> String {
    let in_colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
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

fn json(report: &Report, files: usize) -> String {
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
    let document = json!({
        "findings": findings,
        "summary": {
            "files": files,
            "errors": report.count(Level::Error),
            "warnings": report.count(Level::Warning),
            "notes": report.count(Level::Note),
        },
    });
    format!("{document:#}\n")
}

fn github(finding: &Finding) -> String {
    let command = match finding.level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Note => "notice",
    };
    let data = |text: &str| {
        text.replace('%', "%25")
            .replace('\r', "%0D")
            .replace('\n', "%0A")
    };
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let place = match finding.path.is_empty() {
        true => String::new(),
        false => format!("{}: ", finding.short_path()),
    };
    format!(
        "::{command} file={},line={},col={},title={}::{}\n",
        property(&finding.file),
        finding.line,
        finding.column,
        property(&format!("{} {}", finding.code, finding.code.title())),
        data(&format!("{place}{}", finding.message)),
    )
}

fn summary(report: &Report, files: usize) -> String {
    let count = |number: usize, what: &str| match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    };
    if report.findings.is_empty() {
        return format!("no findings in {}", count(files, "file"));
    }
    let mut parts = vec![count(files, "file")];
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
