//! `forward-drop`: the chains of a node drop or refuse what it forwards, for all of its pods, or answers to one.

use std::collections::BTreeSet;

use super::policy_engine::Engine;
use super::second_pod;
use super::traffic::{
    FORWARDING, find_rule, forwarding_nodes, is_dropped_at, passes, refused_by_filter, refuses,
};
use crate::data_plane::Attachment;
use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::Place;
use crate::diagnosis::location::{FlowDirection, Spot, Stage, confined, sentences};
use crate::diagnosis::model::{Applies, Fingerprint, Model, Prediction};
use crate::diagnosis::origin;
use crate::diagnosis::remedy::{step, tables};
use crate::diagnosis::symptom::{FailureGroup, ServerEnd};
use crate::diagnosis::{PathSegment, Remedy};
use crate::evidence::Comparison;
use crate::packet::family::Family;
use crate::topology::{AccessPath, AgentId, NodeName, Path, Scope};

/// Which of the packets that a node forwards it drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ForwardDrop {
    /// All.
    All,
    /// What its pods send to other nodes, answers as well.
    ToOtherNodes,
    /// What other nodes send to its pods, answers as well.
    FromOtherNodes,
    /// New connections of its pods to other nodes.
    NewToOtherNodes,
    /// New connections of other nodes to its pods.
    NewFromOtherNodes,
    /// Answers of connections that it let begin.
    Answers,
    /// Of these, only those to its own pods.
    AnswersToPods,
    /// Of these, only those to one of its pods, where another one gets its answers.
    AnswersToOnePod,
}

impl ForwardDrop {
    /// Whether it drops new connections of this path between two nodes.
    fn drops(self, is_client_here: bool) -> bool {
        match self {
            Self::All | Self::ToOtherNodes | Self::FromOtherNodes | Self::Answers => true,
            Self::NewToOtherNodes | Self::AnswersToPods | Self::AnswersToOnePod => is_client_here,
            Self::NewFromOtherNodes => !is_client_here,
        }
    }

    /// Whether a policy for the pods of all nodes is no rival: answers are lost as well, or packets get through on other nodes
    /// that it would meet.
    fn is_of_this_node_alone(
        self,
        case: &Case<'_>,
        node: &NodeName,
        groups: &BTreeSet<usize>,
    ) -> bool {
        let are_answers_lost = || {
            let mut locations = case.locations(groups);
            locations.any(|location| location.direction == FlowDirection::ToClient)
        };
        let passes = |end: fn(&Path) -> Option<&AgentId>| {
            let families: BTreeSet<Family> = case.at(groups).map(|group| group.family).collect();
            case.passes(|path| {
                path.scope() == Scope::CrossNode
                    && families.contains(&path.family)
                    && end(path).is_some_and(|end| end.node != *node)
            })
        };
        match self {
            Self::ToOtherNodes | Self::NewToOtherNodes => {
                are_answers_lost() || passes(|path| Some(&path.client))
            }
            Self::FromOtherNodes | Self::NewFromOtherNodes => {
                are_answers_lost() || passes(|path| path.server.as_ref())
            }
            Self::All => are_answers_lost() || passes_elsewhere(case, node, groups),
            Self::Answers | Self::AnswersToPods | Self::AnswersToOnePod => true,
        }
    }

    /// Whether it drops answers alone.
    const fn is_of_answers(self) -> bool {
        matches!(
            self,
            Self::Answers | Self::AnswersToPods | Self::AnswersToOnePod
        )
    }

    /// Whether it drops packets of this direction, of which one end is on the node.
    fn drops_packets(self, direction: FlowDirection, is_sender_here: bool) -> bool {
        match self {
            Self::All => direction == FlowDirection::ToServer,
            Self::ToOtherNodes => is_sender_here,
            Self::FromOtherNodes => !is_sender_here,
            Self::NewToOtherNodes => direction == FlowDirection::ToServer && is_sender_here,
            Self::NewFromOtherNodes => direction == FlowDirection::ToServer && !is_sender_here,
            Self::Answers => direction == FlowDirection::ToClient,
            Self::AnswersToPods | Self::AnswersToOnePod => {
                direction == FlowDirection::ToClient && !is_sender_here
            }
        }
    }
}

impl Model for ForwardDrop {
    fn cause(&self) -> Cause {
        Cause::ForwardDrop
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        if *self == Self::AnswersToOnePod {
            return pods_beside_others(case, family);
        }
        let nodes = forwarding_nodes(case, family).into_iter();
        nodes.map(|node| Place::node(&node, family)).collect()
    }

    fn applies(&self, case: &Case<'_>, place: &Place) -> Applies {
        let Some(node) = &place.node else {
            return Applies::Yes;
        };
        if let Some(program) = case.plane.program(node) {
            return Applies::No(format!(
                "BPF programs forward packets of pods past the chains of {node}: {program}"
            ));
        }
        let is_own = |one: &Attachment| matches!(one, Attachment::OwnDevice { .. });
        if case.plane.attachments_on(node, place.family).any(is_own) {
            return Applies::No(format!(
                "pods of {node} have devices of their own on its network: their packets to other nodes pass no chain"
            ));
        }
        Applies::Yes
    }

    fn predict(&self, case: &Case<'_>, place: &Place, path: &Path) -> Prediction {
        let Some(node) = &place.node else {
            return Prediction::Passes;
        };
        if !path.involves(node) && path.server.is_some() || !is_of_pod(place, &path.client) {
            return Prediction::Passes;
        }
        match passes(case, node, path) {
            None => Prediction::MayFail,
            Some(true) if path.scope() == Scope::CrossNode => {
                if self.drops(path.client.node == *node) {
                    Prediction::Fails
                } else {
                    Prediction::Passes
                }
            }
            Some(true) if *self == Self::All => Prediction::Fails,
            // Answers between pods of a node are a part of all.
            Some(true) if self.is_of_answers() => Prediction::MayFail,
            Some(true | false) => Prediction::Passes,
        }
    }

    fn explains(&self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        let Some(node) = &place.node else {
            return false;
        };
        if !is_of_pod(place, &group.client) {
            return false;
        }
        let is_dropped = is_dropped_at(case, group, node, FORWARDING)
            && case.location(group).is_some_and(|location| {
                // Without observations of the server's end either direction may be lost.
                let is_unknown = group.server_end == ServerEnd::Unknown;
                let is_same = location.is_same_node();
                let fits = self.drops_packets(location.direction, location.sender == *node);
                match self {
                    Self::All | Self::Answers => is_unknown || fits,
                    // Between pods of a node sender and receiver are one.
                    Self::AnswersToPods | Self::AnswersToOnePod => {
                        is_unknown
                            || fits
                            || is_same && location.direction == FlowDirection::ToClient
                    }
                    Self::ToOtherNodes
                    | Self::FromOtherNodes
                    | Self::NewToOtherNodes
                    | Self::NewFromOtherNodes => !is_same && (is_unknown || fits),
                }
            });
        let is_refused =
            self.drops(group.client.node == *node) && refuses(case, group).as_ref() == Some(node);
        is_dropped || is_refused
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Fingerprint {
        let Some(node) = &place.node else {
            return Fingerprint::Missing(Vec::new());
        };
        let refused = case.at(groups).find_map(|group| {
            let (ip, icmp) = origin::unreachable(case, group)?;
            Some(format!(
                "{} received ICMP {}/{} from {} (TTL {}): {node} refuses what it forwards",
                group.client, icmp.type_code.0, icmp.type_code.1, ip.src, ip.hop_limit
            ))
        });
        // What acts on the lookup of the route is known from the node's facts, and excluded by them.
        let stages = [Stage::Routing, Stage::Forwarding];
        let mut located = confined(case, groups, |spot| {
            (stages.iter()).any(|stage| *spot == Spot::Node(node.clone(), *stage))
        });
        let is_of_this_node_alone = self.is_of_this_node_alone(case, node, groups);
        if let Some(said) = refused.filter(|_| is_of_this_node_alone) {
            located.extend(refused_by_filter(case, groups));
            return Fingerprint::Located(located, vec![said]);
        }
        if !located.is_empty() && is_of_this_node_alone {
            return Fingerprint::Located(located, sentences(case, groups));
        }
        let mut observations = vec![
            format!(
                "the conntrack entry of a failing probe on {node}: none, where {node} routes the packet, shows that a chain drops it"
            ),
            format!(
                "the counters of {node}'s rules before and after a failing probe: `iptables-save -c`, `nft list ruleset`"
            ),
        ];
        observations.extend(case.matrix.policies.unread_observation());
        Fingerprint::Missing(observations)
    }

    fn remedy(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Vec<Remedy> {
        let tables = tables(place.family);
        let links: BTreeSet<&str> = (place.node.iter())
            .flat_map(|node| case.plane.attachments_on(node, place.family))
            .filter_map(Attachment::link)
            .collect();
        let accept: Vec<String> = links
            .into_iter()
            .take(2)
            .map(|link| {
                format!("{tables} -I FORWARD -i {link} -j ACCEPT; {tables} -I FORWARD -o {link} -j ACCEPT")
            })
            .collect();
        let engine = (place.node.as_ref()).and_then(|node| Some((Engine::on(case, node)?, node)));
        let mut steps: Vec<Remedy> = engine
            .map(|(engine, node)| engine.steps(node))
            .unwrap_or_default();
        steps.push(find_rule(place.family));
        if !accept.is_empty() {
            steps.push(step(
                "Accept pod traffic before that rule; the network plugin's agent does so while it runs.",
                accept,
            ));
        }
        if case.at(groups).any(|group| refuses(case, group).is_some()) {
            steps.push(step(
                "Where firewalld wrote the rule, give the pods' network a zone that accepts: it refuses what no zone does, and writes its rules again at each reload.",
                ["firewall-cmd --permanent --zone=trusted --add-source=POD-NETWORK; firewall-cmd --reload"],
            ));
        }
        steps
    }

    fn support(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Vec<String> {
        let mut said = sentences(case, groups);
        let engine =
            (place.node.as_ref()).and_then(|node| Some(Engine::on(case, node)?.sentence(node)));
        said.extend(engine);
        let clients: BTreeSet<&AgentId> = case.at(groups).map(|group| &group.client).collect();
        let servers: BTreeSet<&AgentId> = (case.at(groups))
            .filter_map(|group| group.server.as_ref())
            .collect();
        let pods = (clients
            .into_iter()
            .map(|pod| (Comparison::SecondClient, pod)))
        .chain(
            servers
                .into_iter()
                .map(|pod| (Comparison::SecondServer, pod)),
        );
        for (kind, pod) in pods.filter(|(_, pod)| place.node.as_ref() == Some(&pod.node)) {
            said.extend(second_pod::sentences(case, kind, pod, place.family));
        }
        said
    }
}

/// Whether a packet that a policy for all pods would meet passes between pods of other nodes.
fn passes_elsewhere(case: &Case<'_>, node: &NodeName, groups: &BTreeSet<usize>) -> bool {
    let families: BTreeSet<Family> = case.at(groups).map(|group| group.family).collect();
    case.passes(|path| {
        let meets = |server: &AgentId| passes(case, &server.node, path) == Some(true);
        families.contains(&path.family)
            && !path.involves(node)
            && path.access_path != AccessPath::Hairpin
            && path.server.as_ref().is_some_and(meets)
    })
}

/// Whether a place is of this client: a node is of all.
fn is_of_pod(place: &Place, client: &AgentId) -> bool {
    match &place.segment {
        PathSegment::Pod { pod } => pod == client,
        PathSegment::Node { .. }
        | PathSegment::Between { .. }
        | PathSegment::Service
        | PathSegment::Namespace
        | PathSegment::Unknown => true,
    }
}

/// The clients without answers from other nodes, of nodes where another pod gets them.
fn pods_beside_others(case: &Case<'_>, family: Family) -> BTreeSet<Place> {
    let is_beside = |client: &AgentId| {
        case.passes(|path| {
            path.family == family
                && path.client != *client
                && path.client.node == client.node
                && path.scope() == Scope::CrossNode
        })
    };
    case.failing(|group| group.family == family && group.is_cross_node())
        .map(|(_, group)| &group.client)
        .filter(|client| is_beside(client))
        .map(|client| Place::pod(client, family))
        .collect()
}
