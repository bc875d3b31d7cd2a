//! `bad-checksum`: packets of pods get from one node to another with a wrong TCP checksum, and the kernels there drop them.
//!
//! A node that tracks connections finds them invalid (`tcp_error`, net/netfilter/nf_conntrack_proto_tcp.c), which kube-proxy's
//! chains drop; where none does, they arrive in the pod. What shows them: the capture of the end that receives, and the errors
//! of the other node's router, which quote the SYN of a TTL probe as it arrived.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::between::Between;
use crate::diagnosis::Remedy;
use crate::diagnosis::case::{Case, is_crafted_alone};
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Place, Proof};
use crate::diagnosis::location::{FlowDirection, Stage, first_few};
use crate::diagnosis::model::{Fingerprint, Model, Prediction};
use crate::diagnosis::origin;
use crate::diagnosis::remedy::step;
use crate::diagnosis::symptom::{FailureGroup, ServerEnd, Symptom};
use crate::evidence::PathEvidence;
use crate::packet::family::Family;
use crate::packet::observation::{Direction, Observation};
use crate::packet::{Checksum, Tcp, TcpFlags};
use crate::probe::event::{TtlStep, TtlStepAnswer};
use crate::topology::{NodeName, Path};

/// The model, between these nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadChecksum(pub(crate) Between);

impl Model for BadChecksum {
    fn cause(&self) -> Cause {
        Cause::BadChecksum
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        let pairs: BTreeSet<(NodeName, NodeName)> = case
            .failing(|group| group.family == family)
            .flat_map(|(_, group)| broken_between(case, group))
            .collect();
        self.0
            .places_of(&pairs, family, |from, _| Some(from.clone()))
    }

    fn predict(&self, _: &Case<'_>, place: &Place, path: &Path) -> Prediction {
        // A device may break only what it completes itself, as packets of a kernel, or what a node translated.
        match self.0.predict(place, path) {
            Prediction::Fails | Prediction::MayFail => Prediction::MayFail,
            Prediction::Passes => Prediction::Passes,
        }
    }

    fn explains(&self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        let Some((client, server)) = nodes(group) else {
            return false;
        };
        if group.symptom != Symptom::Silent {
            return false;
        }
        let is_on_the_way = |from: &NodeName, to: &NodeName, direction: FlowDirection| {
            self.0.blocks(place, from, to) && is_lost_at(case, group, to, direction)
        };
        is_on_the_way(client, server, FlowDirection::ToServer)
            || is_on_the_way(server, client, FlowDirection::ToClient)
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Fingerprint {
        let observations =
            (case.at(groups)).flat_map(|group| self.observations(case, place, group));
        let said = first_few(observations);
        if said.is_empty() {
            let (from, link) = sender(case, place, groups);
            return Fingerprint::Missing(vec![format!(
                "what arrives at the other end while a probe runs: `tcpdump -nvi any tcp` says `cksum ... (incorrect)`; and `ethtool -k {link} | grep checksum` on {from}"
            )]);
        }
        Fingerprint::Seen(Proof::Packets, said)
    }

    fn support(&self, case: &Case<'_>, _: &Place, groups: &BTreeSet<usize>) -> Vec<String> {
        let counted = case.at(groups).find_map(|group| {
            let server = group.server.as_ref()?;
            let grown = case
                .agent_grown(server, "TcpInCsumErrors")
                .filter(|&grown| grown > 0)?;
            Some(format!("{server} counted TcpInCsumErrors +{grown}"))
        });
        let crafted = case
            .at(groups)
            .find_map(|group| only_crafted_pass(case, group));
        counted.into_iter().chain(crafted).collect()
    }

    fn remedy(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Vec<Remedy> {
        let (from, link) = sender(case, place, groups);
        vec![
            step(
                &format!(
                    "Let the kernel of {from} compute the checksums, not the device: until the next start of the link."
                ),
                [format!("ethtool -K {link} tx-checksum-ip-generic off")],
            ),
            step(
                "Make it last: a newer kernel or driver of the uplink (virtual devices such as vmxnet3 break offloads of tunnels), or the same command where the network plugin creates the link.",
                [
                    "uname -r; ethtool -i UPLINK".to_owned(),
                    format!("ethtool -k {link} | grep checksum"),
                ],
            ),
        ]
    }
}

impl BadChecksum {
    /// The observations of wrong checksums in the packets of a group, of the direction that the place has.
    fn observations(self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> Vec<String> {
        let (Some((client, server)), Some(pod)) = (nodes(group), &group.server) else {
            return Vec::new();
        };
        let mut said = Vec::new();
        if self.0.blocks(place, client, server) {
            if is_broken(&arrived_syns(case, group)) {
                said.push(format!(
                    "SYNs of {} arrive in {pod} with a wrong TCP checksum, and its kernel drops them",
                    group.client
                ));
            }
            said.extend(quoted(case, group));
        }
        if self.0.blocks(place, server, client) && is_broken(&arrived_answers(case, group)) {
            said.push(format!(
                "SYN+ACKs of {pod} arrive in {} with a wrong TCP checksum, and its kernel drops them",
                group.client
            ));
        }
        said
    }
}

/// The nodes of a group's client and server, where they are two.
fn nodes(group: &FailureGroup) -> Option<(&NodeName, &NodeName)> {
    let server = group.server.as_ref()?;
    (server.node != group.client.node).then_some((&group.client.node, &server.node))
}

/// The ordered pairs of nodes between which packets of a group may be broken.
fn broken_between(case: &Case<'_>, group: &FailureGroup) -> Vec<(NodeName, NodeName)> {
    let Some((client, server)) = nodes(group) else {
        return Vec::new();
    };
    let mut pairs = Vec::new();
    let is_suspect = only_crafted_pass(case, group).is_some();
    if is_suspect || is_broken(&arrived_syns(case, group)) || quoted(case, group).is_some() {
        pairs.push((client.clone(), server.clone()));
    }
    if is_suspect || is_broken(&arrived_answers(case, group)) {
        pairs.push((server.clone(), client.clone()));
    }
    pairs
}

/// Whether a group's packets of a direction may be lost as broken ones are: in the pod that receives them; or on its node, where
/// connection tracking does not count them as a part of a connection, and the chains drop what is invalid.
fn is_lost_at(
    case: &Case<'_>,
    group: &FailureGroup,
    node: &NodeName,
    direction: FlowDirection,
) -> bool {
    let is_in_pod = match direction {
        FlowDirection::ToServer => is_broken(&arrived_syns(case, group)),
        FlowDirection::ToClient => is_broken(&arrived_answers(case, group)),
    };
    let stages = [Stage::FromUplink, Stage::Forwarding];
    let is_on_node = case.location(group).is_some_and(|location| {
        // Without observations of the server's end either direction may be lost.
        !location.is_observed || location.direction == direction && location.is_on(node, &stages)
    });
    is_in_pod || is_on_node
}

/// The segments of a group that its server's end received as SYNs.
fn arrived_syns<'a>(case: &Case<'a>, group: &FailureGroup) -> Vec<&'a Tcp> {
    // A SYN that was answered had a right checksum, whatever a capture says.
    if group.server_end != ServerEnd::SynOnly {
        return Vec::new();
    }
    received(case.server_packets(group), TcpFlags::is_syn)
}

/// The segments of a group that its client received as SYN+ACKs.
fn arrived_answers<'a>(case: &Case<'a>, group: &FailureGroup) -> Vec<&'a Tcp> {
    received(case.client_packets(group), TcpFlags::is_syn_ack)
}

fn received<'a>(
    packets: impl Iterator<Item = &'a Observation>,
    wanted: fn(TcpFlags) -> bool,
) -> Vec<&'a Tcp> {
    let packets = packets.filter(|seen| seen.direction == Direction::Received);
    let segments = packets.filter_map(|seen| seen.packet.tcp().map(|(_, tcp)| tcp));
    segments.filter(|tcp| wanted(tcp.flags)).collect()
}

/// Whether there are segments, and every one has a wrong checksum.
fn is_broken(segments: &[&Tcp]) -> bool {
    !segments.is_empty() && segments.iter().all(|tcp| tcp.checksum == Checksum::Invalid)
}

/// The server's node quotes the SYNs that it routes with a wrong checksum, as a sentence. Errors for a Service's address are
/// left out: netfilter rewrites the packet that they quote.
fn quoted(case: &Case<'_>, group: &FailureGroup) -> Option<String> {
    let (_, node) = nodes(group)?;
    let server = group.server.as_ref()?;
    let probes = case
        .ttl_probes_of(&group.client, server, group.family)
        .filter(|(_, evidence, _)| !evidence.path.access_path.is_translated());
    let steps = probes.flat_map(|(_, evidence, probe)| {
        let routed = probe.steps.iter().filter_map(move |step| {
            let by = router_at(case, evidence, step)?;
            (by.0 == *node).then_some((by.1, step))
        });
        routed.filter(|(_, step)| step.checksum != Checksum::Unknown)
    });
    let steps: Vec<(IpAddr, &TtlStep)> = steps.collect();
    let (by, step) = steps.first()?;
    let is_wrong = |step: &TtlStep| step.checksum == Checksum::Invalid;
    steps.iter().all(|(_, step)| is_wrong(step)).then(|| {
        format!(
            "time exceeded from {by} quotes a SYN of {} (TTL {}) with a wrong TCP checksum, which left it with a right one: it is broken before {node} routes it",
            group.client, step.hop_limit
        )
    })
}

/// The node that answered a step by time exceeded, and the address that it answered with.
fn router_at(
    case: &Case<'_>,
    evidence: &PathEvidence,
    step: &TtlStep,
) -> Option<(NodeName, IpAddr)> {
    match step.answer {
        TtlStepAnswer::TimeExceeded { by, hop_limit } => {
            Some((origin::router(case, evidence, by, hop_limit)?, by))
        }
        TtlStepAnswer::Silent
        | TtlStepAnswer::SynAck { .. }
        | TtlStepAnswer::Reset { .. }
        | TtlStepAnswer::Unreachable { .. } => None,
    }
}

/// Crafted SYNs of a path, which have a complete checksum, are all answered, and those of connect(), whose checksum a device
/// completes, are all silent: a sentence.
fn only_crafted_pass(case: &Case<'_>, group: &FailureGroup) -> Option<String> {
    let path = case.path(group.path)?;
    nodes(group)?;
    is_crafted_alone(path).then(|| {
        format!(
            "crafted SYNs of {}, which have their checksum, are answered, and those of connect(), which a device completes, are not",
            case.named(path)
        )
    })
}

/// The node that sends, and its link by which packets of pods leave for the other one.
fn sender(case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> (String, String) {
    let from = place.node.as_ref();
    let ends = case.at(groups).filter_map(nodes);
    let peer = ends
        .flat_map(|(client, server)| [client, server])
        .find(|node| Some(*node) != from);
    let link = from
        .zip(peer)
        .and_then(|(from, to)| case.plane.transport(from, to, place.family).link());
    (
        from.map_or_else(|| "NODE".to_owned(), ToString::to_string),
        link.unwrap_or("LINK").to_owned(),
    )
}
