//! Which clients are replaced by fresh pods: each new pod proves that the network plugin still adds pods.
//!
//! Clients are replaced one after the other, the oldest first, so that each is once within its lifetime; and only on nodes
//! that work, while few others start.

use std::time::Duration;

use prober_core::time::Timestamp;

use super::inventory::{AgentPod, Component, Inventory};
use super::node_state::NodeState;

/// The shortest time from one replacement to the next.
const SHORTEST_PAUSE: Duration = Duration::from_secs(6);

/// One of this many clients may be starting while another is replaced.
const STARTING_PART: usize = 50;

/// The client that is to be replaced now; `None` if no client is old enough, or too many start. `last` is when the last one
/// was replaced; all times are of the wall clock.
pub fn next_to_replace(
    inventory: &Inventory,
    lifetime: Duration,
    last: Timestamp,
    now: Timestamp,
) -> Option<&AgentPod> {
    let clients = || inventory.agents(Component::Client);
    let count = clients().count();
    let pause = lifetime / u32::try_from(count.max(1)).unwrap_or(u32::MAX);
    if now.since(last) < pause.max(SHORTEST_PAUSE) {
        return None;
    }
    let works = |pod: &&AgentPod| {
        let record = inventory.node(&pod.node);
        record.is_some_and(|record| {
            NodeState::of(inventory, &pod.node, record, now) == NodeState::Working
        })
    };
    let working = clients().filter(works).count();
    // Where nodes fail, fresh pods would only hide that.
    if count - working > count / STARTING_PART {
        return None;
    }
    let oldest = clients().filter(works).min_by_key(|pod| pod.created)?;
    (now.since(oldest.created) >= lifetime).then_some(oldest)
}

#[cfg(test)]
mod tests {
    use super::super::test_cluster::Cluster;
    use super::*;

    const LIFETIME: Duration = Duration::from_hours(1);

    #[test]
    fn each_client_is_replaced_once_within_its_lifetime_and_never_in_a_burst() {
        let mut cluster = Cluster::of(100);
        let mut last = Timestamp::default();
        let began = cluster.now;
        let mut replaced = Vec::new();
        while cluster.now.since(began) < 3 * LIFETIME {
            if let Some(pod) = next_to_replace(&cluster.inventory, LIFETIME, last, cluster.now) {
                let (name, node) = (pod.name.clone(), pod.node.clone());
                assert!(cluster.now.since(last) >= SHORTEST_PAUSE);
                last = cluster.now;
                replaced.push((cluster.now, node.clone()));
                cluster.replace_pod(&name);
            }
            cluster.pass(Duration::from_secs(5));
        }
        let third_hour = replaced
            .iter()
            .filter(|(at, _)| at.since(began) >= 2 * LIFETIME);
        let count = third_hour.count();
        assert!((90..=101).contains(&count), "{count} of 100 in an hour");
    }

    #[test]
    fn no_client_is_replaced_while_nodes_fail() {
        let mut cluster = Cluster::of(100);
        cluster.pass(2 * LIFETIME);
        let next = |cluster: &Cluster| {
            next_to_replace(
                &cluster.inventory,
                LIFETIME,
                Timestamp::default(),
                cluster.now,
            )
            .map(|pod| pod.node.clone())
        };
        assert!(next(&cluster).is_some());
        for number in 0..3 {
            cluster.set_works(number, false);
        }
        cluster.pass(Duration::from_secs(10));
        assert_eq!(next(&cluster), None);
    }
}
