//! Whose fault it is, by counting: the fewest places that account for all paths that fail and for none that works.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use prober_core::packet::family::Family;
use prober_core::topology::{NodeName, Route, Scope};

use crate::canary::round_result::NodePath;

/// What failing paths have in common, the narrowest first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// From one node to another.
    Pair(NodeName, NodeName),
    /// Within a node.
    Within(NodeName),
    /// Everything that a node asks.
    Source(NodeName),
    /// Everything that is asked of a node.
    Target(NodeName),
    /// Everything with one end on a node.
    Node(NodeName),
    /// A class of paths, on every node.
    Class(Route, Scope),
    /// No single thing.
    Everywhere,
}

impl Place {
    /// The node, where it is a single one.
    pub const fn node(&self) -> Option<&NodeName> {
        match self {
            Self::Within(node) | Self::Source(node) | Self::Target(node) | Self::Node(node) => {
                Some(node)
            }
            Self::Pair(..) | Self::Class(..) | Self::Everywhere => None,
        }
    }

    /// Every place that a path is of.
    fn of(path: &NodePath) -> Vec<Self> {
        let mut places = vec![
            Self::Source(path.client.clone()),
            Self::Node(path.client.clone()),
            Self::Class(path.route, path.scope()),
        ];
        match (path.scope(), &path.server) {
            (Scope::SameNode, _) => places.push(Self::Within(path.client.clone())),
            (Scope::CrossNode, Some(server)) => places.extend([
                Self::Pair(path.client.clone(), server.clone()),
                Self::Target(server.clone()),
                Self::Node(server.clone()),
            ]),
            (Scope::CrossNode | Scope::Any, _) => {}
        }
        places
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pair(from, to) => write!(f, "from {from} to {to}"),
            Self::Within(node) => write!(f, "within {node}"),
            Self::Source(node) => write!(f, "what {node} asks"),
            Self::Target(node) => write!(f, "what is asked of {node}"),
            Self::Node(node) => write!(f, "from and to {node}"),
            Self::Class(route, scope) => write!(f, "{route}, {scope}, on every node"),
            Self::Everywhere => f.write_str("on several nodes"),
        }
    }
}

/// Places with a path that works, route by route and family by family, so that one Service's fault is no node's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleared(BTreeSet<(Route, Family, Place)>);

impl Cleared {
    /// The places of these paths, which work.
    pub fn by<'a>(healthy: impl IntoIterator<Item = &'a NodePath>) -> Self {
        let places = healthy.into_iter().flat_map(|path| {
            let places = Place::of(path).into_iter();
            places.map(|place| (path.route, path.family, place))
        });
        Self(places.collect())
    }

    fn contains(&self, place: &Place, kinds: &BTreeSet<(Route, Family)>) -> bool {
        let mut kinds = kinds.iter();
        kinds.any(|(route, family)| self.0.contains(&(*route, *family, place.clone())))
    }
}

/// The places of paths that fail, most paths first, each path at one of them.
///
/// A place that is cleared for a route of theirs, in its family, is ruled out. What no place explains is `Everywhere`.
pub fn vote(failing: &BTreeSet<NodePath>, cleared: &Cleared) -> Vec<(Place, BTreeSet<NodePath>)> {
    let kinds: BTreeSet<(Route, Family)> = (failing.iter())
        .map(|path| (path.route, path.family))
        .collect();
    let mut left = failing.clone();
    let mut places = Vec::new();
    while !left.is_empty() {
        let mut votes: BTreeMap<Place, usize> = BTreeMap::new();
        for place in left.iter().flat_map(Place::of) {
            if !cleared.contains(&place, &kinds) {
                *votes.entry(place).or_default() += 1;
            }
        }
        // The most votes; of as many, the narrowest place.
        let winner = votes
            .into_iter()
            .fold(None, |best, (place, count)| match best {
                Some((_, most)) if most >= count => best,
                Some(_) | None => Some((place, count)),
            });
        let place = winner.map_or(Place::Everywhere, |(place, _)| place);
        let of_it: BTreeSet<NodePath> = if place == Place::Everywhere {
            left.clone()
        } else {
            (left
                .iter()
                .filter(|path| Place::of(path).contains(&place))
                .cloned())
            .collect()
        };
        left.retain(|path| !of_it.contains(path));
        places.push((place, of_it));
    }
    places
}
