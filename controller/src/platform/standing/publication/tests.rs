//! The addresses that a run gets.

use std::collections::BTreeMap;
use std::time::Duration;

use prober_core::topology::NodeName;

use super::*;
use crate::canary::slots::SlotTable;
use crate::manifest::ServiceAddresses;
use crate::manifest::standing::StandingServices;
use crate::platform::standing::StandingPod;
use crate::platform::standing::slot_board::SlotBoard;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn config(nodes: u8) -> StandingConfig {
    let services = StandingServices {
        namespace: "prober-system".to_owned(),
        uid: "u".to_owned(),
        balanced: ServiceAddresses {
            cluster_ips: vec![address("10.96.0.9"), address("fd00:96::9")],
            node_ports: (30_000..30_064).collect(),
        },
        local: ServiceAddresses {
            cluster_ips: vec![address("10.96.0.8"), address("fd00:96::8")],
            node_ports: Vec::new(),
        },
    };
    let pod = |node: u8| StandingPod {
        uid: format!("uid-{node}"),
        addresses: vec![
            address(&format!("10.244.{node}.7")),
            address(&format!("fd00:244::{node}")),
        ],
    };
    StandingConfig {
        run: "test".to_owned(),
        pods: (1..=nodes)
            .map(|node| (format!("server-{node}"), pod(node)))
            .collect(),
        nodes: (1..=nodes)
            .map(|node| {
                (
                    NodeName::new(format!("node-{node}")),
                    vec![address(&format!("10.99.0.{node}"))],
                )
            })
            .collect(),
        slots: SlotBoard::new(services, SlotTable::default()),
        startup_timeout: Duration::from_secs(10),
    }
}

fn server(node: u8) -> AgentId {
    AgentId::new(format!("node-{node}"), format!("server-{node}"))
}

fn texts(addresses: &[SocketAddr]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

#[test]
fn each_server_is_at_its_slot_and_one_without_a_slot_is_nowhere() {
    let config = config(4);
    let endpoints = Endpoints {
        slots: vec![server(1), server(2), server(3)],
        any: Vec::new(),
        local: vec![server(1)],
    };
    let servers: Vec<_> = endpoints.slots.iter().map(|id| config.server(id)).collect();
    let slot = |slot, is_recent| Some(Reservation { slot, is_recent });
    let reservations = [slot(7, false), slot(57, true), None];
    let balanced = [
        (7, config.server(&server(1))),
        (9, config.server(&server(4))),
    ];
    let published = config.published(&endpoints, &servers, &reservations, &balanced);
    assert_eq!(
        texts(&published.slots[0]),
        ["10.96.0.9:9007", "[fd00:96::9]:9007"]
    );
    assert_eq!(
        texts(&published.slots[1]),
        ["10.96.0.9:9057", "[fd00:96::9]:9057"]
    );
    assert!(published.slots[2].is_empty());
    assert_eq!(
        texts(&published.any),
        ["10.96.0.9:9100", "[fd00:96::9]:9100"]
    );
    assert_eq!(
        texts(&published.local),
        ["10.96.0.8:9100", "[fd00:96::8]:9100"]
    );
    assert_eq!(texts(&published.node_ports[0]), ["10.99.0.1:30007"]);
    assert!(published.node_ports[2].is_empty());
    // Agents wait for the slot that was written just now, and for no other.
    assert_eq!(published.rules, Rules::Underway(published.slots[1].clone()));
    // The balanced port leads to servers that the run does not use.
    let any = published.slices.unwrap().any;
    let pods: BTreeMap<_, _> = any
        .iter()
        .map(|one| (one.address.to_string(), one.agent.clone()))
        .collect();
    assert_eq!(pods["10.244.4.7:8080"], Some(server(4)));
    assert_eq!(any.len(), 4);
}

#[test]
fn no_agent_waits_where_every_slot_is_old() {
    let config = config(1);
    let endpoints = Endpoints {
        slots: vec![server(1)],
        any: Vec::new(),
        local: vec![server(1)],
    };
    let servers = [config.server(&server(1))];
    let reservations = [Some(Reservation {
        slot: 0,
        is_recent: false,
    })];
    let published = config.published(&endpoints, &servers, &reservations, &[]);
    assert_eq!(published.rules, Rules::Written);
}
