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
    show::bytes(&script(args.shell))?;
    Ok(ExitCode::SUCCESS)
}

fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "prober", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn every_shell_completes_the_flags_of_a_run_and_their_values() {
        for &shell in Shell::value_variants() {
            let script = String::from_utf8(script(shell)).expect("text");
            for word in ["node-facts", "require-tier", "kubeconfig", "all-namespaces"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}
