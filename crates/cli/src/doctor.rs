//! `meshtrace doctor`.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args;
use meshtrace_check::{Diagnosis, Input, Observed, Options, Stats, diagnose};
use serde_json::{Value, json};
use ureq::Agent;

use crate::findings::{self, Form};
use crate::output;

/// As much as `check` reads of a file.
const MAX_BYTES: u64 = 64 << 20;
/// How long Envoy may take for one answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Which Envoy, and for how long.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit codes: 0, nothing at error level; 1, errors were found; 2, the command line is wrong or Envoy \
    cannot be asked.\n\nExamples:\n  \
    meshtrace doctor http://127.0.0.1:9901\n  \
    kubectl port-forward POD 15000 & meshtrace doctor http://127.0.0.1:15000 --seconds 30"
)]
pub(crate) struct Command {
    /// The address of Envoy's admin interface, such as http://127.0.0.1:9901
    #[arg(value_name = "ADMIN-URL")]
    admin: String,
    /// How long to look at what moves
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// How findings are printed
    #[arg(long, value_name = "FORM", default_value = "text")]
    output: Form,
}

impl Command {
    pub(crate) fn run(&self) -> ExitCode {
        let (server, observed) = match self.observe() {
            Ok(observed) => observed,
            Err(sentence) => {
                eprintln!("meshtrace: {sentence}");
                return ExitCode::from(2);
            }
        };
        let diagnosis = diagnose(&observed, &Options::default());
        output::print(&match self.output {
            Form::Text => text(&server, &observed, &diagnosis),
            Form::Json => format!("{:#}\n", json(&server, &diagnosis)),
            Form::Github => findings::github(&diagnosis.report),
        });
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

    fn observe(&self) -> Result<(Server, Observed), String> {
        let admin = Admin::at(&self.admin)?;
        let server = Server::of(&admin.get("/server_info")?).ok_or_else(|| admin.no_envoy())?;
        let dump = Input {
            name: admin.url("/config_dump"),
            bytes: admin.get("/config_dump")?,
        };
        let before = admin.stats()?;
        let seconds = findings::count(usize::try_from(self.seconds).unwrap_or(0), "second");
        eprintln!("looking at what moves for {seconds}");
        thread::sleep(Duration::from_secs(self.seconds));
        let observed = Observed {
            dump,
            stats: admin.url("/stats"),
            before,
            after: admin.stats()?,
            seconds: self.seconds,
        };
        Ok((server, observed))
    }
}

/// Envoy's admin interface.
struct Admin {
    agent: Agent,
    url: String,
}

impl Admin {
    fn at(url: &str) -> Result<Self, String> {
        let url = match url.split_once("://") {
            None => format!("http://{url}"),
            Some(("http", _)) => url.to_owned(),
            Some((scheme, _)) => {
                return Err(format!(
                    "{scheme}:// is not spoken by Envoy's admin interface; write http://HOST:PORT"
                ));
            }
        };
        let config = Agent::config_builder()
            // The admin interface is this machine's, whatever proxy the environment names.
            .proxy(None)
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT))
            .build();
        Ok(Self {
            agent: config.into(),
            url: url.trim_end_matches('/').to_owned(),
        })
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    fn get(&self, path: &str) -> Result<Vec<u8>, String> {
        let url = self.url(path);
        let mut response = self.agent.get(&url).call().map_err(|error| {
            let advice = match &error {
                ureq::Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    "nothing listens there; the address is that of `admin` in Envoy's bootstrap, \
                     in Istio port 15000 of the pod: kubectl port-forward POD 15000"
                }
                ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
                    "write the address as http://HOST:PORT"
                }
                ureq::Error::HostNotFound => "the name of the host is not known",
                ureq::Error::Timeout(_) => "the admin interface does not answer in time",
                _ => "is it the address of Envoy's admin interface?",
            };
            format!("{url} cannot be read: {error}; {advice}")
        })?;
        if response.status() != 200 {
            return Err(format!(
                "{url} answers {}; {}",
                response.status(),
                self.no_envoy()
            ));
        }
        let body = response.body_mut().with_config().limit(MAX_BYTES);
        body.read_to_vec()
            .map_err(|error| format!("{url} cannot be read to its end: {error}"))
    }

    fn stats(&self) -> Result<Stats, String> {
        Stats::read(&self.get("/stats?format=json")?).ok_or_else(|| self.no_envoy())
    }

    fn no_envoy(&self) -> String {
        format!(
            "{} is not the admin interface of an Envoy; it is at the address of `admin` in the \
             bootstrap, and no listener's",
            self.url
        )
    }
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

fn text(server: &Server, observed: &Observed, diagnosis: &Diagnosis) -> String {
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
    text.push_str(&findings::text(&diagnosis.report));
    text
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
    let mut document = findings::json(&diagnosis.report, 1);
    if let Value::Object(document) = &mut document {
        document.insert(
            "envoy".to_owned(),
            json!({"version": server.version, "state": server.state, "uptime": server.uptime}),
        );
        document.insert("filters".to_owned(), filters.into());
        document.insert("moved".to_owned(), moved.into());
    }
    document
}
