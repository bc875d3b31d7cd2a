//! The addresses of agents and the facts of nodes, looked up in a matrix.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Matrix;
use crate::node_facts::NodeFacts;
use crate::packet::family::Family;
use crate::topology::{AccessPath, AgentId, NodeName};

/// The address of each agent in each family, indexed once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentAddresses(BTreeMap<AgentId, BTreeMap<Family, IpAddr>>);

impl AgentAddresses {
    /// An address of an agent.
    pub fn of(&self, agent: &AgentId, family: Family) -> Option<IpAddr> {
        self.0.get(agent)?.get(&family).copied()
    }

    /// Every address.
    pub fn all(&self) -> impl Iterator<Item = IpAddr> {
        let all = self.0.values();
        all.flat_map(|by_family| by_family.values().copied())
    }

    /// Adds an address of an agent whose address in this family is not known yet.
    fn learn(&mut self, agent: &AgentId, ip: IpAddr) {
        if !self.0.contains_key(agent) {
            self.0.insert(agent.clone(), BTreeMap::new());
        }
        if let Some(by_family) = self.0.get_mut(agent) {
            by_family.entry(Family::of(ip)).or_insert(ip);
        }
    }
}

impl Matrix {
    /// The most recent facts of a node.
    pub fn facts(&self, node: &NodeName) -> Option<&NodeFacts> {
        self.nodes.get(node)?.latest()
    }

    /// The addresses of all agents: as each reports, or else as it was probed, or as it sent.
    pub fn addresses(&self) -> AgentAddresses {
        let mut addresses = AgentAddresses::default();
        for (agent, evidence) in &self.agents {
            for &ip in (evidence.hello.iter()).flat_map(|hello| &hello.addresses) {
                addresses.learn(agent, ip);
            }
        }
        for evidence in self.paths.values() {
            let path = &evidence.path;
            if let (AccessPath::PodIp, Some(server)) = (path.access_path, &path.server) {
                addresses.learn(server, evidence.target.ip());
            }
        }
        for evidence in self.paths.values() {
            for probe in &evidence.probes {
                addresses.learn(&evidence.path.client, probe.client.src.ip());
            }
        }
        addresses
    }
}
