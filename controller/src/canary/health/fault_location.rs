//! Locates failures by counting: the fewest places that cover all failing paths and no working one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use prober_core::packet::family::Family;
use prober_core::topology::{AccessPath, NodeName, Scope};

use crate::canary::round_result::NodePath;

/// What failing paths have in common, the narrowest first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// From one node to another.
    Pair(NodeName, NodeName),
    /// Within a node.
    Within(NodeName),
    /// All paths from a node.
    Source(NodeName),
    /// All paths to a node.
    Target(NodeName),
    /// All paths from or to a node.
    Node(NodeName),
    /// A class of paths, on every node.
    Class(AccessPath, Scope),
    /// Nothing.
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

    /// Every place that covers the path.
    fn of(path: &NodePath) -> Vec<Self> {
        let mut places = vec![
            Self::Source(path.client.clone()),
            Self::Node(path.client.clone()),
            Self::Class(path.access_path, path.scope()),
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
            Self::Source(node) => write!(f, "all paths from {node}"),
            Self::Target(node) => write!(f, "all paths to {node}"),
            Self::Node(node) => write!(f, "from and to {node}"),
            Self::Class(access_path, scope) => write!(f, "{access_path}, {scope}, on every node"),
            Self::Everywhere => f.write_str("on several nodes"),
        }
    }
}

/// Places with a working path, by access path and family: a fault of one Service does not clear the node for another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkingPlaces(BTreeSet<(AccessPath, Family, Place)>);

impl WorkingPlaces {
    /// The places of these working paths.
    pub fn of<'a>(healthy: impl IntoIterator<Item = &'a NodePath>) -> Self {
        let places = healthy.into_iter().flat_map(|path| {
            let places = Place::of(path).into_iter();
            places.map(|place| (path.access_path, path.family, place))
        });
        Self(places.collect())
    }

    fn contains(&self, place: &Place, kinds: &BTreeSet<(AccessPath, Family)>) -> bool {
        let mut kinds = kinds.iter();
        kinds.any(|(access_path, family)| self.0.contains(&(*access_path, *family, place.clone())))
    }
}

/// The places of failing paths, those with most paths first; each path is at one of them.
///
/// A place with a working path of the same access path and family is excluded. Paths that no place covers are at
/// `Everywhere`.
pub fn locate(
    failing: &BTreeSet<NodePath>,
    working: &WorkingPlaces,
) -> Vec<(Place, BTreeSet<NodePath>)> {
    let kinds: BTreeSet<(AccessPath, Family)> = (failing.iter())
        .map(|path| (path.access_path, path.family))
        .collect();
    let mut left = failing.clone();
    let mut places = Vec::new();
    while !left.is_empty() {
        let mut counts: BTreeMap<Place, usize> = BTreeMap::new();
        for place in left.iter().flat_map(Place::of) {
            if !working.contains(&place, &kinds) {
                *counts.entry(place).or_default() += 1;
            }
        }
        // The place with most paths; among equals, the narrowest.
        let winner = counts
            .into_iter()
            .fold(None, |best, (place, count)| match best {
                Some((_, most)) if most >= count => best,
                Some(_) | None => Some((place, count)),
            });
        let place = winner.map_or(Place::Everywhere, |(place, _)| place);
        let covered: BTreeSet<NodePath> = if place == Place::Everywhere {
            left.clone()
        } else {
            (left
                .iter()
                .filter(|path| Place::of(path).contains(&place))
                .cloned())
            .collect()
        };
        left.retain(|path| !covered.contains(path));
        places.push((place, covered));
    }
    places
}
