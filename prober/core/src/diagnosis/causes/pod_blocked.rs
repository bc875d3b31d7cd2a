//! `network-blocked` for one pod: the network between the nodes drops what has its address, and lets other pods of its node
//! through. In a cloud whose interfaces have the pods' addresses, the pod's packets leave by an interface that does not have its
//! address (no rule for its table), or with an address that the interface does not have (translated), or its interface is in
//! other security groups.

use std::collections::BTreeSet;

use super::network_blocked::step_of_the_cloud;
use super::one_pod::{PodFlow, pod_of};
use crate::data_plane::Transport;
use crate::diagnosis::Remedy;
use crate::diagnosis::case::{Case, Tracked};
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::Place;
use crate::diagnosis::location::{Location, Spot, Stage, confined, sentences};
use crate::diagnosis::model::{Applies, Fingerprint, Model, Prediction};
use crate::diagnosis::remedy::step;
use crate::diagnosis::symptom::FailureGroup;
use crate::evidence::Comparison;
use crate::node_facts::{Resolution, Route};
use crate::packet::family::Family;
use crate::topology::{AgentId, NodeName, Path};

/// The model, for these packets of the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PodBlocked(pub(crate) PodFlow);

impl Model for PodBlocked {
    fn cause(&self) -> Cause {
        Cause::NetworkBlocked
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        PodFlow::places(case, family)
    }

    fn applies(&self, case: &Case<'_>, place: &Place) -> Applies {
        let Some(pod) = pod_of(place) else {
            return Applies::Yes;
        };
        let transports: Vec<&Transport> = case
            .plane
            .pairs(place.family)
            .filter(|(from, to, _)| **from == pod.node || **to == pod.node)
            .map(|(_, _, transport)| transport)
            .collect();
        if let Some(Transport::Tunnel { link, .. }) = transports.iter().find(|one| one.is_tunnel())
        {
            return Applies::No(format!(
                "packets of pods cross in the tunnel {link}: the network between the nodes sees only the nodes' addresses"
            ));
        }
        let is_direct =
            |one: &&Transport| matches!(one, Transport::Direct { .. } | Transport::ByPod { .. });
        if transports.iter().any(is_direct) {
            Applies::Yes
        } else {
            Applies::Unknown(format!(
                "the routes and links of {}: `ip route`, `ip -d link`",
                pod.node
            ))
        }
    }

    fn predict(&self, _: &Case<'_>, place: &Place, path: &Path) -> Prediction {
        self.0.predict(place, path).unless_translated(path)
    }

    fn explains(&self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        let location = self.0.location(case, place, group);
        location.is_some_and(|location| location.meets(|spot| is_between(location, spot)))
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Fingerprint {
        let located = confined(case, groups, |spot| match spot {
            Spot::Wire(..) => true,
            Spot::Node(_, stage) => matches!(stage, Stage::ToUplink | Stage::FromUplink),
        });
        if !located.is_empty() {
            return Fingerprint::Located(located, sentences(case, groups));
        }
        let pod = pod_of(place).map(|pod| &pod.node);
        let captures = pod.into_iter().map(|node| {
            format!("`tcpdump -ni any tcp` on {node} and the other node while a probe runs: by which link the pod's packets leave, with which address, and what does not arrive")
        });
        Fingerprint::Missing(captures.collect())
    }

    fn support(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Vec<String> {
        let Some(pod) = pod_of(place) else {
            return Vec::new();
        };
        let kinds = [Comparison::SecondClient, Comparison::SecondServer];
        let beside = kinds
            .into_iter()
            .flat_map(|kind| super::second_pod::sentences(case, kind, pod, place.family));
        let translated = source_translated(case, pod, groups).map(|(said, _)| said);
        translated
            .into_iter()
            .chain(route(case, pod, groups, place.family))
            .chain(sentences(case, groups))
            .chain(beside)
            .collect()
    }

    fn remedy(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Vec<Remedy> {
        let Some(pod) = pod_of(place) else {
            return Vec::new();
        };
        let address = case.address(pod, place.family);
        let address = address.map_or_else(|| "POD-ADDRESS".to_owned(), |ip| ip.to_string());
        let mut steps = Vec::new();
        if let Some((_, by)) = source_translated(case, pod, groups) {
            steps.push(step(
                "Find the rule that translates the source of packets to other pods: the network of the pods has to be excepted from it.",
                [format!("iptables-save -t nat | grep -e SNAT -e MASQUERADE   # the one that gives {by}")],
            ));
        }
        let ip = match place.family {
            Family::Ipv4 => "ip",
            Family::Ipv6 => "ip -6",
        };
        steps.push(step(
            "See by which interface the pod's packets leave: the one that has the pod's address in the cloud. A pod of a second interface needs a rule for that interface's table, which the plugin writes with the pod.",
            [format!("{ip} rule | grep -w {address}; {ip} route show table all | grep default")],
        ));
        steps.push(step_of_the_cloud(case, Some(&pod.node), place.family));
        steps
    }
}

/// Whether a spot is between the nodes of a location: the network, or the sender's output to it.
fn is_between(location: &Location, spot: &Spot) -> bool {
    match spot {
        Spot::Wire(..) => true,
        Spot::Node(node, stage) => *node == location.sender && *stage == Stage::ToUplink,
    }
}

/// The route of the pod's packets to a pod of another node, as a sentence.
fn route(
    case: &Case<'_>,
    pod: &AgentId,
    groups: &BTreeSet<usize>,
    family: Family,
) -> Option<String> {
    let other = case.at(groups).find_map(|group| {
        let server = group.server.as_ref()?;
        Some(if group.client == *pod {
            server
        } else {
            &group.client
        })
    })?;
    let (source, to) = (case.address(pod, family)?, case.address(other, family)?);
    let query = case.plane.senders().query(&pod.node, source, to)?;
    let Resolution::Route(route) = case.facts(&pod.node)?.resolve(query) else {
        return None;
    };
    let table = match route.table {
        Route::MAIN => "main".to_owned(),
        other => other.to_string(),
    };
    let dev = route.dev.as_deref()?;
    Some(format!(
        "{} routes the packets of {source} by {dev}, as table {table} says",
        pod.node
    ))
}

/// The address that the pod's node gives its packets to other pods, as connection tracking of the node shows it, and the sentence.
fn source_translated(
    case: &Case<'_>,
    pod: &AgentId,
    groups: &BTreeSet<usize>,
) -> Option<(String, String)> {
    let node: &NodeName = &pod.node;
    case.at(groups)
        .filter(|group| group.client == *pod && !group.access_path.is_translated())
        .find_map(|group| match case.tracked(node, group) {
            Tracked::Unanswered(entry) | Tracked::Answered(entry) => {
                let by = entry.reply.destination;
                (by != entry.original.source).then(|| {
                    let said = format!(
                        "{node} translates the source of these packets from {} to {by}",
                        entry.original.source
                    );
                    (said, by.to_string())
                })
            }
            Tracked::Absent | Tracked::Unknown => None,
        })
}
