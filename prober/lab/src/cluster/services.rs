//! The endpoints and addresses of the test Services: the published ones, with the changes of faults.

use std::net::SocketAddr;

use prober_core::packet::family::Family;
use prober_core::plan::RESPONDER_PORT;
use prober_core::run::{self, Published};
use prober_core::topology::{AgentId, NodeName};

use super::{LabCluster, LabClusterError};
use crate::fault::SliceChange;
use crate::kube_proxy::{self, Endpoint, ServiceEndpoints};
use crate::topology::{self, UnknownName};

const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

impl LabCluster {
    /// Applies the changes of faults to the published endpoints, and updates the EndpointSlices.
    pub(super) fn republish(&mut self) -> Result<(), LabClusterError> {
        let endpoints = |agents: &[AgentId]| -> Result<Vec<Endpoint>, UnknownName> {
            let pods = agents.iter().map(|agent| self.lab.spec().pod(&agent.pod));
            pods.map(|pod| Ok(Endpoint::of(pod?))).collect()
        };
        let slots = endpoints(&self.published_endpoints.slots)?;
        let any = endpoints(&self.published_endpoints.any)?;
        let local = endpoints(&self.published_endpoints.local)?;
        let mut slices = ServiceEndpoints {
            slots: (0..).zip(slots).collect(),
            any: any.into_iter().collect(),
            local: local.into_iter().collect(),
        };
        for change in &self.slice_changes {
            apply(*change, &mut slices);
        }
        Ok(self.lab.publish(slices)?)
    }

    /// Returns the content of the EndpointSlices, with the changes of faults.
    fn slices(&self) -> run::EndpointSlices {
        let current = self.lab.slices();
        let both_families = |endpoint: &Endpoint, ready| {
            FAMILIES.map(|family| run::SliceEndpoint {
                address: SocketAddr::new(endpoint.address(family), RESPONDER_PORT),
                node: NodeName::new(endpoint.node.name()),
                ready,
                agent: None,
            })
        };
        let slots = (0..)
            .zip(&self.published_endpoints.slots)
            .map(|(slot, _): (u8, _)| {
                let endpoint = current.slots.get(&slot);
                endpoint.map_or_else(Vec::new, |one| both_families(one, true).to_vec())
            });
        let published = self.published_endpoints.local.iter();
        let published = published.filter_map(|agent| self.lab.spec().pod(&agent.pod).ok());
        let local = published.map(Endpoint::of);
        run::EndpointSlices {
            slots: slots.collect(),
            any: current
                .any
                .iter()
                .flat_map(|one| both_families(one, true))
                .collect(),
            local: local
                .flat_map(|one| both_families(&one, current.local.contains(&one)))
                .collect(),
        }
    }

    /// Returns the addresses of the test Services, and the content of their EndpointSlices.
    pub fn published(&self) -> Published {
        let both_families = |port: u16| {
            FAMILIES
                .map(|family| SocketAddr::new(kube_proxy::cluster_ip(family), port))
                .to_vec()
        };
        Published {
            slots: (0..)
                .zip(&self.published_endpoints.slots)
                .map(|(slot, _): (u16, _)| both_families(kube_proxy::SLOT_PORT + slot))
                .collect(),
            any: both_families(kube_proxy::BALANCED_PORT),
            local: FAMILIES
                .map(|family| {
                    SocketAddr::new(
                        kube_proxy::local_cluster_ip(family),
                        kube_proxy::BALANCED_PORT,
                    )
                })
                .to_vec(),
            node_ports: (0..)
                .zip(&self.published_endpoints.slots)
                .map(|(slot, agent): (u16, _)| {
                    let node = self.lab.spec().node(agent.node.as_str()).ok();
                    let at = |family| {
                        let node = self.lab.spec().node_address(node?, family);
                        Some(SocketAddr::new(node, kube_proxy::NODE_PORT + slot))
                    };
                    FAMILIES.into_iter().filter_map(at).collect()
                })
                .collect(),
            slices: Some(self.slices()),
            rules: run::Rules::Written,
        }
    }
}

fn apply(change: SliceChange, slices: &mut ServiceEndpoints) {
    match change {
        SliceChange::Empty(node) => {
            let server = Endpoint::of(topology::server(node));
            slices.slots.retain(|_, endpoint| *endpoint != server);
        }
        SliceChange::Stale(node) => {
            let server = Endpoint::of(topology::server(node));
            for endpoint in slices
                .slots
                .values_mut()
                .filter(|endpoint| **endpoint == server)
            {
                *endpoint = Endpoint::stale(node);
            }
        }
        SliceChange::NotReady(node) => slices.local.retain(|endpoint| endpoint.node != node),
    }
}
