//! The paths of a round: a pure function of the standing plan, the agent and the number of the round.
//!
//! A client probes its own node's server in every round, and a few slots that rotate: in time it meets every one. Which slots
//! it begins with depends on the name of its node, so that the probes of all nodes are spread over the slots.

use std::net::{IpAddr, SocketAddr};

use super::{OwnServer, StandingPath, StandingRole};
use crate::packet::family::Family;
use crate::plan::RESPONDER_PORT;
use crate::plan::standing::{StandingPlan, StandingSlot};
use crate::random::Random;
use crate::topology::{AccessPath, AgentId, NodeName};

/// The paths of a round, in groups that are probed together: those of one server.
pub fn paths_of_round(
    plan: &StandingPlan,
    agent: &AgentId,
    role: StandingRole,
    own_server: Option<&OwnServer>,
    round: u64,
) -> Vec<Vec<StandingPath>> {
    let mut groups = vec![fixed_paths(plan, agent, role, own_server)];
    match role {
        StandingRole::Server => {}
        StandingRole::Client => groups.extend(
            slots_of_round(&plan.slots, &agent.node, plan.peers, round)
                .map(|slot| paths_to_slot(plan, slot)),
        ),
    }
    groups.retain(|group| !group.is_empty());
    groups
}

/// Every path that may be drawn in any round.
pub fn all_paths(
    plan: &StandingPlan,
    agent: &AgentId,
    role: StandingRole,
    own_server: Option<&OwnServer>,
) -> Vec<StandingPath> {
    let mut paths = fixed_paths(plan, agent, role, own_server);
    match role {
        StandingRole::Server => {}
        StandingRole::Client => {
            paths.extend(plan.slots.iter().flat_map(|slot| paths_to_slot(plan, slot)));
        }
    }
    paths
}

/// The slots of a round: as many as there are peers, each slot once before any comes again.
fn slots_of_round<'a>(
    slots: &'a [StandingSlot],
    node: &NodeName,
    peers: u32,
    round: u64,
) -> impl Iterator<Item = &'a StandingSlot> {
    let count = slots.len() as u64;
    let peers = u64::from(peers).min(count);
    let passed = (u128::from(round) * u128::from(peers))
        .checked_rem(count.into())
        .and_then(|passed| u64::try_from(passed).ok())
        .unwrap_or_default();
    let first = passed + seed_of(node).checked_rem(count).unwrap_or_default();
    let indices = (first..first + peers).filter_map(move |at| at.checked_rem(count));
    indices.filter_map(|at| slots.get(usize::try_from(at).ok()?))
}

/// A number that depends on a node's name alone.
pub(super) fn seed_of(node: &NodeName) -> u64 {
    let bytes = node.as_str().bytes();
    bytes.fold(0, |seed, byte| Random::new(seed ^ u64::from(byte)).bits())
}

/// The paths of every round: those to the own server and to any, or the own slot of a server.
fn fixed_paths(
    plan: &StandingPlan,
    agent: &AgentId,
    role: StandingRole,
    own_server: Option<&OwnServer>,
) -> Vec<StandingPath> {
    let mut paths = Vec::new();
    let mut add = |access_path, server: Option<&AgentId>, targets: &[SocketAddr]| {
        paths.extend(paths_to(plan, access_path, server, targets));
    };
    match role {
        StandingRole::Server => {
            if let Some(slot) = plan.slot_of(agent) {
                add(AccessPath::Hairpin, Some(agent), &slot.service);
            }
        }
        StandingRole::Client => {
            add(AccessPath::ClusterIpLocal, None, &plan.local);
            if let Some(own) = own_server {
                add(
                    AccessPath::PodIp,
                    Some(&own.agent),
                    &responders(&own.addresses),
                );
            }
            add(AccessPath::ClusterIpAny, None, &plan.any);
        }
    }
    paths
}

fn paths_to_slot(plan: &StandingPlan, slot: &StandingSlot) -> Vec<StandingPath> {
    let server = slot.server();
    [
        (AccessPath::ClusterIp, slot.service.clone()),
        (AccessPath::PodIp, responders(&slot.addresses)),
        (AccessPath::NodePort, slot.node_port.clone()),
    ]
    .into_iter()
    .flat_map(|(access_path, targets)| paths_to(plan, access_path, Some(&server), &targets))
    .collect()
}

/// The paths to these targets that the plan wants: by its access paths, and one of each family.
fn paths_to(
    plan: &StandingPlan,
    access_path: AccessPath,
    server: Option<&AgentId>,
    targets: &[SocketAddr],
) -> Vec<StandingPath> {
    if !plan.access_paths.contains(&access_path) {
        return Vec::new();
    }
    let first_of = |family: &Family| {
        let mut targets = targets.iter();
        targets.find(|target| Family::of(target.ip()) == *family)
    };
    let targets = plan.families.iter().filter_map(first_of);
    targets
        .map(|target| StandingPath {
            access_path,
            server: server.cloned(),
            target: *target,
        })
        .collect()
}

fn responders(addresses: &[IpAddr]) -> Vec<SocketAddr> {
    let targets = addresses.iter();
    targets
        .map(|address| SocketAddr::new(*address, RESPONDER_PORT))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::plan::standing::tests::{plan, slots};

    fn client(node: &str) -> AgentId {
        AgentId::new(node, "client-x")
    }

    fn drawn(
        plan: &StandingPlan,
        agent: &AgentId,
        role: StandingRole,
        round: u64,
    ) -> Vec<StandingPath> {
        let own = OwnServer {
            agent: AgentId::new(agent.node.as_str(), "own"),
            addresses: vec!["10.77.9.9".parse().unwrap(), "fd77::9".parse().unwrap()],
        };
        paths_of_round(plan, agent, role, Some(&own), round).concat()
    }

    #[test]
    fn a_client_probes_its_own_server_the_balanced_port_and_its_peers() {
        let plan = plan(slots(1));
        let paths = drawn(&plan, &client("n"), StandingRole::Client, 0);
        let shown: Vec<String> = paths
            .iter()
            .map(|path| {
                format!(
                    "{} {} {}",
                    path.access_path,
                    path.scope(&NodeName::new("n")),
                    path.target
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                "cluster-ip-local same-node 10.99.0.2:8080",
                "cluster-ip-local same-node [fd99::2]:8080",
                "pod-ip same-node 10.77.9.9:8080",
                "pod-ip same-node [fd77::9]:8080",
                "cluster-ip-any any 10.99.0.1:9100",
                "cluster-ip-any any [fd99::1]:9100",
                "cluster-ip cross-node 10.99.0.1:9000",
                "cluster-ip cross-node [fd99::1]:9000",
                "pod-ip cross-node 10.77.0.1:8080",
                "pod-ip cross-node [fd77::1]:8080",
                "node-port cross-node 192.168.0.1:30000",
            ]
        );
    }

    #[test]
    fn a_server_probes_its_own_slot_only_where_it_has_one() {
        let plan = plan(slots(2));
        let server = AgentId::new("node-1", "server-1");
        let paths = drawn(&plan, &server, StandingRole::Server, 3);
        let hairpin = |path: &StandingPath| path.access_path == AccessPath::Hairpin;
        assert!(paths.len() == 2 && paths.iter().all(hairpin), "{paths:?}");
        let other = AgentId::new("node-7", "server-7");
        assert_eq!(drawn(&plan, &other, StandingRole::Server, 3), []);
    }

    #[test]
    fn only_the_families_and_access_paths_of_the_plan_are_probed() {
        let plan = StandingPlan {
            families: BTreeSet::from([Family::Ipv6]),
            access_paths: BTreeSet::from([AccessPath::PodIp]),
            ..plan(slots(3))
        };
        let paths = drawn(&plan, &client("n"), StandingRole::Client, 0);
        assert_eq!(paths.len(), 1 + 3);
        assert!(paths.iter().all(|path| path.family() == Family::Ipv6));
        assert!(
            paths
                .iter()
                .all(|path| path.access_path == AccessPath::PodIp)
        );
    }

    proptest! {
        #[test]
        fn every_slot_is_met_within_a_known_number_of_rounds(
            count in 0_usize..64, peers in 1_u32..10, first: u32, node in "[a-z0-9-]{1,20}",
        ) {
            let plan = StandingPlan { peers, ..plan(slots(count)) };
            let rounds = (count as u64).div_ceil(u64::from(peers));
            let met: BTreeSet<AgentId> = (0..rounds)
                .flat_map(|round| drawn(&plan, &client(&node), StandingRole::Client, u64::from(first) + round))
                .filter(|path| path.access_path == AccessPath::ClusterIp)
                .filter_map(|path| path.server)
                .collect();
            prop_assert_eq!(met.len(), count);
        }

        #[test]
        fn what_is_drawn_is_among_all_paths_and_has_no_path_twice(
            count in 0_usize..20, peers in 0_u32..30, round: u64,
        ) {
            let plan = StandingPlan { peers, ..plan(slots(count)) };
            let agent = client("node-1");
            let paths = drawn(&plan, &agent, StandingRole::Client, round);
            let own = paths.iter().find(|path| path.target.ip().to_string() == "10.77.9.9");
            prop_assert!(own.is_some());
            let all: BTreeSet<StandingPath> = all_paths(&plan, &agent, StandingRole::Client, None).into_iter().collect();
            let unique: BTreeSet<&StandingPath> = paths.iter().collect();
            prop_assert_eq!(unique.len(), paths.len());
            let foreign = paths.iter().filter(|path| !all.contains(path)).count();
            prop_assert_eq!(foreign, 2, "the own server's pod alone");
            prop_assert!(2 * paths.len() as u64 <= plan.most_probes_of_a_round());
        }
    }
}
