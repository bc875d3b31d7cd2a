//! What another pod of a node shows, on paths that were probed for comparison: a fault of the node would break them as well.

use crate::diagnosis::case::Case;
use crate::evidence::Comparison;
use crate::packet::family::Family;
use crate::topology::{AgentId, NodeName, PathId};

/// Sentences about other pods of a node in the place of a pod: those that work, then those that fail alike.
pub(crate) fn sentences(
    case: &Case<'_>,
    kind: Comparison,
    pod: &AgentId,
    family: Family,
) -> Vec<String> {
    let all = comparisons(case, kind, &pod.node, family);
    let mut said: Vec<(bool, String)> = all
        .filter(|(_, other)| *other != pod)
        .filter_map(|(id, other)| {
            let evidence = case.path(id)?;
            let is_failing = case.fails(|group| group.path == id);
            let named = case.named(evidence);
            let node = &other.node;
            let sentence = match (kind, is_failing) {
                (Comparison::SecondClient, false) => {
                    format!("another pod of {node} gets through: {named} works")
                }
                (Comparison::SecondServer, false) => {
                    format!("another pod of {node} is reached: {named} works")
                }
                (Comparison::SecondClient, true) => {
                    format!("another pod of {node} does not get through either: {named} fails")
                }
                (Comparison::SecondServer, true) => {
                    format!("another pod of {node} is not reached either: {named} fails")
                }
            };
            Some((is_failing, sentence))
        })
        .collect();
    said.sort();
    said.into_iter().map(|(_, sentence)| sentence).collect()
}

/// Whether another pod took the place of one of a node's.
pub(crate) fn is_compared(
    case: &Case<'_>,
    kind: Comparison,
    node: &NodeName,
    family: Family,
) -> bool {
    comparisons(case, kind, node, family).next().is_some()
}

/// The paths with another pod of a node at this end, and that pod.
fn comparisons<'a>(
    case: &Case<'a>,
    kind: Comparison,
    node: &NodeName,
    family: Family,
) -> impl Iterator<Item = (PathId, &'a AgentId)> {
    let all = case.matrix.compared_paths();
    all.filter(move |(_, one, evidence)| *one == kind && evidence.path.family == family)
        .filter_map(move |(id, _, evidence)| {
            let pod = match kind {
                Comparison::SecondClient => Some(&evidence.path.client),
                Comparison::SecondServer => evidence.path.server.as_ref(),
            };
            Some((id, pod.filter(|pod| pod.node == *node)?))
        })
}
