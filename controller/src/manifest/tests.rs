//! The objects of a run as a person would read them, and what must hold of all of them.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Node, Pod, SecurityContext};
use prober_core::plan::{PLAN_SCHEMA, Plan};
use prober_core::topology::{AgentId, Role};
use serde_json::json;

use super::*;
use crate::kubernetes::node_info::Site;

fn manifest(privilege: Privilege) -> Manifest {
    Manifest {
        run: "prober-k3x9q2".to_owned(),
        namespace: "probes".to_owned(),
        image: "prober.dev/prober-agent:0.1.0".to_owned(),
        lifetime: Duration::from_secs(90),
        privilege,
        families: Families::Available,
        slots: 2,
        node_ports: NodePorts::Asked,
        check: None,
    }
}

fn anchor() -> Anchor {
    let job: Job = serde_json::from_value(json!({
        "metadata": {"name": "prober-k3x9q2", "uid": "6f2c2f1a-3f0e-4a53-a3a5-0d5c2a6c7a11"}
    }))
    .unwrap();
    Anchor::of(&job).unwrap()
}

fn site() -> Site {
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": "node-1", "annotations": {"flannel.alpha.coreos.com/backend-type": "vxlan"}},
        "spec": {
            "podCIDRs": ["10.244.1.0/24", "fd00:10:244:1::/64"],
            "taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]
        },
        "status": {"addresses": [{"type": "InternalIP", "address": "10.99.0.11"}]}
    }))
    .unwrap();
    Site::of(&node)
}

fn plan(role: Role) -> Plan {
    let pod = format!("prober-k3x9q2-node-1-{role:?}").to_lowercase();
    serde_json::from_value(json!({
        "schema": PLAN_SCHEMA,
        "run": "prober-k3x9q2",
        "generation": 1,
        "agent": AgentId::new("node-1", pod),
        "nonce": 7,
        "responder": {"ports": [8080], "accept": "running"},
        "probes": []
    }))
    .unwrap()
}

fn pod(privilege: Privilege, role: Role) -> Pod {
    let services = ["10.96.0.7", "fd00:10:96::7"].map(|ip| ip.parse().unwrap());
    let allowed = allowed(services, [&site()]);
    manifest(privilege)
        .pod(&anchor(), &site(), role, &plan(role), &allowed)
        .unwrap()
}

fn security(pod: &Pod) -> SecurityContext {
    let spec = pod.spec.as_ref().unwrap();
    spec.containers[0].security_context.clone().unwrap()
}

fn backends() -> [Backend; 2] {
    [
        ("node-1", "10.244.1.5", "fd00:10:244:1::5"),
        ("node-2", "10.244.2.5", "fd00:10:244:2::5"),
    ]
    .map(|(node, v4, v6)| Backend {
        agent: AgentId::new(node, format!("prober-k3x9q2-{node}-server")),
        addresses: vec![v4.parse().unwrap(), v6.parse().unwrap()],
    })
}

#[test]
fn the_anchor_owns_and_expires() {
    insta::assert_yaml_snapshot!(manifest(Privilege::Packets).anchor());
}

#[test]
fn a_client_keeps_the_right_to_packets_and_nothing_else() {
    insta::assert_yaml_snapshot!(pod(Privilege::Packets, Role::Client));
}

#[test]
fn only_a_pod_of_a_canary_has_a_bell_and_its_kubelet_hears_it() {
    let check = CheckRef {
        name: "default".to_owned(),
        uid: "c0ffee".to_owned(),
    };
    let of_a_canary = Manifest {
        check: Some(check),
        ..manifest(Privilege::Packets)
    };
    let of_a_run = manifest(Privilege::Packets);
    let bell = |manifest: &Manifest, role| {
        let pod = manifest.pod(&anchor(), &site(), role, &plan(role), &[]);
        let container = pod.unwrap().spec.unwrap().containers.remove(0);
        let listens = container.args.unwrap().contains(&"--bell".to_owned());
        (listens, container.readiness_probe.is_some())
    };
    for role in [Role::Client, Role::Server] {
        assert_eq!(bell(&of_a_canary, role), (true, true));
        assert_eq!(bell(&of_a_run, role), (false, false));
    }
    assert_eq!(bell(&of_a_canary, Role::Host), (false, false));
}

#[test]
fn a_host_agent_is_nobody_in_the_nodes_own_network() {
    insta::assert_yaml_snapshot!(pod(Privilege::Packets, Role::Host));
}

#[test]
fn where_packets_are_refused_every_agent_is_nobody() {
    for role in [Role::Client, Role::Server, Role::Host] {
        let pod = pod(Privilege::None, role);
        let found = security(&pod);
        assert_eq!(found.run_as_user, Some(65_534));
        assert_eq!(found.run_as_non_root, Some(true));
        let dropped = found.capabilities.unwrap();
        assert_eq!(
            (dropped.add, dropped.drop),
            (None, Some(vec!["ALL".to_owned()]))
        );
        let args = pod.spec.unwrap().containers[0].args.clone().unwrap();
        assert!(args.windows(2).any(|pair| pair == ["--tier", "T0"]));
    }
}

#[test]
fn a_pod_that_is_only_tried_asks_for_the_same_as_one_that_is_made() {
    for privilege in [Privilege::Packets, Privilege::None] {
        for role in [Role::Client, Role::Host] {
            let tried = manifest(privilege).trial(role, privilege);
            let made = pod(privilege, role);
            assert_eq!(security(&tried), security(&made));
            assert_eq!(tried.metadata.labels, made.metadata.labels);
            let (tried, made) = (tried.spec.unwrap(), made.spec.unwrap());
            assert_eq!(tried.host_network, made.host_network);
            assert_eq!(tried.volumes, made.volumes);
            assert_eq!(tried.containers[0].resources, made.containers[0].resources);
        }
    }
}

#[test]
fn no_pod_adds_a_capability_or_may_gain_privileges_or_writes_to_its_root() {
    for privilege in [Privilege::Packets, Privilege::None] {
        for role in [Role::Client, Role::Server, Role::Host] {
            let pod = pod(privilege, role);
            let found = security(&pod);
            assert_eq!(found.capabilities.unwrap().add, None);
            assert_eq!(found.allow_privilege_escalation, Some(false));
            assert_eq!(found.read_only_root_filesystem, Some(true));
            let spec = pod.spec.unwrap();
            assert_eq!(spec.automount_service_account_token, Some(false));
            assert_eq!(spec.host_network, (role == Role::Host).then_some(true));
        }
    }
}

#[test]
fn the_services_have_a_port_for_each_slot_and_one_that_is_balanced() {
    let manifest = manifest(Privilege::Packets);
    insta::assert_yaml_snapshot!([
        manifest.service(&anchor()),
        manifest.local_service(&anchor())
    ]);
}

#[test]
fn a_run_of_one_family_asks_for_services_of_one_family() {
    let manifest = Manifest {
        families: Families::Only(Family::Ipv6),
        node_ports: NodePorts::Unasked,
        ..manifest(Privilege::Packets)
    };
    for service in [
        manifest.service(&anchor()),
        manifest.local_service(&anchor()),
    ] {
        let spec = service.spec.unwrap();
        assert_eq!(spec.ip_family_policy.as_deref(), Some("SingleStack"));
        assert_eq!(spec.ip_families, Some(vec!["IPv6".to_owned()]));
        assert_eq!(spec.type_.as_deref(), Some("ClusterIP"));
    }
}

#[test]
fn each_slot_has_its_own_slice_in_each_family() {
    let slices = manifest(Privilege::Packets).slices(
        &anchor(),
        &[Family::Ipv4, Family::Ipv6],
        &backends(),
        &backends(),
        &backends(),
    );
    assert_eq!(slices.len(), 2 * (2 + 2));
    insta::assert_yaml_snapshot!(slices[..4]);
}

#[test]
fn a_server_without_an_address_of_a_family_is_in_no_slice_of_it() {
    let only_v4 = backends().map(|backend| Backend {
        addresses: backend.addresses[..1].to_vec(),
        ..backend
    });
    let slices = manifest(Privilege::Packets).slices(
        &anchor(),
        &[Family::Ipv6],
        &only_v4,
        &only_v4,
        &only_v4,
    );
    assert!(slices.iter().all(|slice| slice.endpoints.is_empty()));
}

#[test]
fn every_object_is_marked_with_its_run_and_owned_by_the_anchor() {
    let manifest = manifest(Privilege::Packets);
    let slices = manifest.slices(
        &anchor(),
        &[Family::Ipv4],
        &backends(),
        &backends(),
        &backends(),
    );
    let metas = slices
        .into_iter()
        .map(|slice| slice.metadata)
        .chain(
            [Role::Client, Role::Server, Role::Host]
                .map(|role| pod(Privilege::Packets, role).metadata),
        )
        .chain([
            manifest.service(&anchor()).metadata,
            manifest.local_service(&anchor()).metadata,
        ]);
    for meta in metas {
        let labels = meta.labels.unwrap();
        for (key, value) in labels::of_run(&manifest.run) {
            assert_eq!(labels.get(&key), Some(&value), "{:?}", meta.name);
        }
        let owner = &meta.owner_references.unwrap()[0];
        assert_eq!(
            (owner.kind.as_str(), owner.uid.as_str()),
            ("Job", anchor().uid())
        );
        assert_eq!(owner.block_owner_deletion, Some(true));
    }
}

#[test]
fn names_and_labels_are_as_long_as_the_api_allows() {
    let manifest = Manifest {
        run: run_name(u64::MAX),
        slots: 16,
        ..manifest(Privilege::Packets)
    };
    let servers = vec![backends()[0].clone(); 16];
    // Names of Services are DNS labels (RFC 1035), those of ports at most 15 letters (RFC 6335).
    for service in [
        manifest.service(&anchor()),
        manifest.local_service(&anchor()),
    ] {
        assert!(service.metadata.name.unwrap().len() <= 63);
        for port in service.spec.unwrap().ports.unwrap() {
            assert!(port.name.unwrap().len() <= 15);
        }
    }
    for slice in manifest.slices(&anchor(), &[Family::Ipv6], &servers, &servers, &servers) {
        assert!(slice.metadata.name.unwrap().len() <= 253);
        assert!(
            slice
                .metadata
                .labels
                .unwrap()
                .values()
                .all(|value| value.len() <= 63)
        );
    }
}

#[test]
fn the_names_of_runs_differ_as_their_nonces_do() {
    assert_eq!(run_name(0), "prober-bbbbbb");
    assert_eq!(run_name(28), "prober-ccbbbb");
    assert_ne!(run_name(1), run_name(2));
}

#[test]
fn agents_may_ask_private_addresses_only_where_the_cluster_does_not_say_which_are_its_pods() {
    let service = "203.0.113.7".parse().unwrap();
    let exact = allowed([service], [&site()]);
    assert_eq!(
        exact,
        [
            "203.0.113.7/32",
            "10.99.0.11/32",
            "10.244.1.0/24",
            "fd00:10:244:1::/64"
        ]
    );
    let unknown = allowed([service], [&site(), &Site::default()]);
    assert!(unknown.contains(&"100.64.0.0/10".to_owned()));
    assert!(
        unknown
            .iter()
            .all(|prefix| !prefix.starts_with("169.254") && !prefix.starts_with("fe80"))
    );
}
