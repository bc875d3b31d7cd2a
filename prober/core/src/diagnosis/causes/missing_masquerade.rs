//! `missing-masquerade`: the node does not give its own address as the source of a packet that returns to its sender, and the
//! sender refuses a packet from itself.

use std::collections::BTreeSet;

use super::hairpin_off::is_reached_by_others;
use super::service_proxy;
use crate::data_plane::Translation;
use crate::diagnosis::Remedy;
use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Place, Proof};
use crate::diagnosis::model::{Applies, Fingerprint, Model, Prediction};
use crate::diagnosis::remedy::{step, tables};
use crate::diagnosis::symptom::{FailureGroup, Symptom};
use crate::evidence::{AgentEvidence, Evidence};
use crate::packet::family::Family;
use crate::packet::observation::{Direction, Observation};
use crate::topology::{AccessPath, Path};

/// The rule of a node, or its mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MissingMasquerade;

impl Model for MissingMasquerade {
    fn cause(&self) -> Cause {
        Cause::MissingMasquerade
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        case.failing(|group| group.family == family && explains(case, group))
            .map(|(_, group)| Place::node(&group.client.node, family))
            .collect()
    }

    fn applies(&self, case: &Case<'_>, place: &Place) -> Applies {
        let node = place.node.as_ref();
        node.map_or(Applies::Yes, |node| {
            service_proxy::applies(case, node, "a pod reaches itself inside its own network")
        })
    }

    fn predict(&self, _: &Case<'_>, place: &Place, path: &Path) -> Prediction {
        // The mark is set for each Service, and IPv6 accepts a packet from its own address.
        if place.node.as_ref() == Some(&path.client.node) && path.access_path == AccessPath::Hairpin
        {
            Prediction::MayFail
        } else {
            Prediction::Passes
        }
    }

    fn explains(&self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        place.node.as_ref() == Some(&group.client.node) && explains(case, group)
    }

    fn fingerprint(&self, case: &Case<'_>, _: &Place, groups: &BTreeSet<usize>) -> Fingerprint {
        let copy = case.at(groups).find_map(|group| {
            let (ip, tcp) = case.probes(group).find_map(own_syn)?.packet.tcp()?;
            Some(format!(
                "{} received its own SYN from {}:{} to {}:{}: its destination was translated, its source was not",
                group.client, ip.src, tcp.src_port, ip.dst, tcp.dst_port
            ))
        });
        let is_captured = |group: &FailureGroup| {
            let agent = case.matrix.agents.get(&group.client);
            case.client_packets(group).next().is_some()
                && !agent.is_some_and(AgentEvidence::is_capture_unreliable)
        };
        match copy {
            Some(said) => Fingerprint::Seen(Proof::Packets, vec![said]),
            None if case.at(groups).all(is_captured) => {
                Fingerprint::Refuted("no copy of the SYN came back to its sender".to_owned())
            }
            None => Fingerprint::Missing(vec![
                "the packets of a pod that probes its own Service: whether its own SYN comes back"
                    .to_owned(),
            ]),
        }
    }

    fn remedy(&self, case: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Vec<Remedy> {
        let tables = tables(place.family);
        let chains = match service_proxy::translation(case, place) {
            Translation::Nftables => {
                let family = match place.family {
                    Family::Ipv4 => "ip",
                    Family::Ipv6 => "ip6",
                };
                format!("nft list table {family} kube-proxy | grep -n -i -A4 masq")
            }
            Translation::Iptables
            | Translation::Netfilter
            | Translation::Ipvs
            | Translation::Connect
            | Translation::Bpf
            | Translation::Unknown => format!(
                "{tables} -t nat -S KUBE-POSTROUTING; {tables} -t nat -S POSTROUTING; {tables} -t nat -S KUBE-MARK-MASQ"
            ),
        };
        let mut steps = vec![step(
            "See whether the masquerade chain is empty or unhooked.",
            [chains],
        )];
        steps.extend(service_proxy::write_again(case, place));
        steps
    }
}

/// Whether a pod fails to reach itself: its own SYN comes back, or nothing does while other pods reach it.
fn explains(case: &Case<'_>, group: &FailureGroup) -> bool {
    if group.access_path != AccessPath::Hairpin {
        return false;
    }
    match group.symptom {
        Symptom::Silent => {
            is_reached_by_others(case, &group.client, group.family) || is_returned(case, group)
        }
        // IPv6 accepts packets from the own address, and the pod answers itself.
        Symptom::SynAckFromWrongSource => is_returned(case, group),
        Symptom::ResetFromWrongSource
        | Symptom::Reset
        | Symptom::Unreachable(_)
        | Symptom::RefusedLocally(_)
        | Symptom::Lossy
        | Symptom::NoData
        | Symptom::Stalled
        | Symptom::Broken
        | Symptom::WrongBackend => false,
    }
}

fn is_returned(case: &Case<'_>, group: &FailureGroup) -> bool {
    case.probes(group).any(|probe| own_syn(probe).is_some())
}

/// The own SYN, delivered to the pod itself with its own address as source and destination.
pub(super) fn own_syn(probe: &Evidence) -> Option<&Observation> {
    let own = probe.client.src.ip();
    let server = probe
        .server
        .iter()
        .flat_map(|server_trace| &server_trace.observations);
    probe.client.observations.iter().chain(server).find(|seen| {
        seen.direction == Direction::Received
            && seen.packet.tcp().is_some_and(|(ip, tcp)| {
                tcp.flags.is_syn()
                    && Some(tcp.seq) == probe.client.isn
                    && ip.src == own
                    && ip.dst == own
            })
    })
}
