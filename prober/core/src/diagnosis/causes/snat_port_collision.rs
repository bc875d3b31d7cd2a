//! `snat-port-collision`: two connections get the same translated source port, or none is left, and the node drops the first
//! packets of the later one.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::lossy::is_lossy;
use super::service_proxy;
use crate::data_plane::Attachment;
use crate::diagnosis::Remedy;
use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::Place;
use crate::diagnosis::location::sentences;
use crate::diagnosis::model::{Applies, Fingerprint, Model, Prediction};
use crate::diagnosis::remedy::{step, tables};
use crate::diagnosis::symptom::{FailureGroup, Symptom};
use crate::evidence::{PathEvidence, Source};
use crate::packet::family::Family;
use crate::probe::outcome::Outcome;
use crate::topology::{AccessPath, Path};

/// The model.
pub(crate) struct SnatPortCollision;

impl Model for SnatPortCollision {
    fn cause(&self) -> Cause {
        Cause::SnatPortCollision
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        if case.matrix.source != Source::Run {
            return BTreeSet::new();
        }
        // Without a count of such drops nothing distinguishes it from any other loss.
        case.failing(|group| group.family == family && is_lost(case, group))
            .map(|(_, group)| &group.client.node)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .filter(|node| {
                case.grown_in_run(node, INSERT_FAILED)
                    .is_some_and(|grown| grown > 0)
            })
            .map(|node| Place::node(node, family))
            .collect()
    }

    fn applies(&self, case: &Case<'_>, place: &Place) -> Applies {
        let node = place.node.as_ref();
        node.map_or(Applies::Yes, |node| {
            service_proxy::applies(case, node, "no source is translated")
        })
    }

    fn predict(&self, _: &Case<'_>, place: &Place, path: &Path) -> Prediction {
        // A port may be free for one destination and not for another.
        let is_there = place.node.as_ref() == Some(&path.client.node);
        if is_there && path.access_path.is_translated() {
            Prediction::MayFail
        } else {
            Prediction::Passes
        }
    }

    fn explains(&self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        place.node.as_ref() == Some(&group.client.node)
            && is_lost(case, group)
            && is_source_translated(case, group)
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Fingerprint {
        let Some(node) = &place.node else {
            return Fingerprint::Missing(Vec::new());
        };
        let lost: u64 = case.at(groups).map(|group| lost_syns(case, group)).sum();
        let counted = case.grown_in_run(node, INSERT_FAILED).unwrap_or(0);
        // An outage meanwhile may have taken some of them.
        if counted.saturating_mul(2) < lost {
            return Fingerprint::Refuted(format!(
                "{lost} SYNs were lost, and {INSERT_FAILED} grew by {counted} on {node}"
            ));
        }
        Fingerprint::Missing(vec![format!(
            "the translated source ports in use on {node} for one backend, against those that its rules may choose: `conntrack -L -p tcp --reply-src BACKEND`, `iptables-save -t nat`"
        )])
    }

    fn support(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Vec<String> {
        let Some(node) = &place.node else {
            return Vec::new();
        };
        let counted = case.grown_in_run(node, INSERT_FAILED).map(|grown| {
            format!(
                "{INSERT_FAILED} +{grown} on {node} during the run: it drops a connection whose translated addresses and ports another one has"
            )
        });
        let source = case.at(groups).find_map(|group| {
            let source = translated_source(case, group)?;
            Some(format!(
                "servers see connections of {} by {} from {source}: {node} translates their source",
                group.client, group.access_path
            ))
        });
        let said = counted.into_iter().chain(source);
        said.chain(sentences(case, groups)).collect()
    }

    fn remedy(&self, _: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Vec<Remedy> {
        let tables = tables(place.family);
        vec![
            step(
                "Let the rules that translate sources choose from all ports, at random (--random-fully, in nftables fully-random).",
                [
                    format!("{tables}-save -t nat | grep -e MASQUERADE -e SNAT"),
                    "nft list ruleset | grep -e masquerade -e snat".to_owned(),
                ],
            ),
            step(
                "Where the ports to one destination are used up, translate fewer sources (kube-proxy's masqueradeAll, the network plugin's masquerading), or from more addresses, and find what holds the connections.",
                [
                    "conntrack -L -p tcp 2>/dev/null | grep -o 'src=[^ ]*' | sort | uniq -c | sort -rn | head",
                ],
            ),
        ]
    }
}

/// Whether SYNs of a group did not arrive, all of them or some.
fn is_lost(case: &Case<'_>, group: &FailureGroup) -> bool {
    match group.symptom {
        Symptom::Silent => group.is_unseen(),
        Symptom::Lossy => is_lossy(case, group, group.family),
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

/// The SYNs of a group's probes without an answer.
fn lost_syns(case: &Case<'_>, group: &FailureGroup) -> u64 {
    let lost = case.probes(group).map(|probe| {
        let is_answered = matches!(probe.client.outcome, Outcome::Established { .. });
        u64::from(probe.client.syns.saturating_sub(u32::from(is_answered)))
    });
    lost.sum()
}

/// Whether the client's node replaces the source of a group's connections: always of a pod that reaches itself, and of pods on
/// the nodes' own network, whose answers would not return by the node otherwise.
fn is_source_translated(case: &Case<'_>, group: &FailureGroup) -> bool {
    let is_on_own_device = || {
        let attachment = case.plane.attachment(&group.client, group.family);
        matches!(attachment, Attachment::OwnDevice { .. }) && group.access_path.is_translated()
    };
    group.access_path == AccessPath::Hairpin
        || is_on_own_device()
        || translated_source(case, group).is_some()
}

/// The source that servers observe of connections like a group's: from pods of its client's node to a ClusterIP, where it is
/// not the client's own.
fn translated_source(case: &Case<'_>, group: &FailureGroup) -> Option<IpAddr> {
    if !is_to_cluster_ip(group.access_path) {
        return None;
    }
    let is_alike = |path: &Path| {
        path.client.node == group.client.node
            && is_to_cluster_ip(path.access_path)
            && path.family == group.family
    };
    let of_path = |evidence: &PathEvidence| {
        evidence.probes.iter().find_map(|probe| {
            let server_trace = probe.server.as_ref()?;
            let peer = server_trace.peer.ip();
            (server_trace.syns > 0 && peer != probe.client.src.ip()).then_some(peer)
        })
    };
    let mut paths = case.matrix.paths.values();
    let mut paths = paths.by_ref().filter(|evidence| is_alike(&evidence.path));
    paths.find_map(of_path)
}

/// Whether an access path leads to a ClusterIP from a pod. A pod's path to itself is masqueraded in any case.
const fn is_to_cluster_ip(access_path: AccessPath) -> bool {
    match access_path {
        AccessPath::ClusterIp | AccessPath::ClusterIpAny | AccessPath::ClusterIpLocal => true,
        AccessPath::PodIp
        | AccessPath::Hairpin
        | AccessPath::NodePort
        | AccessPath::HostNetwork => false,
    }
}

/// Counts connections that were dropped when they were to be inserted (`__nf_conntrack_confirm`,
/// net/netfilter/nf_conntrack_core.c).
const INSERT_FAILED: &str = "ConntrackInsertFailed";
