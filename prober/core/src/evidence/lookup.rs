//! The addresses of agents and the facts of nodes, looked up in a matrix.

use std::net::IpAddr;

use super::Matrix;
use crate::node_facts::NodeFacts;
use crate::packet::family::Family;
use crate::topology::{AccessPath, AgentId, NodeName};

impl Matrix {
    /// The most recent facts of a node.
    pub fn facts(&self, node: &NodeName) -> Option<&NodeFacts> {
        self.nodes.get(node)?.latest()
    }

    /// An address of an agent: as it reports, as it was probed, or as it sent.
    pub fn address(&self, agent: &AgentId, family: Family) -> Option<IpAddr> {
        let of_family = |ip: &IpAddr| Family::of(*ip) == family;
        let reported = || {
            let hello = self.agents.get(agent)?.hello.as_ref()?;
            hello.addresses.iter().copied().find(of_family)
        };
        let probed = || {
            self.paths.values().find_map(|evidence| {
                let path = &evidence.path;
                let is_direct =
                    path.access_path == AccessPath::PodIp && path.server.as_ref() == Some(agent);
                (is_direct && path.family == family).then(|| evidence.target.ip())
            })
        };
        let sent = || {
            self.paths
                .values()
                .filter(|evidence| evidence.path.client == *agent)
                .flat_map(|evidence| &evidence.probes)
                .map(|probe| probe.client.src.ip())
                .find(of_family)
        };
        reported().or_else(probed).or_else(sent)
    }
}
