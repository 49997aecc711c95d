//! `meshtrace check`.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueHint};
use meshtrace_check::{Filter, Input, Minor, Options, check};

use crate::findings::{self, Form};
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
    /// Files, and folders with *.yaml, *.yml and *.json files in them or in folders below; `-` is standard input
    #[arg(value_name = "FILE", required = true, value_hint = ValueHint::AnyPath)]
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
            Form::Text => findings::text(&report, findings::in_colour()),
            Form::Json => format!("{:#}\n", findings::json(&report, inputs.len())),
            Form::Github => findings::github(&report),
        });
        let files = findings::count(inputs.len(), "file");
        eprintln!(
            "{}",
            match findings::levels(&report) {
                levels if levels.is_empty() => format!("no findings in {files}"),
                levels => format!("{files}, {levels}"),
            }
        );
        findings::exit_code(&report)
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

/// The files of a folder that can be checked, and those of the folders in it, in the order of their
/// paths. Hidden folders and links to folders are left out.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let sentence = |error: io::Error| format!("{} cannot be read: {error}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(sentence)? {
        let entry = entry.map_err(sentence)?;
        let path = entry.path();
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if entry.file_type().map_err(sentence)?.is_dir() {
            if !is_hidden {
                files.extend(files_of(&path)?);
            }
            continue;
        }
        let ending = path.extension().map(|ending| ending.to_string_lossy());
        if path.is_file() && matches!(ending.as_deref(), Some("yaml" | "yml" | "json")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
