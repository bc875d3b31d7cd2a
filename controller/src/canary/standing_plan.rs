//! The standing plan, from the checks, the Services, the slots and the nodes: what every agent probes by itself.
//!
//! All checks share the agents. Their plan has the shortest interval, and every access path and family that one of them
//! names; each check then reads what it selects.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prober_core::plan::standing::{
    ConfirmRule, DEADLINES, INTERVALS, MAX_STANDING_RATE, STANDING_PLAN_SCHEMA, StandingPlan,
    StandingSlot,
};
use prober_core::topology::AccessPath;

use super::crd::ConnectivityCheckSpec;
use super::inventory::{Component, Inventory};
use crate::manifest::standing::StandingServices;
use crate::manifest::{BALANCED_PORT, SLOT_PORT, ServerEndpoint};

/// The length of the prefix that allows a pod's address which no known range contains: a plan that listed each pod would
/// change with each.
const IPV4_BLOCK: u8 = 24;

/// The same for IPv6.
const IPV6_BLOCK: u8 = 64;

/// What a standing plan is built from.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// The test Services.
    pub services: &'a StandingServices,
    /// The servers that have a slot.
    pub slots: &'a [(u16, ServerEndpoint)],
    /// The nodes and the agents.
    pub inventory: &'a Inventory,
    /// Ranges of pods' addresses that no Node names.
    pub pod_cidrs: &'a [IpNet],
    /// The nonce that banners carry.
    pub nonce: u64,
}

/// Builds the plan of these checks; paused if none of them probes. Its generation is that of a first plan.
pub fn standing_plan<'a>(
    checks: impl Iterator<Item = &'a ConnectivityCheckSpec>,
    sources: Sources<'_>,
) -> StandingPlan {
    let probing: Vec<&ConnectivityCheckSpec> = checks.filter(|check| !check.paused).collect();
    let services = sources.services;
    let interval = (probing.iter())
        .map(|check| check.interval.duration())
        .min()
        .unwrap_or(DEFAULT_INTERVAL)
        .clamp(INTERVALS.0, INTERVALS.1);
    let deadline = (probing.iter())
        .map(|check| check.probe_deadline.duration())
        .max()
        .unwrap_or(DEADLINES.0)
        .min(interval)
        .clamp(DEADLINES.0, DEADLINES.1);
    let access_paths: BTreeSet<AccessPath> = (probing.iter())
        .flat_map(|check| check.access_paths.iter().map(|&path| path.into()))
        .filter(|path| match path {
            AccessPath::NodePort => !services.balanced.node_ports.is_empty(),
            // It needs an agent in the host network, which only reads.
            AccessPath::HostNetwork => false,
            AccessPath::PodIp
            | AccessPath::ClusterIp
            | AccessPath::ClusterIpAny
            | AccessPath::ClusterIpLocal
            | AccessPath::Hairpin => true,
        })
        .collect();
    let available = services.families();
    let families = (probing.iter())
        .flat_map(|check| check.ip_families.iter().map(|&family| family.into()))
        .filter(|family| available.contains(family));
    let wanted_peers = (probing.iter())
        .map(|check| u32::try_from(check.peers_per_node).unwrap_or_default())
        .max();
    let mut plan = StandingPlan {
        schema: STANDING_PLAN_SCHEMA.to_owned(),
        generation: 1,
        paused: probing.is_empty(),
        probing_since: None,
        nonce: sources.nonce,
        interval_ms: millis(interval),
        deadline_ms: millis(deadline),
        confirm: confirm(&probing),
        families: families.collect(),
        peers: wanted_peers.unwrap_or_default(),
        local: with_port(&services.local.cluster_ips, BALANCED_PORT),
        any: with_port(&services.balanced.cluster_ips, BALANCED_PORT),
        slots: (sources.slots.iter())
            .map(|slot| standing_slot(slot, &access_paths, sources))
            .collect(),
        allowed: allowed(&access_paths, sources),
        access_paths,
    };
    limit_rate(&mut plan);
    plan
}

/// The interval of a plan without checks.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);

/// The rule of the most sensitive check, for the results of both engines: each path is probed by a connection and by a
/// crafted packet in each round.
fn confirm(checks: &[&ConnectivityCheckSpec]) -> ConfirmRule {
    let rules = checks.iter().map(|check| check.confirm);
    let Some(rule) = rules.min_by_key(|rule| (rule.failures, rule.of)) else {
        return ConfirmRule::default();
    };
    let number = |number: i32| u8::try_from(number).unwrap_or(u8::MAX).saturating_add(1);
    ConfirmRule {
        failures: number(rule.failures),
        of: number(rule.of),
    }
}

/// Reduces the peers of a round to what an agent may probe within the interval.
fn limit_rate(plan: &mut StandingPlan) {
    let most = u64::from(MAX_STANDING_RATE) * u64::from(plan.interval_ms) / 1_000;
    while plan.peers > 0 && plan.most_probes_of_a_round() > most {
        plan.peers -= 1;
    }
}

fn standing_slot(
    (slot, server): &(u16, ServerEndpoint),
    access_paths: &BTreeSet<AccessPath>,
    sources: Sources<'_>,
) -> StandingSlot {
    let balanced = &sources.services.balanced;
    let node_port = (balanced.node_ports.get(usize::from(*slot)))
        .filter(|_| access_paths.contains(&AccessPath::NodePort));
    let node = sources.inventory.node(&server.agent.node);
    StandingSlot {
        node: server.agent.node.clone(),
        pod: server.agent.pod.clone(),
        addresses: server.addresses.clone(),
        service: with_port(&balanced.cluster_ips, SLOT_PORT + slot),
        node_port: match (node, node_port) {
            (Some(node), Some(&port)) => with_port(&node.internal_ips, port),
            (None, _) | (_, None) => Vec::new(),
        },
    }
}

/// The addresses that agents may probe: the Services, the ranges of pods, and the nodes where their ports are probed.
///
/// Not every network plugin takes its pods' addresses from the ranges of the Nodes. What agents have got outside of them is
/// allowed as a block.
fn allowed(access_paths: &BTreeSet<AccessPath>, sources: Sources<'_>) -> Vec<IpNet> {
    let services = sources.services;
    let cluster_ips = (services.balanced.cluster_ips.iter()).chain(&services.local.cluster_ips);
    let nodes = || sources.inventory.nodes().map(|(_, node)| node);
    let mut ranges: Vec<IpNet> = nodes()
        .flat_map(|node| node.pod_cidrs.iter().filter_map(|cidr| cidr.parse().ok()))
        .chain(sources.pod_cidrs.iter().copied())
        .collect();
    ranges = IpNet::aggregate(&ranges);
    let servers = sources.inventory.agents(Component::Server);
    let outside: Vec<IpNet> = servers
        .flat_map(|server| &server.addresses)
        .filter(|address| !ranges.iter().any(|range| range.contains(*address)))
        .map(|&address| block(address))
        .collect();
    ranges.extend(outside);
    ranges.extend(cluster_ips.map(|&address| IpNet::from(address)));
    if access_paths.contains(&AccessPath::NodePort) {
        let own = nodes().flat_map(|node| &node.internal_ips);
        ranges.extend(own.map(|&address| IpNet::from(address)));
    }
    IpNet::aggregate(&ranges)
}

/// The block around a pod's address.
fn block(address: IpAddr) -> IpNet {
    let whole = IpNet::from(address);
    let block = match address {
        IpAddr::V4(address) => Ipv4Net::new(address, IPV4_BLOCK).map(IpNet::from),
        IpAddr::V6(address) => Ipv6Net::new(address, IPV6_BLOCK).map(IpNet::from),
    };
    block.map_or(whole, |block| block.trunc())
}

fn with_port(addresses: &[IpAddr], port: u16) -> Vec<SocketAddr> {
    let addresses = addresses.iter();
    addresses.map(|&ip| SocketAddr::new(ip, port)).collect()
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
