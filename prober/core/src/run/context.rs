//! The data and work that all states of a run share: its specification, its agents, its Services, its evidence, and the
//! commands that wait for the platform.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use super::agents::Agents;
use super::collection::Collection;
use super::cycle::{Cycle, Purpose, Round};
use super::paths::{Map, pick};
use super::probe_plans::AgentProbes;
use super::state::ProbeOnly;
use super::{Endpoints, Placement, PlatformCommand, PodNames, Published, RunResult, RunSpec};
use crate::evidence::NodeEvidence;
use crate::node_facts::ConntrackRequest;
use crate::plan::pairing::NodePair;
use crate::plan::{LogReading, Method, NodeFactsReading, Plan, ProbePlan};
use crate::probe::tier::Tier;
use crate::time::Timestamp;
use crate::topology::{AgentId, NodeName};

/// Usual duration of probes that are answered, milliseconds.
const MOSTLY_ANSWERED_MS: u32 = 600;

/// Whether a run has anything to probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// It has.
    Paths,
    /// No two agents have addresses of a common family.
    Empty,
}

/// The consequence of an agent's failure for the run.
pub(super) struct Failure {
    /// Whether the agent was being started.
    pub(super) was_starting: bool,
    /// The reason why the run cannot measure anything, if no node under test can be probed any more.
    pub(super) fatal: Option<String>,
}

impl Failure {
    /// The same for a run that has begun to probe: it continues where an agent has run.
    pub(super) fn fatal_at_start(self) -> Option<String> {
        self.fatal.filter(|_| self.was_starting)
    }
}

/// The plans of a round.
#[derive(Default)]
pub(super) struct RoundPlans {
    /// The agents' probes.
    pub(super) probes: Vec<AgentProbes>,
    /// Probes of an earlier round that its agents never accepted: they come first.
    pub(super) missed: Vec<AgentProbes>,
    /// Nodes with facts and counters to read, and the connections whose conntrack entries are read there.
    pub(super) reading: BTreeMap<NodeName, ConntrackRequest>,
    /// Agents that start with their plans.
    pub(super) probe_only: ProbeOnly,
}

/// The data that all states share.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) spec: RunSpec,
    pub(super) purpose: Purpose,
    /// The time of the present event.
    pub(super) now: Timestamp,
    /// The present cycle.
    pub(super) cycle: Cycle,
    /// The result of the last cycle, until it is taken.
    pub(super) cycle_result: Option<RunResult>,
    /// Commands that the platform has not received yet.
    pub(super) commands: VecDeque<PlatformCommand>,
    /// When the run stops waiting for agents and Services that are not ready.
    pub(super) ready_by: Timestamp,
    /// When the run ends with what is measured, if its time is limited.
    pub(super) ends_by: Option<Timestamp>,
    pub(super) agents: Agents,
    pub(super) endpoints: Endpoints,
    /// Nodes with servers that get no more balanced connections.
    withdrawn: BTreeSet<NodeName>,
    pub(super) published: Option<Published>,
    pub(super) collection: Collection,
    /// The last command to the platform about the logs of agents.
    log_reading: LogReading,
    /// Why some paths cannot be measured.
    pub(super) shortfall: Option<String>,
    pub(super) notes: Vec<String>,
}

impl Context {
    pub(super) fn new(spec: RunSpec, purpose: Purpose, pairs: BTreeSet<NodePair>) -> Self {
        Self {
            spec,
            purpose,
            now: Timestamp::default(),
            cycle: Cycle::first(pairs),
            cycle_result: None,
            commands: VecDeque::new(),
            ready_by: Timestamp::default(),
            ends_by: None,
            agents: Agents::default(),
            endpoints: Endpoints::default(),
            withdrawn: BTreeSet::new(),
            published: None,
            collection: Collection::default(),
            log_reading: LogReading::Attended,
            shortfall: None,
            notes: Vec::new(),
        }
    }

    /// The evidence about a node.
    pub(super) fn node(&mut self, node: &NodeName) -> &mut NodeEvidence {
        let nodes = &mut self.collection.matrix.nodes;
        nodes.entry(node.clone()).or_default()
    }

    /// The sources of a client's packets: its own addresses, and those of its node, which may replace them.
    pub(super) fn sources_of(&self, client: &AgentId) -> Vec<IpAddr> {
        let mut sources = Vec::new();
        for agent in [client, &self.spec.host_of(&client.node)] {
            let known = self.collection.matrix.agents.get(agent);
            let hello = known.and_then(|known| known.hello.as_ref());
            sources.extend(hello.iter().flat_map(|hello| &hello.addresses));
            sources.extend(self.agents.addresses.get(agent).into_iter().flatten());
        }
        sources
    }

    /// Whether no path has failed. Comparisons do not matter where what they compare with has not failed.
    pub(super) fn is_clean(&self) -> bool {
        let mut paths = self.collection.matrix.planned_paths();
        paths.all(|(_, path)| path.is_clean())
    }

    /// Whether an agent that does more than probe is still being started.
    pub(super) fn is_starting_what_is_probed(&self) -> bool {
        let mut starting = self.agents.starting.iter();
        starting.any(|agent| !self.spec.only_probes(agent))
    }

    /// Records that an agent runs, and since when if its pod was being started.
    pub(super) fn ready(&mut self, agent: &AgentId, addresses: Vec<IpAddr>) {
        let was_starting = self.agents.ready(agent, addresses);
        let is_new_pod = match self.spec.pod_names {
            PodNames::Prefixed(_) => true,
            PodNames::Given(_) => false,
        };
        if was_starting && is_new_pod {
            let known = self.collection.matrix.agents.entry(agent.clone());
            known.or_default().ready_at = Some(self.now);
        }
    }

    /// Records that an agent failed, which is no fault of the network: the other paths are still measured.
    pub(super) fn fail(&mut self, agent: &AgentId, reason: String) -> Failure {
        let was_starting = self.agents.fail(agent);
        let known = self.collection.matrix.agents.entry(agent.clone());
        let known = known.or_default();
        known.failed.get_or_insert_with(|| reason.clone());
        let mut fatal = None;
        if self.spec.is_host(agent) {
            if self.spec.tier >= Tier::T2 {
                self.node(&agent.node).unread.get_or_insert(reason);
            }
        } else if self.spec.selected.contains(&agent.node) {
            let reason = format!("agent {agent} on {}: {reason}", agent.node);
            let reason = self.shortfall.get_or_insert(reason).clone();
            fatal = (!self.can_probe_a_node_under_test()).then_some(reason);
        }
        Failure {
            was_starting,
            fatal,
        }
    }

    /// Whether a node under test still has, or may get, a client and a server.
    fn can_probe_a_node_under_test(&self) -> bool {
        let agents = &self.collection.matrix.agents;
        let lives = |agent: &AgentId| agents.get(agent).is_none_or(|known| known.failed.is_none());
        self.spec.selected.iter().any(|node| {
            lives(&self.spec.client_of(node))
                && self.spec.servers_of(node).any(|agent| lives(&agent))
        })
    }

    /// Removes the paths of a client that could not be started.
    pub(super) fn forget_paths_of(&mut self, agent: &AgentId) {
        let matrix = &mut self.collection.matrix;
        matrix.paths.retain(|_, path| path.path.client != *agent);
        self.list_unprobed();
    }

    /// Removes the paths of a client in families that it has no address of.
    pub(super) fn forget_foreign_paths(&mut self, agent: &AgentId) {
        let own = self.agents.addresses.get(agent);
        let paths = &mut self.collection.matrix.paths;
        let before = paths.len();
        paths.retain(|_, path| path.path.client != *agent || pick(own, path.path.family).is_some());
        if paths.len() < before {
            self.list_unprobed();
        }
    }

    fn list_unprobed(&mut self) {
        let matrix = &mut self.collection.matrix;
        matrix.unprobed = self.spec.unprobed(
            &self.cycle,
            &matrix.agents,
            &self.endpoints,
            self.published.as_ref(),
            &self.agents.addresses,
        );
    }

    /// Makes the paths of this cycle from the present agents and those that are `probe_only`.
    pub(super) fn lay_out(&mut self, probe_only: &ProbeOnly) -> Layout {
        self.list_unprobed();
        if let Some(published) = &self.published {
            let map = Map {
                endpoints: &self.endpoints,
                published,
                addresses: &self.agents.addresses,
                to_come: probe_only.keys().chain(&self.agents.starting).collect(),
            };
            let matrix = &mut self.collection.matrix;
            matrix.paths = self.spec.paths(&self.cycle, &map);
            matrix.apply_socket_level();
        }
        if self.collection.matrix.paths.is_empty() {
            Layout::Empty
        } else {
            Layout::Paths
        }
    }

    /// Makes the test Services lead to their endpoints.
    pub(super) fn publish(&mut self) {
        let withdrawn = &self.withdrawn;
        (self.endpoints.any).retain(|server| !withdrawn.contains(&server.node));
        self.commands
            .push_back(PlatformCommand::Publish(self.endpoints.clone()));
    }

    /// Takes a node's servers out of the balanced port: the node is about to leave, or has left. Its other ports get no
    /// connections but those of probes.
    pub(super) fn withdraw(&mut self, node: &NodeName) {
        let is_new = self.withdrawn.insert(node.clone());
        if is_new && self.endpoints.any.iter().any(|server| server.node == *node) {
            self.publish();
        }
    }

    /// Starts agents; their first plans are for this round.
    pub(super) fn place(&mut self, placements: Vec<Placement>, round: Round) {
        if placements.is_empty() {
            return;
        }
        for placement in &placements {
            self.agents.start(&placement.agent, round);
            let agents = &mut self.collection.matrix.agents;
            agents.entry(placement.agent.clone()).or_default();
        }
        self.commands.push_back(PlatformCommand::Place(placements));
    }

    /// Starts agents with their probes.
    pub(super) fn place_with_probes(
        &mut self,
        agents: ProbeOnly,
        round: Round,
        probes: &mut BTreeMap<AgentId, Vec<ProbePlan>>,
    ) {
        let placements = agents.into_iter().map(|(agent, role)| {
            let probes = probes.remove(&agent).unwrap_or_default();
            self.collection.expect_probes(&agent, &probes);
            let generation = self.cycle.generation(round);
            let facts = NodeFactsReading::Skip;
            let plan = self.spec.plan(&agent, generation, facts, probes);
            Placement { agent, role, plan }
        });
        let placements = placements.collect();
        self.place(placements, round);
    }

    /// Sends the plans of a round to the agents with work in it.
    ///
    /// Servers on nodes that are read have such work: their counters come with each plan. The hosts of these nodes read the
    /// facts twice; their plans go first, so that the effects of the other plans fall between the two readings.
    pub(super) fn send_plans(&mut self, round: Round, plans: RoundPlans) {
        let after_ms = self.between_readings(&plans.probes);
        let log_reading = self.cycle.log_reading;
        // Agents without work also receive whether their logs are read.
        let is_changed = std::mem::replace(&mut self.log_reading, log_reading) != log_reading;
        let mut probes: BTreeMap<_, _> = plans.probes.into_iter().collect();
        let mut missed: BTreeMap<_, _> = plans.missed.into_iter().collect();
        let placed = self.agents.placed();
        // A pod takes longer to start than a plan to arrive.
        self.place_with_probes(plans.probe_only, round, &mut probes);
        let (hosts, others): (Vec<&AgentId>, Vec<&AgentId>) =
            (placed.iter()).partition(|agent| self.spec.is_host(agent));
        for agent in hosts.into_iter().chain(others) {
            let probes = probes.remove(agent).unwrap_or_default();
            let is_host = self.spec.is_host(agent);
            let conntrack =
                (plans.reading.get(&agent.node)).filter(|_| !is_host || self.spec.tier >= Tier::T2);
            let is_read = conntrack.is_some();
            if probes.is_empty() && !is_read && (is_host || !is_changed) {
                continue;
            }
            self.collection.expect_probes(agent, &probes);
            let missed = missed.remove(agent).unwrap_or_default();
            self.agents.assign(agent, round);
            if let Some(known) = self.collection.matrix.agents.get_mut(agent) {
                known.has_reported = false;
            }
            let (facts, conntrack) = match conntrack {
                Some(request) if is_host => (
                    NodeFactsReading::Twice { after_ms },
                    Some(Box::new(request.clone())),
                ),
                Some(_) | None => (NodeFactsReading::Skip, None),
            };
            let generation = self.cycle.generation(round);
            let plan = Plan {
                conntrack,
                log_reading,
                ..self
                    .spec
                    .plan(agent, generation, facts, [missed, probes].concat())
            };
            self.commands.push_back(PlatformCommand::SendPlan(plan));
        }
    }

    /// Time from the first reading of a node to the second, milliseconds: the usual duration of these probes. TTL probes end
    /// soon; connections that are repeated in vain take their deadline, and counters have grown long before.
    fn between_readings(&self, probes: &[AgentProbes]) -> u32 {
        let is_repeated = |probe: &ProbePlan| match probe.method {
            Method::Connect { .. } => probe.count > 1,
            Method::Syn | Method::Exchange { .. } | Method::TtlProbe { .. } => false,
        };
        let is_in_vain = probes
            .iter()
            .flat_map(|(_, probes)| probes)
            .any(is_repeated);
        let deadline = u32::try_from(self.spec.deadline.as_millis()).unwrap_or(u32::MAX);
        if is_in_vain {
            deadline / 6 * 5
        } else {
            MOSTLY_ANSWERED_MS.min(deadline)
        }
    }
}
