//! The rounds of a run: what is sent to agents, and what they tell of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::looks::AgentProbes;
use super::paths::Map;
use super::phase::Layout;
use super::{Phase, PlatformCommand, Round, Rules, Run, RunTimer};
use crate::plan::{Method, NodeFactsReading, Plan, ProbePlan, SETTLING};
use crate::probe::event::Event;
use crate::probe::tier::Tier;
use crate::report::Completion;
use crate::time::Timestamp;
use crate::topology::{AgentId, NodeName};

/// How long after the last agent has started its first probes the closer look at failing paths
/// starts, even if some of those probes still wait for their deadline. An answer from another address is an outcome
/// after 1.1 s and is told half a second later at most: to be looked at it need not be asked for again.
pub(super) const SUSPICION: Duration = Duration::from_millis(1_700);

/// How long a plan may take to its agent.
pub(super) const DELIVERY: Duration = Duration::from_secs(3);

/// What probes that are answered mostly take, milliseconds.
const SOON: u32 = 600;

/// How long the first look lasts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LookTimes {
    /// What agents may wait for before it.
    settling: Duration,
    /// What its probes take at most.
    longest: Duration,
}

impl Run {
    /// How many probes have an outcome, and of how many that is known beforehand.
    pub fn progress(&self) -> (u64, u64) {
        let paths = self.collection.matrix.paths.values();
        let done = paths
            .clone()
            .map(|path| path.total().outcomes.total())
            .sum();
        let all = paths.map(|path| self.spec.probes_of(path.path.route)).sum();
        (done, all)
    }

    pub(super) const fn is_probing(&self) -> bool {
        matches!(
            self.phase,
            Phase::Probing | Phase::Watching | Phase::Suspecting
        )
    }

    /// Starts the first look, once the Services lead somewhere and everybody listens.
    pub(super) fn probe_if_ready(&mut self, now: Timestamp) {
        let is_awaited = |(agent, _): &(AgentId, Round)| !self.spec.only_asks(agent);
        if self.phase != Phase::Publishing
            || self.awaited().next().is_some()
            || self.undone.iter().any(is_awaited)
        {
            return;
        }
        let Some(published) = &self.published else {
            return;
        };
        let (settling, awaited) = match published.rules {
            Rules::Written => (Duration::ZERO, None),
            Rules::Underway => (SETTLING, Some(published.any.clone())),
        };
        if self.lay_out() == Layout::Empty {
            self.end_without_paths(now);
            return;
        }
        self.look(settling, awaited, now);
    }

    fn end_without_paths(&mut self, now: Timestamp) {
        let reason =
            "no path can be probed: no pair of agents has addresses of the families asked for";
        let reason = self.shortfall.take().unwrap_or_else(|| reason.to_owned());
        self.end(Completion::CouldNotRun { reason }, now);
    }

    /// The paths of this cycle, as the agents stand.
    pub(super) fn lay_out(&mut self) -> Layout {
        let matrix = &mut self.collection.matrix;
        matrix.unprobed = self.spec.unprobed(&self.cycle, &matrix.agents);
        if let Some(published) = &self.published {
            let map = Map {
                endpoints: &self.endpoints,
                published,
                addresses: &self.addresses,
                to_come: self.askers.keys().chain(&self.unplaced).collect(),
            };
            matrix.paths = self.spec.paths(&self.cycle, &map);
            matrix.apply_socket_level();
        }
        if matrix.paths.is_empty() {
            Layout::Empty
        } else {
            Layout::Paths
        }
    }

    /// Starts the first look at every path. Plans wait for `awaited` first, up to `settling`.
    pub(super) fn look(
        &mut self,
        settling: Duration,
        awaited: Option<Vec<SocketAddr>>,
        now: Timestamp,
    ) {
        let probes = self.spec.first_look(&self.collection.matrix.paths);
        self.first_look = LookTimes {
            settling,
            longest: longest(&probes),
        };
        self.send_round(Round::Initial, probes, Vec::new(), &BTreeSet::new());
        if let Some(services) = awaited {
            self.settle_first(&services);
        }
        self.enter(Phase::Probing, Some(self.patience(now)));
        self.await_first_look(now);
    }

    /// Once everybody who asks is there, the first look takes its time and no more.
    pub(super) fn await_first_look(&mut self, now: Timestamp) {
        if self.phase != Phase::Probing || !self.unplaced.is_empty() || self.overdue.is_some() {
            return;
        }
        // Who asks may turn out to have no address that anybody could be asked from.
        if self.collection.matrix.paths.is_empty() {
            self.end_without_paths(now);
            return;
        }
        let LookTimes { settling, longest } = self.first_look;
        // Whoever probes a stopped agent waits for its handshake and for its banner: so long may a plan be late.
        self.untaken = Some(now + settling + 2 * self.spec.deadline);
        self.expect(longest, now + settling);
        let is_taken = (self.taken.iter()).any(|(_, round)| *round == Round::Initial);
        let delivery = if is_taken {
            Duration::ZERO
        } else {
            settling + DELIVERY
        };
        self.timer = Some((now + delivery + SUSPICION, RunTimer::Suspicion));
    }

    /// Sets the time by which probes that take so long have ended, if their agents live.
    pub(super) fn expect(&mut self, longest: Duration, now: Timestamp) {
        let overdue = now + DELIVERY + longest;
        self.overdue = Some(self.overdue.map_or(overdue, |at| at.max(overdue)));
        let untaken = now + self.spec.deadline;
        self.untaken = Some(self.untaken.map_or(untaken, |at| at.max(untaken)));
    }

    /// Sends a plan to whoever has something to do, and starts those who only ask with theirs. The
    /// servers of `reading` nodes count among them, since their counters are read with each plan,
    /// and the hosts of those nodes tell what the nodes say, twice; these go first, so that what
    /// follows is seen to grow. What they `missed` is asked again.
    pub(super) fn send_round(
        &mut self,
        round: Round,
        probes: Vec<AgentProbes>,
        missed: Vec<AgentProbes>,
        reading: &BTreeSet<NodeName>,
    ) {
        let growing = self.growing(&probes);
        self.round = round;
        let log_reading = self.cycle.log_reading;
        // Whoever has nothing to do hears of it all the same.
        let is_news = std::mem::replace(&mut self.log_reading, log_reading) != log_reading;
        let mut probes: BTreeMap<_, _> = probes.into_iter().collect();
        let mut missed: BTreeMap<_, _> = missed.into_iter().collect();
        // A pod takes longer than a plan.
        let askers = std::mem::take(&mut self.askers);
        let standing: Vec<AgentId> = self
            .addresses
            .keys()
            .chain(&self.unplaced)
            .cloned()
            .collect();
        self.place_askers(askers, round, &mut probes);
        let (hosts, others): (Vec<&AgentId>, Vec<&AgentId>) =
            (standing.iter()).partition(|agent| self.spec.is_host(agent));
        for agent in hosts.into_iter().chain(others) {
            let probes = probes.remove(agent).unwrap_or_default();
            let is_host = self.spec.is_host(agent);
            let is_read = reading.contains(&agent.node) && !(is_host && self.spec.tier < Tier::T2);
            if probes.is_empty() && !is_read && (is_host || !is_news) {
                continue;
            }
            self.collection.ask(agent, &probes);
            let missed = missed.remove(agent).unwrap_or_default();
            self.undone.insert((agent.clone(), round));
            if let Some(known) = self.collection.matrix.agents.get_mut(agent) {
                known.heard = false;
            }
            let facts = if is_read && is_host {
                NodeFactsReading::Twice { after_ms: growing }
            } else {
                NodeFactsReading::Skip
            };
            let probes = [missed, probes].concat();
            let generation = self.cycle.generation(round);
            let plan = self.spec.plan(agent, generation, facts, probes);
            let plan = Plan {
                log_reading,
                ..plan
            };
            self.commands.push_back(PlatformCommand::SendPlan(plan));
        }
    }

    pub(super) fn handle_line(&mut self, agent: &AgentId, mut event: Event, now: Timestamp) {
        let is_host = self.spec.is_host(agent);
        // That a host sees no packets is meant so.
        if is_host && let Event::Hello(hello) = &mut event {
            hello.limits.clear();
        }
        if let Event::PlanAccepted { generation } = &event
            && let Some(round) = self.cycle.round(*generation)
        {
            self.taken.insert((agent.clone(), round));
        }
        let mut done = None;
        match &event {
            Event::Done { generation, .. } => done = self.cycle.round(*generation),
            Event::PlanRefused { reason, .. } => {
                done = Some(self.round);
                let reason = format!("agent {agent} refused its plan: {reason}");
                self.shortfall.get_or_insert(reason);
            }
            Event::PlanAccepted { generation }
                if self.phase == Phase::Probing
                    && self.unplaced.is_empty()
                    && self.cycle.round(*generation) == Some(Round::Initial) =>
            {
                self.timer = Some((now + SUSPICION, RunTimer::Suspicion));
            }
            Event::Alert => self.hear_the_end_of_it(now),
            Event::PlanAccepted { .. }
            | Event::Hello(_)
            | Event::Probe(_)
            | Event::Tally(_)
            | Event::ServerTrace { .. }
            | Event::TtlProbe(_)
            | Event::Counters { .. }
            | Event::Capture { .. }
            | Event::Starved { .. }
            | Event::Facts(_)
            | Event::Notice { .. } => {}
        }
        // Whoever is being removed leaves others without an answer, and who wakes up only to be
        // removed was not heard when it mattered, nor kept from its work but stopped.
        let is_late = self.phase == Phase::Removing;
        let is_outcome = matches!(
            event,
            Event::Probe(_) | Event::Tally(_) | Event::Starved { .. }
        );
        // The node's counters are not the host's own.
        let is_foreign = is_host && matches!(event, Event::Counters { .. });
        if let Event::Facts(facts) = event {
            self.handle_facts(&agent.node, *facts, now);
        } else if !(is_late && is_outcome || is_foreign) {
            self.collection.take(agent, event);
        }
        let Some(round) = done.filter(|_| !is_late) else {
            return;
        };
        // Whoever has done a later plan may never have seen an earlier one.
        let taken = &self.taken;
        let is_done = |owed: &(AgentId, Round)| {
            owed.1 == Round::Listen || owed.1 == round || (owed.1 < round && !taken.contains(owed))
        };
        (self.undone).retain(|owed| owed.0 != *agent || !is_done(owed));
        let owes = self.undone.iter().any(|(waiting, _)| waiting == agent);
        if let Some(known) = self.collection.matrix.agents.get_mut(agent) {
            known.heard = !owes;
        }
        if is_host {
            // A host that is done and told nothing has nothing to tell.
            self.settle_facts(&agent.node, now);
        }
        self.probe_if_ready(now);
        self.go_on_if_done(now);
    }

    /// From the first reading of a node to the second, milliseconds: as long as these probes mostly take. A ladder is soon
    /// climbed; who asks again in vain waits for the deadline, and counters have grown long before.
    fn growing(&self, probes: &[AgentProbes]) -> u32 {
        let asks = |probe: &ProbePlan| match probe.method {
            Method::Connect { .. } => probe.count > 1,
            Method::Syn | Method::Exchange { .. } | Method::TtlProbe { .. } => false,
        };
        let in_vain = probes.iter().flat_map(|(_, probes)| probes).any(asks);
        let deadline = u32::try_from(self.spec.deadline.as_millis()).unwrap_or(u32::MAX);
        if in_vain {
            deadline / 6 * 5
        } else {
            SOON.min(deadline)
        }
    }
}

/// The longest that these probes can take.
pub(super) fn longest(round: &[AgentProbes]) -> Duration {
    let millis = round
        .iter()
        .flat_map(|(_, probes)| probes)
        .map(|probe| {
            let tries = match &probe.method {
                Method::TtlProbe { tries, .. } => u64::from(*tries) * 1_300,
                Method::Connect { .. } | Method::Syn | Method::Exchange { .. } => 0,
            };
            u64::from(probe.start_ms)
                + u64::from(probe.count) * u64::from(probe.interval_ms)
                // A connection that stalls after its handshake uses the deadline twice.
                + 2 * u64::from(probe.deadline_ms)
                + tries
        })
        .max()
        .unwrap_or(0);
    Duration::from_millis(millis)
}
