//! The work of the transitions of a run: each takes the data of a state and returns the next state.
//!
//! The file is longer than others since these are the arms of one table, which pass states to each other: no part of it is
//! independent.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::context::{Context, Layout, RoundPlans};
use super::cycle::{CycleSpec, Purpose, Round};
use super::follow_up::{failing_paths, implicated};
use super::probe_plans::longest_of;
use super::readiness::wait_for_readiness;
use super::state::{
    ProbeOnly, Probing, ReadingFacts, RoundDeadlines, Starting, State, Unattended, Waiting,
};
use super::{PlatformCommand, PodRanges, Rules, RunResult};
use crate::evidence::PathEvidence;
use crate::plan::SERVICES_PATIENCE;
use crate::plan::pairing::NodePair;
use crate::probe::tier::Tier;
use crate::report::Completion;
use crate::time::Timestamp;
use crate::topology::{AgentId, AgentRole, NodeName, PathId};

/// Maximum time from a host agent's start to the facts of its node.
const FACTS_PATIENCE: Duration = Duration::from_secs(5);

/// Maximum time for an agent to accept its first plan, once the Services lead to it.
const LISTEN_PATIENCE: Duration = Duration::from_secs(2);

/// Minimum time that the platform has for publishing, however late agents were.
const PUBLISH_PATIENCE: Duration = Duration::from_secs(5);

/// Maximum time for the platform to remove everything.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(30);

/// Time from the start of the last agent's first probes to the follow-up, even if some of those probes still wait for their
/// deadline. An answer from a wrong source is an outcome after 1.1 s and is reported at most half a second later: the
/// follow-up does not wait longer than that.
pub(super) const FOLLOW_UP_AFTER: Duration = Duration::from_millis(1_700);

/// Maximum time for a plan to reach its agent.
pub(super) const DELIVERY: Duration = Duration::from_secs(3);

/// Time for the agents' last lines after the last probe's outcome.
const LINGER: Duration = Duration::from_millis(450);

/// Usual time to read the logs of all agents.
pub(super) const READING: Duration = Duration::from_millis(300);

/// Maximum time to read the log of an agent that raised an alert: that of a stopped one has no more lines.
pub(super) const ALERT_READING: Duration = Duration::from_secs(2);

impl Context {
    /// Places the agents of all nodes, except those that wait for facts or for their first probes.
    pub(super) fn start(&mut self) -> State {
        let nodes: BTreeSet<NodeName> = if self.spec.tier >= Tier::T2 {
            self.spec.selected.iter().cloned().collect()
        } else {
            BTreeSet::new()
        };
        let (probe_only, others): (Vec<_>, Vec<_>) = (self.spec.placements().into_iter())
            .partition(|placement| self.spec.only_probes(&placement.agent));
        let probe_only = (probe_only.into_iter())
            .map(|placement| (placement.agent, placement.role))
            .collect();
        let (held_back, first) = others.into_iter().partition(|placement| {
            placement.role != AgentRole::Host && nodes.contains(&placement.agent.node)
        });
        self.place(first, Round::Listen);
        self.ready_by = self.now + self.spec.startup_timeout;
        self.ends_by = self.spec.time_limit.map(|limit| self.now + limit);
        self.read_or_place(ReadingFacts {
            // The other half is for agents that wait for these facts.
            until: self.now + self.spec.startup_timeout / 2,
            nodes,
            held_back,
            probe_only,
        })
    }

    /// The deadline of the platform's present task.
    fn platform_deadline(&self) -> Timestamp {
        self.ready_by.max(self.now + PUBLISH_PATIENCE)
    }

    /// Continues reading, or places the agents that waited if no facts are missing.
    fn read_or_place(&mut self, reading: ReadingFacts) -> State {
        if !reading.nodes.is_empty() {
            return State::ReadingFacts(reading);
        }
        self.place(reading.held_back, Round::Listen);
        self.publish_if_placed(Waiting {
            until: self.platform_deadline(),
            probe_only: reading.probe_only,
        })
    }

    /// An agent runs or has failed: the facts are due once all hosts run, and on peers with running servers there is time to
    /// start the agents that only probe.
    pub(super) fn keep_reading(&mut self, mut reading: ReadingFacts) -> State {
        let starting = &self.agents.starting;
        let is_host_starting = |node: &NodeName| starting.contains(&self.spec.host_of(node));
        if !reading.nodes.iter().any(is_host_starting) {
            reading.until = self.now + FACTS_PATIENCE;
        }
        let are_ranges_known = self.spec.pod_ranges == PodRanges::Known;
        let is_early = |node: &NodeName| {
            are_ranges_known
                && !self.spec.selected.contains(node)
                && !(self.spec.servers_of(node)).any(|server| starting.contains(&server))
        };
        let (early, probe_only) =
            (reading.probe_only.into_iter()).partition(|(agent, _)| is_early(&agent.node));
        reading.probe_only = probe_only;
        self.place_with_probes(early, Round::Listen, &mut BTreeMap::new());
        State::ReadingFacts(reading)
    }

    /// The facts of a node are known, or cannot be read.
    pub(super) fn end_reading_of(&mut self, mut reading: ReadingFacts, node: &NodeName) -> State {
        reading.nodes.remove(node);
        self.read_or_place(reading)
    }

    pub(super) fn fail_while_reading(
        &mut self,
        reading: ReadingFacts,
        agent: &AgentId,
        reason: String,
    ) -> State {
        if let Some(reason) = self.fail(agent, reason).fatal {
            return self.remove(Completion::CouldNotRun { reason });
        }
        let mut reading = reading;
        if self.spec.is_host(agent) {
            reading.nodes.remove(&agent.node);
        }
        if reading.nodes.is_empty() {
            self.read_or_place(reading)
        } else {
            self.keep_reading(reading)
        }
    }

    /// Continues without the missing facts: that lowers the tier of their nodes, and does not end the run.
    pub(super) fn give_up_reading(&mut self, mut reading: ReadingFacts) -> State {
        for node in std::mem::take(&mut reading.nodes) {
            self.node(&node).unread = Some("it did not answer in time".to_owned());
        }
        self.read_or_place(reading)
    }

    /// Publishes once all servers run, except failed ones.
    pub(super) fn publish_if_placed(&mut self, waiting: Waiting) -> State {
        let mut starting = self.agents.starting.iter();
        if starting.any(|agent| self.spec.is_server(agent)) {
            return State::Placing(waiting);
        }
        self.endpoints = self.spec.endpoints(&self.agents.addresses);
        self.publish();
        State::Publishing(Waiting {
            until: self.platform_deadline(),
            probe_only: waiting.probe_only,
        })
    }

    /// Gives agents that run more time to accept their plans, once the Services lead to them. One that still does not may never
    /// do so, which the probes will show.
    pub(super) fn await_listeners(&mut self, mut waiting: Waiting) -> State {
        if self.awaits_only_listeners() {
            waiting.until = self.now + LISTEN_PATIENCE;
        }
        self.probe_if_ready(waiting)
    }

    /// Whether the Services are published and all agents that are probed run.
    pub(super) fn awaits_only_listeners(&self) -> bool {
        self.published.is_some() && !self.is_starting_what_is_probed()
    }

    /// Probes although some agents have not accepted their first plans.
    pub(super) fn probe_without_listeners(&mut self, waiting: Waiting) -> State {
        let spec = &self.spec;
        self.agents.wait_only_for(|agent| spec.only_probes(agent));
        self.probe_if_ready(waiting)
    }

    /// Starts the initial round, once the Services are published and all probed agents have accepted their plans.
    pub(super) fn probe_if_ready(&mut self, waiting: Waiting) -> State {
        let is_open = |(agent, _): &(AgentId, Round)| !self.spec.only_probes(agent);
        let is_waiting = self.agents.unfinished().any(is_open);
        let (Some(published), false, false) = (
            &self.published,
            is_waiting,
            self.is_starting_what_is_probed(),
        ) else {
            return State::Publishing(waiting);
        };
        let (readiness, services) = match &published.rules {
            Rules::Written => (Duration::ZERO, None),
            Rules::Underway(last) => (SERVICES_PATIENCE, Some(last.clone())),
        };
        match self.lay_out(&waiting.probe_only) {
            Layout::Paths => self.probe(waiting.probe_only, readiness, services.as_deref()),
            Layout::Empty => self.end_without_paths(),
        }
    }

    pub(super) fn give_up_publishing(&mut self) -> State {
        let reason = format!(
            "the test Services were not published within {} s",
            self.spec.startup_timeout.as_secs_f64()
        );
        self.remove(Completion::CouldNotRun { reason })
    }

    fn end_without_paths(&mut self) -> State {
        let reason =
            "no path can be probed: no pair of agents has addresses of the families asked for";
        let reason = self.shortfall.take().unwrap_or_else(|| reason.to_owned());
        self.remove(Completion::CouldNotRun { reason })
    }

    /// Starts the initial round: every path. Plans wait for `services` first, if any, for up to `readiness`.
    fn probe(
        &mut self,
        probe_only: ProbeOnly,
        readiness: Duration,
        services: Option<&[SocketAddr]>,
    ) -> State {
        let probes = (self.spec).initial_probes(self.collection.matrix.planned_paths());
        let longest = longest_of(&probes);
        let plans = RoundPlans {
            probes,
            probe_only,
            ..RoundPlans::default()
        };
        self.send_plans(Round::Initial, plans);
        if let Some(services) = services {
            wait_for_readiness(&mut self.commands, services, &self.collection.matrix);
        }
        self.run_if_started(Starting {
            until: self.platform_deadline(),
            readiness,
            longest,
        })
    }

    /// Sets the deadlines of the initial round, once all agents that probe run.
    pub(super) fn run_if_started(&mut self, starting: Starting) -> State {
        if !self.agents.starting.is_empty() {
            return State::Probing(Probing::Starting(starting));
        }
        // The last agents to start may have no address of any probed family.
        if self.collection.matrix.paths.is_empty() {
            return self.end_without_paths();
        }
        let Starting {
            readiness, longest, ..
        } = starting;
        let ready = self.now + readiness;
        let delivery = if self.agents.has_accepted(Round::Initial) {
            Duration::ZERO
        } else {
            readiness + DELIVERY
        };
        State::Probing(Probing::Running {
            follow_up_at: Some(self.now + delivery + FOLLOW_UP_AFTER),
            deadlines: RoundDeadlines {
                outcomes: ready + DELIVERY + longest,
                // An agent that probes a stopped one waits for its handshake and for its banner: so late may it accept a plan.
                acceptance: ready + 2 * self.spec.deadline,
            },
        })
    }

    /// An agent has just started its probes.
    pub(super) fn postpone_follow_up(&self, deadlines: RoundDeadlines) -> State {
        State::Probing(Probing::Running {
            follow_up_at: Some(self.now + FOLLOW_UP_AFTER),
            deadlines,
        })
    }

    pub(super) fn fail_while_probing(
        &mut self,
        probing: Probing,
        agent: &AgentId,
        reason: String,
    ) -> State {
        let failure = self.fail(agent, reason);
        if failure.was_starting {
            if let Some(reason) = failure.fatal {
                return self.remove(Completion::CouldNotRun { reason });
            }
            self.forget_paths_of(agent);
        }
        let state = match probing {
            Probing::Starting(starting) => self.run_if_started(starting),
            Probing::Running { .. } => State::Probing(probing),
        };
        if let State::Probing(probing) = state {
            self.follow_up_if_finished(probing)
        } else {
            state
        }
    }

    /// Starts the follow-up once all agents have finished the initial round.
    pub(super) fn follow_up_if_finished(&mut self, probing: Probing) -> State {
        if self.agents.have_finished() {
            self.follow_up(probing)
        } else {
            State::Probing(probing)
        }
    }

    /// Starts the follow-up on every path that has failed or has not answered yet.
    pub(super) fn follow_up(&mut self, probing: Probing) -> State {
        let failing_paths = failing_paths(&self.collection.matrix.paths);
        if failing_paths.is_empty() {
            return self.wait_or_linger(probing);
        }
        self.add_comparisons();
        let matrix = &self.collection.matrix;
        let paths = &matrix.paths;
        let probed = failing_paths.keys().chain(matrix.comparisons.keys());
        let probed = probed.filter_map(|id| paths.get(id));
        let implicated = implicated(probed, |client| self.sources_of(client));
        let addresses = &self.agents.addresses;
        let patience = |path: &PathEvidence| self.patience(path);
        let compared = matrix.compared_paths().map(|(id, _, path)| (id, path));
        let probes =
            (self.spec).follow_up_probes(&failing_paths, paths, addresses, patience, compared);
        let mut missed = self.spec.initial_probes(matrix.planned_paths());
        missed.retain(|(agent, _)| self.agents.has_missed_initial(agent));
        for node in implicated.keys() {
            // An earlier reading does not show the growth of counters from now on.
            if let Some(known) = self.collection.matrix.nodes.get_mut(node) {
                known.during = None;
            }
        }
        let longest = longest_of(&probes).max(longest_of(&missed));
        let mut deadlines = RoundDeadlines {
            outcomes: self.now + DELIVERY + longest,
            acceptance: self.now + self.spec.deadline,
        };
        if let Probing::Running {
            deadlines: initial, ..
        } = probing
        {
            deadlines.outcomes = deadlines.outcomes.max(initial.outcomes);
            deadlines.acceptance = deadlines.acceptance.max(initial.acceptance);
        }
        let plans = RoundPlans {
            probes,
            missed,
            reading: implicated,
            probe_only: ProbeOnly::new(),
        };
        self.send_plans(Round::FollowUp, plans);
        State::FollowUp(deadlines)
    }

    /// How much longer a closed path may open without a fault; `None` if its client is not new.
    fn patience(&self, path: &PathEvidence) -> Option<Duration> {
        let ready_at = |agent: &AgentId| self.collection.matrix.agents.get(agent)?.ready_at;
        let client = ready_at(&path.path.client)?;
        let ready = path.servers().filter_map(ready_at).fold(client, Ord::max);
        Some((ready + self.spec.opening_patience).since(self.now))
    }

    /// Ends the follow-up if all agents have finished their earlier rounds and every path that failed has opened since: nothing
    /// needs an explanation.
    pub(super) fn end_follow_up_if_opened(&mut self) {
        let matrix = &self.collection.matrix;
        let failing = || (matrix.planned_paths()).filter(|(_, path)| !path.is_clean());
        let is_answered = |path: &PathEvidence| path.total().outcomes.established > 0;
        if self.has_earlier_rounds() || !failing().all(|(_, path)| is_answered(path)) {
            return;
        }
        let openings = matrix.openings();
        if failing().all(|(id, _)| openings.contains_key(&id)) {
            self.mark_reported();
            // The later probes are not needed, and are not sent.
            for path in self.collection.matrix.paths.values_mut() {
                path.requested = path.requested.saturating_sub(path.unfinished());
            }
        }
    }

    /// Whether an agent has an unfinished round before the follow-up.
    fn has_earlier_rounds(&self) -> bool {
        let mut unfinished = self.agents.unfinished();
        unfinished.any(|(_, round)| *round != Round::FollowUp)
    }

    /// Adds a second client or server where it may distinguish a pod from its node. An agent that has not accepted its probes
    /// yet shows nothing.
    fn add_comparisons(&mut self) {
        let addresses = (self.agents.addresses.iter())
            .filter(|(agent, _)| !self.agents.has_missed_initial(agent))
            .map(|(agent, addresses)| (agent.clone(), addresses.clone()));
        let addresses = addresses.collect();
        let matrix = &mut self.collection.matrix;
        let next = matrix.paths.keys().next_back().map_or(0, |last| last.0 + 1);
        let comparisons = self.spec.comparisons(&matrix.paths, &addresses);
        for (id, (kind, evidence)) in (next..).map(PathId).zip(comparisons) {
            matrix.comparisons.insert(id, kind);
            matrix.paths.insert(id, evidence);
        }
    }

    /// No path needs a follow-up: waits for the missing outcomes of the round, if any.
    fn wait_or_linger(&mut self, probing: Probing) -> State {
        if self.agents.have_finished() {
            return self.linger();
        }
        State::Probing(match probing {
            Probing::Running { deadlines, .. } => Probing::Running {
                follow_up_at: None,
                deadlines,
            },
            Probing::Starting(starting) => Probing::Starting(starting),
        })
    }

    /// Ends the follow-up if all agents have finished their earlier rounds and every path turned out healthy: the answers were
    /// only late.
    pub(super) fn end_follow_up_if_needless(&mut self) {
        if !self.has_earlier_rounds() && self.is_clean() {
            self.mark_reported();
        }
    }

    /// Stops waiting for unfinished rounds: their agents have reported everything that is needed.
    pub(super) fn mark_reported(&mut self) {
        for (agent, _) in self.agents.take_unfinished() {
            if let Some(known) = self.collection.matrix.agents.get_mut(&agent) {
                known.has_reported = true;
            }
        }
    }

    /// Lingers once all agents have finished the round of this state.
    pub(super) fn linger_if_finished(&mut self, state: State) -> State {
        if self.agents.have_finished() {
            self.linger()
        } else {
            state
        }
    }

    /// Waits for the last lines and facts, which are needed only where a path has failed.
    pub(super) fn linger(&mut self) -> State {
        if self.is_clean() {
            self.complete()
        } else {
            State::Lingering {
                until: self.now + LINGER,
            }
        }
    }

    /// Everything is measured.
    pub(super) fn complete(&mut self) -> State {
        match self.purpose {
            Purpose::Once => self.remove(Completion::Complete),
            Purpose::Repeated => self.finish_cycle(),
        }
    }

    /// Begins the next cycle, if there are generations left for its plans.
    pub(super) fn start_cycle(&mut self, spec: &CycleSpec, next_path: u32) -> State {
        let Some(cycle) = self.cycle.next(spec, next_path) else {
            return State::Idle { next_path };
        };
        self.cycle = cycle;
        self.cycle_result = None;
        self.agents.begin_cycle();
        match (self.lay_out(&ProbeOnly::new()), spec) {
            (Layout::Paths, CycleSpec::Attended(_)) => {
                self.probe(ProbeOnly::new(), Duration::ZERO, None)
            }
            (Layout::Paths, CycleSpec::Unattended { periods, period }) => {
                self.probe_unattended(periods, *period)
            }
            (Layout::Empty, CycleSpec::Attended(_) | CycleSpec::Unattended { .. }) => {
                self.finish_cycle()
            }
        }
    }

    /// Keeps the result of the cycle, and waits for the next one.
    pub(super) fn finish_cycle(&mut self) -> State {
        let last = self.collection.matrix.paths.keys().next_back();
        let next_path = self.cycle.next_path(last.map(|path| path.0));
        let next = self.collection.next_cycle();
        let collection = std::mem::replace(&mut self.collection, next);
        self.cycle_result = Some(RunResult {
            matrix: collection.join(),
            completion: match self.shortfall.take() {
                Some(reason) => Completion::CouldNotRun { reason },
                None => Completion::Complete,
            },
            notes: std::mem::take(&mut self.notes),
        });
        State::Idle { next_path }
    }

    /// Starts a round of several periods, and pauses the reading of logs: while all paths are healthy, logs are read once.
    fn probe_unattended(&mut self, periods: &[BTreeSet<NodePair>], period: Duration) -> State {
        let paths = &self.collection.matrix.paths;
        let plans = RoundPlans {
            probes: self.spec.periodic_probes(paths, periods, period),
            ..RoundPlans::default()
        };
        self.send_plans(Round::Initial, plans);
        self.commands.push_back(PlatformCommand::PauseLogs);
        let periods = u32::try_from(periods.len()).unwrap_or(u32::MAX);
        State::Unattended(Unattended::Probing {
            until: self.now + period.saturating_mul(periods),
        })
    }

    /// All periods have ended: reads the agents' logs to the end of the round.
    pub(super) fn read_to_the_end(&mut self) -> State {
        self.commands.push_back(PlatformCommand::ResumeLogs);
        // A connection that stalls after its handshake takes the deadline twice.
        let end = self.now + DELIVERY + 2 * self.spec.deadline;
        State::Unattended(Unattended::Reading(RoundDeadlines {
            outcomes: end,
            acceptance: end,
        }))
    }

    pub(super) fn fail_while_unattended(
        &mut self,
        unattended: Unattended,
        agent: &AgentId,
        reason: String,
    ) -> State {
        if let Some(reason) = self.fail(agent, reason).fatal_at_start() {
            self.remove(Completion::CouldNotRun { reason })
        } else if self.agents.have_finished() {
            self.linger()
        } else {
            self.cut_short(unattended, READING)
        }
    }

    /// Ends the cycle with the lines that are read within `timeout`.
    pub(super) fn cut_short(&mut self, unattended: Unattended, timeout: Duration) -> State {
        let deadlines = match unattended {
            Unattended::Probing { .. } => None,
            Unattended::Reading(deadlines) => Some(deadlines),
            Unattended::CutShort { .. } => return State::Unattended(unattended),
        };
        self.commands.push_back(PlatformCommand::ResumeLogs);
        State::Unattended(Unattended::CutShort {
            until: self.now + timeout,
            deadlines,
        })
    }

    /// Removes everything, in the same way from every state.
    pub(super) fn remove(&mut self, completion: Completion) -> State {
        let completion = match (completion, self.shortfall.take()) {
            (Completion::Complete, Some(reason)) => Completion::CouldNotRun { reason },
            (completion, _) => completion,
        };
        self.commands
            .retain(|command| !matches!(command, PlatformCommand::SendPlan(_)));
        self.commands.push_back(PlatformCommand::Remove);
        State::Removing {
            until: self.now + REMOVAL_PATIENCE,
            completion,
        }
    }
}
