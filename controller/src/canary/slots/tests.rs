//! Slots over servers that come and go.

use proptest::prelude::*;

use super::*;
use prober_core::topology::AgentId;

fn server(node: usize, pod: usize) -> ServerEndpoint {
    ServerEndpoint {
        agent: AgentId::new(format!("node-{node:04}"), format!("server-{node}-{pod}")),
        addresses: vec![
            format!("10.{}.{}.{}", node / 250, node % 250, pod + 1)
                .parse()
                .unwrap(),
        ],
    }
}

fn servers(nodes: impl IntoIterator<Item = usize>) -> BTreeMap<NodeName, ServerEndpoint> {
    let all = nodes.into_iter().map(|node| server(node, 0));
    all.map(|server| (server.agent.node.clone(), server))
        .collect()
}

fn pods(table: &SlotTable) -> Vec<&str> {
    let all = table.standing();
    all.map(|(_, server)| server.agent.pod.as_str()).collect()
}

#[test]
fn every_server_of_a_small_cluster_keeps_its_slot() {
    let servers = servers(0..56);
    let mut table = SlotTable::default();
    table.update(&servers);
    let before: Vec<_> = pods(&table).into_iter().map(str::to_owned).collect();
    assert_eq!(before.len(), 56);
    table.rotate(&servers, 56);
    assert_eq!(pods(&table), before);
}

#[test]
fn every_server_of_a_large_cluster_has_a_slot_in_turn() {
    let servers = servers(0..500);
    let mut table = SlotTable::default();
    table.update(&servers);
    let mut seen = BTreeSet::new();
    for _ in 0..500_usize.div_ceil(14) {
        seen.extend(pods(&table).into_iter().map(str::to_owned));
        table.rotate(&servers, 14);
    }
    assert_eq!(seen.len(), 500);
}

#[test]
fn a_slot_follows_its_node_to_a_new_pod_and_leaves_with_it() {
    let mut servers = servers(0..3);
    let mut table = SlotTable::default();
    table.update(&servers);
    let new = server(1, 7);
    servers.insert(new.agent.node.clone(), new);
    servers.remove(&NodeName::new("node-0002"));
    table.update(&servers);
    assert_eq!(pods(&table), ["server-0-0", "server-1-7"]);
    assert_eq!(table.slot_of("server-1-7"), Some(1));
    assert_eq!(table.slot_of("server-1-0"), None);
}

#[test]
fn an_examination_reserves_slots_and_frees_them() {
    let servers = servers(0..100);
    let mut table = SlotTable::default();
    table.update(&servers);
    let standing = server(3, 0);
    assert_eq!(table.reserve("one", &standing), Some(3));
    let reserved: Vec<_> = (60..69)
        .map(|node| table.reserve("one", &server(node, 0)))
        .collect();
    assert_eq!(reserved[..8], (56..64).map(Some).collect::<Vec<_>>());
    assert_eq!(reserved[8], None);
    assert_eq!(table.reserve("two", &server(60, 0)), Some(56));
    // A slot that a run uses keeps its server.
    table.rotate(&servers, 56);
    assert_eq!(table.slot_of("server-3-0"), Some(3));
    table.release("one");
    assert_eq!(table.slot_of("server-60-0"), Some(56));
    assert_eq!(table.slot_of("server-61-0"), None);
    table.release("two");
    assert!(table.slots().skip(56).all(|(_, server)| server.is_none()));
}

#[test]
fn a_restored_table_keeps_what_was_assigned() {
    let assigned = [
        (5, server(9, 0)),
        (6, server(10, 0)),
        (60, server(11, 0)),
        (7, server(9, 0)),
    ];
    let mut table = SlotTable::restore(assigned);
    assert_eq!(pods(&table), ["server-9-0", "server-10-0"]);
    assert_eq!(table.slot_of("server-9-0"), Some(5));
    table.update(&servers([9, 10, 11]));
    assert_eq!(pods(&table), ["server-11-0", "server-9-0", "server-10-0"]);
}

proptest! {
    #[test]
    fn no_server_ever_has_two_slots(
        steps in proptest::collection::vec((0_usize..4, 0_usize..120, 0_usize..60), 0..60),
    ) {
        let mut table = SlotTable::default();
        let mut running = servers(0..80);
        for (kind, node, count) in steps {
            match kind {
                0 => {
                    let joined = server(node, count);
                    running.insert(joined.agent.node.clone(), joined);
                    table.update(&running);
                }
                1 => {
                    running.remove(&server(node, 0).agent.node);
                    table.update(&running);
                }
                2 => table.rotate(&running, count),
                _ => {
                    if let Some(server) = running.values().nth(node) {
                        table.reserve(if count > 30 { "one" } else { "two" }, server);
                    }
                    table.release("two");
                }
            }
            let held: Vec<_> = (table.slots())
                .filter_map(|(_, server)| Some(server?.agent.pod.clone()))
                .collect();
            let distinct: BTreeSet<_> = held.iter().collect();
            prop_assert_eq!(distinct.len(), held.len());
            let rotating = table.standing().count();
            prop_assert!(rotating >= running.len().saturating_sub(8).min(56) || kind > 1);
        }
    }
}
