//! What support needs to know of a proxy, in one file and without secrets.

use std::fs;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use meshtrace_check::{Input, Observed, Options, diagnose};
use serde_json::Value;
use tar::{Builder, Header};

use super::redact::Redactor;
use super::{Evidence, json, text};
use crate::version;

/// The folder in the archive.
const FOLDER: &str = "meshtrace-support";

const README: &str = "\
What `meshtrace doctor --bundle` saw of one Envoy. Look into it before you give it away.

versions.txt        the command line and the modules that it knows
server_info.json    /server_info
config_dump.json    /config_dump
stats-before.json   /stats at the first look: numbers alone
stats-after.json    /stats at the second look
findings.txt        what doctor found; lines and columns are those of config_dump.json here
findings.json       the same for programs

[removed] stands for what may be secret: values of headers, texts and code that stand in the
configuration itself, private keys, passwords, tokens, values of environment variables, the
metadata of the node, and the configuration of plugins that are not meshtrace's.
";

/// Writes the archive.
pub(super) fn write(file: &Path, evidence: &Evidence) -> Result<(), String> {
    let archive = archive(evidence)?;
    fs::write(file, archive)
        .map_err(|error| format!("{} cannot be written: {error}", file.display()))
}

fn archive(evidence: &Evidence) -> Result<Vec<u8>, String> {
    let mut redactor = Redactor::default();
    let mut clean = |bytes: &[u8], what: &str| -> Result<String, String> {
        let mut document: Value = serde_json::from_slice(bytes)
            .map_err(|error| format!("{what} of Envoy is not JSON: {error}"))?;
        redactor.clean(&mut document);
        Ok(format!("{document:#}\n"))
    };
    let dump = clean(&evidence.observed.dump.bytes, "/config_dump")?;
    let server = clean(&evidence.server_info, "/server_info")?;
    // The findings quote the configuration, so that they are those of the cleaned one.
    let observed = Observed {
        dump: Input {
            name: "config_dump.json".to_owned(),
            bytes: dump.clone().into_bytes(),
        },
        stats: "stats-after.json".to_owned(),
        ..evidence.observed.clone()
    };
    let diagnosis = diagnose(&observed, &Options::default());
    let findings = text(&evidence.server, &observed, &diagnosis, false);
    let versions = format!(
        "meshtrace {}\nEnvoy {}\n",
        version::all(),
        evidence.server.version
    );
    let files = [
        ("README.txt", README.to_owned()),
        ("versions.txt", versions),
        ("server_info.json", server),
        ("config_dump.json", dump),
        ("stats-before.json", numbers(&evidence.stats[0])?),
        ("stats-after.json", numbers(&evidence.stats[1])?),
        ("findings.txt", redactor.text(&findings)),
        (
            "findings.json",
            redactor.text(&format!("{:#}\n", json(&evidence.server, &diagnosis))),
        ),
    ];
    let sentence = |error: std::io::Error| format!("the bundle cannot be made: {error}");
    let mut archive = Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (name, content) in files {
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, format!("{FOLDER}/{name}"), content.as_bytes())
            .map_err(sentence)?;
    }
    archive
        .into_inner()
        .and_then(GzEncoder::finish)
        .map_err(sentence)
}

/// The counters and gauges. Texts are left out, as they may be anything.
fn numbers(stats: &[u8]) -> Result<String, String> {
    let document: Value = serde_json::from_slice(stats)
        .map_err(|error| format!("/stats of Envoy is not JSON: {error}"))?;
    let stats = document.get("stats").and_then(Value::as_array);
    let stats = stats.into_iter().flatten();
    let numbers = stats.filter(|stat| stat.get("value").is_some_and(Value::is_number));
    let numbers: Vec<_> = numbers.cloned().collect();
    Ok(format!("{:#}\n", serde_json::json!({"stats": numbers})))
}
