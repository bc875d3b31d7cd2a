//! Where the test Services lead: what was asked for, as faults have changed it.

use std::net::SocketAddr;

use prober_core::packet::family::Family;
use prober_core::plan::RESPONDER_PORT;
use prober_core::run::{self, Published};
use prober_core::topology::{AgentId, NodeName};

use super::{Fleet, FleetError};
use crate::fault::SliceChange;
use crate::kube_proxy::{self, Endpoint, Endpoints};
use crate::topology::{self, UnknownPlace};

const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

impl Fleet {
    pub(super) fn publish_again(&mut self) -> Result<(), FleetError> {
        let endpoints = |agents: &[AgentId]| -> Result<Vec<Endpoint>, UnknownPlace> {
            let pods = agents.iter().map(|agent| self.lab.spec().pod(&agent.pod));
            pods.map(|pod| Ok(Endpoint::of(pod?))).collect()
        };
        let slots = endpoints(&self.asked.slots)?;
        let any = endpoints(&self.asked.any)?;
        let local = endpoints(&self.asked.local)?;
        let mut slices = Endpoints {
            slots: (0..).zip(slots).collect(),
            any: any.into_iter().collect(),
            local: local.into_iter().collect(),
        };
        for change in &self.changes {
            apply(*change, &mut slices);
        }
        Ok(self.lab.publish(slices)?)
    }

    /// What the EndpointSlices say by now, every fault's change included.
    fn slices(&self) -> run::EndpointSlices {
        let said = self.lab.slices();
        let both = |endpoint: &Endpoint, ready| {
            FAMILIES.map(|family| run::SliceEndpoint {
                address: SocketAddr::new(endpoint.address(family), RESPONDER_PORT),
                node: NodeName::new(endpoint.node.name()),
                ready,
            })
        };
        let slots = (0..).zip(&self.asked.slots).map(|(slot, _): (u8, _)| {
            let endpoint = said.slots.get(&slot);
            endpoint.map_or_else(Vec::new, |one| both(one, true).to_vec())
        });
        let asked = self.asked.local.iter();
        let asked = asked.filter_map(|agent| self.lab.spec().pod(&agent.pod).ok());
        let local = asked.map(Endpoint::of);
        run::EndpointSlices {
            slots: slots.collect(),
            any: said.any.iter().flat_map(|one| both(one, true)).collect(),
            local: local
                .flat_map(|one| both(&one, said.local.contains(&one)))
                .collect(),
        }
    }

    /// Where the test Services are, and what is behind them.
    pub fn published(&self) -> Published {
        let both = |port: u16| {
            FAMILIES
                .map(|family| SocketAddr::new(kube_proxy::cluster_ip(family), port))
                .to_vec()
        };
        Published {
            slots: (0..)
                .zip(&self.asked.slots)
                .map(|(slot, _): (u16, _)| both(kube_proxy::SLOT_PORT + slot))
                .collect(),
            any: both(kube_proxy::BALANCED_PORT),
            local: FAMILIES
                .map(|family| {
                    SocketAddr::new(
                        kube_proxy::local_cluster_ip(family),
                        kube_proxy::BALANCED_PORT,
                    )
                })
                .to_vec(),
            node_ports: (0..)
                .zip(&self.asked.slots)
                .map(|(slot, agent): (u16, _)| {
                    let node = self.lab.spec().node(agent.node.as_str()).ok();
                    let at = |family| {
                        let node = node?.underlay(family);
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

fn apply(change: SliceChange, slices: &mut Endpoints) {
    match change {
        SliceChange::Empty(node) => {
            let server = Endpoint::of(topology::server(node));
            slices.slots.retain(|_, endpoint| *endpoint != server);
        }
        SliceChange::Dead(node) => {
            let server = Endpoint::of(topology::server(node));
            for endpoint in slices
                .slots
                .values_mut()
                .filter(|endpoint| **endpoint == server)
            {
                *endpoint = Endpoint::dead(node);
            }
        }
        SliceChange::NotReady(node) => slices.local.retain(|endpoint| endpoint.node != node),
    }
}
