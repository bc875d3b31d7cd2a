//! `prober man`: the manual page, of all commands or of one.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Command;

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

/// Writes the page of this command, or of one of its own.
pub(crate) fn man(args: &ManArgs, all: Command) -> anyhow::Result<ExitCode> {
    show::bytes(&page(args.command.as_deref(), all)?)?;
    Ok(ExitCode::SUCCESS)
}

/// The page of a command, or of all.
fn page(name: Option<&str>, mut all: Command) -> anyhow::Result<Vec<u8>> {
    all.build();
    let command = match name {
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
    Ok(page)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn the_page_of_a_run_tells_of_each_flag_that_a_cluster_takes() {
        let page = page(Some("run"), Cli::command()).expect("a page");
        let page = String::from_utf8(page).expect("text").replace('\\', "");
        for flag in [
            "--node",
            "--all",
            "--peers",
            "--namespace",
            "--context",
            "--kubeconfig",
            "--image",
            "--timeout",
            "--probe-deadline",
            "--node-facts",
            "--require-tier",
            "--family",
            "--keep",
            "--output",
            "--pcapng",
            "--quiet",
        ] {
            assert!(page.contains(flag), "{flag}");
        }
    }

    #[test]
    fn a_command_that_is_none_has_no_page() {
        assert!(page(Some("rum"), Cli::command()).is_err());
    }
}
