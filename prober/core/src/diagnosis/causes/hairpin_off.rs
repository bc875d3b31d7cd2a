//! `hairpin-off`: the pod's port of the bridge does not send a packet back to where it came from, so that the pod does not reach
//! itself through its Service.

use std::collections::BTreeSet;

use super::missing_masquerade::own_syn;
use super::service_proxy;
use crate::data_plane::Attachment;
use crate::diagnosis::bridge_filter::{bridge_sysctl, bridged_filtered, is_unfiltered_throughout};
use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Place, Proof};
use crate::diagnosis::model::{Applies, Fingerprint, Model, Prediction};
use crate::diagnosis::remedy::step;
use crate::diagnosis::symptom::{FailureGroup, Symptom};
use crate::diagnosis::{PathSegment, Remedy};
use crate::packet::family::Family;
use crate::topology::{AccessPath, AgentId, Path, Scope};

/// The mode of a pod's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HairpinOff;

impl Model for HairpinOff {
    fn cause(&self) -> Cause {
        Cause::HairpinOff
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        let is_candidate = |group: &FailureGroup| group.family == family && is_silent(group);
        case.failing(is_candidate)
            .map(|(_, group)| Place::pod(&group.client, family))
            .collect()
    }

    fn applies(&self, case: &Case<'_>, place: &Place) -> Applies {
        let PathSegment::Pod { pod } = &place.segment else {
            return Applies::Yes;
        };
        let node = &pod.node;
        let otherwise = format!("{pod} reaches itself inside its own network");
        if let no @ Applies::No(_) = service_proxy::applies(case, node, &otherwise) {
            return no;
        }
        if let Some(program) = case.plane.program(node) {
            return Applies::No(format!(
                "BPF programs of {node} deliver to its pods, not a bridge: {program}"
            ));
        }
        match case.plane.attachment(pod, place.family) {
            Attachment::Routed { .. } | Attachment::OwnDevice { .. } => {
                Applies::No(format!("{pod} is not behind a port of a bridge"))
            }
            Attachment::Bridge { .. } if is_unfiltered_throughout(case, node, place.family) => {
                Applies::No(format!(
                    "{} is off at {node}: the node routes packets of a pod to itself",
                    bridge_sysctl(place.family)
                ))
            }
            Attachment::Bridge { .. } => Applies::Yes,
            Attachment::Unknown => Applies::Unknown(port_mode(pod)),
        }
    }

    fn predict(&self, case: &Case<'_>, place: &Place, path: &Path) -> Prediction {
        let PathSegment::Pod { pod } = &place.segment else {
            return Prediction::Passes;
        };
        if path.client != *pod {
            return Prediction::Passes;
        }
        match path.access_path {
            AccessPath::Hairpin if bridged_filtered(case, &pod.node, path.family) == Some(true) => {
                Prediction::Fails
            }
            AccessPath::Hairpin => Prediction::MayFail,
            AccessPath::PodIp
            | AccessPath::ClusterIp
            | AccessPath::ClusterIpAny
            | AccessPath::ClusterIpLocal
            | AccessPath::NodePort
            | AccessPath::HostNetwork => Prediction::Passes,
        }
    }

    fn explains(&self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        let PathSegment::Pod { pod } = &place.segment else {
            return false;
        };
        group.client == *pod
            && is_silent(group)
            && (mode(case, pod, place.family).is_some_and(|(_, is_on)| !is_on)
                || is_reached_by_others(case, pod, place.family))
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Fingerprint {
        let PathSegment::Pod { pod } = &place.segment else {
            return Fingerprint::Missing(Vec::new());
        };
        let mut probes = case.at(groups).flat_map(|group| case.probes(group));
        if probes.any(|probe| own_syn(probe).is_some()) {
            return Fingerprint::Refuted("the bridge did send the packet back".to_owned());
        }
        match mode(case, pod, place.family) {
            Some((ports, true)) => Fingerprint::Refuted(format!("hairpin mode is on at {ports}")),
            Some((ports, false)) => Fingerprint::Seen(
                Proof::Facts,
                vec![format!(
                    "hairpin mode is off at {ports}, the bridge port of {pod} on {}",
                    pod.node
                )],
            ),
            None => Fingerprint::Missing(vec![port_mode(pod)]),
        }
    }

    fn support(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Vec<String> {
        let PathSegment::Pod { pod } = &place.segment else {
            return Vec::new();
        };
        let mut packets = case.at(groups).flat_map(|group| case.client_packets(group));
        let mut said = Vec::new();
        if packets.next().is_some() {
            said.push(format!(
                "{pod} probed its own Service, and its SYN did not come back"
            ));
        }
        if is_reached_by_others(case, pod, place.family) {
            said.push(format!("only {pod} itself does not reach its Service"));
        }
        said
    }

    fn remedy(&self, case: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Vec<Remedy> {
        let attachment = match &place.segment {
            PathSegment::Pod { pod } => case.plane.attachment(pod, place.family),
            PathSegment::Node { .. }
            | PathSegment::Between { .. }
            | PathSegment::Service
            | PathSegment::Namespace
            | PathSegment::Unknown => &Attachment::Unknown,
        };
        let bridge = match attachment {
            Attachment::Bridge { bridge, .. } => bridge.as_str(),
            Attachment::Routed { .. } | Attachment::OwnDevice { .. } | Attachment::Unknown => {
                "BRIDGE"
            }
        };
        vec![
            step(
                "Switch hairpin mode on at every pod's bridge port of this node.",
                [format!(
                    "for port in /sys/class/net/{bridge}/brif/*/hairpin_mode; do echo 1 > $port; done"
                )],
            ),
            step(
                "Make it last: `hairpinMode: true` in the CNI configuration (new pods follow it), or the kubelet's --hairpin-mode=hairpin-veth.",
                ["grep -rn hairpin /etc/cni/net.d/"],
            ),
        ]
    }
}

/// Whether a pod's probes of its own Service are silent. IPv6 accepts packets from the own address, and the pod answers itself.
fn is_silent(group: &FailureGroup) -> bool {
    group.access_path == AccessPath::Hairpin && group.symptom == Symptom::Silent
}

/// The observation that decides.
fn port_mode(pod: &AgentId) -> String {
    format!(
        "`bridge -d link show` on {}: hairpin off at the pod's port",
        pod.node
    )
}

/// Whether any other pod reaches this one.
pub(super) fn is_reached_by_others(case: &Case<'_>, pod: &AgentId, family: Family) -> bool {
    case.passes(|path| {
        path.family == family
            && path.server.as_ref() == Some(pod)
            && path.client != *pod
            && path.scope() != Scope::Any
    })
}

/// The pod's port of its bridge and whether its hairpin mode is on; where the port is not known, the ports of that bridge, if
/// all are alike.
fn mode(case: &Case<'_>, pod: &AgentId, family: Family) -> Option<(String, bool)> {
    let Attachment::Bridge { bridge, port } = case.plane.attachment(pod, family) else {
        return None;
    };
    let facts = case.facts(&pod.node)?;
    if let Some(port) = port {
        let is_on = facts.link(port).found()?.hairpin?;
        return Some((port.clone(), is_on));
    }
    let ports = || {
        let links = facts.links.iter().flatten();
        links.filter(|link| link.master.as_ref() == Some(bridge))
    };
    let is_on = ports().next()?.hairpin?;
    let are_alike = ports().all(|link| link.hairpin == Some(is_on));
    are_alike.then(|| (format!("every port of {bridge}"), is_on))
}
