//! Where the test Services lead: what was asked for, as faults have changed it.

use std::net::SocketAddr;

use prober_core::family::Family;
use prober_core::run::Published;
use prober_core::topology::AgentId;

use super::{Fleet, FleetError, agent_id};
use crate::fault::SliceChange;
use crate::proxy::{self, Endpoint, Endpoints};
use crate::topology::{self, UnknownPlace};

const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

impl Fleet {
    pub(super) fn publish_again(&mut self) -> Result<(), FleetError> {
        let endpoint = |agent: &AgentId| -> Result<Endpoint, UnknownPlace> {
            Ok(Endpoint::of(self.lab.spec().pod(&agent.pod)?))
        };
        let any: Vec<Endpoint> = self
            .asked
            .any
            .iter()
            .map(endpoint)
            .collect::<Result<_, _>>()?;
        let slots: Vec<Endpoint> = self
            .asked
            .slots
            .iter()
            .map(endpoint)
            .collect::<Result<_, _>>()?;
        let local: Vec<Endpoint> = self
            .asked
            .local
            .iter()
            .map(endpoint)
            .collect::<Result<_, _>>()?;
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

    pub(super) fn published(&self) -> Published {
        let both = |port: u16| {
            FAMILIES
                .map(|family| SocketAddr::new(proxy::cluster_ip(family), port))
                .to_vec()
        };
        Published {
            slots: (0..)
                .zip(&self.asked.slots)
                .map(|(slot, _): (u16, _)| both(proxy::SLOT_PORT + slot))
                .collect(),
            any: both(proxy::BALANCED_PORT),
            local: FAMILIES
                .map(|family| {
                    SocketAddr::new(proxy::local_cluster_ip(family), proxy::BALANCED_PORT)
                })
                .to_vec(),
            node_ports: (0..)
                .zip(&self.asked.slots)
                .map(|(slot, agent): (u16, _)| {
                    let node = self.lab.spec().node(agent.node.as_str()).ok();
                    let at = |family| {
                        let node = node?.underlay(family);
                        Some(SocketAddr::new(node, proxy::NODE_PORT + slot))
                    };
                    FAMILIES.into_iter().filter_map(at).collect()
                })
                .collect(),
            not_ready: self
                .changes
                .iter()
                .filter_map(|change| match change {
                    SliceChange::NotReady(node) => Some(agent_id(topology::server(*node))),
                    SliceChange::Empty(_) | SliceChange::Dead(_) => None,
                })
                .collect(),
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
