//! `endpoint-not-programmed`: paths of new pods opened later than any start-up takes, since an agent of a node was late.

use std::collections::BTreeSet;

use crate::diagnosis::Remedy;
use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Place, Proof};
use crate::diagnosis::model::{Fingerprint, Model, Prediction};
use crate::diagnosis::remedy::step;
use crate::diagnosis::symptom::FailureGroup;
use crate::evidence::start_up::{MAX_START_UP, Opening};
use crate::packet::family::Family;
use crate::time::nanos;
use crate::topology::{AccessPath, NodeName, Path};
use crate::units::duration;

/// The model.
pub(crate) struct EndpointNotProgrammed;

/// What was late on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// The rules of Services: the pods' own addresses were reached all the time.
    Rules,
    /// The ways of packets to and from pods.
    Pods,
}

impl Model for EndpointNotProgrammed {
    fn cause(&self) -> Cause {
        Cause::EndpointNotProgrammed
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        case.failing(|group| is_late(case, group, family))
            .flat_map(|(_, group)| nodes(case, group))
            .map(|node| Place::node(node, family))
            .collect()
    }

    fn predict(&self, _: &Case<'_>, _: &Place, _: &Path) -> Prediction {
        Prediction::MayFail
    }

    fn explains(&self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        let is_here = |node: &NodeName| nodes(case, group).contains(node);
        is_late(case, group, place.family) && place.node.as_ref().is_some_and(is_here)
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Fingerprint {
        let openings: Vec<&Opening> = (case.at(groups))
            .filter_map(|group| case.opening(group))
            .collect();
        let longest = openings.iter().map(|opening| opening.after).max();
        let failures: usize = openings.iter().map(|opening| opening.failures).sum();
        let paths: BTreeSet<_> = case.at(groups).map(|group| group.path).collect();
        let opened = format!(
            "{failures} probes on {} paths failed from the first one on, and all were answered after that: the paths opened up to {} after their pods were ready, and start-up takes at most {}",
            paths.len(),
            duration(nanos(longest.unwrap_or_default())),
            duration(nanos(MAX_START_UP)),
        );
        let on = place.node.as_ref().map_or("the node", NodeName::as_str);
        let agent = match late(case, groups) {
            Late::Rules => format!(
                "by their own addresses the same pods were reached before: what translates Services on {on} was late"
            ),
            Late::Pods => format!(
                "the paths have {on} in common: its network plugin or its policy engine was late for new pods"
            ),
        };
        Fingerprint::Seen(Proof::Packets, vec![opened, agent])
    }

    fn remedy(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Vec<Remedy> {
        let on = place.node.as_ref().map_or("NODE", NodeName::as_str);
        steps(on, late(case, groups))
    }
}

/// The steps that find what an agent of a node waits for.
pub(super) fn steps(on: &str, late: Late) -> Vec<Remedy> {
    let agent = match late {
        Late::Rules => "the program that translates Services (kube-proxy, cilium)",
        Late::Pods => {
            "the agent of the network plugin and of its policies (calico-node, cilium, kube-router, aws-node)"
        }
    };
    vec![
        step(
            &format!(
                "See in the log of {agent} on {on} what it waited for when the pods started: a retry, a lock, the API server."
            ),
            [format!(
                "kubectl get pods -A -o wide --field-selector spec.nodeName={on}"
            )],
        ),
        step(
            "See whether it got the processor time that it needs, and was started again.",
            [format!("kubectl describe node {on}")],
        ),
    ]
}

/// Whether a group is the failures of a path that opened too late.
fn is_late(case: &Case<'_>, group: &FailureGroup, family: Family) -> bool {
    group.family == family && case.opening(group).is_some()
}

/// What was late for all of these groups.
fn late(case: &Case<'_>, groups: &BTreeSet<usize>) -> Late {
    if case.at(groups).all(|group| is_of_rules(case, group)) {
        Late::Rules
    } else {
        Late::Pods
    }
}

/// Whether only a Service's address was late: no pod at its ends was late by its own address.
fn is_of_rules(case: &Case<'_>, group: &FailureGroup) -> bool {
    let by_address = |other: &Path| {
        other.access_path == AccessPath::PodIp
            && other.family == group.family
            && (other.client == group.client || other.server == group.server)
    };
    let is_service = match group.access_path {
        AccessPath::PodIp => false,
        AccessPath::HostNetwork => {
            let address =
                (group.server.as_ref()).and_then(|server| case.address(server, group.family));
            let target = case.path(group.path).map(|path| path.target.ip());
            target != address
        }
        AccessPath::ClusterIp
        | AccessPath::ClusterIpAny
        | AccessPath::ClusterIpLocal
        | AccessPath::Hairpin
        | AccessPath::NodePort => true,
    };
    let mut opened = case.openings.keys().filter_map(|&id| case.path(id));
    is_service && !opened.any(|other| by_address(&other.path))
}

/// The nodes of which one was late. A Service's rules are those of the node that translates.
fn nodes<'c>(case: &'c Case<'_>, group: &'c FailureGroup) -> BTreeSet<&'c NodeName> {
    let servers = || {
        let path = case.path(group.path).into_iter();
        path.flat_map(|path| path.servers().map(|server| &server.node))
    };
    if !is_of_rules(case, group) {
        servers().chain([&group.client.node]).collect()
    } else if group.access_path == AccessPath::NodePort {
        servers().collect()
    } else {
        BTreeSet::from([&group.client.node])
    }
}
