//! A note about nodes that replace the source of what their pods send to other pods, which is no fault by itself: policies and
//! logs at the other end see the node.

use std::collections::BTreeMap;

use crate::evidence::Matrix;
use crate::topology::{AccessPath, NodeName, Scope};

/// One note for each node whose pods arrive in pods of other nodes with an address of the node.
pub(super) fn replaced_sources(matrix: &Matrix) -> Vec<String> {
    let mut found: BTreeMap<&NodeName, String> = BTreeMap::new();
    for evidence in matrix.paths.values() {
        let path = &evidence.path;
        if path.access_path != AccessPath::PodIp || path.scope() != Scope::CrossNode {
            continue;
        }
        let node = &path.client.node;
        let is_of_node = |address| {
            let facts = matrix.facts(node);
            facts.is_some_and(|facts| facts.address(address).found().is_some())
        };
        for probe in &evidence.probes {
            let (Some(trace), Some(server)) = (&probe.server, &path.server) else {
                continue;
            };
            let (own, seen) = (probe.client.src.ip(), trace.peer.ip());
            if trace.syns > 0 && own != seen && is_of_node(seen) {
                found.entry(node).or_insert_with(|| {
                    format!(
                        "{node} replaces the source of what its pods send to pods of other nodes: {server} saw {seen} for {own} of {}. Policies and logs there see the node; this breaks nothing by itself.",
                        path.client
                    )
                });
            }
        }
    }
    found.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node_facts::Address;
    use crate::report::incident;
    use crate::topology::PathId;

    #[test]
    fn a_pod_that_arrives_with_an_address_of_its_node_is_a_note() {
        let mut matrix = incident::healthy_matrix();
        let across = |matrix: &Matrix| {
            let mut all = matrix.paths.iter();
            let is_across = |path: &crate::topology::Path| {
                path.access_path == AccessPath::PodIp && path.scope() == Scope::CrossNode
            };
            all.find(|(_, evidence)| is_across(&evidence.path))
                .map(|(id, _)| *id)
        };
        let id: PathId = across(&matrix).unwrap();
        let mut probe = incident::probe();
        probe.server.as_mut().unwrap().peer = "172.20.0.11:40000".parse().unwrap();
        let evidence = matrix.paths.get_mut(&id).unwrap();
        evidence.probes = vec![probe];
        let node = evidence.path.client.node.clone();
        assert!(replaced_sources(&matrix).is_empty());
        let facts = matrix.nodes.get_mut(&node).unwrap().after.as_mut().unwrap();
        facts.addresses = Some(vec![Address {
            prefix: "172.20.0.11/24".parse().unwrap(),
            dev: "eth0".to_owned(),
        }]);
        let notes = replaced_sources(&matrix);
        assert_eq!(notes.len(), 1);
        assert!(
            notes[0].starts_with("node-1 replaces the source"),
            "{notes:?}"
        );
        assert!(
            notes[0].contains("saw 172.20.0.11 for 100.96.54.240"),
            "{notes:?}"
        );
    }
}
