//! The addresses of pods, nodes and routers, indexed once for each diagnosis.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::diagnosis::case::Case;
use crate::evidence::{Matrix, NodeEvidence};
use crate::packet::family::Family;
use crate::topology::{AccessPath, AgentId};

/// Which addresses the evidence attributes to whom.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    /// The address of each agent in each family.
    agents: BTreeMap<AgentId, BTreeMap<Family, IpAddr>>,
    /// The addresses of agents.
    pods: BTreeSet<IpAddr>,
    /// The addresses of nodes, and those of routers that have answered.
    others: BTreeSet<IpAddr>,
}

impl Addresses {
    /// Indexes a matrix. An agent's own report goes first, then the target of paths to its address, then the source of its
    /// probes.
    pub(super) fn index(matrix: &Matrix) -> Self {
        let mut addresses = Self::default();
        for (agent, evidence) in &matrix.agents {
            for &ip in (evidence.hello.iter()).flat_map(|hello| &hello.addresses) {
                addresses.learn(agent, ip);
            }
        }
        for evidence in matrix.paths.values() {
            let path = &evidence.path;
            if let (AccessPath::PodIp, Some(server)) = (path.access_path, &path.server) {
                addresses.learn(server, evidence.target.ip());
            }
        }
        for evidence in matrix.paths.values() {
            for probe in &evidence.probes {
                addresses.learn(&evidence.path.client, probe.client.src.ip());
                let icmp = (probe.client.observations.iter()).filter_map(|seen| seen.packet.icmp());
                addresses.others.extend(icmp.map(|(ip, _)| ip.src));
            }
        }
        let nodes = matrix.nodes.values().filter_map(NodeEvidence::latest);
        let of_nodes = nodes.flat_map(|facts| facts.addresses.iter().flatten());
        (addresses.others).extend(of_nodes.map(|address| address.prefix.addr()));
        addresses.pods = (addresses.agents.values())
            .flat_map(|by_family| by_family.values().copied())
            .collect();
        addresses
    }

    fn learn(&mut self, agent: &AgentId, ip: IpAddr) {
        if !self.agents.contains_key(agent) {
            self.agents.insert(agent.clone(), BTreeMap::new());
        }
        if let Some(by_family) = self.agents.get_mut(agent) {
            by_family.entry(Family::of(ip)).or_insert(ip);
        }
    }
}

impl Case<'_> {
    /// An address of an agent.
    pub(crate) fn address(&self, agent: &AgentId, family: Family) -> Option<IpAddr> {
        self.addresses.agents.get(agent)?.get(&family).copied()
    }

    /// Whether one of the run's pods has this address.
    pub(crate) fn is_pod_address(&self, ip: IpAddr) -> bool {
        self.addresses.pods.contains(&ip)
    }

    /// Whether the address is a pod's, a node's, or that of a router that has answered.
    pub(crate) fn is_known_address(&self, ip: IpAddr) -> bool {
        self.is_pod_address(ip) || self.addresses.others.contains(&ip)
    }
}
