//! `reject-reset`: a rule on a node answers SYNs by a RST in the server's name.

use std::collections::BTreeSet;

use super::reset_sender::{described, reset_packet, reset_senders};
use crate::diagnosis::Remedy;
use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Place, Proof};
use crate::diagnosis::model::{Fingerprint, Model, Prediction};
use crate::diagnosis::origin::routers_passed;
use crate::diagnosis::remedy::step;
use crate::diagnosis::symptom::{FailureGroup, ServerEnd, Symptom};
use crate::packet::family::Family;
use crate::topology::{AccessPath, NodeName, Path, Scope};

/// A rule that answers by RST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RejectReset;

/// Whether a rule on the node may have sent the RSTs of a group, and the server did not.
fn is_sent_by(case: &Case<'_>, group: &FailureGroup, node: &NodeName) -> bool {
    if !group.symptom.is_reset() {
        return false;
    }
    let senders = reset_senders(case, group);
    !senders.server && senders.nodes.contains(node)
}

/// Whether nothing but a rule on the node sends such a RST: no router passed it, or it came through the tunnel, which leads
/// from the one node to the other alone.
fn is_conclusive(case: &Case<'_>, group: &FailureGroup, node: &NodeName) -> bool {
    let Some((_, ip)) = reset_packet(case, group) else {
        return false;
    };
    let is_direct = group.access_path == AccessPath::PodIp;
    let is_by_tunnel = case
        .plane
        .transport(&group.client.node, node, group.family)
        .is_tunnel();
    reset_senders(case, group).is_only_node(node)
        && (routers_passed(ip) == 0 || (is_direct && is_by_tunnel))
}

/// Failures that the same rule may explain: SYNs that were balanced anew, RSTs that the client ignores, those that nothing
/// captured, and those that the server may have sent as well.
fn is_hidden(case: &Case<'_>, group: &FailureGroup, node: &NodeName) -> bool {
    let is_candidate = match group.access_path {
        AccessPath::ClusterIpAny | AccessPath::Hairpin => match group.symptom {
            Symptom::Lossy | Symptom::Silent => true,
            Symptom::Reset | Symptom::ResetFromWrongSource => {
                !reset_senders(case, group).is_only_server()
            }
            Symptom::SynAckFromWrongSource
            | Symptom::Unreachable(_)
            | Symptom::RefusedLocally(_)
            | Symptom::NoData
            | Symptom::Stalled
            | Symptom::Broken
            | Symptom::WrongBackend => false,
        },
        AccessPath::PodIp
        | AccessPath::ClusterIp
        | AccessPath::ClusterIpLocal
        | AccessPath::NodePort
        | AccessPath::HostNetwork => {
            let is_through =
                (case.path(group.path)).is_some_and(|evidence| evidence.path.involves(node));
            let is_unseen = reset_packet(case, group).is_none();
            let may_be_its = || reset_senders(case, group).nodes.contains(node);
            is_through
                && group.symptom.is_reset()
                && (group.symptom == Symptom::Reset && is_unseen || may_be_its())
        }
    };
    let is_open = match group.server_end {
        ServerEnd::Nothing | ServerEnd::Unknown | ServerEnd::SynAck | ServerEnd::Completed => true,
        ServerEnd::SynOnly | ServerEnd::SynAckReset | ServerEnd::ResetSent => false,
    };
    let is_alike = |known: &FailureGroup| {
        known.family == group.family
            && (known.access_path == group.access_path || known.server == group.server)
            && is_sent_by(case, known, node)
    };
    is_candidate && is_open && case.failing(is_alike).next().is_some()
}

/// The groups whose RSTs come from the node.
fn sent_by<'c>(
    case: &'c Case<'_>,
    groups: &'c BTreeSet<usize>,
    node: &'c NodeName,
) -> impl Iterator<Item = &'c FailureGroup> {
    case.at(groups)
        .filter(move |group| is_sent_by(case, group, node))
}

impl Model for RejectReset {
    fn cause(&self) -> Cause {
        Cause::RejectReset
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        let is_reset = |group: &FailureGroup| group.family == family && group.symptom.is_reset();
        case.failing(is_reset)
            .map(|(_, group)| reset_senders(case, group))
            .filter(|senders| !senders.server)
            .flat_map(|senders| senders.nodes)
            .map(|node| Place::node(&node, family))
            .collect()
    }

    fn predict(&self, _: &Case<'_>, place: &Place, path: &Path) -> Prediction {
        let is_through = (place.node.as_ref()).is_some_and(|node| path.involves(node));
        // A rule matches what it was written for: one Service, one pod, one port.
        if is_through || path.scope() == Scope::Any {
            Prediction::MayFail
        } else {
            Prediction::Passes
        }
    }

    fn explains(&self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        let Some(node) = &place.node else {
            return false;
        };
        is_sent_by(case, group, node) || is_hidden(case, group, node)
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Fingerprint {
        let Some(node) = &place.node else {
            return Fingerprint::Missing(Vec::new());
        };
        let mut known = sent_by(case, groups, node);
        let Some(group) = known.find(|group| is_conclusive(case, group, node)) else {
            return Fingerprint::Missing(vec![format!(
                "the counters of {node}'s rules before and after a failing probe: `iptables-save -c | grep -i tcp-reset`, `nft list ruleset`"
            )]);
        };
        let said = reset_packet(case, group).map(|(seen, ip)| {
            format!(
                "{} received a RST from {} with {}",
                group.client,
                ip.src,
                described(seen, ip)
            )
        });
        Fingerprint::Seen(Proof::Packets, said.into_iter().collect())
    }

    fn support(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Vec<String> {
        let Some(node) = &place.node else {
            return Vec::new();
        };
        let any = |wanted: &dyn Fn(&FailureGroup) -> bool| sent_by(case, groups, node).any(wanted);
        let mut said = Vec::new();
        if !any(&|group| is_conclusive(case, group, node))
            && let Some(group) = sent_by(case, groups, node).next()
            && let Some((seen, ip)) = reset_packet(case, group)
        {
            said.push(format!(
                "{} received a RST from {} with {}, as {node} would send it",
                group.client,
                ip.src,
                described(seen, ip)
            ));
        }
        if any(&|group| group.server_end == ServerEnd::Nothing) {
            said.push("the server's end saw no SYN and sent no RST".to_owned());
        }
        if any(&|group| group.symptom == Symptom::ResetFromWrongSource) {
            said.push("on the bridge the forged RST comes from the pod's own address, so the client ignores it and times out".to_owned());
        }
        if sent_by(case, groups, node).all(|group| group.access_path == AccessPath::ClusterIpAny) {
            said.push("only connections that were balanced to one endpoint are rejected; a rejected SYN is balanced anew when it is sent again".to_owned());
        }
        said
    }

    fn remedy(&self, _: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Vec<Remedy> {
        let tables = match place.family {
            Family::Ipv4 => "iptables",
            Family::Ipv6 => "ip6tables",
        };
        vec![
            step(
                "Find the rule: the one whose counter grows while a probe fails.",
                [
                    format!("{tables}-save -c | grep -i tcp-reset"),
                    "nft list ruleset | grep -n -i 'reject with tcp reset'".to_owned(),
                ],
            ),
            step(
                "Remove it where it is written (a firewall service, a policy), or accept pod traffic before it: its place in the chain decides.",
                [format!("{tables} -L FORWARD -nv --line-numbers")],
            ),
        ]
    }
}
