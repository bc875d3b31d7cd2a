//! `network-blocked`: the network between two nodes drops packets that pods of one send to pods of the other.

use std::collections::BTreeSet;

use super::between::Between;
use super::routing_daemon::Daemon;
use crate::data_plane::{Plugin, Transport};
use crate::diagnosis::Remedy;
use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::Place;
use crate::diagnosis::location::sentences;
use crate::diagnosis::model::{Applies, Fingerprint, Model, Prediction};
use crate::diagnosis::remedy::step;
use crate::diagnosis::symptom::FailureGroup;
use crate::packet::family::Family;
use crate::topology::{AccessPath, NodeName, Path};

/// The model, between these nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NetworkBlocked(pub(crate) Between);

impl Model for NetworkBlocked {
    fn cause(&self) -> Cause {
        Cause::NetworkBlocked
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        self.0.places(case, family, |_, _| None)
    }

    fn applies(&self, case: &Case<'_>, place: &Place) -> Applies {
        let pairs = self.0.pairs_at(case, place);
        let Some((from, to)) = pairs.first() else {
            return Applies::Yes;
        };
        match case.plane.transport(from, to, place.family) {
            Transport::Direct { .. } | Transport::ByPod { .. } => Applies::Yes,
            Transport::Tunnel { link, .. } => Applies::No(format!(
                "packets of pods leave {from} for {to} in the tunnel {link}: the network between them sees only the nodes' addresses"
            )),
            Transport::Refused | Transport::NoRoute => Applies::No(format!(
                "{from} has no usable route to the pods of {to}: nothing leaves it"
            )),
            Transport::Unknown => Applies::Unknown(format!(
                "the routes and links of {from}: `ip route`, `ip -d link`"
            )),
        }
    }

    fn predict(&self, _: &Case<'_>, place: &Place, path: &Path) -> Prediction {
        self.0.predict(place, path).unless_translated(path)
    }

    fn explains(&self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        self.0.explains(case, place, group)
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Fingerprint {
        let located = self.0.located(case, place, groups);
        if !located.is_empty() {
            return Fingerprint::Located(located, sentences(case, groups));
        }
        let pairs = self.0.pairs_at(case, place);
        let captures = pairs.iter().take(1).map(|(from, to)| {
            format!(
                "`tcpdump -ni any tcp` at the uplinks of {from} and {to} while a probe runs: what leaves one and does not reach the other is dropped between them"
            )
        });
        Fingerprint::Missing(captures.collect())
    }

    fn support(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Vec<String> {
        let pairs = self.0.pairs_at(case, place);
        let passes = pairs
            .iter()
            .find_map(|(from, to)| node_passes(case, from, to, place.family));
        sentences(case, groups).into_iter().chain(passes).collect()
    }

    fn remedy(&self, case: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Vec<Remedy> {
        let pairs = self.0.pairs_at(case, place);
        let sender = pairs.first().map(|(from, _)| from);
        let mut steps = vec![
            step_of_the_cloud(case, sender, place.family),
            step(
                "See where they end: on both uplinks, while a probe runs.",
                ["tcpdump -ni any tcp and net POD-NETWORK"],
            ),
        ];
        let daemon = Daemon::of_routes(case, place.family).zip(pairs.first());
        steps.extend(
            daemon
                .into_iter()
                .flat_map(|(daemon, (_, to))| daemon.steps(to, place.family)),
        );
        steps
    }
}

/// The step that opens the network for pods' addresses, in the words of the data plane of a node.
pub(super) fn step_of_the_cloud(
    case: &Case<'_>,
    node: Option<&NodeName>,
    family: Family,
) -> Remedy {
    let ip = match family {
        Family::Ipv4 => "ip",
        Family::Ipv6 => "ip -6",
    };
    if node.and_then(|node| case.plane.plugin(node)) == Some(Plugin::AwsVpc) {
        return step(
            "Let pods' addresses through in the VPC: the security groups of both nodes' ENIs (and of pods that have their own), network ACLs, and the source/destination check of an ENI whose pods' addresses it does not have. aws-node writes rules and tables again when it restarts.",
            [
                "aws ec2 describe-network-interfaces --filters Name=attachment.instance-id,Values=INSTANCE --query 'NetworkInterfaces[].[NetworkInterfaceId,SourceDestCheck,Groups[].GroupId,PrivateIpAddresses[].PrivateIpAddress]'".to_owned(),
                format!("{ip} rule; {ip} route show table all | grep default"),
                "kubectl -n kube-system rollout restart ds/aws-node".to_owned(),
            ],
        );
    }
    step(
        "Let pods' addresses through between the nodes: in a cloud the source/destination check of the instance, security groups and the routes to pods' addresses; in a data centre the routers' routes (BGP sessions) and their filters.",
        [format!("{ip} route show; {ip} rule")],
    )
}

/// A healthy connection of a node's own network to a pod of the other: the nodes' addresses pass, and pods' do not.
fn node_passes(case: &Case<'_>, from: &NodeName, to: &NodeName, family: Family) -> Option<String> {
    let mut healthy = case.all_healthy();
    let works = healthy.find(|evidence| {
        let path = &evidence.path;
        path.access_path == AccessPath::HostNetwork
            && path.family == family
            && path.client.node == *from
            && (path.server.as_ref()).is_some_and(|server| server.node == *to)
    })?;
    Some(format!(
        "packets with the address of {from} itself get to the pods of {to}: {} works",
        case.named(works)
    ))
}
