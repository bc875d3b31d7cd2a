//! The command line: its commands.

use clap::{Parser, Subcommand};

#[cfg(feature = "cluster")]
use crate::clean;
use crate::{agent, completions, explain, lab, man, probe, replay, report, run};

/// Finds by packets why a Kubernetes Service half-works: names the cause and the node, shows the
/// packets that prove it from both ends, and says how to mend it
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

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Probe every path and say what is broken
    Run(run::RunArgs),
    /// Remove what runs have left behind in a cluster
    #[cfg(feature = "cluster")]
    Clean(clean::CleanArgs),
    /// Build a small network out of namespaces, and break it by hand
    Lab(lab::LabArgs),
    /// Probe addresses from this host, as tcping and hping3 do, and tell what was really seen
    Probe(probe::ProbeArgs),
    /// Diagnose captures that somebody took
    Replay(replay::ReplayArgs),
    /// List the causes that can be named, or tell all about one
    Explain(explain::ExplainArgs),
    /// Show a saved report as text, HTML or pcapng
    Report(report::ReportArgs),
    /// Write a script that completes commands in a shell
    Completions(completions::CompletionsArgs),
    /// Write the manual page
    Man(man::ManArgs),
    /// Run as an agent (what a run starts in each pod)
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
