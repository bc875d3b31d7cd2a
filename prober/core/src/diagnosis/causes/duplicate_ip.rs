//! `duplicate-ip`: another host has the address of a pod, and answers in its name or refuses what is sent to it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::reset_sender::{
    described, gateways, received_reset, reset_packet, reset_senders, routers_between,
};
use crate::data_plane::Attachment;
use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Place, Proof};
use crate::diagnosis::model::{Fingerprint, Model, Prediction};
use crate::diagnosis::origin::routers_passed;
use crate::diagnosis::remedy::step;
use crate::diagnosis::symptom::{FailureGroup, ServerEnd, Symptom};
use crate::diagnosis::{PathSegment, Remedy};
use crate::packet::TcpFlags;
use crate::packet::family::Family;
use crate::packet::mac::Mac;
use crate::packet::observation::Direction;
use crate::topology::{AccessPath, AgentId, Path};

/// Whose address another host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DuplicateIp {
    /// A server's: another host answers.
    Server,
    /// A client's: another host refuses the answers.
    Client,
}

/// Whether the probes of a group were addressed to the server itself: no rule of a Service may have led them elsewhere.
fn is_addressed(case: &Case<'_>, group: &FailureGroup) -> bool {
    let server = group.server.as_ref();
    let address = server.and_then(|server| case.address(server, group.family));
    let is_own = |to: IpAddr| Some(to) == address;
    group.access_path == AccessPath::PodIp
        || (case.probes(group))
            .filter_map(|probe| probe.client.translated_in_connect())
            .any(|to| is_own(to.ip()))
}

/// Whether another host may have answered the probes of a group, and the server did not.
fn may_be_by_other_host(case: &Case<'_>, group: &FailureGroup) -> bool {
    match group.symptom {
        Symptom::Reset | Symptom::ResetFromWrongSource => {
            let senders = reset_senders(case, group);
            senders.other_host && !senders.server
        }
        Symptom::WrongBackend => group.access_path == AccessPath::PodIp,
        Symptom::SynAckFromWrongSource
        | Symptom::Unreachable(_)
        | Symptom::RefusedLocally(_)
        | Symptom::Silent
        | Symptom::Lossy
        | Symptom::NoData
        | Symptom::Stalled
        | Symptom::Broken => false,
    }
}

/// Whether nothing but another host with the server's address gives this answer.
fn is_by_other_host(case: &Case<'_>, group: &FailureGroup) -> bool {
    let is_only = match group.symptom {
        Symptom::Reset | Symptom::ResetFromWrongSource => {
            reset_senders(case, group).is_only_other_host()
        }
        Symptom::WrongBackend => true,
        Symptom::SynAckFromWrongSource
        | Symptom::Unreachable(_)
        | Symptom::RefusedLocally(_)
        | Symptom::Silent
        | Symptom::Lossy
        | Symptom::NoData
        | Symptom::Stalled
        | Symptom::Broken => false,
    };
    is_only && is_addressed(case, group)
}

/// Whether it is shown that another host has the server's address.
fn is_shown(case: &Case<'_>, server: &AgentId, family: Family) -> bool {
    let shown = case.duplicated.get_or_init(|| {
        let among_pods = (case.groups.iter()).filter(|group| group.access_path.stays_among_pods());
        let servers = among_pods.filter_map(|group| Some((group, group.server.clone()?)));
        let (mut shown, mut claimed) = (BTreeSet::new(), BTreeSet::new());
        for (group, server) in servers {
            let key = (server, group.family);
            let is_first = claimed.insert(key.clone());
            let is_claimed = || claimants(case, &key.0, key.1).len() > 1;
            if is_by_other_host(case, group) || (is_first && is_claimed()) {
                shown.insert(key);
            }
        }
        shown
    });
    shown.contains(&(server.clone(), family))
}

/// A failure that another host with the server's address gives as well: which of both answers changes.
fn is_collateral(case: &Case<'_>, group: &FailureGroup) -> bool {
    let is_alike = match group.symptom {
        Symptom::Silent | Symptom::Lossy | Symptom::Unreachable(_) => true,
        Symptom::Reset | Symptom::ResetFromWrongSource => reset_senders(case, group).other_host,
        Symptom::SynAckFromWrongSource
        | Symptom::RefusedLocally(_)
        | Symptom::NoData
        | Symptom::Stalled
        | Symptom::Broken
        | Symptom::WrongBackend => false,
    };
    is_alike && group.is_unseen()
}

/// The Ethernet addresses that answered for the server's address in clients' captures on its node, with its own. A node that
/// answers for its pods (proxy ARP, proxy NDP) is no host with their address.
fn claimants(case: &Case<'_>, server: &AgentId, family: Family) -> BTreeSet<Mac> {
    let Some(address) = case.address(server, family) else {
        return BTreeSet::new();
    };
    match case.plane.attachment(server, family) {
        Attachment::Routed { .. } => return BTreeSet::new(),
        Attachment::Bridge { .. } | Attachment::OwnDevice { .. } | Attachment::Unknown => {}
    }
    let mut macs = case.claims(&server.node, address);
    if macs.is_empty() {
        return macs;
    }
    let links = (case.facts(&server.node)).and_then(|facts| facts.links.as_deref());
    let of_node = links.unwrap_or_default().iter().filter_map(|link| link.mac);
    let agents = case.matrix.agents.keys();
    let used = agents
        .filter(|agent| agent.node == server.node)
        .flat_map(|agent| gateways(case, agent, family));
    for mac in of_node.chain(used) {
        macs.remove(&mac);
    }
    if !macs.is_empty() {
        macs.extend(case.plane.habits().mac(server, family));
    }
    macs
}

/// Whether a server received RSTs for its SYN+ACKs that the client did not send.
fn is_refused_for(case: &Case<'_>, group: &FailureGroup) -> bool {
    let is_own_reset = |seen: &crate::packet::observation::Observation| {
        let tcp = seen.packet.tcp();
        seen.direction == Direction::Sent
            && tcp.is_some_and(|(_, tcp)| tcp.flags.has(TcpFlags::RST))
    };
    group.symptom == Symptom::Silent
        && group.server_end == ServerEnd::SynAckReset
        && !case.client_packets(group).any(is_own_reset)
}

/// Whether these RSTs came from the client's address and from as far as a pod of its node is: a rule on a node is nearer.
fn is_refused_by_pod(case: &Case<'_>, group: &FailureGroup) -> bool {
    let Some(server) = &group.server else {
        return false;
    };
    let address = case.address(&group.client, group.family);
    let expected = routers_between(case, &group.client, server, group.family);
    let routers = gateways(case, server, group.family);
    let own = case.plane.habits().mac(&group.client, group.family);
    case.server_packets(group)
        .filter_map(received_reset)
        .any(|(seen, ip)| {
            let is_at_distance = Some(ip.src) == address && expected == Some(routers_passed(ip));
            let sender = seen.packet.link.map(|link| link.src);
            let is_other = sender.is_some_and(|sender| {
                own.is_some_and(|own| own != sender) && !routers.contains(&sender)
            });
            // Where no router is between, only the Ethernet address distinguishes them.
            is_at_distance && (routers_passed(ip) > 0 || is_other)
        })
}

impl DuplicateIp {
    /// The fingerprint of another host that answers.
    fn of_server(
        case: &Case<'_>,
        server: &AgentId,
        family: Family,
        groups: &BTreeSet<usize>,
    ) -> Fingerprint {
        let address = case
            .address(server, family)
            .map_or_else(|| server.to_string(), |address| address.to_string());
        if !is_shown(case, server, family) {
            return Fingerprint::Missing(vec![format!(
                "the hosts that claim {address}, on {}: `arping -D -c 2 {address}` on the link that leads to it",
                server.node
            )]);
        }
        let mut said = Vec::new();
        let macs = claimants(case, server, family);
        if macs.len() > 1 {
            let macs: Vec<String> = macs.iter().map(ToString::to_string).collect();
            said.push(format!("{address} is claimed by {}", macs.join(" and ")));
        }
        let mut by_others = case
            .at(groups)
            .filter(|group| is_by_other_host(case, group));
        if let Some((seen, ip)) = by_others.find_map(|group| reset_packet(case, group)) {
            let own = (case.plane.habits().mac(server, family))
                .map_or_else(String::new, |mac| format!("; the pod's own is {mac}"));
            said.push(format!(
                "a RST with {} answers for {address}, and {server} never saw the SYN{own}",
                described(seen, ip)
            ));
        }
        Fingerprint::Seen(Proof::Packets, said)
    }

    /// The fingerprint of another host that refuses answers.
    fn of_client(
        case: &Case<'_>,
        client: &AgentId,
        family: Family,
        groups: &BTreeSet<usize>,
    ) -> Fingerprint {
        if !case.at(groups).any(|group| is_refused_by_pod(case, group)) {
            return Fingerprint::Missing(vec![
                "the distance of the RSTs at the server's end: a rule on a node that refuses SYN+ACKs is one router nearer than a pod".to_owned(),
            ]);
        }
        Fingerprint::Seen(Proof::Packets, vec![refused_for(case, client, family)])
    }
}

/// What servers received in a client's name, as a sentence.
fn refused_for(case: &Case<'_>, client: &AgentId, family: Family) -> String {
    let address = case
        .address(client, family)
        .map_or_else(|| client.to_string(), |address| address.to_string());
    format!(
        "servers received RST for their SYN+ACK to {address}, and {client} neither saw the SYN+ACK nor sent a RST"
    )
}

impl Model for DuplicateIp {
    fn cause(&self) -> Cause {
        Cause::DuplicateIp
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        let failing = case.failing(|group| group.family == family);
        match self {
            Self::Server => failing
                .filter_map(|(_, group)| group.server.as_ref())
                .collect::<BTreeSet<_>>()
                .into_iter()
                .map(|server| Place::pod(server, family))
                .collect(),
            Self::Client => failing
                .filter(|(_, group)| is_refused_for(case, group))
                .map(|(_, group)| Place::pod(&group.client, family))
                .collect(),
        }
    }

    fn predict(&self, _: &Case<'_>, place: &Place, path: &Path) -> Prediction {
        let PathSegment::Pod { pod } = &place.segment else {
            return Prediction::Passes;
        };
        // Which of both hosts answers changes with every resolution of the address.
        let may_fail = match self {
            Self::Server => path.server.as_ref().is_none_or(|server| server == pod),
            Self::Client => path.client == *pod,
        };
        if may_fail {
            Prediction::MayFail
        } else {
            Prediction::Passes
        }
    }

    fn explains(&self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        let PathSegment::Pod { pod } = &place.segment else {
            return false;
        };
        match self {
            Self::Server => {
                group.server.as_ref() == Some(pod)
                    && (may_be_by_other_host(case, group)
                        || (is_collateral(case, group) && is_shown(case, pod, place.family)))
            }
            Self::Client => group.client == *pod && is_refused_for(case, group),
        }
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Fingerprint {
        let PathSegment::Pod { pod } = &place.segment else {
            return Fingerprint::Missing(Vec::new());
        };
        match self {
            Self::Server => Self::of_server(case, pod, place.family, groups),
            Self::Client => Self::of_client(case, pod, place.family, groups),
        }
    }

    fn support(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Vec<String> {
        let PathSegment::Pod { pod } = &place.segment else {
            return Vec::new();
        };
        let is_shown = case.at(groups).any(|group| is_refused_by_pod(case, group));
        match self {
            Self::Client if !is_shown => vec![refused_for(case, pod, place.family)],
            Self::Client | Self::Server => Vec::new(),
        }
    }

    fn remedy(&self, case: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Vec<Remedy> {
        let PathSegment::Pod { pod } = &place.segment else {
            return Vec::new();
        };
        let address = case.address(pod, place.family);
        let address = address.map_or_else(|| "ADDRESS".to_owned(), |address| address.to_string());
        let mut commands = vec![format!(
            "kubectl get pods -A -o wide --field-selector status.podIP={address}"
        )];
        let link = match case.plane.attachment(pod, place.family) {
            Attachment::Bridge { bridge, .. } => Some(bridge),
            Attachment::OwnDevice { parent } => Some(parent),
            Attachment::Routed { .. } | Attachment::Unknown => None,
        };
        commands.extend(link.map(|link| match place.family {
            Family::Ipv4 => format!("arping -D -I {link} -c 2 {address}"),
            Family::Ipv6 => format!("ndisc6 -m {address} {link}"),
        }));
        commands.push("ls /var/lib/cni/networks/".to_owned());
        vec![step(
            "Find the other host that has the address, and delete the pod that should not have it.",
            commands,
        )]
    }
}
