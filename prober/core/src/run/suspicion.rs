//! Suspicion: the closer look at paths that fail, or have not answered yet; and its end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::looks::AgentProbes;
use super::rounds::longest;
use super::{Phase, Round, Run, RunTimer};
use crate::evidence::PathEvidence;
use crate::probe::outcome::OutcomeKind;
use crate::report::Completion;
use crate::time::Timestamp;
use crate::topology::{NodeName, PathId};

/// How long agents have for their last lines after the last probe's outcome.
const LINGER: Duration = Duration::from_millis(450);

impl Run {
    /// Goes on once nobody owes anything of this round, or what was suspected has come out well.
    pub(super) fn go_on_if_done(&mut self, now: Timestamp) {
        if !self.is_probing() {
            return;
        }
        if self.is_disproved() {
            self.drop_suspicion();
        }
        if self.undone.is_empty() {
            self.suspect_or_linger(now);
        }
    }

    /// Whether everybody has ended its first look and every path has come out well: it was only late, and there is
    /// nothing to look at more closely.
    fn is_disproved(&self) -> bool {
        let owes_more = |(_, round): &(_, Round)| *round != Round::FollowUp;
        self.phase == Phase::Suspecting && !self.undone.iter().any(owes_more) && self.is_clean()
    }

    fn is_clean(&self) -> bool {
        (self.collection.matrix.paths.values()).all(PathEvidence::is_clean)
    }

    /// Wants no more of what is owed: who owes nothing else was heard to its end.
    pub(super) fn drop_suspicion(&mut self) {
        for (agent, _) in std::mem::take(&mut self.undone) {
            if let Some(known) = self.collection.matrix.agents.get_mut(&agent) {
                known.heard = true;
            }
        }
    }

    pub(super) fn suspect_or_linger(&mut self, now: Timestamp) {
        if self.phase == Phase::Probing {
            self.suspect(now);
        } else {
            self.linger(now);
        }
    }

    /// Waits for the last lines and readings; where no path failed, nobody needs them.
    fn linger(&mut self, now: Timestamp) {
        self.overdue = None;
        if self.is_clean() {
            self.end(Completion::Complete, now);
            return;
        }
        self.enter(Phase::Lingering, Some((now + LINGER, RunTimer::Linger)));
    }

    /// Starts the closer look at every path that fails or has not answered yet.
    pub(super) fn suspect(&mut self, now: Timestamp) {
        let matrix = &self.collection.matrix;
        let suspects: BTreeMap<PathId, Option<OutcomeKind>> = matrix
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
        let paths = &matrix.paths;
        let implicated = implicated(suspects.keys().filter_map(|id| paths.get(id)));
        let probes = self.spec.closer_look(&suspects, paths, &self.addresses);
        for node in &implicated {
            // What an earlier reading told is not what grows from now on.
            if let Some(known) = self.collection.matrix.nodes.get_mut(node) {
                known.during = None;
            }
        }
        let missed = self.missed();
        self.expect(longest(&probes).max(longest(&missed)), now);
        self.send_round(Round::FollowUp, probes, missed, &implicated);
        self.implicated = implicated;
        self.enter(Phase::Suspecting, None);
    }

    /// What was asked by plans of the first look that were not taken: the next is in their place.
    fn missed(&self) -> Vec<AgentProbes> {
        let mut looks = self.spec.first_look(&self.collection.matrix.paths);
        looks.retain(|(agent, _)| {
            let first = (agent.clone(), Round::Initial);
            self.undone.contains(&first) && !self.taken.contains(&first)
        });
        looks
    }
}

/// The nodes at the ends of these paths. A balanced path tells of its client's, unless nothing
/// else fails: which of its servers it met is told by paths that name one.
fn implicated<'a>(paths: impl Iterator<Item = &'a PathEvidence> + Clone) -> BTreeSet<NodeName> {
    let only_balanced = paths.clone().all(|path| path.path.server.is_none());
    paths
        .flat_map(|path| {
            let servers = path.backends.iter().filter_map(|end| end.agent.as_ref());
            let servers = servers.filter(|_| only_balanced || path.path.server.is_some());
            std::iter::once(&path.path.client).chain(servers)
        })
        .map(|agent| agent.node.clone())
        .collect()
}
