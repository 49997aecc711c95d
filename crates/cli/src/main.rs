//! `meshtrace`: the host command line.

#![forbid(unsafe_code)]

mod input;
mod output;
mod render;
mod schema;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tools that go with the meshtrace filters for Envoy and Istio.
///
/// Exit codes: 0, done; 1, the configuration is refused or a file cannot be read; 2, the command line is wrong.
#[derive(Debug, Parser)]
#[command(name = "meshtrace", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Render the Envoy or Istio configuration that a filter needs beside it, from the filter's own.
    #[command(arg_required_else_help = true)]
    Render {
        #[command(subcommand)]
        filter: render::Filter,
    },
    /// Print the JSON Schema of a filter's configuration (draft 2020-12).
    #[command(arg_required_else_help = true)]
    Schema(schema::Command),
}

impl Command {
    fn run(&self) -> Result<String, String> {
        match self {
            Self::Render { filter } => filter.run(),
            Self::Schema(command) => command.run(),
        }
    }
}

fn main() -> ExitCode {
    match Cli::parse().command.run() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
