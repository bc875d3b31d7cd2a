//! The results of one examination: the state of each path, the liveness of each node's agents, and the findings of the
//! diagnosis.

use std::collections::{BTreeMap, BTreeSet};

use prober_core::diagnosis::Confidence;
use prober_core::packet::family::Family;
use prober_core::report::{AgentReport, CauseName, Health, PathReport, Report};
use prober_core::time::Timestamp;
use prober_core::topology::{AccessPath, NodeName, Scope};

/// Milliseconds. An agent whose timers were late by this much cannot distinguish a lost packet from one that it missed.
/// It can trust an answer that arrived, such as a SYN+ACK from the wrong address or an ICMP error.
const STARVED_MS: u64 = 250;

/// A path between nodes, regardless of the pods at its ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodePath {
    /// The client's node.
    pub client: NodeName,
    /// The server's node; `None` where the Service chooses it.
    pub server: Option<NodeName>,
    /// How the server is addressed.
    pub access_path: AccessPath,
    /// The IP family.
    pub family: Family,
}

/// The state of a path in one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathState {
    /// The first SYN of every probe was answered.
    Healthy,
    /// A probe failed or was late, and others succeeded.
    Failing,
    /// No probe succeeded, neither at first nor in the follow-up probes of the same round.
    Dead,
    /// The round does not say.
    Inconclusive(InconclusiveReason),
}

/// Why a round does not say how a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InconclusiveReason {
    /// An agent at one of its ends was not scheduled in time.
    Starved,
    /// No probe has an outcome.
    NotProbed,
    /// An agent at one of its ends does not report: its node may be down.
    Silent,
}

/// Whether an agent reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// Its results were complete.
    Reporting,
    /// It runs, and its results are missing.
    Silent,
}

/// A cause that the diagnosis found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The cause, or that it has no name.
    pub cause: CauseName,
    /// How certain it is.
    pub confidence: Confidence,
    /// The affected node.
    pub node: Option<NodeName>,
    /// The paths that it explains.
    pub paths: BTreeSet<NodePath>,
}

/// The results of one examination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoundResult {
    /// The nodes that were examined, without their peers.
    pub examined: BTreeSet<NodeName>,
    /// Since when the agents of nodes have reported a failure, by the wall clock.
    pub alerts: BTreeMap<NodeName, Timestamp>,
    /// Every path that was to be probed.
    pub paths: BTreeMap<NodePath, PathState>,
    /// What the diagnosis found.
    pub findings: Vec<Finding>,
    /// The nodes whose agents should have reported. A node with several agents is silent if one of them is.
    pub liveness: BTreeMap<NodeName, Liveness>,
}

impl NodePath {
    /// Where the two ends are relative to each other.
    pub fn scope(&self) -> Scope {
        match &self.server {
            None if self.access_path == AccessPath::ClusterIpLocal => Scope::SameNode,
            None => Scope::Any,
            Some(server) if *server == self.client => Scope::SameNode,
            Some(_) => Scope::CrossNode,
        }
    }

    /// The path of a report; `None` if its client is on no node.
    pub fn of(path: &PathReport) -> Option<Self> {
        Some(Self {
            client: path.client.node.clone()?,
            server: path.server.node.clone(),
            access_path: path.access_path,
            family: path.family,
        })
    }
}

impl RoundResult {
    /// Whether the round says how a node is: at least one of its paths was probed, and none is inconclusive.
    pub(super) fn is_conclusive_for(&self, node: &NodeName) -> bool {
        let mut of_node = (self.paths.iter())
            .filter(|(path, _)| path.client == *node || path.server.as_ref() == Some(node))
            .map(|(_, state)| state)
            .peekable();
        of_node.peek().is_some()
            && of_node.all(|state| !matches!(state, PathState::Inconclusive(_)))
    }

    /// Since when the agents of a path's client, or else of its server, report a failure.
    pub(super) fn alerting_since(&self, path: &NodePath) -> Option<Timestamp> {
        let of = |node: &NodeName| self.alerts.get(node).copied();
        of(&path.client).or_else(|| of(path.server.as_ref()?))
    }

    /// The examined nodes at an end of a path that fails, or whose agents are silent.
    pub fn with_finding(&self) -> BTreeSet<NodeName> {
        let fails = |state: &PathState| match state {
            PathState::Failing | PathState::Dead => true,
            PathState::Healthy | PathState::Inconclusive(_) => false,
        };
        let failing = (self.paths.iter())
            .filter(|(_, state)| fails(state))
            .flat_map(|(path, _)| std::iter::once(&path.client).chain(&path.server));
        let silent = (self.liveness.iter())
            .filter(|(_, liveness)| **liveness == Liveness::Silent)
            .map(|(node, _)| node);
        let found = failing.chain(silent);
        found
            .filter(|node| self.examined.contains(*node))
            .cloned()
            .collect()
    }

    /// The results in a report.
    pub fn from_report(report: &Report) -> Self {
        let starved: BTreeSet<&str> = report
            .agents
            .iter()
            .filter(|agent| agent.starved_ms >= STARVED_MS)
            .map(|agent| agent.pod.as_str())
            .collect();
        let silent: BTreeSet<&str> = (report.agents.iter())
            .filter(|agent| liveness(agent) == Some(Liveness::Silent))
            .map(|agent| agent.pod.as_str())
            .collect();
        let mut result = Self::default();
        for path in &report.paths {
            if let Some(of) = NodePath::of(path) {
                let state = path_state(path, &starved, &silent);
                let known = result.paths.entry(of).or_insert(state);
                *known = worse(*known, state);
            }
        }
        result.findings = report
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
            if let Some(liveness) = liveness(agent) {
                let known = result
                    .liveness
                    .entry(agent.node.clone())
                    .or_insert(liveness);
                if liveness == Liveness::Silent {
                    *known = liveness;
                }
            }
        }
        // Where all agents are silent, the API server fails to deliver their logs.
        if result.liveness.len() > 1
            && result
                .liveness
                .values()
                .all(|liveness| *liveness == Liveness::Silent)
        {
            result.liveness.clear();
        }
        result
    }

    /// Counts those of these pods as silent that run and did not answer the examination.
    pub fn add_unresponsive(&mut self, report: &Report, pods: &BTreeSet<String>) {
        let unresponsive = (report.agents.iter())
            .filter(|agent| !agent.has_reported && agent.failed.is_some())
            .filter(|agent| pods.contains(&agent.pod));
        for agent in unresponsive {
            self.liveness.insert(agent.node.clone(), Liveness::Silent);
        }
    }

    /// Removes the results of these nodes.
    pub fn remove_nodes(&mut self, is_removed: impl Fn(&NodeName) -> bool) {
        self.paths.retain(|path, _| {
            let mut ends = std::iter::once(&path.client).chain(&path.server);
            !ends.any(&is_removed)
        });
        self.liveness.retain(|node, _| !is_removed(node));
    }
}

fn path_state(path: &PathReport, starved: &BTreeSet<&str>, silent: &BTreeSet<&str>) -> PathState {
    let has_end_of = |pods: &BTreeSet<&str>| {
        let ends = [&path.client, &path.server].into_iter();
        let mut known = ends.filter_map(|end| end.pod.as_deref());
        known.any(|pod| pods.contains(pod))
    };
    let (is_starved, is_silent) = (has_end_of(starved), has_end_of(silent));
    // An agent that is not scheduled in time misses packets, but receives none that were not sent.
    let has_wrong_answer = path.outcomes.mismatched + path.outcomes.unreachable > 0;
    match path.health {
        Health::Healthy | Health::Opened => PathState::Healthy,
        Health::NotProbed => PathState::Inconclusive(InconclusiveReason::NotProbed),
        Health::Late | Health::Failing if is_starved && !has_wrong_answer => {
            PathState::Inconclusive(InconclusiveReason::Starved)
        }
        Health::Late | Health::Failing if is_silent && !has_wrong_answer => {
            PathState::Inconclusive(InconclusiveReason::Silent)
        }
        Health::Failing if path.outcomes.established == 0 && path.outcomes.total() > 1 => {
            PathState::Dead
        }
        Health::Late | Health::Failing => PathState::Failing,
    }
}

/// The more significant of two states of the same path.
const fn worse(one: PathState, other: PathState) -> PathState {
    match (one, other) {
        (PathState::Dead, PathState::Dead) => PathState::Dead,
        (PathState::Failing | PathState::Dead, _) | (_, PathState::Failing | PathState::Dead) => {
            PathState::Failing
        }
        (PathState::Healthy, _) | (_, PathState::Healthy) => PathState::Healthy,
        (PathState::Inconclusive(_), PathState::Inconclusive(_)) => one,
    }
}

/// `None` for an agent that could not be started: Kubernetes says why, and the network is not the cause.
const fn liveness(agent: &AgentReport) -> Option<Liveness> {
    match (agent.has_reported, &agent.failed) {
        (true, _) => Some(Liveness::Reporting),
        (false, None) => Some(Liveness::Silent),
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

    /// A report of agents, each of which reports or is silent.
    fn report(agents: &[(&str, bool)]) -> Report {
        let mut matrix = Matrix::default();
        for (node, has_reported) in agents {
            let known = AgentEvidence {
                has_reported: *has_reported,
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
    fn an_agent_is_silent_only_while_another_reports() {
        let silent = |agents: &[(&str, bool)]| {
            let result = RoundResult::from_report(&report(agents));
            let silent = result
                .liveness
                .into_iter()
                .filter(|(_, liveness)| *liveness == Liveness::Silent);
            silent.map(|(node, _)| node.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(silent(&[("node-1", false), ("node-2", true)]), ["node-1"]);
        assert_eq!(silent(&[("node-1", false), ("node-2", false)]), [""; 0]);
        assert_eq!(silent(&[("node-1", false)]), ["node-1"]);
    }

    #[test]
    fn an_agent_that_does_not_answer_is_silent_and_one_without_a_pod_is_not() {
        let mut report = report(&[("node-1", false), ("node-2", true)]);
        report.agents[0].failed = Some("it has not answered".to_owned());
        let mut result = RoundResult::from_report(&report);
        result.add_unresponsive(&report, &BTreeSet::new());
        assert_eq!(result.liveness.len(), 1);
        result.add_unresponsive(&report, &["node-1-client".to_owned()].into());
        assert_eq!(
            result.liveness.get(&NodeName::new("node-1")),
            Some(&Liveness::Silent)
        );
    }

    #[test]
    fn results_of_removed_nodes_are_dropped() {
        let mut result = RoundResult::from_report(&report(&[("node-1", false), ("node-2", true)]));
        result.remove_nodes(|node| node.as_str() == "node-1");
        assert_eq!(
            result.liveness,
            [(NodeName::new("node-2"), Liveness::Reporting)].into()
        );
    }

    #[test]
    fn of_two_states_failing_precedes_healthy_and_healthy_inconclusive() {
        let doubt = PathState::Inconclusive(InconclusiveReason::NotProbed);
        assert_eq!(
            worse(PathState::Healthy, PathState::Failing),
            PathState::Failing
        );
        assert_eq!(worse(doubt, PathState::Healthy), PathState::Healthy);
        assert_eq!(worse(doubt, doubt), doubt);
    }
}
