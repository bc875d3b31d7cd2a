//! What one pod exchanges with pods of other nodes, lost in one direction, while other pods of its node get through.

use std::collections::BTreeSet;

use crate::diagnosis::PathSegment;
use crate::diagnosis::case::Case;
use crate::diagnosis::hypothesis::Place;
use crate::diagnosis::location::{FlowDirection, Location};
use crate::diagnosis::model::Prediction;
use crate::diagnosis::symptom::FailureGroup;
use crate::packet::family::Family;
use crate::topology::{AccessPath, AgentId, Path, Scope};

/// Which packets of the pod are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PodFlow {
    /// Those that it sends.
    From,
    /// Those that are for it.
    To,
    /// New connections to it; answers pass, as a stateful filter lets them.
    NewTo,
}

impl PodFlow {
    /// All pods at an end of silent paths between two nodes.
    pub(crate) fn ends(case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        let of_family = |group: &FailureGroup| group.family == family && group.is_cross_node();
        case.failing(|group| of_family(group) && case.location(group).is_some())
            .flat_map(|(_, group)| std::iter::once(&group.client).chain(&group.server))
            .map(|pod| Place::pod(pod, family))
            .collect()
    }

    /// Of these, the pods in whose place another pod of their node gets through to the same node.
    pub(crate) fn places(case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        let passes = |wanted: &dyn Fn(&AgentId, &AgentId) -> bool| {
            case.passes(|path| {
                let is_own = path.family == family && path.access_path == AccessPath::PodIp;
                let server = path.server.as_ref().filter(|_| is_own);
                server.is_some_and(|server| wanted(&path.client, server))
            })
        };
        let is_beside = |one: &AgentId, other: &AgentId| one.node == other.node && one != other;
        case.failing(|group| group.family == family && group.is_cross_node())
            .filter(|(_, group)| case.location(group).is_some())
            .filter_map(|(_, group)| Some((&group.client, group.server.as_ref()?)))
            .flat_map(|(client, server)| {
                let client_alone =
                    passes(&|other, to| is_beside(client, other) && to.node == server.node);
                let server_alone =
                    passes(&|from, other| is_beside(server, other) && from.node == client.node);
                let client = client_alone.then_some(client);
                let server = server_alone.then_some(server);
                client.into_iter().chain(server)
            })
            .map(|pod| Place::pod(pod, family))
            .collect()
    }

    /// Handshakes with pods of other nodes fail, for lack of SYNs or of answers.
    pub(crate) fn predict(self, place: &Place, path: &Path) -> Prediction {
        let Some(pod) = pod_of(place) else {
            return Prediction::Passes;
        };
        let Some(server) = &path.server else {
            let is_near = path.client.node == pod.node || path.scope() == Scope::Any;
            return if is_near {
                Prediction::MayFail
            } else {
                Prediction::Passes
            };
        };
        if path.scope() != Scope::CrossNode {
            return Prediction::Passes;
        }
        match self {
            Self::From | Self::To if path.client == *pod || server == pod => Prediction::Fails,
            Self::NewTo if server == pod => Prediction::Fails,
            Self::From | Self::To | Self::NewTo => Prediction::Passes,
        }
    }

    /// Where the packets of a silent group are lost, if they are such packets. Without observations of the server's end, either
    /// direction may be lost.
    pub(crate) fn location<'c>(
        self,
        case: &'c Case<'_>,
        place: &Place,
        group: &FailureGroup,
    ) -> Option<&'c Location> {
        let location = case.location(group)?;
        let pod = pod_of(place)?;
        let (is_client, is_server) = (group.client == *pod, group.server.as_ref() == Some(pod));
        let is_lost = |direction: FlowDirection| match (self, direction) {
            (Self::From, FlowDirection::ToServer) | (Self::To, FlowDirection::ToClient) => {
                is_client
            }
            (Self::From, FlowDirection::ToClient)
            | (Self::To | Self::NewTo, FlowDirection::ToServer) => is_server,
            (Self::NewTo, FlowDirection::ToClient) => false,
        };
        let is_such = is_lost(location.direction)
            || !location.is_observed && is_lost(FlowDirection::ToClient);
        (is_such && !location.is_same_node()).then_some(location)
    }
}

/// Nothing gets to or from a pod, on its own node and on others. It may still reach itself inside its own network.
pub(crate) fn predict_all(place: &Place, path: &Path) -> Prediction {
    let is_end = |agent: &AgentId| Some(agent) == pod_of(place);
    if path.scope() == Scope::Any || path.access_path == AccessPath::Hairpin {
        Prediction::MayFail
    } else if is_end(&path.client) || path.server.as_ref().is_some_and(is_end) {
        Prediction::Fails
    } else {
        Prediction::Passes
    }
}

/// The pod of a place.
pub(crate) const fn pod_of(place: &Place) -> Option<&AgentId> {
    match &place.segment {
        PathSegment::Pod { pod } => Some(pod),
        PathSegment::Node { .. }
        | PathSegment::Between { .. }
        | PathSegment::Service
        | PathSegment::Namespace
        | PathSegment::Unknown => None,
    }
}
