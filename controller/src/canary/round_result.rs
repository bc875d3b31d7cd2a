//! One round as judgement sees it: each path healthy, failing, or neither, and what the one-shot's diagnosis found.

use std::collections::{BTreeMap, BTreeSet};

use prober_core::diagnosis::Confidence;
use prober_core::packet::family::Family;
use prober_core::plan::pairing::NodePair;
use prober_core::report::{AgentReport, CauseName, Health, PathReport, Report};
use prober_core::topology::{NodeName, Route, Scope};

/// An agent that was late for its own timers by this much, milliseconds, cannot tell a lost packet from a lost turn. A packet
/// that did come, from the wrong address or with bad news, it can.
const STARVED_MS: u64 = 250;

/// A path between nodes, whichever pods are its ends at the moment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodePath {
    /// Whose client asks.
    pub client: NodeName,
    /// Whose server should answer; `None` where the Service picks.
    pub server: Option<NodeName>,
    /// How the server is addressed.
    pub route: Route,
    /// The IP family.
    pub family: Family,
}

/// How a path did in one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Every probe was established by its first SYN.
    Healthy,
    /// A probe failed or was late, and others got through.
    Failing,
    /// No probe got through: none of the first look, and none of the closer look that followed at once.
    Dead,
    /// Nothing can be concluded.
    Inconclusive(Doubt),
}

/// Why nothing can be concluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// An agent at one of the ends did not get its turns of the processor.
    Starved,
    /// No probe has an outcome.
    Unprobed,
}

/// What was heard of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// It reported to its end.
    Heard,
    /// It ran and fell silent.
    Silent,
}

/// What a diagnosis found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The cause, or that it has no name.
    pub cause: CauseName,
    /// How sure it is.
    pub confidence: Confidence,
    /// The node where it is.
    pub node: Option<NodeName>,
    /// The paths that it explains.
    pub paths: BTreeSet<NodePath>,
}

/// One round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Every path that was to be probed.
    pub paths: BTreeMap<NodePath, Seen>,
    /// What is broken.
    pub findings: Vec<Finding>,
    /// The nodes with agents that should have reported. Several agents of a node are one voice: one that is silent is
    /// heard of.
    pub voices: BTreeMap<NodeName, Voice>,
}

impl NodePath {
    /// Where its two ends stand relative to each other.
    pub fn scope(&self) -> Scope {
        match &self.server {
            None if self.route == Route::ProberLocal => Scope::SameNode,
            None => Scope::Any,
            Some(server) if *server == self.client => Scope::SameNode,
            Some(_) => Scope::CrossNode,
        }
    }

    /// The pair of nodes that probes it; a path without a known server is its client's own.
    pub fn pair(&self) -> NodePair {
        let server = self.server.as_ref().unwrap_or(&self.client);
        (self.client.clone(), server.clone())
    }

    /// Whether all its ends are on these nodes.
    pub fn is_between(&self, nodes: &BTreeSet<NodeName>) -> bool {
        let mut ends = std::iter::once(&self.client).chain(&self.server);
        ends.all(|end| nodes.contains(end))
    }

    fn of(path: &PathReport) -> Option<Self> {
        Some(Self {
            client: path.client.node.clone()?,
            server: path.server.node.clone(),
            route: path.route,
            family: path.family,
        })
    }
}

impl Look {
    /// Whether it says how a node does: one of its paths was looked at, and of none it is unclear. `None`: any node.
    pub(super) fn settles(&self, node: Option<&NodeName>) -> bool {
        let mut of_node = (self.paths.iter())
            .filter(|(path, _)| {
                node.is_none_or(|node| path.client == *node || path.server.as_ref() == Some(node))
            })
            .map(|(_, seen)| seen)
            .peekable();
        of_node.peek().is_some() && of_node.all(|seen| !matches!(seen, Seen::Inconclusive(_)))
    }

    /// What a report says of its round.
    pub fn of(report: &Report) -> Self {
        let starved: BTreeSet<&str> = report
            .agents
            .iter()
            .filter(|agent| agent.starved_ms >= STARVED_MS)
            .map(|agent| agent.pod.as_str())
            .collect();
        let mut look = Self::default();
        for path in &report.paths {
            if let Some(of) = NodePath::of(path) {
                let seen = seen(path, &starved);
                let known = look.paths.entry(of).or_insert(seen);
                *known = worse(*known, seen);
            }
        }
        look.findings = report
            .diagnoses
            .iter()
            .map(|diagnosis| Finding {
                cause: diagnosis.cause,
                confidence: diagnosis.confidence,
                node: diagnosis.node.clone(),
                paths: diagnosis
                    .paths
                    .iter()
                    .filter_map(|id| NodePath::of(report.path(*id)?))
                    .collect(),
            })
            .collect();
        for agent in &report.agents {
            if let Some(voice) = voice(agent) {
                let known = look.voices.entry(agent.node.clone()).or_insert(voice);
                if voice == Voice::Silent {
                    *known = voice;
                }
            }
        }
        // Where nobody at all was heard, it is the way to them that fails: the API server's, not theirs.
        if look.voices.len() > 1 && look.voices.values().all(|voice| *voice == Voice::Silent) {
            look.voices.clear();
        }
        look
    }

    /// Leaves out what is of other nodes.
    pub fn keep(&mut self, nodes: &BTreeSet<NodeName>) {
        self.paths.retain(|path, _| path.is_between(nodes));
        self.voices.retain(|node, _| nodes.contains(node));
    }

    /// Whether every path is healthy and every agent was heard.
    pub fn is_calm(&self) -> bool {
        (self.paths.values()).all(|seen| *seen == Seen::Healthy)
            && (self.voices.values()).all(|voice| *voice == Voice::Heard)
    }

    /// The pairs of which a probe had an outcome.
    pub fn measured(&self) -> BTreeSet<NodePair> {
        let has_outcome = |seen: &Seen| match seen {
            Seen::Healthy | Seen::Failing | Seen::Dead | Seen::Inconclusive(Doubt::Starved) => true,
            Seen::Inconclusive(Doubt::Unprobed) => false,
        };
        let paths = self.paths.iter().filter(|(_, seen)| has_outcome(seen));
        paths.map(|(path, _)| path.pair()).collect()
    }
}

fn seen(path: &PathReport, starved: &BTreeSet<&str>) -> Seen {
    let is_starved = [&path.client, &path.server]
        .into_iter()
        .filter_map(|end| end.pod.as_deref())
        .any(|pod| starved.contains(pod));
    // An agent without its turns misses packets; it makes none up.
    let is_told_wrong = path.outcomes.mismatched + path.outcomes.unreachable > 0;
    match path.health {
        Health::Healthy => Seen::Healthy,
        Health::NotProbed => Seen::Inconclusive(Doubt::Unprobed),
        Health::Late | Health::Failing if is_starved && !is_told_wrong => {
            Seen::Inconclusive(Doubt::Starved)
        }
        Health::Failing if path.outcomes.established == 0 && path.outcomes.total() > 1 => {
            Seen::Dead
        }
        Health::Late | Health::Failing => Seen::Failing,
    }
}

/// Of two paths between the same nodes, what says more.
const fn worse(one: Seen, other: Seen) -> Seen {
    match (one, other) {
        (Seen::Dead, Seen::Dead) => Seen::Dead,
        (Seen::Failing | Seen::Dead, _) | (_, Seen::Failing | Seen::Dead) => Seen::Failing,
        (Seen::Healthy, _) | (_, Seen::Healthy) => Seen::Healthy,
        (Seen::Inconclusive(_), Seen::Inconclusive(_)) => one,
    }
}

/// An agent that could not be started is no voice at all: Kubernetes says why, and the network did not do it.
const fn voice(agent: &AgentReport) -> Option<Voice> {
    match (agent.heard, &agent.failed) {
        (true, _) => Some(Voice::Heard),
        (false, None) => Some(Voice::Silent),
        (false, Some(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prober_core::diagnosis::diagnose;
    use prober_core::evidence::{AgentEvidence, Matrix};
    use prober_core::report::{Completion, Meta};
    use prober_core::time::Timestamp;
    use prober_core::topology::AgentId;

    use super::*;

    /// A report of agents, of which each was heard or not.
    fn heard(agents: &[(&str, bool)]) -> Report {
        let mut matrix = Matrix::default();
        for (node, heard) in agents {
            let known = AgentEvidence {
                heard: *heard,
                ..AgentEvidence::default()
            };
            matrix
                .agents
                .insert(AgentId::new(*node, format!("{node}-client")), known);
        }
        let meta = Meta {
            version: String::new(),
            command: Vec::new(),
            started: Timestamp::default(),
            duration: Duration::ZERO,
            completion: Completion::Complete,
            notes: Vec::new(),
        };
        Report::new(&matrix, &diagnose(&matrix), meta)
    }

    #[test]
    fn an_agent_is_silent_while_another_is_heard() {
        let silent = |agents: &[(&str, bool)]| {
            let look = Look::of(&heard(agents));
            let silent = look
                .voices
                .into_iter()
                .filter(|(_, voice)| *voice == Voice::Silent);
            silent.map(|(node, _)| node.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(silent(&[("node-1", false), ("node-2", true)]), ["node-1"]);
        assert_eq!(silent(&[("node-1", false), ("node-2", false)]), [""; 0]);
        assert_eq!(silent(&[("node-1", false)]), ["node-1"]);
    }

    #[test]
    fn of_who_has_left_nothing_is_seen() {
        let mut look = Look::of(&heard(&[("node-1", false), ("node-2", true)]));
        look.keep(&[NodeName::new("node-2")].into());
        assert_eq!(
            look.voices,
            [(NodeName::new("node-2"), Voice::Heard)].into()
        );
    }

    #[test]
    fn a_failure_says_more_than_health_and_health_more_than_nothing() {
        let doubt = Seen::Inconclusive(Doubt::Unprobed);
        assert_eq!(worse(Seen::Healthy, Seen::Failing), Seen::Failing);
        assert_eq!(worse(doubt, Seen::Healthy), Seen::Healthy);
        assert_eq!(worse(doubt, doubt), doubt);
    }
}
