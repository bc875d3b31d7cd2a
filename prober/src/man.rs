//! `prober man`: the manual page, of all commands or of one.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;

use crate::cli::Cli;
use crate::show;

/// Writes the manual page.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    prober man | man -l -\n  \
    prober man run > /usr/local/share/man/man1/prober-run.1")]
pub(crate) struct ManArgs {
    /// A command, for its own page
    command: Option<String>,
}

/// Writes the page.
pub(crate) fn man(args: &ManArgs) -> anyhow::Result<ExitCode> {
    let mut all = Cli::command();
    all.build();
    let command = match &args.command {
        None => all,
        Some(name) => all
            .find_subcommand(name)
            .with_context(|| format!("there is no command '{name}'; `prober --help` lists them"))?
            .clone(),
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut page)
        .context("write the manual page")?;
    show::bytes(&page)?;
    Ok(ExitCode::SUCCESS)
}
