//! `prober man`: the manual page of the program, or of one command.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Command;
use prober_core::suggestion::{closest, did_you_mean};

use crate::show;

/// Writes the manual page.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    prober man | man -l -\n  \
    prober man lab up | man -l -\n  \
    prober man run > /usr/local/share/man/man1/prober-run.1")]
pub(crate) struct ManArgs {
    /// A command, for its own page, such as run or lab up
    command: Vec<String>,
}

/// Runs `prober man`: writes the manual page of the command that `args` names to standard output. `all` is the program.
pub(crate) fn man(args: &ManArgs, all: Command) -> anyhow::Result<ExitCode> {
    show::bytes(&page(&args.command, all)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Renders the page of a command, named by one word per level, in roff; without a word, the page of the program.
///
/// Fails if there is no such command.
fn page(words: &[String], mut all: Command) -> anyhow::Result<Vec<u8>> {
    all.build();
    let mut command = &all;
    for word in words {
        command = command
            .find_subcommand(word)
            .with_context(|| unknown(command, word))?;
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone())
        .render(&mut page)
        .context("cannot write the manual page")?;
    Ok(page)
}

/// Returns the error text of a command that `parent` does not have, with the closest name.
fn unknown(parent: &Command, word: &str) -> String {
    let known = parent.get_subcommands().map(Command::get_name);
    let parent = parent.get_bin_name().unwrap_or("prober");
    format!(
        "there is no command '{parent} {word}'{}; `{parent} --help` lists them",
        did_you_mean(closest(word, known))
    )
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn the_page_of_run_lists_every_flag_for_a_cluster() {
        let page = page(&["run".to_owned()], Cli::command()).expect("a page");
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
    fn a_command_of_a_command_has_a_page() {
        let words = ["lab", "up"].map(str::to_owned);
        let page = page(&words, Cli::command()).expect("a page");
        let page = String::from_utf8(page).expect("text").replace('\\', "");
        assert!(page.contains("prober-lab-up"), "{page}");
        assert!(page.contains("--fault"), "{page}");
    }

    #[test]
    fn a_command_that_is_none_has_no_page() {
        let words = ["lab", "upp"].map(str::to_owned);
        let error = page(&words, Cli::command()).unwrap_err().to_string();
        assert!(error.contains("'prober lab upp'"), "{error}");
        assert!(page(&["rum".to_owned()], Cli::command()).is_err());
    }
}
