//! The command line: the arguments of the program and its commands.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

#[cfg(target_os = "linux")]
use crate::{agent, lab, probe};
#[cfg(feature = "cluster")]
use crate::{clean, ui};
use crate::{completions, explain, man, replay, report, run, version};

/// The file name under which kubectl runs the program as its plugin.
const PLUGIN: &str = "kubectl-prober";

/// Finds out, from packets, why a Kubernetes Service works only some of the time, and how to fix it:
/// names the cause and the node, and shows the packets of both ends that prove it
#[derive(Debug, Parser)]
#[command(
    name = "prober",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "Exit status: 0 healthy, 1 a path fails, 2 could not run.\n\n\
        Examples:\n  \
        prober run --node ip-10-0-3-17\n  \
        prober run --lab --fault bridge-netfilter-off@node-1\n  \
        prober explain bridge-netfilter-off"
)]
pub(crate) struct Cli {
    /// What to do
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Parses the command line, whose first word is the path of the program.
///
/// Values match in any case. The usage of a kubectl plugin reads `kubectl prober`. The error is clap's: a usage error,
/// or the text of `--help` and `--version`.
pub(crate) fn parse(words: &[OsString]) -> Result<Cli, clap::Error> {
    let mut command = ignore_case(Cli::command());
    if words.first().is_some_and(|program| is_plugin(program)) {
        command = command.bin_name("kubectl prober");
    }
    let matches = command.try_get_matches_from_mut(words)?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// Whether kubectl runs the program as its plugin, by the program's file name.
fn is_plugin(program: &OsStr) -> bool {
    Path::new(program).file_stem() == Some(OsStr::new(PLUGIN))
}

/// Makes the values of every argument of every command match in any case.
fn ignore_case(command: clap::Command) -> clap::Command {
    command
        .mut_args(|argument| {
            let has_values = argument.get_action().takes_values();
            if has_values {
                argument.ignore_case(true)
            } else {
                argument
            }
        })
        .mut_subcommands(ignore_case)
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Probe every path and report what is broken
    Run(run::RunArgs),
    /// Remove what runs have left behind in a cluster
    #[cfg(feature = "cluster")]
    Clean(clean::CleanArgs),
    /// Show the page of the canary in a cluster, through a forwarded port
    #[cfg(feature = "cluster")]
    Ui(ui::UiArgs),
    /// Build a small network of namespaces, and break it by hand
    #[cfg(target_os = "linux")]
    Lab(lab::LabArgs),
    /// Probe addresses from this host, as tcping and hping3 do, and show what the packets say
    #[cfg(target_os = "linux")]
    Probe(probe::ProbeArgs),
    /// Diagnose existing packet captures
    Replay(replay::ReplayArgs),
    /// List the causes that can be named, or explain one
    Explain(explain::ExplainArgs),
    /// Show a saved report in another format
    Report(report::ReportArgs),
    /// Write a script that completes commands in a shell
    Completions(completions::CompletionsArgs),
    /// Write the manual page
    Man(man::ManArgs),
    /// Show the version, the commit and the target
    Version(version::VersionArgs),
    /// Run as an agent (what a run starts in each pod)
    #[cfg(target_os = "linux")]
    #[command(hide = true, disable_help_flag = true, disable_version_flag = true)]
    Agent(agent::AgentArgs),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn names_are_taken_whatever_their_case() {
        let parsed = |words: &str| {
            let words: Vec<OsString> = words.split(' ').map(OsString::from).collect();
            parse(&words)
        };
        for words in [
            "prober run --lab --tier t1",
            "prober run --lab --fault Forward-DROP@node-2",
            "prober run --all --require-tier t0 -o JSON",
            "prober explain HAIRPIN-OFF",
            "prober lab inject HAIRPIN-off",
        ] {
            assert!(parsed(words).is_ok(), "{words}");
        }
        let error = parsed("prober run --lab --fault foo").unwrap_err();
        assert!(!error.to_string().contains("did you mean"), "{error}");
        let error = parsed("prober explain bridge-netfiter-off").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("did you mean bridge-netfilter-off?"),
            "{error}"
        );
    }

    #[test]
    fn a_plugin_of_kubectl_is_called_as_kubectl_calls_it() {
        let words = ["/opt/krew/bin/kubectl-prober", "run", "--help"].map(OsString::from);
        let help = parse(&words).unwrap_err().to_string();
        assert!(help.contains("Usage: kubectl prober run"), "{help}");
    }

    #[test]
    fn the_help_of_every_command_reads_like_this() {
        use clap::CommandFactory as _;
        fn help(command: &mut clap::Command, name: &str, all: &mut String) {
            let shown = command.clone().term_width(100).render_long_help();
            *all = format!("{all}$ {name} --help\n{shown}\n");
            let children: Vec<clap::Command> = command
                .get_subcommands()
                .filter(|child| !child.is_hide_set() && child.get_name() != "help")
                .cloned()
                .collect();
            for mut child in children {
                let name = format!("{name} {}", child.get_name());
                help(&mut child, &name, all);
            }
        }
        let mut all = String::new();
        let mut command = Cli::command();
        command.build();
        help(&mut command, "prober", &mut all);
        insta::assert_snapshot!(all);
    }
}
