//! The command line of an agent.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use ipnet::IpNet;
use prober_core::plan::PortRanges;
use prober_core::probe::tier::Tier;
use prober_core::topology::AgentId;

/// Probes, and answers probes, in the network namespace that it is started in. Plans come in by a
/// file, events go out as JSON lines on standard output.
#[derive(Debug, Parser)]
#[command(
    name = "prober-agent",
    version,
    after_help = "Examples:\n  \
        prober-agent --agent node-1/client-1 --plan /etc/prober/plan --allow 100.96.0.0/11 --allow 100.64.0.0/13\n  \
        prober-agent --agent node-1/client-1 --plan plan.json --allow fd00::/8 --tier T0\n  \
        prober-agent --facts\n\n\
        It runs until SIGTERM or SIGINT, then writes the counts that it has and ends with status 0. It ends with 2 if it \
        cannot start. Without CAP_NET_RAW it works in tier T0, and its first line says so."
)]
pub(crate) struct Args {
    /// Node and pod of this agent, e.g. node-1/client-1; it refuses plans for another agent
    #[arg(
        long,
        value_name = "NODE/POD",
        value_parser = agent_id,
        required_unless_present = "facts"
    )]
    pub(crate) agent: Option<AgentId>,

    /// Read plans from this file, e.g. /etc/prober/plan; it may be replaced at any time, and need not exist yet
    #[arg(long, value_name = "FILE", required_unless_present = "facts")]
    pub(crate) plan: Option<PathBuf>,

    /// Addresses that plans may probe, e.g. 100.96.0.0/11; may be repeated. Without it, a plan with probes is refused
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    pub(crate) allow: Vec<IpNet>,

    /// Ports that plans may probe, e.g. 8080-8081,9000-9100,30000-32767 (the default with --standing-plan; without it, any)
    #[arg(long, value_name = "RANGES")]
    pub(crate) allow_ports: Option<PortRanges>,

    /// Probe by itself, for ever, as this file says, e.g. /etc/prober/standing/plan.json; it may be replaced at any time, and need not exist yet
    #[arg(long, value_name = "FILE")]
    pub(crate) standing_plan: Option<PathBuf>,

    /// What a standing agent is: a client probes its own server and its peers; a server answers on ports 8080 and 8081 from its start on,
    /// and probes its own slot
    #[arg(
        long,
        value_name = "ROLE",
        value_enum,
        default_value = "client",
        requires = "standing_plan"
    )]
    pub(crate) role: StandingRoleArg,

    /// Port for GET /metrics in Prometheus' text format, e.g. 8083
    #[arg(long, value_name = "PORT", requires = "standing_plan")]
    pub(crate) metrics_port: Option<u16>,

    /// The best evidence to collect: T0, results of connect() and counters; T1, also packets (needs
    /// CAP_NET_RAW); T2, as T1, since another agent reads the facts of the node
    #[arg(
        long,
        value_name = "TIER",
        value_enum,
        default_value = "T1",
        env = "PROBER_TIER"
    )]
    pub(crate) tier: AgentTierArg,

    /// Accept plans of this run only, e.g. r7f3a; without it, of any
    #[arg(long, value_name = "ID")]
    pub(crate) run: Option<String>,

    /// Write the first line again before the first plan of each run, for runs that read the log from its end (always with --standing-plan)
    #[arg(long, conflicts_with = "run")]
    pub(crate) greet_runs: bool,

    /// Port for a readiness probe, e.g. 8082: open while nothing in the log needs to be read, see "log_reading" of a plan
    #[arg(long, value_name = "PORT")]
    pub(crate) readiness_port: Option<u16>,

    /// Write the facts of this node as one line, and end
    #[arg(long, conflicts_with_all = ["agent", "plan", "allow", "run", "readiness_port", "standing_plan"])]
    pub(crate) facts: bool,
}

/// What a standing agent is, as given on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StandingRoleArg {
    /// Probes its own server and its peers.
    Client,
    /// Answers, and probes its own slot.
    Server,
}

/// The highest tier that an agent works in, as given on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AgentTierArg {
    /// Results of connect() and counters.
    #[value(name = "T0")]
    T0,
    /// Also packets.
    #[value(name = "T1")]
    T1,
    /// As T1: another agent reads the facts of the node.
    #[value(name = "T2")]
    T2,
}

impl AgentTierArg {
    /// The tier that this agent works in: T2 adds node facts, which another agent reads.
    pub(crate) const fn wanted(self) -> Tier {
        match self {
            Self::T0 => Tier::T0,
            Self::T1 | Self::T2 => Tier::T1,
        }
    }
}

/// A text that is neither a network prefix nor an address.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is no address prefix such as 10.244.0.0/16 or fd00::/64")]
pub(crate) struct PrefixError(String);

/// A network prefix; an address alone is the prefix of that address only.
fn prefix(text: &str) -> Result<IpNet, PrefixError> {
    text.parse()
        .or_else(|_| text.parse().map(|address: IpAddr| address.into()))
        .map_err(|_| PrefixError(text.to_owned()))
}

/// A text that names no agent.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' names no agent: write the node, a slash and the pod, such as node-1/client-1")]
pub(crate) struct AgentIdError(String);

fn agent_id(text: &str) -> Result<AgentId, AgentIdError> {
    match text.split_once('/') {
        Some((node, pod)) if is_word(node) && is_word(pod) => Ok(AgentId::new(node, pod)),
        Some(_) | None => Err(AgentIdError(text.to_owned())),
    }
}

/// Whether a name fits into the banner, which separates its words by blanks.
fn is_word(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_are_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn an_allowed_prefix_may_be_a_single_address() {
        let parsed = |text| prefix(text).map(|prefix| prefix.to_string()).ok();
        for (text, expected) in [
            ("10.244.0.0/16", Some("10.244.0.0/16")),
            ("fd00::/8", Some("fd00::/8")),
            ("10.0.0.1", Some("10.0.0.1/32")),
            ("fd00::1", Some("fd00::1/128")),
            ("10.0.0.0/33", None),
            ("fd00::/129", None),
            ("/8", None),
            ("x", None),
        ] {
            assert_eq!(parsed(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn an_agent_is_a_node_a_slash_and_a_pod() {
        assert_eq!(agent_id("n1/p1").unwrap(), AgentId::new("n1", "p1"));
        for bad in ["", "n1", "n1/", "/p1", "n1/p1/x", "n1/p 1", "n\n/p"] {
            let refused = agent_id(bad).unwrap_err().to_string();
            assert!(refused.contains("node-1/client-1"), "{bad}: {refused}");
        }
    }

    #[test]
    fn facts_need_neither_agent_nor_plan_and_everything_else_needs_both() {
        assert!(Args::try_parse_from(["prober-agent", "--facts"]).is_ok());
        assert!(Args::try_parse_from(["prober-agent"]).is_err());
        assert!(Args::try_parse_from(["prober-agent", "--agent", "n/p"]).is_err());
    }
}
