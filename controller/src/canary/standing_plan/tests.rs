//! One plan for all checks, which agents accept.

use prober_core::packet::family::Family;
use prober_core::plan::AllowedTargets;
use prober_core::topology::AgentId;
use serde_json::json;

use super::super::test_cluster::{Cluster, node_name};
use super::*;
use crate::manifest::ServiceAddresses;

fn services(node_ports: bool) -> StandingServices {
    let addresses = |texts: [&str; 2]| texts.map(|text| text.parse().unwrap()).to_vec();
    StandingServices {
        namespace: "prober-system".to_owned(),
        uid: "1".to_owned(),
        balanced: ServiceAddresses {
            cluster_ips: addresses(["10.96.0.10", "fd00:96::10"]),
            node_ports: if node_ports {
                (30_000..30_064).collect()
            } else {
                Vec::new()
            },
        },
        local: ServiceAddresses {
            cluster_ips: addresses(["10.96.0.11", "fd00:96::11"]),
            node_ports: Vec::new(),
        },
    }
}

fn spec(spec: serde_json::Value) -> ConnectivityCheckSpec {
    serde_json::from_value(spec).unwrap()
}

/// The plan of these checks on a cluster of three nodes, each of whose servers has a slot.
fn plan(specs: &[ConnectivityCheckSpec], services: &StandingServices) -> StandingPlan {
    let cluster = Cluster::of(3);
    let slots: Vec<(u16, ServerEndpoint)> = (0..3)
        .map(|number| {
            let server = cluster
                .inventory
                .agent(&node_name(number), Component::Server);
            let server = server.unwrap();
            let agent = AgentId {
                node: server.node.clone(),
                pod: server.name.clone(),
            };
            let addresses = server.addresses.clone();
            (
                u16::try_from(number).unwrap(),
                ServerEndpoint { agent, addresses },
            )
        })
        .collect();
    standing_plan(
        specs.iter(),
        Sources {
            services,
            slots: &slots,
            inventory: &cluster.inventory,
            pod_cidrs: &["198.18.0.0/15".parse().unwrap()],
            nonce: 7,
        },
    )
}

#[test]
fn agents_accept_the_plan_of_every_spec() {
    let ports = "8080-8081,9000-9100,30000-32767".parse().unwrap();
    let started_for = AllowedTargets::any().on_ports(ports);
    for specs in [
        vec![],
        vec![spec(json!({}))],
        vec![spec(
            json!({"interval": "1s", "peersPerNode": 16, "accessPaths": ["node-port", "cluster-ip"]}),
        )],
        vec![spec(
            json!({"interval": "1h", "probeDeadline": "1m", "confirm": {"failures": 10, "of": 10}}),
        )],
    ] {
        for services in [services(true), services(false)] {
            let plan = plan(&specs, &services);
            let text = serde_json::to_vec(&plan).unwrap();
            let read = StandingPlan::parse(&text, &started_for);
            assert_eq!(read.unwrap(), plan);
        }
    }
}

#[test]
fn all_checks_share_the_shortest_interval_and_every_access_path() {
    let specs = [
        spec(
            json!({"interval": "30s", "accessPaths": ["pod-ip"], "ipFamilies": ["IPv4"], "confirm": {"failures": 3, "of": 5}}),
        ),
        spec(
            json!({"interval": "5s", "accessPaths": ["cluster-ip"], "ipFamilies": ["IPv6"], "peersPerNode": 5}),
        ),
        spec(json!({"interval": "1s", "accessPaths": ["hairpin"], "paused": true})),
    ];
    let plan = plan(&specs, &services(false));
    assert!(!plan.paused);
    assert_eq!(plan.interval_ms, 5_000);
    assert_eq!(
        plan.access_paths,
        [AccessPath::PodIp, AccessPath::ClusterIp].into()
    );
    assert_eq!(plan.families, [Family::Ipv4, Family::Ipv6].into());
    assert_eq!(plan.peers, 5);
    let ConfirmRule { failures, of } = plan.confirm;
    assert_eq!(
        (failures, of),
        (3, 4),
        "of the more sensitive check, for two engines"
    );
}

#[test]
fn without_a_check_that_probes_the_plan_is_paused() {
    assert!(plan(&[], &services(false)).paused);
    assert!(plan(&[spec(json!({"paused": true}))], &services(false)).paused);
}

#[test]
fn node_ports_are_probed_where_the_service_has_them_and_a_check_names_them() {
    let named = spec(json!({"accessPaths": ["node-port"]}));
    let with = plan(std::slice::from_ref(&named), &services(true));
    assert_eq!(
        with.slots[1].node_port,
        ["172.16.0.1:30001".parse().unwrap()]
    );
    assert!(plan(&[named], &services(false)).access_paths.is_empty());
    let unnamed = plan(&[spec(json!({}))], &services(true));
    assert!(unnamed.slots.iter().all(|slot| slot.node_port.is_empty()));
    let node = "172.16.0.1".parse().unwrap();
    let allows = |plan: &StandingPlan| {
        let allowed = AllowedTargets::new(plan.allowed.clone());
        allowed.contains(node)
    };
    assert!(allows(&with) && !allows(&unnamed));
}

/// Pods outside of the ranges that Nodes name: row P2 for the canary.
#[test]
fn pods_of_any_range_are_allowed_and_nothing_else_is() {
    let mut cluster = Cluster::of(2);
    for address in [
        "2600:1f13:a0d:4::7",
        "198.19.4.5",
        "240.16.0.9",
        "203.0.113.77",
    ] {
        cluster.add_server_with(address);
    }
    let services = services(false);
    let plan = standing_plan(
        [spec(json!({}))].iter(),
        Sources {
            services: &services,
            slots: &[],
            inventory: &cluster.inventory,
            pod_cidrs: &["198.18.0.0/15".parse().unwrap()],
            nonce: 7,
        },
    );
    let allowed = AllowedTargets::new(plan.allowed.clone());
    for address in [
        "10.0.0.3",
        "10.0.1.9",
        "2600:1f13:a0d:4::7",
        "198.19.4.5",
        "240.16.0.9",
        "203.0.113.77",
        "10.96.0.10",
        "fd00:96::11",
    ] {
        assert!(
            allowed.contains(address.parse().unwrap()),
            "{address}: {:?}",
            plan.allowed
        );
    }
    for address in [
        "10.0.9.1",
        "169.254.169.254",
        "172.16.0.1",
        "8.8.8.8",
        "203.0.114.1",
    ] {
        assert!(
            !allowed.contains(address.parse().unwrap()),
            "{address}: {:?}",
            plan.allowed
        );
    }
}

#[test]
fn the_ranges_of_five_thousand_nodes_are_few() {
    let cluster = Cluster::of(5_000);
    let services = services(false);
    let plan = standing_plan(
        [spec(json!({}))].iter(),
        Sources {
            services: &services,
            slots: &[],
            inventory: &cluster.inventory,
            pod_cidrs: &[],
            nonce: 7,
        },
    );
    assert!(plan.allowed.len() < 32, "{} prefixes", plan.allowed.len());
}
