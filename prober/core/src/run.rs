//! A whole run as a machine: fleet events in, fleet commands out, a report at the end.
//!
//! A fleet is where agents run: the lab, or a Kubernetes cluster. It obeys `PlatformCommand`s
//! and tells `PlatformEvent`s, over two channels; `Run` knows neither threads nor clocks.
//!
//! ```text
//! ReadingFacts -> Placing -> Publishing -> Probing -> Suspecting -> Lingering -> Removing -> Ended
//!      |             |           |          ^ |            |            |           ^
//!      |             |           |          | +------------+-> Standing +           |
//!      |             |           |          +---- again --------+ |  ^              |
//!      |             |           |                    Watching <-+  |              |
//!      |             |           |                        +----------+              |
//!      +-------------+-----------+------------+------------+------+-----+-----------+
//!                    interrupted, failed, overdue; a healthy run needs no closer look
//! ```
//!
//! Whoever only asks is placed last, with what it is to ask: who has just come hears of a plan late. On peers it may come
//! while the nodes under test are being read.
//!
//! A run that stands does not leave when everything is measured: it begins again when it is told to, until it is interrupted.

mod collect;
mod cycles;
mod looks;
mod paths;
mod phase;
mod placing;
mod platform;
mod rounds;
mod setbacks;
mod settling;
mod slices;
mod spec;
mod suspicion;
mod unread;
mod witnessed;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use crate::node_facts::NodeFacts;
use crate::plan::LogReading;
use crate::probe::tier::Tier;
use crate::report::Completion;
use crate::time::Timestamp;
use crate::topology::{AgentId, NodeName, Role};
use collect::Collection;
pub use cycles::CycleSpec;
use cycles::{Cycle, Purpose};
pub use phase::{Phase, RunResult, RunTimer};
pub use platform::{Endpoints, Placement, PlatformCommand, PlatformEvent, Published, Rules};
use rounds::LookTimes;
pub use slices::{EndpointSlices, SliceEndpoint};
pub use spec::{MAX_SLOTS, RunSpec};

/// How long a host that runs has to say something of its node.
const FACTS_PATIENCE: Duration = Duration::from_secs(5);

/// How long an agent has to take its first plan, once the Services lead to it.
const LISTEN_PATIENCE: Duration = Duration::from_secs(2);

/// The least that a fleet has to publish, however late its agents were.
const PUBLISH_PATIENCE: Duration = Duration::from_secs(5);

/// How long a fleet has to remove everything.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(30);

/// The rounds of a run: what an agent's plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Round {
    /// Answer others.
    Listen = 1,
    /// Probe every path.
    Initial = 2,
    /// Look closer at the paths that fail.
    FollowUp = 3,
}

impl Round {
    const ALL: [Self; 3] = [Self::Listen, Self::Initial, Self::FollowUp];
}

/// A run; see the module's picture.
#[derive(Debug)]
pub struct Run {
    spec: RunSpec,
    purpose: Purpose,
    /// What is measured now.
    cycle: Cycle,
    /// What the last cycle measured, until it is taken.
    measured: Option<RunResult>,
    phase: Phase,
    commands: VecDeque<PlatformCommand>,
    timer: Option<(Timestamp, RunTimer)>,
    /// When patience with whatever is not up ends.
    up_by: Timestamp,
    overdue: Option<Timestamp>,
    /// Agents that wait until the facts of their nodes are read.
    held_back: Vec<Placement>,
    /// Agents that wait until there is something to ask.
    askers: BTreeMap<AgentId, Role>,
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
    /// How long the first look lasts, once everybody who asks is there.
    first_look: LookTimes,
    addresses: BTreeMap<AgentId, Vec<IpAddr>>,
    endpoints: Endpoints,
    /// Nodes whose servers balanced ports no more lead to.
    withdrawn: BTreeSet<NodeName>,
    published: Option<Published>,
    collection: Collection,
    /// The last round that was sent to the agents.
    round: Round,
    /// Whether they were told that somebody reads them.
    log_reading: LogReading,
    /// The nodes at the ends of paths that fail.
    implicated: BTreeSet<NodeName>,
    /// Why not everything asked for can be measured.
    shortfall: Option<String>,
    completion: Completion,
    notes: Vec<String>,
}

impl Run {
    /// A run that has not started.
    pub fn new(spec: RunSpec) -> Self {
        Self {
            purpose: Purpose::Once,
            cycle: Cycle::first(spec.pairs()),
            measured: None,
            spec,
            phase: Phase::ReadingFacts,
            commands: VecDeque::new(),
            timer: None,
            up_by: Timestamp::default(),
            overdue: None,
            held_back: Vec::new(),
            askers: BTreeMap::new(),
            unread: BTreeSet::new(),
            unplaced: BTreeSet::new(),
            undone: BTreeSet::new(),
            taken: BTreeSet::new(),
            untaken: None,
            first_look: LookTimes::default(),
            addresses: BTreeMap::new(),
            endpoints: Endpoints::default(),
            withdrawn: BTreeSet::new(),
            published: None,
            collection: Collection::default(),
            round: Round::Listen,
            log_reading: LogReading::Attended,
            implicated: BTreeSet::new(),
            shortfall: None,
            completion: Completion::Complete,
            notes: Vec::new(),
        }
    }

    /// Starts it.
    pub fn start(&mut self, now: Timestamp) {
        if self.spec.tier >= Tier::T2 {
            self.unread = self.spec.selected.iter().cloned().collect();
        }
        let (askers, others): (Vec<_>, Vec<_>) = (self.spec.placements().into_iter())
            .partition(|placement| self.spec.only_asks(&placement.agent));
        self.askers = (askers.into_iter())
            .map(|asker| (asker.agent, asker.role))
            .collect();
        let unread = &self.unread;
        let (held_back, first) = others.into_iter().partition(|placement| {
            placement.role != Role::Host && unread.contains(&placement.agent.node)
        });
        self.held_back = held_back;
        self.place(first, Round::Listen);
        self.up_by = now + self.spec.patience;
        // The other half is for those that wait for the reading.
        let read_by = now + self.spec.patience / 2;
        self.enter(Phase::ReadingFacts, Some((read_by, RunTimer::Patience)));
        self.place_the_rest_if_read(now);
    }

    /// What it is doing.
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// The next thing to ask of the fleet.
    pub fn poll_command(&mut self) -> Option<PlatformCommand> {
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
    pub fn finish(self) -> RunResult {
        RunResult {
            matrix: self.collection.join(),
            completion: self.completion,
            notes: self.notes,
        }
    }

    /// Takes what the fleet tells.
    pub fn handle(&mut self, event: PlatformEvent, now: Timestamp) {
        match event {
            PlatformEvent::AgentReady { agent, addresses } => {
                self.addresses.insert(agent.clone(), addresses);
                self.forget_foreign_paths(&agent);
                self.settle(&agent, now);
            }
            PlatformEvent::AgentFailed { agent, reason } => self.handle_failed(&agent, reason, now),
            PlatformEvent::Published(published) => {
                self.published = Some(published);
                self.await_listeners(now);
                self.probe_if_ready(now);
            }
            PlatformEvent::AgentLine { agent, event } => self.handle_line(&agent, event, now),
            PlatformEvent::Alert { agent: _ } => self.handle_ring(now),
            PlatformEvent::Note(text) => self.notes.push(text),
            PlatformEvent::Failed(reason) if self.phase == Phase::Removing => {
                self.notes.push(reason)
            }
            PlatformEvent::Failed(reason) => self.end(Completion::CouldNotRun { reason }, now),
            PlatformEvent::Removed => {
                if self.phase == Phase::Removing {
                    self.enter(Phase::Ended, None);
                }
            }
            PlatformEvent::Interrupted => self.end(Completion::Interrupted, now),
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
            RunTimer::Turns => self.read_again(now),
            RunTimer::TtlStep => self.tell_what_there_is(),
            RunTimer::Linger => self.end(Completion::Complete, now),
        }
    }

    /// When waiting for a round ends. If all that is left to wait for never took its plan, it is
    /// stopped or cut off from its plans: it costs no more than probes of it do. Whoever took the one before
    /// lives; its next is on its way.
    fn overdue(&self) -> Option<Timestamp> {
        let overdue = self.overdue?;
        let is_deaf = !self.undone.is_empty() && self.undone.is_disjoint(&self.taken);
        let mut left = self.undone.iter().map(|(agent, _)| agent);
        let lives = left.any(|agent| self.taken.contains(&(agent.clone(), Round::Initial)));
        let untaken = self.untaken.filter(|_| is_deaf && !lives);
        Some(untaken.map_or(overdue, |at| at.min(overdue)))
    }

    fn enter(&mut self, phase: Phase, timer: Option<(Timestamp, RunTimer)>) {
        self.phase = phase;
        self.timer = timer;
    }

    /// The timer of whatever the fleet has to do.
    fn patience(&self, now: Timestamp) -> (Timestamp, RunTimer) {
        let at = self.up_by.max(now + PUBLISH_PATIENCE);
        (at, RunTimer::Patience)
    }

    fn handle_facts(&mut self, node: &NodeName, facts: NodeFacts, now: Timestamp) {
        let known = self
            .collection
            .matrix
            .nodes
            .entry(node.clone())
            .or_default();
        let place = match self.phase {
            Phase::ReadingFacts | Phase::Placing | Phase::Publishing => &mut known.before,
            Phase::Suspecting if known.during.is_some() => &mut known.after,
            Phase::Probing | Phase::Suspecting => &mut known.during,
            Phase::Lingering | Phase::Removing | Phase::Ended => &mut known.after,
            // Of a cycle that has been told.
            Phase::Watching | Phase::Idle => return,
        };
        *place = Some(facts);
        self.settle_facts(node, now);
    }

    /// A node has said what it says of itself, or never will.
    fn settle_facts(&mut self, node: &NodeName, now: Timestamp) {
        self.unread.remove(node);
        self.place_the_rest_if_read(now);
    }

    /// An agent has answered its placing, one way or the other.
    fn settle(&mut self, agent: &AgentId, now: Timestamp) {
        self.unplaced.remove(agent);
        let reads = |node: &NodeName| self.unplaced.contains(&self.spec.host_of(node));
        if self.phase == Phase::ReadingFacts && !self.unread.iter().any(reads) {
            self.timer = Some((now + FACTS_PATIENCE, RunTimer::Patience));
        }
        self.place_early_askers();
        self.publish_if_placed(now);
        self.await_listeners(now);
        self.probe_if_ready(now);
        self.await_first_look(now);
    }

    /// Publishes once every server is there that ever will be.
    fn publish_if_placed(&mut self, now: Timestamp) {
        if self.phase != Phase::Placing
            || (self.unplaced.iter()).any(|agent| self.spec.is_server(agent))
        {
            return;
        }
        self.endpoints = self.spec.endpoints(&self.addresses);
        self.publish();
        self.enter(Phase::Publishing, Some(self.patience(now)));
    }

    fn publish(&mut self) {
        let withdrawn = &self.withdrawn;
        (self.endpoints.any).retain(|server| !withdrawn.contains(&server.node));
        self.commands
            .push_back(PlatformCommand::Publish(self.endpoints.clone()));
    }

    /// Who runs and does not listen soon never may; to see that is what probes are for.
    fn await_listeners(&mut self, now: Timestamp) {
        let is_waiting = self.awaited().next().is_some();
        if self.phase == Phase::Publishing && self.published.is_some() && !is_waiting {
            self.timer = Some((now + LISTEN_PATIENCE, RunTimer::Patience));
        }
    }

    /// Leaves: from every phase the same way.
    fn end(&mut self, completion: Completion, now: Timestamp) {
        if matches!(self.phase, Phase::Removing | Phase::Ended) {
            return;
        }
        if self.purpose == Purpose::Repeated && completion == Completion::Complete {
            self.stand();
            return;
        }
        self.completion = match (completion, self.shortfall.take()) {
            (Completion::Complete, Some(reason)) => Completion::CouldNotRun { reason },
            (completion, _) => completion,
        };
        self.overdue = None;
        self.commands
            .retain(|command| !matches!(command, PlatformCommand::SendPlan(_)));
        self.commands.push_back(PlatformCommand::Remove);
        self.enter(
            Phase::Removing,
            Some((now + REMOVAL_PATIENCE, RunTimer::Patience)),
        );
    }
}

#[cfg(test)]
mod tests;
