//! `meshtrace completions` and `meshtrace man`.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _, ValueHint};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::Cli;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    meshtrace completions bash > ~/.local/share/bash-completion/completions/meshtrace\n  \
    meshtrace completions zsh > \"${fpath[1]}/_meshtrace\"\n  \
    meshtrace completions fish > ~/.config/fish/completions/meshtrace.fish")]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    /// The script for the shell.
    pub(crate) fn run(&self) -> Result<String, String> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "meshtrace", &mut script);
        text(script)
    }
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    meshtrace man | man -l -\n  \
    meshtrace man --all ~/.local/share/man/man1")]
pub(crate) struct ManPage {
    /// Write a page for every command into this folder, as meshtrace-<command>.1
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    all: Option<PathBuf>,
}

impl ManPage {
    /// The page of the whole command line, or nothing where all pages are files.
    pub(crate) fn run(&self) -> Result<String, String> {
        if let Some(folder) = &self.all {
            return write(folder).map(|()| String::new());
        }
        let mut page = Vec::new();
        Man::new(Cli::command())
            .render(&mut page)
            .map_err(|error| format!("the page cannot be written: {error}"))?;
        text(page)
    }
}

fn write(folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), folder))
        .map_err(|error| format!("{} cannot be written: {error}", folder.display()))
}

fn text(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|error| format!("the text is not UTF-8: {error}"))
}
