//! Who is started when: who tells of its node and who serves at first, and whoever only asks with what it is to ask.

use std::collections::BTreeMap;

use super::{Phase, Placement, PlatformCommand, Round, Run};
use crate::plan::{NodeFactsReading, ProbePlan};
use crate::time::Timestamp;
use crate::topology::{AgentId, NodeName, Role};

impl Run {
    /// Has agents started, whose first plans are of this round.
    pub(super) fn place(&mut self, placements: Vec<Placement>, round: Round) {
        if placements.is_empty() {
            return;
        }
        for placement in &placements {
            let agent = &placement.agent;
            self.unplaced.insert(agent.clone());
            self.undone.insert((agent.clone(), round));
            self.collection
                .matrix
                .agents
                .entry(agent.clone())
                .or_default();
        }
        self.commands.push_back(PlatformCommand::Place(placements));
    }

    pub(super) fn place_the_rest_if_read(&mut self, now: Timestamp) {
        if self.phase != Phase::ReadingFacts || !self.unread.is_empty() {
            return;
        }
        let held_back = std::mem::take(&mut self.held_back);
        self.place(held_back, Round::Listen);
        self.enter(Phase::Placing, Some(self.patience(now)));
        self.publish_if_placed(now);
    }

    /// Starts those who ask from peers whose servers are there: while other nodes are read there is time.
    pub(super) fn place_early_askers(&mut self) {
        if self.phase != Phase::ReadingFacts {
            return;
        }
        let (spec, unplaced) = (&self.spec, &self.unplaced);
        let is_early = |node: &NodeName| {
            !spec.selected.contains(node)
                && !(spec.servers_of(node)).any(|server| unplaced.contains(&server))
        };
        let (early, askers) = (std::mem::take(&mut self.askers).into_iter())
            .partition(|(agent, _)| is_early(&agent.node));
        self.askers = askers;
        self.place_askers(early, Round::Listen, &mut BTreeMap::new());
    }

    /// Agents without which nothing can be asked.
    pub(super) fn awaited(&self) -> impl Iterator<Item = &AgentId> {
        (self.unplaced.iter()).filter(|agent| !self.spec.only_asks(agent))
    }

    /// Has agents started with their probes.
    pub(super) fn place_askers(
        &mut self,
        askers: BTreeMap<AgentId, Role>,
        round: Round,
        probes: &mut BTreeMap<AgentId, Vec<ProbePlan>>,
    ) {
        let placements = askers.into_iter().map(|(agent, role)| {
            let probes = probes.remove(&agent).unwrap_or_default();
            self.collection.ask(&agent, &probes);
            let generation = self.cycle.generation(round);
            let plan = self
                .spec
                .plan(&agent, generation, NodeFactsReading::Skip, probes);
            Placement { agent, role, plan }
        });
        let placements = placements.collect();
        self.place(placements, round);
    }
}
