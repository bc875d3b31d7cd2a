//! The rounds of a run: every path once, then a closer look at those that fail.

use std::collections::BTreeMap;
use std::time::Duration;

use super::spec::AgentProbes;
use super::{Ending, FleetCommand, Phase, Round, Run, RunTimer};
use crate::event::Event;
use crate::observation::{OutcomeKind, Tier};
use crate::plan::Method;
use crate::time::Timestamp;
use crate::topology::{AgentId, PathId};

/// How long after the first probe the closer look at failing paths starts, even if some of the
/// first probes still wait for their deadline.
pub(super) const SUSPICION: Duration = Duration::from_millis(1_500);

/// How long agents have for their last lines after the last probe's outcome.
const LINGER: Duration = Duration::from_millis(450);

impl Run {
    /// How many probes have an outcome, and of how many that is known beforehand.
    pub fn progress(&self) -> (u64, u64) {
        let paths = self.collection.matrix.paths.values();
        let done = paths
            .clone()
            .map(|path| path.total().outcomes.total())
            .sum();
        let raw = if self.spec.tier >= Tier::T1 {
            self.spec.raw_probes
        } else {
            0
        };
        let each = u64::from(self.spec.kernel_probes + raw);
        (done, each * paths.count() as u64)
    }

    /// Starts the first look, once the Services lead somewhere and everybody listens.
    pub(super) fn probe_if_ready(&mut self, now: Timestamp) {
        let (Phase::Publishing, true) = (self.phase, self.undone.is_empty()) else {
            return;
        };
        let Some(published) = &self.published else {
            return;
        };
        let paths = self.spec.paths(&self.endpoints, published, &self.addresses);
        if paths.is_empty() {
            let reason =
                "no path can be probed: no pair of agents has addresses of the families asked for";
            self.end(Ending::CouldNotRun(reason.to_owned()), now);
            return;
        }
        let probes = self.spec.first_look(&paths);
        self.collection.matrix.paths = paths;
        self.expect(&probes, now);
        self.send_round(Round::FirstLook, probes);
        self.enter(Phase::Probing, Some((now + SUSPICION, RunTimer::Suspicion)));
    }

    /// Sets the time by which these probes have ended, if their agents live.
    fn expect(&mut self, probes: &[AgentProbes], now: Timestamp) {
        let overdue = now + longest(probes) + Duration::from_millis(1_500);
        self.overdue = Some(self.overdue.map_or(overdue, |at| at.max(overdue)));
        self.untaken = Some(now + self.spec.deadline);
    }

    /// Sends every agent its plan; those without probes of their own still answer others.
    pub(super) fn send_round(&mut self, round: Round, probes: Vec<AgentProbes>) {
        self.round = round;
        let mut probes: BTreeMap<_, _> = probes.into_iter().collect();
        for agent in self.addresses.keys() {
            let probes = probes.remove(agent).unwrap_or_default();
            self.collection.ask(agent, &probes);
            self.undone.insert((agent.clone(), round));
            if let Some(known) = self.collection.matrix.agents.get_mut(agent) {
                known.heard = false;
            }
            let plan = self.spec.plan(agent.clone(), round as u32, probes);
            self.commands.push_back(FleetCommand::SendPlan(plan));
        }
    }

    pub(super) fn handle_line(&mut self, agent: &AgentId, event: Event, now: Timestamp) {
        if let Event::PlanAccepted { generation } = &event
            && let Some(round) = Round::of(*generation)
        {
            self.taken.insert((agent.clone(), round));
        }
        let done = match &event {
            Event::Done { generation, .. } => Round::of(*generation),
            Event::PlanRefused { .. } => Some(self.round),
            Event::Hello(_)
            | Event::PlanAccepted { .. }
            | Event::Probe(_)
            | Event::Tally(_)
            | Event::Witnessed { .. }
            | Event::Ladder(_)
            | Event::Counters { .. }
            | Event::Capture { .. }
            | Event::Facts(_)
            | Event::Notice { .. } => None,
        };
        // Whoever is being removed leaves others without an answer, and who wakes up only to be
        // removed was not heard when it mattered.
        let is_late = self.phase == Phase::Removing;
        if !(is_late && matches!(event, Event::Probe(_) | Event::Tally(_))) {
            self.collection.take(agent, event);
        }
        let Some(round) = done.filter(|_| !is_late) else {
            return;
        };
        self.undone.remove(&(agent.clone(), round));
        let owes = self.undone.iter().any(|(waiting, _)| waiting == agent);
        if let Some(known) = self.collection.matrix.agents.get_mut(agent) {
            known.heard = !owes;
        }
        match self.phase {
            Phase::Publishing => self.probe_if_ready(now),
            Phase::Probing | Phase::Suspecting if self.undone.is_empty() => {
                self.suspect_or_linger(now);
            }
            Phase::ReadingFacts
            | Phase::Placing
            | Phase::Probing
            | Phase::Suspecting
            | Phase::Lingering
            | Phase::ReadingChanges
            | Phase::Removing
            | Phase::Ended => {}
        }
    }

    pub(super) fn suspect_or_linger(&mut self, now: Timestamp) {
        if self.phase == Phase::Probing {
            self.suspect(now);
        } else {
            self.linger(now);
        }
    }

    fn linger(&mut self, now: Timestamp) {
        self.overdue = None;
        self.enter(Phase::Lingering, Some((now + LINGER, RunTimer::Linger)));
    }

    /// Starts the closer look at every path that fails or has not answered yet.
    pub(super) fn suspect(&mut self, now: Timestamp) {
        let suspects: BTreeMap<PathId, Option<OutcomeKind>> = self
            .collection
            .matrix
            .paths
            .iter()
            .filter(|(_, path)| !path.is_clean())
            .map(|(&id, path)| (id, path.worst()))
            .collect();
        if suspects.is_empty() {
            if self.undone.is_empty() {
                self.linger(now);
            } else {
                self.timer = None;
            }
            return;
        }
        if self.spec.tier >= Tier::T2 {
            self.commands
                .push_back(FleetCommand::ReadFacts(self.spec.placed_nodes()));
        }
        let paths = &self.collection.matrix.paths;
        let probes = self.spec.closer_look(&suspects, paths, &self.addresses);
        self.expect(&probes, now);
        self.send_round(Round::CloserLook, probes);
        self.enter(Phase::Suspecting, None);
    }
}

/// The longest that these probes can take.
fn longest(round: &[AgentProbes]) -> Duration {
    let millis = round
        .iter()
        .flat_map(|(_, probes)| probes)
        .map(|probe| {
            let tries = match &probe.method {
                Method::Ladder { tries, .. } => u64::from(*tries) * 1_300,
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
