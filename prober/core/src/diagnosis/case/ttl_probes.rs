//! The results of TTL probes.

use std::collections::BTreeMap;

use super::PodPair;
use crate::diagnosis::case::Case;
use crate::evidence::{Matrix, PathEvidence};
use crate::packet::family::Family;
use crate::probe::event::{TtlProbe, TtlStepAnswer};
use crate::topology::{AgentId, NodeName, PathId};

impl<'a> Case<'a> {
    /// The TTL probe of a path.
    pub(crate) fn ttl_probe(&self, id: PathId) -> Option<&'a TtlProbe> {
        self.path(id)?.counted_ttl_probe()
    }

    /// TTL probes between two nodes, whatever the access path.
    pub(crate) fn ttl_probes<'s>(
        &'s self,
        from: &'s NodeName,
        to: &'s NodeName,
        family: Family,
    ) -> impl Iterator<Item = &'a TtlProbe> + 's {
        self.paths()
            .filter(move |evidence| {
                let path = &evidence.path;
                path.family == family
                    && path.client.node == *from
                    && path
                        .server
                        .as_ref()
                        .is_some_and(|server| server.node == *to)
            })
            .filter_map(PathEvidence::counted_ttl_probe)
    }

    /// The paths with TTL probes of one pod to another, with these.
    pub(crate) fn ttl_probes_of(
        &self,
        client: &AgentId,
        server: &AgentId,
        family: Family,
    ) -> impl Iterator<Item = (PathId, &'a PathEvidence, &'a TtlProbe)> {
        let key = (client.clone(), server.clone(), family);
        let paths = self.ttl_probes.get(&key).into_iter().flatten();
        paths.filter_map(|id| {
            let evidence = self.path(*id)?;
            Some((*id, evidence, evidence.counted_ttl_probe()?))
        })
    }
}

/// The paths with TTL probes, by their two ends.
pub(super) fn index(matrix: &Matrix) -> BTreeMap<PodPair, Vec<PathId>> {
    let mut index: BTreeMap<PodPair, Vec<PathId>> = BTreeMap::new();
    for (id, evidence) in &matrix.paths {
        let path = &evidence.path;
        if let (Some(server), Some(_)) = (&path.server, evidence.counted_ttl_probe()) {
            let key = (path.client.clone(), server.clone(), path.family);
            index.entry(key).or_default().push(*id);
        }
    }
    index
}

/// Whether the target answered a SYN of any hop limit by SYN+ACK.
pub(crate) fn completes(ttl_probe: &TtlProbe) -> bool {
    ttl_probe.steps.iter().any(
        |step| matches!(step.answer, TtlStepAnswer::SynAck { from, .. } if from == ttl_probe.target),
    )
}

/// The answer to one hop limit.
pub(crate) fn answer_to_ttl(ttl_probe: &TtlProbe, hop_limit: u8) -> Option<TtlStepAnswer> {
    ttl_probe
        .steps
        .iter()
        .find(|step| step.hop_limit == hop_limit)
        .map(|step| step.answer)
}
