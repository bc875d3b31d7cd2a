//! `ip-forward-off`: a node does not route packets between its interfaces.

use std::collections::BTreeSet;

use super::traffic::{is_dropped_at, nodes_of};
use crate::data_plane::Attachment;
use crate::diagnosis::Remedy;
use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Place, Proof};
use crate::diagnosis::location::Stage;
use crate::diagnosis::model::{Fingerprint, Model, Prediction};
use crate::diagnosis::origin;
use crate::diagnosis::remedy::step;
use crate::diagnosis::symptom::{FailureGroup, Symptom};
use crate::node_facts::SysctlState;
use crate::packet::Unreachable;
use crate::packet::family::Family;
use crate::topology::{AccessPath, Path, Scope};

/// The model.
pub(crate) struct IpForwardOff;

impl Model for IpForwardOff {
    fn cause(&self) -> Cause {
        Cause::IpForwardOff
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        let nodes = nodes_of(case, family).into_iter();
        nodes.map(|node| Place::node(&node, family)).collect()
    }

    fn predict(&self, case: &Case<'_>, place: &Place, path: &Path) -> Prediction {
        let Some(node) = &place.node else {
            return Prediction::Passes;
        };
        if case.plane.is_past(node, path) {
            return Prediction::Passes;
        }
        let is_server = |path: &Path| (path.server.as_ref()).is_some_and(|end| end.node == *node);
        match path.scope() {
            Scope::CrossNode if path.client.node == *node || is_server(path) => Prediction::Fails,
            Scope::CrossNode => Prediction::Passes,
            Scope::Any => Prediction::MayFail,
            Scope::SameNode if path.client.node != *node => Prediction::Passes,
            Scope::SameNode => match case.plane.attachment(&path.client, path.family) {
                Attachment::Routed { .. } if path.access_path != AccessPath::Hairpin => {
                    Prediction::Fails
                }
                // A bridge carries what is for a pod's own address; and IPv6 translates on the bridge without routing.
                Attachment::Bridge { .. } | Attachment::OwnDevice { .. }
                    if path.access_path == AccessPath::PodIp || path.family == Family::Ipv6 =>
                {
                    Prediction::Passes
                }
                Attachment::Bridge { .. }
                | Attachment::OwnDevice { .. }
                | Attachment::Routed { .. }
                | Attachment::Unknown => Prediction::MayFail,
            },
        }
    }

    fn explains(&self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        let Some(node) = &place.node else {
            return false;
        };
        if !group.is_unseen() {
            return false;
        }
        let is_refused = group.symptom == Symptom::Unreachable(Unreachable::Host)
            && origin::refuser(case, group).is_none_or(|refuser| refuser == *node);
        // A Service of a pod on the same node is translated on the bridge, and then routed (IPv4).
        let is_after_translation = group.symptom == Symptom::Silent
            && group.access_path.is_translated()
            && group.client.node == *node
            && case.location(group).is_none();
        is_refused || is_after_translation || is_dropped_at(case, group, node, &[Stage::Routing])
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Fingerprint {
        let Some(node) = &place.node else {
            return Fingerprint::Missing(Vec::new());
        };
        let (sysctl, _) = names(place.family);
        match case
            .facts(node)
            .and_then(|facts| facts.forwarding(place.family))
        {
            Some(SysctlState::Value(0)) => {
                Fingerprint::Seen(Proof::Facts, vec![format!("{sysctl} is 0 on {node}")])
            }
            Some(SysctlState::Value(value)) => {
                Fingerprint::Refuted(format!("{sysctl} is {value} on {node}"))
            }
            Some(SysctlState::Absent | SysctlState::Unreadable) | None => {
                Fingerprint::Missing(vec![format!("`sysctl {sysctl}` on {node}")])
            }
        }
    }

    fn support(&self, case: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Vec<String> {
        let (_, counter) = names(place.family);
        let counted = |node| {
            let grown = case.grown(node, counter).filter(|&grown| grown > 0)?;
            Some(format!(
                "{counter} +{grown} on {node}: packets to be forwarded were refused"
            ))
        };
        place.node.as_ref().and_then(counted).into_iter().collect()
    }

    fn remedy(&self, _: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Vec<Remedy> {
        let (sysctl, _) = names(place.family);
        vec![
            step(
                "Switch forwarding on now, on the node.",
                [format!("sysctl -w {sysctl}=1")],
            ),
            step(
                "Make it last, and find what switched it off (a hardening profile, a network manager).",
                [
                    format!("echo '{sysctl} = 1' > /etc/sysctl.d/99-forward.conf"),
                    format!("grep -rn '{sysctl}' /etc/sysctl.conf /etc/sysctl.d /usr/lib/sysctl.d"),
                ],
            ),
        ]
    }
}

/// The sysctl, and the counter of packets that were not forwarded for its sake.
const fn names(family: Family) -> (&'static str, &'static str) {
    match family {
        Family::Ipv4 => ("net.ipv4.ip_forward", "IpInAddrErrors"),
        Family::Ipv6 => ("net.ipv6.conf.all.forwarding", "Ip6InAddrErrors"),
    }
}
