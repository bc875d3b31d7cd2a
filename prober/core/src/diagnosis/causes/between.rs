//! Packets that are dropped between nodes: from one to one other, from all others to one, or from one to all others.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnosis::PathSegment;
use crate::diagnosis::case::Case;
use crate::diagnosis::hypothesis::Place;
use crate::diagnosis::location::{FlowDirection, Location, Spot, Stage, confined};
use crate::diagnosis::model::Prediction;
use crate::diagnosis::symptom::FailureGroup;
use crate::packet::family::Family;
use crate::topology::{NodeName, Path, Scope};

/// Between which nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Between {
    /// From one node to one other.
    Pair,
    /// New connections from one node to one other; answers pass, as a stateful filter lets them.
    NewPair,
    /// From every other node to one.
    Into,
    /// From one node to every other.
    OutOf,
}

impl Between {
    /// Whether packets from one node to another are dropped.
    pub(crate) fn blocks(self, place: &Place, from: &NodeName, to: &NodeName) -> bool {
        match (self, &place.segment) {
            (Self::Pair | Self::NewPair, PathSegment::Between { from: a, to: b }) => {
                from == a && to == b
            }
            (Self::Into, PathSegment::Node { node }) => to == node,
            (Self::OutOf, PathSegment::Node { node }) => from == node,
            (
                Self::Pair | Self::NewPair | Self::Into | Self::OutOf,
                PathSegment::Between { .. }
                | PathSegment::Node { .. }
                | PathSegment::Pod { .. }
                | PathSegment::Service
                | PathSegment::Namespace
                | PathSegment::Unknown,
            ) => false,
        }
    }

    /// The suspected pairs that a place has.
    pub(crate) fn pairs_at(self, case: &Case<'_>, place: &Place) -> Vec<(NodeName, NodeName)> {
        let pairs = suspected_pairs(case, place.family).into_iter();
        pairs
            .filter(|(from, to)| self.blocks(place, from, to))
            .collect()
    }

    /// The places; `at` is the node of a pair at which it is most likely to be repaired.
    pub(crate) fn places(
        self,
        case: &Case<'_>,
        family: Family,
        at: impl Fn(&NodeName, &NodeName) -> Option<NodeName>,
    ) -> BTreeSet<Place> {
        self.places_of(&suspected_pairs(case, family), family, at)
    }

    /// The places that ordered pairs of nodes make.
    pub(crate) fn places_of(
        self,
        pairs: &BTreeSet<(NodeName, NodeName)>,
        family: Family,
        at: impl Fn(&NodeName, &NodeName) -> Option<NodeName>,
    ) -> BTreeSet<Place> {
        let mut peers: BTreeMap<&NodeName, usize> = BTreeMap::new();
        for (from, to) in pairs {
            match self {
                Self::Pair | Self::NewPair => {}
                Self::Into => *peers.entry(to).or_default() += 1,
                Self::OutOf => *peers.entry(from).or_default() += 1,
            }
        }
        match self {
            Self::Pair | Self::NewPair => pairs
                .iter()
                .map(|(from, to)| Place::between(from, to, at(from, to).as_ref(), family))
                .collect(),
            Self::Into | Self::OutOf => peers
                .into_iter()
                .filter(|(_, count)| *count > 1)
                .map(|(node, _)| Place::node(node, family))
                .collect(),
        }
    }

    /// No packet gets through: handshakes fail for lack of SYNs or of answers.
    pub(crate) fn predict(self, place: &Place, path: &Path) -> Prediction {
        let Some(server) = &path.server else {
            let is_at = (place.node.as_ref()).is_some_and(|node| path.involves(node));
            return if is_at || path.scope() == Scope::Any {
                Prediction::MayFail
            } else {
                Prediction::Passes
            };
        };
        let (client, server) = (&path.client.node, &server.node);
        let is_blocked = self.blocks(place, client, server)
            || self != Self::NewPair && self.blocks(place, server, client);
        if is_blocked && client != server {
            Prediction::Fails
        } else {
            Prediction::Passes
        }
    }

    /// Whether a silent group's packets may be dropped there.
    pub(crate) fn explains(self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        case.location(group).is_some_and(|location| {
            let is_new = location.direction == FlowDirection::ToServer;
            (self != Self::NewPair || is_new)
                && self.blocks(place, &location.sender, &location.receiver)
                && location.meets(|spot| is_between(location, spot))
        })
    }

    /// The groups of these whose packets are dropped nowhere else. The sender's output and the receiver's input belong to it.
    pub(crate) fn located(
        self,
        case: &Case<'_>,
        place: &Place,
        groups: &BTreeSet<usize>,
    ) -> BTreeSet<usize> {
        confined(case, groups, |spot| match spot {
            Spot::Wire(from, to) => self.blocks(place, from, to),
            Spot::Node(_, stage) => matches!(stage, Stage::ToUplink | Stage::FromUplink),
        })
    }
}

/// Whether a spot is between the nodes of a location: the network, or the sender's output to it.
fn is_between(location: &Location, spot: &Spot) -> bool {
    match spot {
        Spot::Wire(..) => true,
        Spot::Node(node, stage) => *node == location.sender && *stage == Stage::ToUplink,
    }
}

/// The ordered pairs of nodes between which packets of silent groups may be dropped.
fn suspected_pairs(case: &Case<'_>, family: Family) -> BTreeSet<(NodeName, NodeName)> {
    case.failing(|group| group.family == family)
        .filter_map(|(_, group)| case.location(group))
        .filter(|location| location.meets(|spot| is_between(location, spot)))
        .map(|location| (location.sender.clone(), location.receiver.clone()))
        .collect()
}
