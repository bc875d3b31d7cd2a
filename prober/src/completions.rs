//! `prober completions`: scripts that complete commands in a shell.

use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::show;

/// Writes a script that completes commands in a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    prober completions bash > /usr/share/bash-completion/completions/prober\n  \
    source <(prober completions zsh)")]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Writes the script.
pub(crate) fn completions(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "prober", &mut script);
    show::bytes(&script)?;
    Ok(ExitCode::SUCCESS)
}
