//! `meshtrace test`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueHint};
use meshtrace_check::{Filter, Input};
use meshtrace_explain::{Case, Cases, Difference, placeless};
use serde_json::{Value, json};

use crate::explain::{configuration, named, refusal, run};
use crate::findings::{self, Form};
use crate::{input, output};

/// The file with the cases.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit codes: 0, all cases are ok; 1, a case failed; 2, the command line is wrong, a file cannot be read, \
    or the configuration is refused."
)]
pub(crate) struct Command {
    /// The file, as YAML or JSON: {filter, config, environment, cases: [{name, request, expect}]}; `-` is standard input
    #[arg(value_name = "CASES", value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// How the results are printed
    #[arg(long, value_name = "FORM", default_value = "text")]
    output: Form,
}

/// A case that was run, with what is not as expected.
struct Ran {
    name: String,
    /// The line of the file in which its name stands, or that of the case before.
    line: u32,
    differences: Vec<Difference>,
}

impl Command {
    pub(crate) fn run(&self) -> ExitCode {
        match self.cases() {
            Ok(ran) => {
                let failed = ran.iter().filter(|ran| !ran.differences.is_empty()).count();
                let summary = format!("{}, {failed} failed", findings::count(ran.len(), "case"));
                match self.output {
                    Form::Text => output::print(&format!("{}{summary}\n", text(&ran))),
                    Form::Json => output::print(&format!("{:#}\n", document(&ran, failed))),
                    Form::Github => {
                        output::print(&self.annotations(&ran));
                        eprintln!("{summary}");
                    }
                }
                match failed {
                    0 => ExitCode::SUCCESS,
                    _ => ExitCode::FAILURE,
                }
            }
            Err(sentence) => {
                eprintln!("meshtrace: {sentence}");
                ExitCode::from(2)
            }
        }
    }

    /// Runs the cases.
    fn cases(&self) -> Result<Vec<Ran>, String> {
        let file = self.file.display();
        let bytes = input::read(&self.file)?;
        let written = String::from_utf8_lossy(&bytes).into_owned();
        let cases =
            Cases::read(bytes).map_err(|reason| format!("{file} is no file of cases: {reason}"))?;
        if cases.cases.is_empty() {
            return Err(format!("{file} has no cases"));
        }
        let asked = cases.filter.as_deref().map(named).transpose()?;
        let input = self.configuration(&cases.config)?;
        let (filter, json) = configuration(asked, &input)
            .map_err(|reason| format!("{file}: {reason}, as `filter: NAME`"))?;
        let json = match cases.config {
            Value::Null => Vec::new(),
            _ => json,
        };
        let mut line = line_of_cases(&written);
        let ran = cases.cases.iter().map(|case| {
            line = line_of(&written, &case.name, line);
            let differences =
                differences(filter, &json, case, &cases.environment).map_err(|reason| {
                    let is_file = cases.config.is_string();
                    let told = is_file.then(|| refusal(filter, input.clone())).flatten();
                    told.unwrap_or(reason)
                })?;
            Ok(Ran {
                name: output::in_one_line(&case.name),
                line,
                differences,
            })
        });
        ran.collect()
    }

    /// Commands of GitHub's workflows, one for each case that failed.
    fn annotations(&self, ran: &[Ran]) -> String {
        let failed = ran.iter().filter(|ran| !ran.differences.is_empty());
        let command = |ran: &Ran| {
            let differences = ran.differences.iter().map(|difference| {
                let [key, expected, found] = words(difference);
                format!("{key}: expected {expected}, found {found}")
            });
            let message: Vec<_> = differences.collect();
            findings::workflow_command(
                "error",
                &self.file.display().to_string(),
                (ran.line, None),
                &ran.name,
                &message.join("\n"),
            )
        };
        failed.map(command).collect()
    }

    fn configuration(&self, config: &Value) -> Result<Input, String> {
        let (name, bytes) = match config {
            Value::Null => ("config".to_owned(), b"{}".to_vec()),
            Value::String(name) => {
                let folder = self.file.parent().unwrap_or(Path::new(""));
                let path = folder.join(name);
                (path.display().to_string(), input::read(&path)?)
            }
            config => ("config".to_owned(), config.to_string().into_bytes()),
        };
        Ok(Input { name, bytes })
    }
}

fn differences(
    filter: Filter,
    json: &[u8],
    case: &Case,
    environment: &BTreeMap<String, String>,
) -> Result<Vec<Difference>, String> {
    if case.expect.is_empty() {
        return Err(format!("the case {:?} expects nothing", case.name));
    }
    let explanation = run(filter, json, &case.request(environment))
        .map_err(|reason| placeless(&reason).to_owned())?;
    Ok(case.expect.differences(&explanation))
}

/// A line each, and what is not as expected below it.
fn text(ran: &[Ran]) -> String {
    let mut text = String::new();
    for case in ran {
        let word = match case.differences.is_empty() {
            true => "ok",
            false => "FAIL",
        };
        text.push_str(&format!("{word} {}\n", case.name));
        for difference in &case.differences {
            let [key, expected, found] = words(difference);
            text.push_str(&format!(
                "  {key}\n    expected  {expected}\n    found     {found}\n"
            ));
        }
    }
    text
}

/// The document of `--output json`.
fn document(ran: &[Ran], failed: usize) -> Value {
    let cases = ran.iter().map(|case| {
        let differences = case.differences.iter().map(|difference| {
            json!({
                "key": difference.key,
                "expected": difference.expected,
                "found": difference.found,
            })
        });
        json!({
            "name": case.name,
            "line": case.line,
            "ok": case.differences.is_empty(),
            "differences": differences.collect::<Vec<_>>(),
        })
    });
    json!({
        "cases": cases.collect::<Vec<_>>(),
        "summary": {"cases": ran.len(), "failed": failed},
    })
}

/// The key, what is expected, and what was found.
fn words(difference: &Difference) -> [String; 3] {
    let value = |value: &Option<String>| match value {
        Some(value) => output::in_one_line(value),
        None => "(none)".to_owned(),
    };
    [
        output::in_one_line(&difference.key),
        value(&difference.expected),
        value(&difference.found),
    ]
}

/// The line, from `from` on, in which `name: NAME` stands, in YAML or JSON; `from` where none has it.
fn line_of(written: &str, name: &str, from: u32) -> u32 {
    let is_end = |rest: &str| {
        let rest = rest.trim_start_matches(['"', '\'']).trim_start();
        rest.is_empty() || rest.starts_with([',', '}', '#'])
    };
    let has_name = |line: &str| {
        let mut values = line.split("name").skip(1);
        values.any(|value| {
            let value = value.trim_start_matches(['"', '\'', ':', ' ']);
            value.strip_prefix(name).is_some_and(is_end)
        })
    };
    let mut lines = lines(written).filter(|(number, _)| *number >= from);
    lines
        .find(|(_, line)| has_name(line))
        .map_or(from, |(number, _)| number)
}

/// The line of the key `cases`; 1 where it is not found.
fn line_of_cases(written: &str) -> u32 {
    let has_key = |line: &str| line.contains("cases:") || line.contains("\"cases\"");
    let found = lines(written).find(|(_, line)| has_key(line));
    found.map_or(1, |(number, _)| number)
}

fn lines(written: &str) -> impl Iterator<Item = (u32, &str)> {
    (1..).zip(written.lines())
}
