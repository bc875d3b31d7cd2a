//! `conntrack-full`: the connection table of a node is full, and new connections are dropped.

use std::collections::BTreeSet;

use super::traffic::{is_dropped_at, nodes_of};
use crate::data_plane::Transport;
use crate::diagnosis::Remedy;
use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Place, Proof};
use crate::diagnosis::location::{Spot, Stage};
use crate::diagnosis::model::{Fingerprint, Model, Prediction};
use crate::diagnosis::remedy::step;
use crate::diagnosis::symptom::{FailureGroup, Symptom};
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

    fn explains(&self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        let Some(node) = &place.node else {
            return false;
        };
        let stages = [Stage::FromPod, Stage::FromUplink];
        match group.symptom {
            Symptom::Silent if group.server.is_some() => {
                is_dropped_at(case, group, node, &stages) || is_dropped_in_tunnel(case, group, node)
            }
            Symptom::Silent | Symptom::Lossy => group.involves(node),
            Symptom::SynAckFromWrongSource
            | Symptom::ResetFromWrongSource
            | Symptom::Reset
            | Symptom::Unreachable(_)
            | Symptom::RefusedLocally(_)
            | Symptom::NoData
            | Symptom::Stalled
            | Symptom::Broken
            | Symptom::WrongBackend => false,
        }
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Fingerprint {
        let Some(node) = &place.node else {
            return Fingerprint::Missing(Vec::new());
        };
        let readings = (case.matrix.nodes.get(node).into_iter()).flat_map(NodeEvidence::readings);
        let table = readings
            .filter_map(|facts| facts.conntrack_count.zip(facts.conntrack_max))
            .max_by_key(|(count, _)| *count);
        let Some((count, most)) = table else {
            return Fingerprint::Missing(vec![format!(
                "nf_conntrack_count against nf_conntrack_max on {node}: a full table lets some through as well"
            )]);
        };
        let said = format!("{node} tracks {count} connections of at most {most}");
        // Entries expire all the time: the table need not be full at the time of the reading.
        let is_full = count.saturating_mul(100) >= most.saturating_mul(99);
        match case.grown(node, COUNTER) {
            Some(0) => Fingerprint::Refuted(said),
            _ if !is_full => Fingerprint::Refuted(said),
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

/// Whether a silent group's packets may be dropped inside a tunnel from or to a node: it tracks the tunnel's own packets too.
fn is_dropped_in_tunnel(case: &Case<'_>, group: &FailureGroup, node: &NodeName) -> bool {
    case.location(group).is_some_and(|location| {
        let (from, to) = (&location.sender, &location.receiver);
        let tracks = |spot: &Spot| match spot {
            Spot::Wire(from, to) => from == node || to == node,
            Spot::Node(at, stage) => at == node && *stage == Stage::ToUplink,
        };
        let transport = case.plane.transport(from, to, group.family);
        matches!(transport, Transport::Tunnel { .. }) && location.meets(tracks)
    })
}

/// Counts the packets that a full table dropped.
const COUNTER: &str = "ConntrackDrop";
