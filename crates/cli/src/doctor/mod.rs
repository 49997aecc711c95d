//! `meshtrace doctor`.

mod admin;
mod bundle;
mod port_forward;
mod redact;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::{ArgGroup, Args, ValueHint};
use meshtrace_check::{Decisions, Diagnosis, Input, Observed, Options, Share, Stats, diagnose};
use serde_json::{Value, json};

use crate::findings::{self, Form};
use crate::output;
use admin::Admin;
use port_forward::{Pod, PortForward};

/// Which Envoy, and for how long.
#[derive(Args, Debug)]
#[command(
    group = ArgGroup::new("proxy").required(true).args(["admin", "pod"]),
    after_help = "Exit codes: 0, nothing at error level; 1, errors were found; 2, the command line is wrong or Envoy \
    cannot be asked.\n\nExamples:\n  \
    meshtrace doctor http://127.0.0.1:9901\n  \
    meshtrace doctor --pod shop/cart-7d9f --seconds 30\n  \
    meshtrace doctor --pod shop/deployment/cart --bundle support.tar.gz"
)]
pub(crate) struct Command {
    /// The address of Envoy's admin interface, such as http://127.0.0.1:9901
    #[arg(value_name = "ADMIN-URL", value_hint = ValueHint::Url)]
    admin: Option<String>,
    /// The proxy of a pod, by `kubectl port-forward`: NAMESPACE/POD, or NAMESPACE/deployment/NAME
    #[arg(long, value_name = "NAMESPACE/POD")]
    pod: Option<Pod>,
    /// The port of the admin interface in the pod: 15000 in Istio, 19000 in Envoy Gateway
    #[arg(long, value_name = "PORT", default_value_t = 15000, requires = "pod")]
    admin_port: u16,
    /// How long to look at what moves
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Write what support needs to know into this file, a .tar.gz, without secrets
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    bundle: Option<PathBuf>,
    /// How findings are printed
    #[arg(long, value_name = "FORM", default_value = "text")]
    output: Form,
}

/// What an Envoy told.
struct Evidence {
    server: Server,
    server_info: Vec<u8>,
    observed: Observed,
    /// The two answers of `/stats`.
    stats: [Vec<u8>; 2],
}

impl Command {
    pub(crate) fn run(&self) -> ExitCode {
        let evidence = match self.observe() {
            Ok(evidence) => evidence,
            Err(sentence) => return refused(&sentence),
        };
        let Evidence {
            server, observed, ..
        } = &evidence;
        let diagnosis = diagnose(observed, &Options::default());
        let in_colour = findings::in_colour();
        output::print(&match self.output {
            Form::Text => text(server, observed, &diagnosis, in_colour),
            Form::Json => format!("{:#}\n", json(server, &diagnosis)),
            Form::Github => findings::github(&diagnosis.report),
        });
        if let Some(file) = &self.bundle {
            if let Err(sentence) = bundle::write(file, &evidence) {
                return refused(&sentence);
            }
            eprintln!("{}: look into it before you give it away", file.display());
        }
        let levels = findings::levels(&diagnosis.report);
        eprintln!(
            "{}",
            if levels.is_empty() {
                "all well"
            } else {
                &levels
            }
        );
        findings::exit_code(&diagnosis.report)
    }

    fn observe(&self) -> Result<Evidence, String> {
        // The port is forwarded until the end of this function.
        let forward = match &self.pod {
            Some(pod) => Some(PortForward::open(pod, self.admin_port)?),
            None => None,
        };
        let url = forward.as_ref().map(|forward| &forward.url);
        let url = url
            .or(self.admin.as_ref())
            .ok_or("neither ADMIN-URL nor --pod")?;
        let admin = Admin::at(url)?;
        let server_info = admin.get("/server_info")?;
        let server = Server::of(&server_info).ok_or_else(|| admin.no_envoy())?;
        let dump = Input {
            name: admin.url("/config_dump"),
            bytes: admin.get("/config_dump")?,
        };
        let look = || -> Result<(Vec<u8>, Stats), String> {
            let answer = admin.get("/stats?format=json")?;
            let stats = Stats::read(&answer).ok_or_else(|| admin.no_envoy())?;
            Ok((answer, stats))
        };
        let (first, before) = look()?;
        let seconds = findings::count(usize::try_from(self.seconds).unwrap_or(0), "second");
        eprintln!("looking at what moves for {seconds}");
        thread::sleep(Duration::from_secs(self.seconds));
        let (second, after) = look()?;
        let observed = Observed {
            dump,
            stats: admin.url("/stats"),
            before,
            after,
            seconds: self.seconds,
        };
        Ok(Evidence {
            server,
            server_info,
            observed,
            stats: [first, second],
        })
    }
}

fn refused(sentence: &str) -> ExitCode {
    eprintln!("meshtrace: {sentence}");
    ExitCode::from(2)
}

/// What an Envoy says of itself.
struct Server {
    version: String,
    state: String,
    uptime: String,
}

impl Server {
    fn of(answer: &[u8]) -> Option<Self> {
        let answer: Value = serde_json::from_slice(answer).ok()?;
        let text = |key: &str| Some(answer.get(key)?.as_str()?.to_owned());
        let build = text("version")?;
        // Commit, version, state of the sources, kind of build, TLS library.
        let version = build.split('/').nth(1).unwrap_or(&build).to_owned();
        Some(Self {
            version,
            state: text("state")?,
            uptime: text("uptime_current_epoch").unwrap_or_default(),
        })
    }
}

fn text(server: &Server, observed: &Observed, diagnosis: &Diagnosis, in_colour: bool) -> String {
    let mut text = format!(
        "Envoy {}, {}, up {}\n",
        server.version, server.state, server.uptime
    );
    // Writing to a string never fails.
    for filter in &diagnosis.filters {
        let mut line = format!("  {}", filter.filter.name());
        if !filter.name.is_empty() && filter.name != filter.filter.name() {
            let _ = write!(line, " \"{}\"", filter.name);
        }
        if !filter.place.is_empty() {
            let _ = write!(line, " ({})", filter.place);
        }
        if filter.times > 1 {
            let _ = write!(line, " × {}", filter.times);
        }
        let _ = writeln!(text, "{line}: {}", filter.state.as_str());
    }
    let seconds = findings::count(usize::try_from(observed.seconds).unwrap_or(0), "second");
    let moved = &diagnosis.moved;
    if moved.is_empty() {
        let _ = writeln!(text, "No counter of a filter moved in {seconds}.");
    } else {
        let _ = writeln!(text, "What moved in {seconds}:");
        let width = moved.iter().map(|counter| counter.name.len()).max();
        for counter in moved {
            let by = format!("+{}", counter.by);
            let (name, width) = (&counter.name, width.unwrap_or(0));
            let line = format!("{by:>8} {name:width$}  {}", counter.meaning);
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
    if !diagnosis.shares.is_empty() {
        let _ = writeln!(text, "Sampling in {seconds}, and since the start:");
        let width = diagnosis.shares.iter().map(|share| share.by.len()).max();
        for Share { by, moved, total } in &diagnosis.shares {
            let (moved, total) = (kept(*moved), kept(*total));
            let width = width.unwrap_or(0);
            let _ = writeln!(text, "  {by:width$}  {moved}; {total}");
        }
    }
    text.push_str(&findings::text(&diagnosis.report, in_colour));
    text
}

/// `3 of 12 kept (25 %)`.
fn kept(decisions: Decisions) -> String {
    let all = decisions.all();
    let left = match decisions.other {
        0 => String::new(),
        other => format!(", {other} left to others"),
    };
    match (decisions.sampled * 100).checked_div(all) {
        None => "no decision".to_owned(),
        Some(percent) => format!("{} of {all} kept ({percent} %){left}", decisions.sampled),
    }
}

fn json(server: &Server, diagnosis: &Diagnosis) -> Value {
    let filters: Vec<_> = diagnosis
        .filters
        .iter()
        .map(|filter| {
            json!({
                "filter": filter.filter.name(),
                "name": filter.name,
                "place": filter.place,
                "state": filter.state.as_str(),
                "times": filter.times,
            })
        })
        .collect();
    let moved: Vec<_> = diagnosis
        .moved
        .iter()
        .map(|counter| json!({"name": counter.name, "by": counter.by, "meaning": counter.meaning}))
        .collect();
    let decisions = |decisions: Decisions| {
        json!({
            "sampled": decisions.sampled,
            "dropped": decisions.dropped,
            "other": decisions.other,
        })
    };
    let shares: Vec<_> = diagnosis
        .shares
        .iter()
        .map(|share| {
            json!({
                "by": share.by,
                "moved": decisions(share.moved),
                "total": decisions(share.total),
            })
        })
        .collect();
    let mut document = findings::json(&diagnosis.report, 1);
    if let Value::Object(document) = &mut document {
        document.insert(
            "envoy".to_owned(),
            json!({"version": server.version, "state": server.state, "uptime": server.uptime}),
        );
        document.insert("filters".to_owned(), filters.into());
        document.insert("moved".to_owned(), moved.into());
        document.insert("sampling".to_owned(), shares.into());
    }
    document
}
