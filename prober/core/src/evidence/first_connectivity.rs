//! The time that the paths of a new agent took to work.

use std::collections::BTreeMap;
use std::time::Duration;

use super::start_up::Opening;
use super::{Matrix, PathEvidence};
use crate::topology::{AgentId, PathId};

impl Matrix {
    /// For each new client with an answer, the time from the readiness of a path's pods to the first answer on it, of the path
    /// that took longest. A path that was open when it was first tried counts with the time of that connection.
    pub fn first_connectivity(
        &self,
        openings: &BTreeMap<PathId, Opening>,
    ) -> BTreeMap<AgentId, Duration> {
        let mut longest: BTreeMap<AgentId, Duration> = BTreeMap::new();
        for (id, evidence) in self.planned_paths() {
            if let Some(took) = self.took(evidence, openings.get(&id)) {
                let known = longest.entry(evidence.path.client.clone()).or_default();
                *known = took.max(*known);
            }
        }
        longest
    }

    /// The same of one path; `None` if it was never answered, or if its pods are not new.
    fn took(&self, evidence: &PathEvidence, opening: Option<&Opening>) -> Option<Duration> {
        let ready = self.ready(evidence)?;
        if let Some(opening) = opening {
            return Some(opening.after);
        }
        let client = self.agents.get(&evidence.path.client)?;
        if let Some(reached) = client.reached.get(&evidence.target) {
            let since = if reached.failures == 0 {
                reached.tried
            } else {
                ready
            };
            return Some(reached.at.since(since));
        }
        let answered = (evidence.counted())
            .filter_map(|(_, probe)| Some((probe.client.started, probe.client.answered_at()?)));
        let (started, answered) = answered.min()?;
        Some(answered.since(started))
    }
}
