//! Whether a tunnel carries packets from one node to another.

use std::collections::{BTreeMap, BTreeSet};

use super::{Case, counts};
use crate::diagnosis::origin;
use crate::diagnosis::symptom::Symptom;
use crate::evidence::{Evidence, PathEvidence};
use crate::packet::family::Family;
use crate::probe::event::TtlStepAnswer;
use crate::topology::{AccessPath, NodeName, PathId};

impl Case<'_> {
    /// An observation of a packet that came from one node to another in their tunnel, as a sentence: a handshake, a SYN that
    /// arrived, or a router's answer.
    pub(crate) fn tunnel_carries(
        &self,
        from: &NodeName,
        to: &NodeName,
        family: Family,
    ) -> Option<&str> {
        let key = (from.clone(), to.clone(), family);
        self.carried.get(&key).map(String::as_str)
    }

    /// Every ordered pair of nodes between which a packet is known to have crossed.
    pub(super) fn carried_pairs(&self) -> BTreeMap<(NodeName, NodeName, Family), String> {
        // Where another pod answers, it may be on the client's own node.
        let mistaken: BTreeSet<PathId> = (self.groups.iter())
            .filter(|group| group.symptom == Symptom::WrongBackend)
            .map(|group| group.path)
            .collect();
        let mut carried = BTreeMap::new();
        for (id, evidence) in &self.matrix.paths {
            let path = &evidence.path;
            // A node port is answered by the node's own address, outside the tunnel.
            let Some(server) = (path.server.as_ref())
                .filter(|server| server.node != path.client.node)
                .filter(|_| path.access_path != AccessPath::NodePort)
            else {
                continue;
            };
            let (client, server) = (&path.client.node, &server.node);
            let is_of_another = mistaken.contains(id);
            let mut add = |from: &NodeName, to: &NodeName, what: &dyn Fn() -> String| {
                let key = (from.clone(), to.clone(), path.family);
                let sentence =
                    || format!("the tunnel carries packets from {from} to {to}: {}", what());
                carried.entry(key).or_insert_with(sentence);
            };
            if counts(evidence).0.established > 0 && !is_of_another {
                let works = || format!("{} works", self.named(evidence));
                add(client, server, &works);
                add(server, client, &works);
            } else if has_arrived(evidence) && !is_of_another {
                add(client, server, &|| {
                    format!("a SYN of {} arrived", path.client)
                });
            }
            if self.is_answered_by(evidence, server) {
                let answered = || format!("time exceeded of {server} arrived");
                add(client, server, &answered);
                add(server, client, &answered);
            }
        }
        carried
    }

    /// Whether this node answered a SYN of a path's TTL probe that its client's node had forwarded.
    fn is_answered_by(&self, evidence: &PathEvidence, node: &NodeName) -> bool {
        let ttl_probe = evidence.counted_ttl_probe();
        let mut steps = ttl_probe.into_iter().flat_map(|probe| &probe.steps);
        steps.any(|step| match step.answer {
            TtlStepAnswer::TimeExceeded { by, hop_limit } => {
                step.hop_limit > 1
                    && origin::router(self, evidence, by, hop_limit).as_ref() == Some(node)
            }
            TtlStepAnswer::Silent
            | TtlStepAnswer::SynAck { .. }
            | TtlStepAnswer::Reset { .. }
            | TtlStepAnswer::Unreachable { .. } => false,
        })
    }
}

/// Whether a SYN of a path arrived at the server's end.
fn has_arrived(evidence: &PathEvidence) -> bool {
    let arrived = |probe: &Evidence| (probe.server.as_ref()).is_some_and(|trace| trace.syns > 0);
    evidence.counted().any(|(_, probe)| arrived(probe))
}
