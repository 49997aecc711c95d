//! `meshtrace`: the host command line.

#![forbid(unsafe_code)]

mod address;
mod check;
mod doctor;
mod explain;
mod filter;
mod findings;
mod init;
mod input;
mod output;
mod render;
mod schema;
mod shell;
mod test_cases;
mod version;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tools that go with the meshtrace filters for Envoy and Istio.
///
/// Exit codes: 0, done; 1, the configuration is refused or a file cannot be read; 2, the command line is wrong. Those of
/// `check`, `doctor` and `test` are told by their help.
#[derive(Debug, Parser)]
#[command(
    name = "meshtrace",
    version,
    long_version = version::all(),
    arg_required_else_help = true,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Find mistakes in plugin configurations and in the Envoy, Istio and Kubernetes files around them
    ///
    /// What is found is a line each: LEVEL CODE FILE:LINE:COLUMN PATH: what is wrong, and what to do. Every code has a
    /// section in docs/troubleshooting.md.
    ///
    /// Read are plugin configurations, Envoy's configuration (bootstrap, LDS, CDS, RDS, /config_dump), WasmPlugin,
    /// TrafficExtension, EnvoyFilter, Telemetry, MeshConfig, EnvoyExtensionPolicy, EnvoyPatchPolicy and EnvoyProxy, as
    /// JSON or YAML, also in ConfigMaps and lists. Files that are given together are checked together: a plugin with the
    /// tags that read it, a label with the pods that have it.
    #[command(arg_required_else_help = true)]
    Check(check::Command),
    /// Find mistakes in a running Envoy: in its configuration, and in what its counters say
    ///
    /// Reads /server_info, /config_dump and, twice, /stats of Envoy's admin interface. Tells of every filter whether its
    /// configuration is in force, which counters moved in the meantime and what they count, and what is wrong with it. It
    /// changes nothing.
    #[command(arg_required_else_help = true)]
    Doctor(doctor::Command),
    /// Tell what a filter does with a request
    ///
    /// The pipeline of the proxy runs here, with your configuration, over the request that you describe: what was read,
    /// which rule decided, every header that changes, the filter state, the span and the counters.
    #[command(arg_required_else_help = true)]
    Explain(explain::Command),
    /// Run the cases of a file: requests, and what is expected of each
    #[command(arg_required_else_help = true)]
    Test(test_cases::Command),
    /// Render the Envoy or Istio configuration of one or several filters: themselves, and all around them
    ///
    /// With --envoy: the parts of Envoy's configuration, each below a line that says where it goes. With --istio: the
    /// resources to apply. Several filters become one answer: their order, one list of header mutations, one Telemetry;
    /// what contradicts is refused. docs/render.md.
    #[command(arg_required_else_help = true)]
    Render(render::Command),
    /// Print the JSON Schema of a filter's configuration (draft 2020-12).
    #[command(arg_required_else_help = true)]
    Schema(schema::Command),
    /// Write a folder to apply: asks what stands where, or takes flags
    ///
    /// Six questions: the proxy, its tracer, the formats of callers and applications, edge or inside, the access log,
    /// attributes. Asks on a terminal, unless one of their flags is given. The folder has a README that says how to apply,
    /// verify and remove it.
    Init(init::Command),
    /// Print the completions of a shell
    #[command(arg_required_else_help = true)]
    Completions(shell::Completions),
    /// Print the manual page
    Man(shell::ManPage),
}

impl Command {
    fn run(&self) -> ExitCode {
        let text = match self {
            Self::Check(command) => return command.run(),
            Self::Doctor(command) => return command.run(),
            Self::Test(command) => return command.run(),
            Self::Explain(command) => command.run(),
            Self::Render(command) => command.run(),
            Self::Schema(command) => command.run(),
            Self::Init(command) => command.run(),
            Self::Completions(command) => command.run(),
            Self::Man(command) => command.run(),
        };
        match text {
            Ok(text) => {
                output::print(&text);
                ExitCode::SUCCESS
            }
            Err(sentence) => {
                eprintln!("meshtrace: {sentence}");
                ExitCode::FAILURE
            }
        }
    }
}

fn main() -> ExitCode {
    Cli::parse().command.run()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
