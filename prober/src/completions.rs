//! `prober completions`: shell completion scripts.

use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;

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

/// Runs `prober completions`: writes the completion script of `command` to standard output.
pub(crate) fn completions(args: &CompletionsArgs, command: Command) -> anyhow::Result<ExitCode> {
    show::bytes(&script(args.shell, command))?;
    Ok(ExitCode::SUCCESS)
}

/// Generates the completion script of `command` for this shell.
fn script(shell: Shell, mut command: Command) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "prober", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, ValueEnum as _};

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_shell_completes_the_flags_of_a_run_and_their_values() {
        for &shell in Shell::value_variants() {
            let script = String::from_utf8(script(shell, Cli::command())).expect("text");
            for word in ["node-facts", "require-tier", "kubeconfig", "all-namespaces"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }

    #[test]
    fn shells_complete_faults_and_causes() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = String::from_utf8(script(shell, Cli::command())).expect("text");
            for word in [
                "forward-drop-egress",
                "reply-bypasses-nat",
                "masquerade-all",
            ] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}
