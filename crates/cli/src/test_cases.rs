//! `meshtrace test`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueHint};
use meshtrace_check::{Filter, Input};
use meshtrace_explain::{Case, Cases, Difference, placeless};
use serde_json::Value;

use crate::explain::{configuration, named, refusal, run};
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
}

impl Command {
    pub(crate) fn run(&self) -> ExitCode {
        match self.text() {
            Ok((text, failed)) => {
                output::print(&text);
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

    /// What is printed, and how many cases failed.
    fn text(&self) -> Result<(String, usize), String> {
        let file = self.file.display();
        let bytes = input::read(&self.file)?;
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
        let mut text = String::new();
        let mut failed = 0;
        for case in &cases.cases {
            let found = differences(filter, &json, case, &cases.environment).map_err(|reason| {
                let is_file = cases.config.is_string();
                let told = is_file.then(|| refusal(filter, input.clone())).flatten();
                told.unwrap_or(reason)
            })?;
            let name = output::in_one_line(&case.name);
            if found.is_empty() {
                text.push_str(&format!("ok {name}\n"));
                continue;
            }
            failed += 1;
            text.push_str(&format!("FAIL {name}\n"));
            for difference in &found {
                text.push_str(&shown(difference));
            }
        }
        let count = cases.cases.len();
        let noun = if count == 1 { "case" } else { "cases" };
        text.push_str(&format!("{count} {noun}, {failed} failed\n"));
        Ok((text, failed))
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

fn shown(difference: &Difference) -> String {
    let value = |value: &Option<String>| match value {
        Some(value) => output::in_one_line(value),
        None => "(none)".to_owned(),
    };
    format!(
        "  {}\n    expected  {}\n    found     {}\n",
        output::in_one_line(&difference.key),
        value(&difference.expected),
        value(&difference.found)
    )
}
