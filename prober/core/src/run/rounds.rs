//! The rounds of a run: every path once, then a closer look at those that fail.

use std::collections::BTreeMap;
use std::time::Duration;

use super::spec::AgentProbes;
use super::{Ending, FleetCommand, Phase, Run, RunTimer, spec};
use crate::event::Event;
use crate::observation::{OutcomeKind, Tier};
use crate::time::Timestamp;
use crate::topology::{AgentId, PathId};

/// How long after the first probe the closer look at failing paths starts, even if some of the
/// first probes still wait for their deadline.
const SUSPICION: Duration = Duration::from_millis(1_200);

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

    pub(super) fn probe(&mut self, now: Timestamp) {
        let paths = self
            .spec
            .paths(&self.endpoints, &self.published, &self.addresses);
        if paths.is_empty() {
            let reason =
                "no path can be probed: no pair of agents has addresses of the families asked for";
            self.end(Ending::CouldNotRun(reason.to_owned()), now);
            return;
        }
        let round = self.spec.first_round(&paths);
        self.collection.matrix.paths = paths;
        self.send_round(1, round, now);
        self.enter(Phase::Probing, Some((now + SUSPICION, RunTimer::Suspicion)));
    }

    /// Sends every agent its plan; those without probes of their own still answer others.
    fn send_round(&mut self, generation: u32, round: Vec<AgentProbes>, now: Timestamp) {
        let overdue = now + spec::longest(&round) + Duration::from_millis(1_500);
        self.overdue = Some(self.overdue.map_or(overdue, |at| at.max(overdue)));
        let mut probes: BTreeMap<_, _> = round.into_iter().collect();
        for agent in self.addresses.keys() {
            let probes = probes.remove(agent).unwrap_or_default();
            self.undone.insert((agent.clone(), generation));
            let plan = self
                .spec
                .plan(agent.clone(), generation, probes, &self.published);
            self.commands.push_back(FleetCommand::SendPlan(plan));
        }
    }

    pub(super) fn handle_line(&mut self, agent: &AgentId, event: Event, now: Timestamp) {
        let done = match &event {
            Event::Done { generation, .. } => Some(*generation),
            Event::PlanRefused { .. } => Some(if self.has_suspected { 2 } else { 1 }),
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
        self.collection.take(agent, event);
        if let Some(generation) = done {
            self.undone.remove(&(agent.clone(), generation));
            let rounds = if self.has_suspected { 2 } else { 1 };
            let owes = (1..=rounds).any(|round| self.undone.contains(&(agent.clone(), round)));
            if let Some(known) = self.collection.matrix.agents.get_mut(agent) {
                known.heard = !owes;
            }
            if self.undone.is_empty() && matches!(self.phase, Phase::Probing | Phase::Suspecting) {
                self.suspect_or_linger(now);
            }
        }
    }

    pub(super) fn suspect_or_linger(&mut self, now: Timestamp) {
        if self.phase == Phase::Probing && !self.has_suspected {
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
        self.has_suspected = true;
        if self.spec.tier >= Tier::T2 {
            self.commands
                .push_back(FleetCommand::ReadFacts(self.spec.placed_nodes()));
        }
        let round = self.spec.second_round(
            &suspects,
            &self.collection.matrix.paths,
            &self.published,
            &self.addresses,
        );
        self.send_round(2, round, now);
        self.enter(Phase::Suspecting, None);
    }
}
