//! The locations of several groups together: what they have in common, and which of them are at one spot.

use std::collections::BTreeSet;

use super::{Location, Spot};
use crate::diagnosis::PathSegment;
use crate::diagnosis::case::Case;

/// The spots that all these groups have in common: where a single fault that drops the packets of all of them is.
pub(crate) fn common<'a>(case: &'a Case<'_>, groups: &BTreeSet<usize>) -> Vec<&'a Spot> {
    let locations: Vec<&Location> = (case.at(groups))
        .filter_map(|group| case.location(group))
        .collect();
    if locations.iter().any(|location| !location.is_observed) {
        return Vec::new();
    }
    let Some((first, rest)) = locations.split_first() else {
        return Vec::new();
    };
    let is_common = |spot: &&Spot| rest.iter().all(|other| other.spots.contains(spot));
    first.spots.iter().filter(is_common).collect()
}

/// The groups of these whose packets are dropped at such spots and nowhere else.
pub(crate) fn confined(
    case: &Case<'_>,
    groups: &BTreeSet<usize>,
    is_here: impl Fn(&Spot) -> bool,
) -> BTreeSet<usize> {
    let is_confined =
        |location: &Location| location.is_observed && location.spots.iter().all(&is_here);
    case.at(groups)
        .filter(|group| case.location(group).is_some_and(is_confined))
        .map(|group| group.index)
        .collect()
}

/// The narrowest place that has all these spots: a node, or the stretch from one node to another.
pub(crate) fn place_of(spots: &[&Spot]) -> PathSegment {
    let mut nodes = spots.iter().map(|spot| spot.node());
    if let Some(Some(first)) = nodes.next()
        && nodes.all(|node| node == Some(first))
    {
        return PathSegment::Node {
            node: first.clone(),
        };
    }
    // From the node of the first spot to that of the last one.
    let start = |spot: &Spot| match spot {
        Spot::Node(node, _) => node.clone(),
        Spot::Wire(from, _) => from.clone(),
    };
    let end = |spot: &Spot| match spot {
        Spot::Node(node, _) => node.clone(),
        Spot::Wire(_, to) => to.clone(),
    };
    match (spots.first(), spots.last()) {
        (Some(first), Some(last)) => PathSegment::Between {
            from: start(first),
            to: end(last),
        },
        (None, _) | (_, None) => PathSegment::Unknown,
    }
}

/// The observations that bound the locations of these groups, each once and the first few.
pub(crate) fn sentences(case: &Case<'_>, groups: &BTreeSet<usize>) -> Vec<String> {
    let locations = case.locations(groups);
    first_few(locations.flat_map(|location| location.because.iter().cloned()))
}

/// The first few of these sentences, each once.
pub(crate) fn first_few(sentences: impl Iterator<Item = String>) -> Vec<String> {
    let mut said: Vec<String> = Vec::new();
    for sentence in sentences {
        if said.len() < 4 && !said.contains(&sentence) {
            said.push(sentence);
        }
    }
    said
}
