//! The words of the command line: commands, and the values that several of them take.

use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use prober_core::family::Family;
use prober_core::observation::Tier;

use crate::{agent, clean, completions, explain, lab, man, probe, replay, report, run};

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

/// The form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// For people
    Text,
    /// One document for programs, of the schema prober.dev/report/v1
    Json,
    /// One self-contained page
    Html,
}

/// The form of a short list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListForm {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Which IP families are probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Families {
    /// Those that the cluster has; in the lab IPv4
    Auto,
    /// IPv4 alone
    Ipv4,
    /// IPv6 alone
    Ipv6,
    /// Both
    Dual,
}

impl Families {
    /// As a run takes them, where there are these.
    pub(crate) fn list(self, available: &[Family]) -> Vec<Family> {
        match self {
            Self::Auto => available.to_vec(),
            Self::Ipv4 => vec![Family::Ipv4],
            Self::Ipv6 => vec![Family::Ipv6],
            Self::Dual => vec![Family::Ipv4, Family::Ipv6],
        }
    }
}

/// The most evidence to gather.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TierArg {
    /// connect() results and counters, without any capability
    #[value(name = "T0")]
    T0,
    /// The packets of both ends (CAP_NET_RAW)
    #[value(name = "T1")]
    T1,
    /// Also what the nodes say of themselves
    #[value(name = "T2")]
    T2,
}

impl From<TierArg> for Tier {
    fn from(tier: TierArg) -> Self {
        match tier {
            TierArg::T0 => Self::T0,
            TierArg::T1 => Self::T1,
            TierArg::T2 => Self::T2,
        }
    }
}

/// Reads `800ms`, `3.5s`, `2m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let refused = || format!("cannot read {text:?} as a duration: write 800ms, 3.5s or 2m");
    let (number, unit) = text.split_at(
        text.find(|letter: char| letter.is_ascii_alphabetic())
            .ok_or_else(refused)?,
    );
    let seconds = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err(refused()),
    };
    let number: f64 = number.parse().map_err(|_| refused())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_unit() {
        for (text, millis) in [("800ms", 800), ("3.5s", 3_500), ("2m", 120_000), ("0s", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "3", "3 s", "-1s", "s", "1h", "1e400s", "nans"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

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
