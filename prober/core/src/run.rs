//! A whole run as a machine: fleet events in, fleet commands out, a report at the end.
//!
//! A fleet is where agents run: the lab, or a Kubernetes cluster. It obeys `FleetCommand`s
//! and tells `FleetEvent`s, over two channels; `Run` knows neither threads nor clocks.
//!
//! ```text
//! ReadingFacts -> Placing -> Publishing -> Probing -> Reading what changed -> Removing -> Ended
//!      |             |           |            |  \_ a closer look at what fails     ^
//!      +-------------+-----------+------------+------ interrupted, failed, overdue ---+
//! ```

mod collect;
mod fleet;
mod phase;
mod rounds;
mod slices;
mod spec;
mod witnessed;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use crate::evidence::Matrix;
use crate::facts::NodeFacts;
use crate::observation::Tier;
use crate::time::Timestamp;
use crate::topology::{AgentId, NodeName};
use collect::Collection;
pub use fleet::{Endpoints, FleetCommand, FleetEvent, Placement, Published};
pub use phase::{Ending, Phase, RunTimer};
pub use slices::{SliceEndpoint, Slices};
pub use spec::{MAX_SLOTS, RunSpec};

/// How long a node has to say something of itself.
const FACTS_PATIENCE: Duration = Duration::from_secs(5);

/// How long an agent has to take its first plan, once the Services lead to it.
const LISTEN_PATIENCE: Duration = Duration::from_secs(2);

/// How long a fleet has to remove everything.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(30);

/// The rounds of a run: what an agent's plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Round {
    /// Answer others.
    Listen = 1,
    /// Probe every path.
    FirstLook = 2,
    /// Look closer at the paths that fail.
    CloserLook = 3,
}

impl Round {
    /// The round that a plan of this generation belongs to.
    fn of(generation: u32) -> Option<Self> {
        [Self::Listen, Self::FirstLook, Self::CloserLook]
            .into_iter()
            .find(|round| *round as u32 == generation)
    }
}

/// A run; see the module's picture.
#[derive(Debug)]
pub struct Run {
    spec: RunSpec,
    phase: Phase,
    commands: VecDeque<FleetCommand>,
    timer: Option<(Timestamp, RunTimer)>,
    overdue: Option<Timestamp>,
    /// Answers that are still owed: facts of nodes.
    unread: BTreeSet<NodeName>,
    /// Answers that are still owed: agents to be placed.
    unplaced: BTreeSet<AgentId>,
    /// Answers that are still owed: rounds to be done.
    undone: BTreeSet<(AgentId, Round)>,
    /// Rounds whose plan an agent has taken.
    taken: BTreeSet<(AgentId, Round)>,
    /// Until when an agent has to take the plan of the last round.
    untaken: Option<Timestamp>,
    addresses: BTreeMap<AgentId, Vec<IpAddr>>,
    endpoints: Endpoints,
    published: Option<Published>,
    collection: Collection,
    has_placed: bool,
    /// The last round that was sent to the agents.
    round: Round,
    ending: Ending,
}

impl Run {
    /// A run that has not started.
    pub fn new(spec: RunSpec) -> Self {
        Self {
            spec,
            phase: Phase::ReadingFacts,
            commands: VecDeque::new(),
            timer: None,
            overdue: None,
            unread: BTreeSet::new(),
            unplaced: BTreeSet::new(),
            undone: BTreeSet::new(),
            taken: BTreeSet::new(),
            untaken: None,
            addresses: BTreeMap::new(),
            endpoints: Endpoints::default(),
            published: None,
            collection: Collection::default(),
            has_placed: false,
            round: Round::Listen,
            ending: Ending::Complete,
        }
    }

    /// Starts it.
    pub fn start(&mut self, now: Timestamp) {
        if self.spec.tier >= Tier::T2 {
            self.read_facts(Phase::ReadingFacts, self.spec.selected.clone(), now);
        } else {
            self.place(now);
        }
    }

    /// What it is doing.
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// The next thing to ask of the fleet.
    pub fn poll_command(&mut self) -> Option<FleetCommand> {
        self.commands.pop_front()
    }

    /// When to call [`Self::handle_timeout`], and why.
    pub fn poll_timeout(&self) -> Option<(Timestamp, RunTimer)> {
        let overdue = self.overdue().map(|at| (at, RunTimer::Overdue));
        [self.timer, overdue]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at)
    }

    /// What was measured, and how the run ended; before its end, what there is so far.
    pub fn finish(self) -> (Matrix, Ending) {
        (self.collection.join(), self.ending)
    }

    /// Takes what the fleet tells.
    pub fn handle(&mut self, event: FleetEvent, now: Timestamp) {
        match event {
            FleetEvent::Facts(node, facts) => self.handle_facts(&node, facts, now),
            FleetEvent::AgentReady { agent, addresses } => {
                self.addresses.insert(agent.clone(), addresses);
                self.settle(&agent, now);
            }
            FleetEvent::AgentFailed { agent, reason } => self.handle_failed(&agent, reason, now),
            FleetEvent::Published(published) => {
                self.published = Some(published);
                if self.phase == Phase::Publishing {
                    self.timer = Some((now + LISTEN_PATIENCE, RunTimer::Patience));
                }
                self.probe_if_ready(now);
            }
            FleetEvent::AgentLine { agent, event } => self.handle_line(&agent, event, now),
            FleetEvent::Failed(reason) => self.end(Ending::CouldNotRun(reason), now),
            FleetEvent::Removed => {
                if self.phase == Phase::Removing {
                    self.enter(Phase::Ended, None);
                }
            }
            FleetEvent::Interrupted => self.end(Ending::Interrupted, now),
        }
    }

    /// Takes the passing of time.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        let Some((at, timer)) = self.poll_timeout() else {
            return;
        };
        if now < at {
            return;
        }
        match timer {
            RunTimer::Patience => self.lose_patience(now),
            RunTimer::Suspicion => self.suspect(now),
            RunTimer::Overdue => {
                self.undone.clear();
                self.suspect_or_linger(now);
            }
            RunTimer::Linger => {
                if self.round == Round::CloserLook && self.spec.tier >= Tier::T2 {
                    self.read_facts(Phase::ReadingChanges, self.spec.placed_nodes(), now);
                } else {
                    self.end(Ending::Complete, now);
                }
            }
        }
    }

    /// When waiting for a round ends. If all that is left to wait for never took its plan, it is
    /// stopped or cut off from its plans: it costs no more than a silent probe does.
    fn overdue(&self) -> Option<Timestamp> {
        let overdue = self.overdue?;
        let is_deaf = !self.undone.is_empty() && self.undone.is_disjoint(&self.taken);
        let untaken = self.untaken.filter(|_| is_deaf);
        Some(untaken.map_or(overdue, |at| at.min(overdue)))
    }

    fn enter(&mut self, phase: Phase, timer: Option<(Timestamp, RunTimer)>) {
        self.phase = phase;
        self.timer = timer;
    }

    fn read_facts(&mut self, phase: Phase, nodes: Vec<NodeName>, now: Timestamp) {
        self.unread = nodes.iter().cloned().collect();
        self.commands.push_back(FleetCommand::ReadFacts(nodes));
        self.enter(phase, Some((now + FACTS_PATIENCE, RunTimer::Patience)));
    }

    fn handle_facts(
        &mut self,
        node: &NodeName,
        facts: Result<Box<NodeFacts>, String>,
        now: Timestamp,
    ) {
        let known = self
            .collection
            .matrix
            .nodes
            .entry(node.clone())
            .or_default();
        match facts {
            Ok(facts) => {
                let place = match self.phase {
                    Phase::ReadingFacts | Phase::Placing | Phase::Publishing => &mut known.before,
                    Phase::Probing | Phase::Suspecting | Phase::Lingering => &mut known.during,
                    Phase::ReadingChanges | Phase::Removing | Phase::Ended => &mut known.after,
                };
                *place = Some(*facts);
            }
            Err(reason) => known.unread = Some(reason),
        }
        self.unread.remove(node);
        if self.unread.is_empty() {
            match self.phase {
                Phase::ReadingFacts => self.place(now),
                Phase::ReadingChanges => self.end(Ending::Complete, now),
                Phase::Placing
                | Phase::Publishing
                | Phase::Probing
                | Phase::Suspecting
                | Phase::Lingering
                | Phase::Removing
                | Phase::Ended => {}
            }
        }
    }

    fn place(&mut self, now: Timestamp) {
        let placements = self.spec.placements();
        self.unplaced = placements
            .iter()
            .map(|placement| placement.agent.clone())
            .collect();
        for agent in &self.unplaced {
            self.collection
                .matrix
                .agents
                .entry(agent.clone())
                .or_default();
        }
        self.has_placed = true;
        self.commands.push_back(FleetCommand::Place(placements));
        self.enter(
            Phase::Placing,
            Some((now + self.spec.patience, RunTimer::Patience)),
        );
    }

    /// An agent has answered its placing, one way or the other.
    fn settle(&mut self, agent: &AgentId, now: Timestamp) {
        self.unplaced.remove(agent);
        if self.phase != Phase::Placing || !self.unplaced.is_empty() {
            return;
        }
        let missing = self
            .collection
            .matrix
            .agents
            .iter()
            .find_map(|(agent, known)| {
                let reason = known.failed.as_ref()?;
                self.spec
                    .selected
                    .contains(&agent.node)
                    .then(|| format!("agent {agent} on {}: {reason}", agent.node))
            });
        if let Some(reason) = missing {
            self.end(Ending::CouldNotRun(reason), now);
            return;
        }
        self.endpoints = self.spec.endpoints(&self.addresses);
        self.commands
            .push_back(FleetCommand::Publish(self.endpoints.clone()));
        // Nobody is asked before everybody answers.
        self.send_round(Round::Listen, Vec::new());
        self.enter(
            Phase::Publishing,
            Some((now + self.spec.patience, RunTimer::Patience)),
        );
    }

    fn handle_failed(&mut self, agent: &AgentId, reason: String, now: Timestamp) {
        let known = self
            .collection
            .matrix
            .agents
            .entry(agent.clone())
            .or_default();
        known.failed.get_or_insert(reason);
        self.undone.retain(|(waiting, _)| waiting != agent);
        match self.phase {
            Phase::Placing => self.settle(agent, now),
            Phase::Publishing => self.probe_if_ready(now),
            Phase::Probing | Phase::Suspecting if self.undone.is_empty() => {
                self.suspect_or_linger(now);
            }
            Phase::ReadingFacts
            | Phase::Probing
            | Phase::Suspecting
            | Phase::Lingering
            | Phase::ReadingChanges
            | Phase::Removing
            | Phase::Ended => {}
        }
    }

    fn lose_patience(&mut self, now: Timestamp) {
        match self.phase {
            // A node that says nothing of itself lowers the tier; it does not end the run.
            Phase::ReadingFacts => self.place(now),
            Phase::ReadingChanges => self.end(Ending::Complete, now),
            Phase::Placing => {
                let reason = format!("not ready after {} s", self.spec.patience.as_secs());
                for agent in std::mem::take(&mut self.unplaced) {
                    let known = self.collection.matrix.agents.entry(agent).or_default();
                    known.failed = Some(reason.clone());
                }
                if let Some(agent) = self.collection.matrix.agents.keys().next().cloned() {
                    self.settle(&agent, now);
                }
            }
            Phase::Publishing => {
                if self.published.is_some() {
                    // Who does not listen by now never may; to see that is what probes are for.
                    self.undone.clear();
                    self.probe_if_ready(now);
                    return;
                }
                let reason = format!(
                    "the test Services were not published within {} s",
                    self.spec.patience.as_secs()
                );
                self.end(Ending::CouldNotRun(reason), now);
            }
            Phase::Removing => self.enter(Phase::Ended, None),
            Phase::Probing | Phase::Suspecting | Phase::Lingering | Phase::Ended => {}
        }
    }

    /// Leaves: from every phase the same way.
    fn end(&mut self, ending: Ending, now: Timestamp) {
        if matches!(self.phase, Phase::Removing | Phase::Ended) {
            return;
        }
        self.ending = ending;
        self.overdue = None;
        self.commands
            .retain(|command| !matches!(command, FleetCommand::SendPlan(_)));
        if self.has_placed {
            self.commands.push_back(FleetCommand::Remove);
            self.enter(
                Phase::Removing,
                Some((now + REMOVAL_PATIENCE, RunTimer::Patience)),
            );
        } else {
            self.enter(Phase::Ended, None);
        }
    }
}

#[cfg(test)]
mod tests;
