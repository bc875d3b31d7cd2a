//! What packets of the same matrix show: the Ethernet address and the gateway of each pod, and the routers between two nodes.

use std::collections::BTreeMap;

use crate::evidence::{Evidence, Matrix, PathEvidence};
use crate::packet::family::Family;
use crate::packet::mac::Mac;
use crate::packet::observation::{Direction, Observation};
use crate::probe::outcome::Outcome;
use crate::topology::{AccessPath, AgentId, NodeName};

/// Addresses and distances, calibrated from packets that were observed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Habits {
    /// Each pod's own Ethernet address.
    macs: BTreeMap<(AgentId, Family), Mac>,
    /// The Ethernet address that a pod sends its Service traffic to.
    gateways: BTreeMap<(AgentId, Family), Mac>,
    /// Routers on the way of answers from pods of the second node to pods of the first; `None` where answers disagree.
    routers: BTreeMap<(NodeName, NodeName, Family), Option<u8>>,
}

impl Habits {
    /// Reads every observed packet once.
    pub(super) fn of(matrix: &Matrix) -> Self {
        let mut habits = Self::default();
        for evidence in matrix.paths.values() {
            for probe in &evidence.probes {
                habits.learn(evidence, probe);
            }
        }
        habits
    }

    fn learn(&mut self, evidence: &PathEvidence, probe: &Evidence) {
        let path = &evidence.path;
        let family = path.family;
        let client = &probe.client;
        if let Some(link) = client.observations.iter().find_map(sent_link) {
            let key = (path.client.clone(), family);
            self.macs.entry(key).or_insert(link);
        }
        if let (Some(agent), Some(server)) = (&probe.server_agent, &probe.server)
            && let Some(link) = server.observations.iter().find_map(sent_link)
        {
            self.macs.entry((agent.clone(), family)).or_insert(link);
        }
        if path.access_path.is_translated() && path.access_path.stays_among_pods() {
            let is_own_syn = |seen: &&Observation| {
                seen.direction == Direction::Sent
                    && (seen.packet.tcp()).is_some_and(|(_, tcp)| tcp.flags.is_syn())
                    && seen.packet.tcp_dst() == Some(client.dst)
            };
            let syn = client.observations.iter().find(is_own_syn);
            if let Some(mac) = syn.and_then(|seen| seen.packet.link?.dst) {
                let key = (path.client.clone(), family);
                self.gateways.entry(key).or_insert(mac);
            }
        }
        if path.access_path == AccessPath::PodIp
            && let Some(server) = &path.server
            && let Some(routers) = routers_behind(probe)
        {
            let key = (path.client.node.clone(), server.node.clone(), family);
            let known = self.routers.entry(key).or_insert(Some(routers));
            if *known != Some(routers) {
                *known = None;
            }
        }
    }

    /// A pod's own Ethernet address, as its own end observed it.
    pub fn mac(&self, agent: &AgentId, family: Family) -> Option<Mac> {
        self.macs.get(&(agent.clone(), family)).copied()
    }

    /// The Ethernet address of the router that a pod sends its Service traffic to.
    pub fn gateway(&self, agent: &AgentId, family: Family) -> Option<Mac> {
        self.gateways.get(&(agent.clone(), family)).copied()
    }

    /// The number of routers that answers from pods of `server` pass on their way to pods of `client`, where healthy paths
    /// show it.
    pub fn routers(&self, client: &NodeName, server: &NodeName, family: Family) -> Option<u8> {
        let key = (client.clone(), server.clone(), family);
        self.routers.get(&key).copied().flatten()
    }
}

/// The source Ethernet address of a packet that was sent from this end.
fn sent_link(seen: &Observation) -> Option<Mac> {
    let link = seen
        .packet
        .link
        .filter(|_| seen.direction == Direction::Sent);
    link.map(|link| link.src)
        .filter(|mac| *mac != Mac::LOOPBACK)
}

/// The number of routers that the answer of an established probe passed.
fn routers_behind(probe: &Evidence) -> Option<u8> {
    let client = &probe.client;
    let Outcome::Established { .. } = client.outcome else {
        return None;
    };
    let is_answer = |seen: &&Observation| {
        seen.direction == Direction::Received && seen.packet.tcp_src() == Some(client.dst)
    };
    let (ip, _) = client.observations.iter().find(is_answer)?.packet.tcp()?;
    Some(initial_hop_limit(ip.hop_limit).saturating_sub(ip.hop_limit))
}

/// The initial hop limit that a received one most probably began with: systems use 64, 128 and 255.
pub(crate) const fn initial_hop_limit(received: u8) -> u8 {
    match received {
        0..=64 => 64,
        65..=128 => 128,
        129..=255 => 255,
    }
}
