//! The paths of a run: from which client to which server, by which access path, at which address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::cycle::Cycle;
use super::spec::{MissingFamilies, RunSpec};
use super::{Endpoints, Published};
use crate::evidence::{AgentEvidence, Backend, PathEvidence};
use crate::packet::family::Family;
use crate::plan::RESPONDER_PORT;
use crate::plan::pairing::NodePair;
use crate::topology::{AccessPath, AgentId, NodeName, Path, PathId};

impl RunSpec {
    /// Every path of these pairs, in the order of a report, whether it can be probed or not.
    fn wanted(&self, pairs: &BTreeSet<NodePair>) -> Vec<Path> {
        let mut paths = Vec::new();
        for &family in &self.families {
            let mut add = |client: &AgentId, server: Option<&AgentId>, access_path| {
                if self.access_paths.contains(&access_path) {
                    paths.push(Path {
                        client: client.clone(),
                        server: server.cloned(),
                        access_path,
                        family,
                    });
                }
            };
            for (client_node, server_node) in pairs {
                let (client, host) = (self.client_of(client_node), self.host_of(client_node));
                for server in self.servers_of(server_node) {
                    add(&client, Some(&server), AccessPath::PodIp);
                    add(&client, Some(&server), AccessPath::ClusterIp);
                }
                // On these access paths it makes no difference which of a node's servers answers.
                let first = self.server_of(server_node, 1);
                add(&client, Some(&first), AccessPath::NodePort);
                add(&host, Some(&first), AccessPath::HostNetwork);
            }
            for node in self.client_nodes(pairs) {
                let client = self.client_of(&node);
                let servers: Vec<_> = self.servers_of(&node).collect();
                let only = servers.first().filter(|_| servers.len() == 1);
                add(&client, only, AccessPath::ClusterIpLocal);
                add(&client, None, AccessPath::ClusterIpAny);
                for server in &servers {
                    add(server, Some(server), AccessPath::Hairpin);
                }
            }
        }
        paths
    }

    /// Every path of a cycle that can be probed.
    pub(super) fn paths(&self, cycle: &Cycle, map: &Map<'_>) -> BTreeMap<PathId, PathEvidence> {
        let wanted = self.wanted(&cycle.pairs).into_iter();
        let paths = wanted.filter_map(|path| map.path(path));
        (cycle.first_path..).map(PathId).zip(paths).collect()
    }

    /// The paths of a cycle that cannot be probed, and why: an end could not be started, its server has no slot, or a family
    /// is missing.
    pub(super) fn unprobed(
        &self,
        cycle: &Cycle,
        agents: &BTreeMap<AgentId, AgentEvidence>,
        endpoints: &Endpoints,
        published: Option<&Published>,
        addresses: &BTreeMap<AgentId, Vec<IpAddr>>,
    ) -> BTreeMap<Path, String> {
        let has_slot = |server: &&AgentId| {
            let number = endpoints.slots.iter().position(|slot| slot == *server);
            number.is_some_and(|number| {
                let addresses = published.and_then(|published| published.slots.get(number));
                addresses.is_none_or(|addresses| !addresses.is_empty())
            })
        };
        let (with_slot, without_slot): (BTreeSet<_>, BTreeSet<_>) =
            endpoints.local.iter().partition(has_slot);
        let has_family = |agent: &AgentId, family| {
            let known = addresses.get(agent);
            known.is_none() || pick(known, family).is_some()
        };
        let why_failed = |agent: &AgentId| agents.get(agent)?.failed.as_ref();
        let failed = |path: &Path| {
            let is_local = path.access_path == AccessPath::ClusterIpLocal && path.server.is_none();
            let local: Vec<AgentId> = if is_local {
                self.servers_of(&path.client.node).collect()
            } else {
                Vec::new()
            };
            let has_local = local.iter().any(|server| why_failed(server).is_none());
            let ends = std::iter::once(&path.client).chain(&path.server);
            let mut ends = ends.chain(local.iter().filter(|_| !has_local));
            ends.find_map(|end| Some((end, why_failed(end)?)))
                // Without a host agent a run observes less of a node, and no less of its Services.
                .filter(|(end, _)| !self.is_host(end))
                .map(|(end, why)| format!("agent {end} on {}: {why}", end.node))
        };
        let portless = |path: &Path| {
            let server = path.server.as_ref()?;
            let slot = endpoints.slots.iter().position(|slot| slot == server)?;
            let is_meant = path.access_path == AccessPath::NodePort
                && has_family(server, path.family)
                && has_family(&path.client, path.family);
            published
                .filter(|_| is_meant)?
                .missing_node_port(slot, &server.node, path.family)
        };
        let slotless = |path: &Path| {
            let server = path.server.as_ref()?;
            let is_meant = path.access_path.needs_slot()
                && without_slot.contains(server)
                && has_family(server, path.family)
                && has_family(&path.client, path.family);
            is_meant.then(|| {
                format!(
                    "the test Service has ports for {} of {} servers; probe fewer nodes at a time (--node), or run fewer servers on each (--servers)",
                    with_slot.len(),
                    endpoints.local.len()
                )
            })
        };
        let is_missing_everywhere = |family| {
            let known = addresses.values();
            known
                .into_iter()
                .all(|list| pick(Some(list), family).is_none())
        };
        let without_family = |path: &Path| {
            let (family, access_path) = (path.family, path.access_path);
            let name = match family {
                Family::Ipv4 => "IPv4",
                Family::Ipv6 => "IPv6",
            };
            let mut ends = std::iter::once(&path.client).chain(&path.server);
            match self.missing_families {
                MissingFamilies::Skip => None,
                MissingFamilies::Report if is_missing_everywhere(family) => Some(format!(
                    "no pod has an {name} address, and --family requests {name}"
                )),
                MissingFamilies::Report if ends.any(|end| !has_family(end, family)) => {
                    Some(format!("its client or its server has no {name} address"))
                }
                MissingFamilies::Report => {
                    let is_published =
                        published.is_none_or(|published| published.has(access_path, family));
                    (!is_published)
                        .then(|| format!("the cluster has no {name} address for {access_path}"))
                }
            }
        };
        let wanted = self.wanted(&cycle.pairs).into_iter();
        wanted
            .filter_map(|path| {
                let reason = failed(&path)
                    .or_else(|| slotless(&path))
                    .or_else(|| portless(&path))
                    .or_else(|| without_family(&path));
                Some((reason?, path))
            })
            .map(|(reason, path)| (path, reason))
            .collect()
    }
}

impl Published {
    /// Why the server in a slot has no node port of a family, if its cluster has node ports of that family, or none at all.
    fn missing_node_port(&self, slot: usize, node: &NodeName, family: Family) -> Option<String> {
        let is_of_family = |address: &SocketAddr| Family::of(address.ip()) == family;
        if (self.node_ports.get(slot)).is_some_and(|ports| ports.iter().any(is_of_family)) {
            None
        } else if self.has(AccessPath::NodePort, family) {
            Some(format!(
                "{node} has no node port: its Node object has no {family} address of the type InternalIP"
            ))
        } else {
            let has_none = self.node_ports.iter().all(Vec::is_empty);
            has_none.then(|| "the test Service has no node port on any node".to_owned())
        }
    }

    /// Whether an access path has an address of a family.
    fn has(&self, access_path: AccessPath, family: Family) -> bool {
        let is_in = |list: &Vec<SocketAddr>| {
            let mut families = list.iter().map(|address| Family::of(address.ip()));
            families.any(|other| other == family)
        };
        match access_path {
            AccessPath::PodIp => true,
            AccessPath::ClusterIp | AccessPath::Hairpin | AccessPath::HostNetwork => {
                self.slots.iter().any(is_in)
            }
            AccessPath::NodePort => self.node_ports.iter().any(is_in),
            AccessPath::ClusterIpAny => is_in(&self.any),
            AccessPath::ClusterIpLocal => is_in(&self.local),
        }
    }
}

/// The address of a family.
pub(super) fn pick(addresses: Option<&Vec<IpAddr>>, family: Family) -> Option<IpAddr> {
    addresses?
        .iter()
        .copied()
        .find(|address| Family::of(*address) == family)
}

/// The targets of paths, once everything is published.
pub(super) struct Map<'a> {
    pub(super) endpoints: &'a Endpoints,
    pub(super) published: &'a Published,
    pub(super) addresses: &'a BTreeMap<AgentId, Vec<IpAddr>>,
    /// Agents that do not run yet, and may get addresses of any family.
    pub(super) to_come: BTreeSet<&'a AgentId>,
}

impl Map<'_> {
    /// A path with its target and backends, if its ends and its Service exist in its family.
    fn path(&self, path: Path) -> Option<PathEvidence> {
        let family = path.family;
        if !self.to_come.contains(&path.client) {
            pick(self.addresses.get(&path.client), family)?;
        }
        let of_family = |list: &[SocketAddr]| {
            list.iter()
                .copied()
                .find(|address| Family::of(address.ip()) == family)
        };
        let server = path.server.as_ref();
        let slot = || {
            let slots = &self.endpoints.slots;
            slots.iter().position(|slot| Some(slot) == server)
        };
        let target = match path.access_path {
            AccessPath::PodIp => {
                SocketAddr::new(pick(self.addresses.get(server?), family)?, RESPONDER_PORT)
            }
            AccessPath::ClusterIp | AccessPath::Hairpin | AccessPath::HostNetwork => {
                of_family(self.published.slots.get(slot()?)?)?
            }
            AccessPath::NodePort => of_family(self.published.node_ports.get(slot()?)?)?,
            AccessPath::ClusterIpAny => of_family(&self.published.any)?,
            AccessPath::ClusterIpLocal => of_family(&self.published.local)?,
        };
        let backends = self.backends(&path)?;
        Some(PathEvidence::new(path, target, backends))
    }

    /// The servers that may answer: those of the slices, or the requested ones if slices were not read; `None` if there is
    /// none in the path's family.
    fn backends(&self, path: &Path) -> Option<Vec<Backend>> {
        let slot_of = |server| self.endpoints.slots.iter().position(|slot| slot == server);
        let slot = path.server.as_ref().and_then(slot_of);
        let slices = self.published.slices.as_ref();
        let listed = slices.and_then(|slices| slices.backends(path, slot, self.addresses));
        if listed.is_some() {
            return listed;
        }
        let backend = |agent: &AgentId| {
            let address = pick(self.addresses.get(agent), path.family)?;
            Some(Backend {
                agent: Some(agent.clone()),
                address: SocketAddr::new(address, RESPONDER_PORT),
                ready: true,
            })
        };
        let meant: Vec<_> = self.meant(path).into_iter().filter_map(backend).collect();
        (!meant.is_empty()).then_some(meant)
    }

    /// The agents that are expected to answer on a path.
    fn meant<'a>(&'a self, path: &'a Path) -> Vec<&'a AgentId> {
        let endpoints = match path.access_path {
            AccessPath::ClusterIpLocal => &self.endpoints.local,
            AccessPath::PodIp
            | AccessPath::ClusterIp
            | AccessPath::ClusterIpAny
            | AccessPath::Hairpin
            | AccessPath::NodePort
            | AccessPath::HostNetwork => &self.endpoints.any,
        };
        let is_local = path.access_path == AccessPath::ClusterIpLocal;
        match &path.server {
            Some(server) => vec![server],
            None => endpoints
                .iter()
                .filter(|agent| !is_local || agent.node == path.client.node)
                .collect(),
        }
    }
}
