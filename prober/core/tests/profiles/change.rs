//! Changes of the facts of a matrix.

use prober_core::evidence::Matrix;
use prober_core::node_facts::{Link, LinkCounters, NodeFacts};
use prober_core::packet::mac::Mac;
use prober_core::topology::NodeName;

/// Changes every reading of a node.
pub(crate) fn each_reading(matrix: &mut Matrix, node: &NodeName, change: impl Fn(&mut NodeFacts)) {
    let node = matrix.nodes.get_mut(node).unwrap();
    let readings = [&mut node.before, &mut node.during, &mut node.after];
    for facts in readings.into_iter().flatten() {
        change(facts);
    }
}

/// Changes every reading of every node.
pub(crate) fn each_reading_of_all(matrix: &mut Matrix, change: impl Fn(&mut NodeFacts)) {
    let nodes: Vec<NodeName> = matrix.nodes.keys().cloned().collect();
    for node in nodes {
        each_reading(matrix, &node, &change);
    }
}

/// A link that is up.
pub(crate) fn link(name: &str, kind: &str) -> Link {
    Link {
        name: name.to_owned(),
        index: 77,
        kind: Some(kind.to_owned()),
        mtu: Some(1500),
        up: true,
        carrier: true,
        mac: Some(Mac([2, 8, 8, 8, 8, 8])),
        counters: Some(LinkCounters::default()),
        ..Link::default()
    }
}

/// On each node the veth of a pod that is none of the run's, and is down.
pub(crate) fn add_foreign_veth(matrix: &mut Matrix) {
    each_reading_of_all(matrix, |facts| {
        let links = facts.links.as_mut().unwrap();
        let bridge = links
            .iter()
            .find(|link| link.kind.as_deref() == Some("bridge"));
        let master = bridge.map(|link| link.name.clone());
        links.push(Link {
            up: false,
            carrier: false,
            master,
            hairpin: Some(true),
            ..link("vethother", "veth")
        });
    });
}
