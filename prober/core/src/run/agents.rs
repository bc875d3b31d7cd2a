//! The agents of a run: their addresses, and their unfinished rounds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::cycle::Round;
use super::state::RoundDeadlines;
use crate::time::Timestamp;
use crate::topology::AgentId;

/// The agents that run, those that are being started, and their unfinished rounds.
#[derive(Debug, Default)]
pub(super) struct Agents {
    /// The addresses of those that run.
    pub(super) addresses: BTreeMap<AgentId, Vec<IpAddr>>,
    /// Agents that are being started.
    pub(super) starting: BTreeSet<AgentId>,
    /// Rounds that agents have plans for and have not finished.
    unfinished: BTreeSet<(AgentId, Round)>,
    /// Rounds whose plans agents have accepted.
    accepted: BTreeSet<(AgentId, Round)>,
}

impl Agents {
    /// An agent is about to be started with its plan for a round.
    pub(super) fn start(&mut self, agent: &AgentId, round: Round) {
        self.starting.insert(agent.clone());
        self.assign(agent, round);
    }

    /// An agent is about to get its plan for a round.
    pub(super) fn assign(&mut self, agent: &AgentId, round: Round) {
        self.unfinished.insert((agent.clone(), round));
    }

    /// An agent runs. Returns whether it was being started.
    pub(super) fn ready(&mut self, agent: &AgentId, addresses: Vec<IpAddr>) -> bool {
        self.addresses.insert(agent.clone(), addresses);
        self.starting.remove(agent)
    }

    /// An agent failed. Returns whether it was being started.
    pub(super) fn fail(&mut self, agent: &AgentId) -> bool {
        self.unfinished.retain(|(other, _)| other != agent);
        self.addresses.remove(agent);
        self.starting.remove(agent)
    }

    /// An agent has accepted its plan for a round.
    pub(super) fn accept(&mut self, agent: &AgentId, round: Round) {
        self.accepted.insert((agent.clone(), round));
    }

    /// An agent has finished a round, and with it `Listen`, and earlier ones with plans that it never accepted: it may not
    /// have received those. Returns whether it has other unfinished rounds.
    pub(super) fn finish(&mut self, agent: &AgentId, round: Round) -> bool {
        let accepted = &self.accepted;
        let is_finished = |open: &(AgentId, Round)| {
            open.1 == Round::Listen
                || open.1 == round
                || (open.1 < round && !accepted.contains(open))
        };
        (self.unfinished).retain(|open| open.0 != *agent || !is_finished(open));
        self.unfinished.iter().any(|(other, _)| other == agent)
    }

    /// A new cycle begins: no round of an earlier one counts.
    pub(super) fn begin_cycle(&mut self) {
        self.unfinished.clear();
        self.accepted.clear();
    }

    /// Stops waiting for unfinished rounds, and returns them.
    pub(super) fn take_unfinished(&mut self) -> BTreeSet<(AgentId, Round)> {
        std::mem::take(&mut self.unfinished)
    }

    /// Stops waiting for unfinished rounds.
    pub(super) fn stop_waiting(&mut self) {
        self.unfinished.clear();
    }

    /// Stops waiting for agents other than these.
    pub(super) fn wait_only_for(&mut self, is_waited_for: impl Fn(&AgentId) -> bool) {
        self.unfinished.retain(|(agent, _)| is_waited_for(agent));
    }

    /// Agents with unfinished rounds, and these rounds.
    pub(super) fn unfinished(&self) -> impl Iterator<Item = &(AgentId, Round)> {
        self.unfinished.iter()
    }

    pub(super) fn have_finished(&self) -> bool {
        self.unfinished.is_empty()
    }

    /// Whether an agent has a plan for the initial round that it has not accepted.
    pub(super) fn has_missed_initial(&self, agent: &AgentId) -> bool {
        let initial = (agent.clone(), Round::Initial);
        self.unfinished.contains(&initial) && !self.accepted.contains(&initial)
    }

    pub(super) fn has_accepted(&self, round: Round) -> bool {
        self.accepted.iter().any(|(_, accepted)| *accepted == round)
    }

    /// Agents that run or are being started.
    pub(super) fn placed(&self) -> Vec<AgentId> {
        let all = self.addresses.keys().chain(&self.starting);
        all.cloned().collect()
    }

    /// The time when waiting for a round ends. If none of the unfinished plans was accepted, their agents are stopped or
    /// unreachable, and the wait is no longer than for probes of them. An agent that accepted the plan of the initial round is
    /// neither: its next plan is on its way.
    pub(super) fn deadline(&self, deadlines: &RoundDeadlines) -> Timestamp {
        let is_deaf = !self.unfinished.is_empty() && self.unfinished.is_disjoint(&self.accepted);
        let mut left = self.unfinished.iter().map(|(agent, _)| agent);
        let runs = left.any(|agent| self.accepted.contains(&(agent.clone(), Round::Initial)));
        if is_deaf && !runs {
            deadlines.outcomes.min(deadlines.acceptance)
        } else {
            deadlines.outcomes
        }
    }
}
