//! Whether a pod's address is resolved to an Ethernet address, as packets and the neighbour entries of its node show it.
//!
//! A filter between pods lets ARP and neighbour discovery pass, so an address that is requested and never answered is no policy.

use crate::diagnosis::case::Case;
use crate::diagnosis::origin;
use crate::diagnosis::symptom::{FailureGroup, Symptom};
use crate::node_facts::NeighbourState;
use crate::packet::family::Family;
use crate::packet::{Body, ResolutionKind, Unreachable};
use crate::topology::{AccessPath, AgentId};

/// The state of the resolution of a pod's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resolved {
    /// Its node has an Ethernet address for it, or has not needed one for a while; in a sentence.
    Yes(String),
    /// It was requested, and not answered; in a sentence.
    No(String),
    /// Nothing shows it.
    Unknown,
}

impl Resolved {
    /// That the address was requested and not answered.
    pub(crate) fn no(self) -> Option<String> {
        match self {
            Self::No(sentence) => Some(sentence),
            Self::Yes(_) | Self::Unknown => None,
        }
    }

    /// The resolution of a pod's address, on its own node.
    pub(crate) fn of(case: &Case<'_>, pod: &AgentId, family: Family) -> Self {
        let is_direct = |group: &FailureGroup| {
            group.family == family
                && group.access_path == AccessPath::PodIp
                && group.server.as_ref() == Some(pod)
                && group.is_unseen()
        };
        let by_packets =
            |(_, group)| by_error(case, group, pod).or_else(|| by_request(case, group, pod));
        if let Some(sentence) = case.failing(is_direct).find_map(by_packets) {
            return Self::No(sentence);
        }
        let entry = case.facts(&pod.node).zip(case.address(pod, family));
        let Some(entry) = entry.and_then(|(facts, address)| facts.neighbour(address).found())
        else {
            return Self::Unknown;
        };
        let sentence = |state| {
            format!(
                "the neighbour entry of {} on {} is {state}",
                entry.ip, pod.node
            )
        };
        match entry.state {
            NeighbourState::Failed => Self::No(sentence("FAILED")),
            NeighbourState::Incomplete => Self::No(sentence("INCOMPLETE")),
            // An entry that packets use does not remain stale (`neigh_event_send`, net/core/neighbour.c).
            NeighbourState::Reachable => Self::Yes(sentence("REACHABLE")),
            NeighbourState::Stale => Self::Yes(sentence("STALE")),
            NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Noarp
            | NeighbourState::Permanent
            | NeighbourState::None => Self::Unknown,
        }
    }
}

/// The pod's node, or the client's own kernel on that node, reported the host as unreachable.
fn by_error(case: &Case<'_>, group: &FailureGroup, pod: &AgentId) -> Option<String> {
    if group.symptom != Symptom::Unreachable(Unreachable::Host) {
        return None;
    }
    if origin::unreachable(case, group).is_none() {
        let is_own = group.client.node == pod.node;
        return is_own.then(|| format!("{} could not resolve the address of {pod}", group.client));
    }
    let node = origin::refuser(case, group).filter(|node| *node == pod.node)?;
    Some(format!("{node} could not resolve the address of {pod}"))
}

/// A client on the pod's own segment requested the address, and no answer was captured on that node.
fn by_request(case: &Case<'_>, group: &FailureGroup, pod: &AgentId) -> Option<String> {
    let address = case.address(pod, group.family)?;
    let is_request = |body: &Body| match body {
        Body::Resolution(one) => one.kind == ResolutionKind::Request && one.target == address,
        Body::Tcp(..) | Body::Icmp(..) => false,
    };
    let is_local = group.client.node == pod.node;
    let is_requested = is_local
        && case.claims(&pod.node, address).is_empty()
        && case
            .client_packets(group)
            .any(|seen| is_request(&seen.packet.body));
    is_requested.then(|| {
        format!(
            "{} requested the address of {pod}, and got no answer",
            group.client
        )
    })
}
