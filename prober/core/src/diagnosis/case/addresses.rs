//! The addresses of pods, nodes and routers, indexed once for each diagnosis.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::diagnosis::case::Case;
use crate::evidence::{AgentAddresses, Matrix, NodeEvidence};
use crate::packet::family::Family;
use crate::packet::mac::Mac;
use crate::packet::{Body, ResolutionKind};
use crate::topology::{AgentId, NodeName};

/// The addresses that the evidence shows.
#[derive(Debug)]
pub(super) struct Addresses {
    agents: AgentAddresses,
    /// The addresses of agents.
    pods: BTreeSet<IpAddr>,
    /// The addresses of nodes, and those of routers that have answered.
    others: BTreeSet<IpAddr>,
    /// The Ethernet addresses that answered for an address (ARP, NDP), in clients' captures on a node.
    claims: BTreeMap<NodeName, BTreeMap<IpAddr, BTreeSet<Mac>>>,
}

impl Addresses {
    /// Indexes a matrix.
    pub(super) fn index(matrix: &Matrix) -> Self {
        let probes = matrix.paths.values().flat_map(|path| &path.probes);
        let icmp = probes
            .flat_map(|probe| &probe.client.observations)
            .filter_map(|seen| seen.packet.icmp());
        let nodes = matrix.nodes.values().filter_map(NodeEvidence::latest);
        let of_nodes = nodes.flat_map(|facts| facts.addresses.iter().flatten());
        let agents = matrix.addresses();
        Self {
            pods: agents.all().collect(),
            others: icmp
                .map(|(ip, _)| ip.src)
                .chain(of_nodes.map(|address| address.prefix.addr()))
                .collect(),
            agents,
            claims: claims(matrix),
        }
    }
}

fn claims(matrix: &Matrix) -> BTreeMap<NodeName, BTreeMap<IpAddr, BTreeSet<Mac>>> {
    let mut claims: BTreeMap<NodeName, BTreeMap<IpAddr, BTreeSet<Mac>>> = BTreeMap::new();
    for path in matrix.paths.values() {
        let observations = (path.probes.iter()).flat_map(|probe| &probe.client.observations);
        for seen in observations {
            if let Body::Resolution(reply) = seen.packet.body
                && reply.kind == ResolutionKind::Reply
                && let Some(mac) = reply.sender_mac
            {
                let on_node = claims.entry(path.path.client.node.clone()).or_default();
                on_node.entry(reply.sender).or_default().insert(mac);
            }
        }
    }
    claims
}

impl Case<'_> {
    /// An address of an agent.
    pub(crate) fn address(&self, agent: &AgentId, family: Family) -> Option<IpAddr> {
        self.addresses.agents.of(agent, family)
    }

    /// The Ethernet addresses that answered for an address in clients' captures on a node.
    pub(crate) fn claims(&self, node: &NodeName, ip: IpAddr) -> BTreeSet<Mac> {
        let on_node = self.addresses.claims.get(node);
        let claims = on_node.and_then(|on_node| on_node.get(&ip));
        claims.cloned().unwrap_or_default()
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
