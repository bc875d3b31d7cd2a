//! `conntrack-full`: the connection table of a node is full, and new connections are dropped.

use std::collections::BTreeSet;

use super::traffic::nodes_of;
use crate::diagnosis::Remedy;
use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Place, Proof};
use crate::diagnosis::model::{Fingerprint, Model, Prediction};
use crate::diagnosis::remedy::step;
use crate::diagnosis::symptom::{FailureGroup, ServerEnd, Symptom};
use crate::evidence::NodeEvidence;
use crate::packet::family::Family;
use crate::topology::{NodeName, Path};

/// The model.
pub(crate) struct ConntrackFull;

impl Model for ConntrackFull {
    fn cause(&self) -> Cause {
        Cause::ConntrackFull
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        let nodes = nodes_of(case, family).into_iter();
        nodes.map(|node| Place::node(&node, family)).collect()
    }

    fn predict(&self, _: &Case<'_>, place: &Place, path: &Path) -> Prediction {
        // An entry that expires lets one connection through.
        let node = place.node.as_ref();
        if node.is_some_and(|node| path.involves(node)) || path.server.is_none() {
            Prediction::MayFail
        } else {
            Prediction::Passes
        }
    }

    fn explains(&self, _: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        let Some(node) = &place.node else {
            return false;
        };
        // What an entry that expired let through shows nothing of what came before and after it.
        let is_lost = group.is_unseen() || group.server_end == ServerEnd::SynAck;
        let is_silent = group.symptom == Symptom::Silent && is_lost;
        group.involves(node) && (is_silent || group.symptom == Symptom::Lossy)
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Fingerprint {
        let Some(node) = &place.node else {
            return Fingerprint::Missing(Vec::new());
        };
        let table = table(case, node);
        let Some((count, most)) = table else {
            return Fingerprint::Missing(vec![format!(
                "nf_conntrack_count against nf_conntrack_max on {node}: a full table lets some through as well"
            )]);
        };
        let said = format!("{node} tracks {count} connections of at most {most}");
        match case.grown(node, COUNTER) {
            Some(0) => Fingerprint::Refuted(said),
            _ if !is_full((count, most)) => Fingerprint::Refuted(said),
            Some(grown) => Fingerprint::Seen(
                Proof::Facts,
                vec![
                    said,
                    format!("{COUNTER} +{grown} on {node} while failing paths were probed"),
                ],
            ),
            None => Fingerprint::Seen(Proof::Facts, vec![said]),
        }
    }

    fn remedy(&self, _: &Case<'_>, _: &Place, _: &BTreeSet<usize>) -> Vec<Remedy> {
        vec![
            step(
                "Enlarge the table (about 320 bytes an entry) and see which sources fill it.",
                [
                    "sysctl -w net.netfilter.nf_conntrack_max=$((2*$(cat /proc/sys/net/netfilter/nf_conntrack_max)))",
                    "conntrack -L 2>/dev/null | grep -o 'src=[^ ]*' | sort | uniq -c | sort -rn | head",
                ],
            ),
            step(
                "Make it last: kube-proxy sets the limit at its start (conntrack.maxPerCore, conntrack.min in its configuration).",
                ["kubectl -n kube-system get configmap kube-proxy -o yaml | grep -n -A4 conntrack"],
            ),
        ]
    }
}

/// The most connections that a node tracked at any reading, and the limit then.
fn table(case: &Case<'_>, node: &NodeName) -> Option<(u64, u64)> {
    let readings = (case.matrix.nodes.get(node).into_iter()).flat_map(NodeEvidence::readings);
    let tables = readings.filter_map(|facts| facts.conntrack_count.zip(facts.conntrack_max));
    tables.max_by_key(|(count, _)| *count)
}

/// Whether so many connections fill a table of that size. Entries expire all the time: it need not be full when it is read.
const fn is_full((count, most): (u64, u64)) -> bool {
    count.saturating_mul(100) >= most.saturating_mul(99)
}

/// Whether the table of a node was full at a reading: its own new connections failed as well, also those to itself.
pub(super) fn was_full(case: &Case<'_>, node: &NodeName) -> bool {
    table(case, node).is_some_and(is_full)
}

/// Counts the packets that a full table dropped.
const COUNTER: &str = "ConntrackDrop";
