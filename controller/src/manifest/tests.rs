//! Tests of the objects of a run: snapshots of each kind, and properties of all of them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Node, Pod, SecurityContext};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use prober_core::plan::{PLAN_SCHEMA, Plan};
use prober_core::topology::{AgentId, AgentRole};
use serde_json::json;

use super::pod_options::ToleratedTaint;
use super::*;
use crate::kubernetes::node_info::NodeInfo;

fn manifest(privilege: Privilege) -> Manifest {
    Manifest {
        run: "prober-k3x9q2".to_owned(),
        namespace: "probes".to_owned(),
        image: "prober.dev/prober-agent:0.1.0".to_owned(),
        pod_options: PodOptions::default(),
        lifetime: Duration::from_secs(90),
        privilege,
        families: IpFamilies::Available,
        slots: 2,
        node_ports: NodePorts::Enabled,
        check: None,
    }
}

fn owner() -> OwnerJob {
    let job: Job = serde_json::from_value(json!({
        "metadata": {"name": "prober-k3x9q2", "uid": "6f2c2f1a-3f0e-4a53-a3a5-0d5c2a6c7a11"}
    }))
    .unwrap();
    OwnerJob::from_job(&job).unwrap()
}

fn node() -> NodeInfo {
    let object: Node = serde_json::from_value(json!({
        "metadata": {"name": "node-1", "annotations": {"flannel.alpha.coreos.com/backend-type": "vxlan"}},
        "spec": {
            "podCIDRs": ["10.244.1.0/24", "fd00:10:244:1::/64"],
            "taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]
        },
        "status": {"addresses": [{"type": "InternalIP", "address": "10.99.0.11"}]}
    }))
    .unwrap();
    NodeInfo::from_node(&object)
}

fn plan(role: AgentRole) -> Plan {
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

fn pod(privilege: Privilege, role: AgentRole) -> Pod {
    let services = ["10.96.0.7", "fd00:10:96::7"].map(|ip| ip.parse().unwrap());
    let prefixes = PodPrefixes::new(&[], [&node()]);
    let allowed = allowed_targets(services, [&node()], &prefixes, []);
    manifest(privilege)
        .pod(&owner(), &node(), role, &plan(role), &allowed)
        .unwrap()
}

fn security(pod: &Pod) -> SecurityContext {
    let spec = pod.spec.as_ref().unwrap();
    spec.containers[0].security_context.clone().unwrap()
}

fn servers() -> [ServerEndpoint; 2] {
    [
        ("node-1", "10.244.1.5", "fd00:10:244:1::5"),
        ("node-2", "10.244.2.5", "fd00:10:244:2::5"),
    ]
    .map(|(node, v4, v6)| ServerEndpoint {
        agent: AgentId::new(node, format!("prober-k3x9q2-{node}-server")),
        addresses: vec![v4.parse().unwrap(), v6.parse().unwrap()],
    })
}

#[test]
fn the_owner_job_has_a_deadline_and_no_pods() {
    insta::assert_yaml_snapshot!(manifest(Privilege::NetRaw).owner_job());
}

#[test]
fn a_client_keeps_only_net_raw() {
    insta::assert_yaml_snapshot!(pod(Privilege::NetRaw, AgentRole::Client));
}

#[test]
fn only_pods_of_a_canary_have_a_readiness_probe() {
    let check = CheckRef {
        name: "default".to_owned(),
        uid: "c0ffee".to_owned(),
    };
    let of_a_canary = Manifest {
        check: Some(check),
        ..manifest(Privilege::NetRaw)
    };
    let of_a_run = manifest(Privilege::NetRaw);
    let readiness = |manifest: &Manifest, role| {
        let pod = manifest.pod(&owner(), &node(), role, &plan(role), &[]);
        let container = pod.unwrap().spec.unwrap().containers.remove(0);
        let has_flag = container
            .args
            .unwrap()
            .contains(&"--readiness-port".to_owned());
        (has_flag, container.readiness_probe.is_some())
    };
    for role in [AgentRole::Client, AgentRole::Server] {
        assert_eq!(readiness(&of_a_canary, role), (true, true));
        assert_eq!(readiness(&of_a_run, role), (false, false));
    }
    assert_eq!(readiness(&of_a_canary, AgentRole::Host), (false, false));
}

#[test]
fn a_host_agent_is_unprivileged_in_the_host_network() {
    insta::assert_yaml_snapshot!(pod(Privilege::NetRaw, AgentRole::Host));
}

#[test]
fn every_unprivileged_agent_has_an_unprivileged_uid() {
    for role in [AgentRole::Client, AgentRole::Server, AgentRole::Host] {
        let pod = pod(Privilege::Unprivileged, role);
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
fn a_dry_run_pod_requests_the_same_as_the_pod_of_an_agent() {
    for privilege in [Privilege::NetRaw, Privilege::Unprivileged] {
        for role in [AgentRole::Client, AgentRole::Host] {
            let dry_run = manifest(privilege).dry_run_pod(role, privilege);
            let created = pod(privilege, role);
            assert_eq!(security(&dry_run), security(&created));
            assert_eq!(dry_run.metadata.labels, created.metadata.labels);
            let (dry_run, created) = (dry_run.spec.unwrap(), created.spec.unwrap());
            assert_eq!(dry_run.host_network, created.host_network);
            assert_eq!(dry_run.volumes, created.volumes);
            assert_eq!(
                dry_run.containers[0].resources,
                created.containers[0].resources
            );
        }
    }
}

#[test]
fn no_pod_adds_capabilities_gains_privileges_or_writes_to_its_root() {
    for privilege in [Privilege::NetRaw, Privilege::Unprivileged] {
        for role in [AgentRole::Client, AgentRole::Server, AgentRole::Host] {
            let pod = pod(privilege, role);
            let found = security(&pod);
            assert_eq!(found.capabilities.unwrap().add, None);
            assert_eq!(found.allow_privilege_escalation, Some(false));
            assert_eq!(found.read_only_root_filesystem, Some(true));
            let spec = pod.spec.unwrap();
            assert_eq!(spec.automount_service_account_token, Some(false));
            assert_eq!(spec.host_network, (role == AgentRole::Host).then_some(true));
        }
    }
}

#[test]
fn the_services_have_a_port_for_each_slot_and_a_balanced_one() {
    let manifest = manifest(Privilege::NetRaw);
    insta::assert_yaml_snapshot!([
        manifest.service(&owner(), manifest.node_ports),
        manifest.local_service(&owner())
    ]);
}

#[test]
fn a_run_of_one_family_has_services_of_one_family() {
    let manifest = Manifest {
        families: IpFamilies::Only(Family::Ipv6),
        node_ports: NodePorts::Disabled,
        ..manifest(Privilege::NetRaw)
    };
    for service in [
        manifest.service(&owner(), manifest.node_ports),
        manifest.local_service(&owner()),
    ] {
        let spec = service.spec.unwrap();
        assert_eq!(spec.ip_family_policy.as_deref(), Some("SingleStack"));
        assert_eq!(spec.ip_families, Some(vec!["IPv6".to_owned()]));
        assert_eq!(spec.type_.as_deref(), Some("ClusterIP"));
    }
}

const BOTH: [Family; 2] = [Family::Ipv4, Family::Ipv6];

fn slots(is_balanced: [bool; 2]) -> Vec<SlotEndpoint> {
    (servers().into_iter().zip(is_balanced))
        .map(|(server, is_balanced)| SlotEndpoint {
            server,
            is_balanced,
        })
        .collect()
}

/// The manifests of a one-shot run and of a canary.
fn manifests_of_a_run_and_a_canary() -> [Manifest; 2] {
    let check = CheckRef {
        name: "default".to_owned(),
        uid: "c0ffee".to_owned(),
    };
    [None, Some(check)].map(|check| Manifest {
        check,
        ..manifest(Privilege::NetRaw)
    })
}

/// The slices that the API server has, by name.
type Stored = BTreeMap<String, EndpointSlice>;

/// Writes the slices of a publication one by one, and checks the stored slices after each.
fn write(
    stored: &mut Stored,
    manifest: &Manifest,
    is_balanced: [bool; 2],
    publication: Publication,
    check: impl Fn(&Stored),
) {
    let slots = slots(is_balanced);
    let steps = manifest.publication(&owner(), &BOTH, &slots, &servers(), publication);
    for slice in steps.into_iter().flatten() {
        stored.insert(slice.metadata.name.clone().unwrap(), slice);
        check(stored);
    }
}

/// The servers as Cilium keeps them: the port names of each Service, address and port. No two slices may name the same one.
fn port_names(stored: &Stored) -> BTreeMap<(&str, &str, i32), Vec<&str>> {
    let mut known = BTreeMap::new();
    for slice in stored.values() {
        let service =
            slice.metadata.labels.as_ref().unwrap()[endpoint_slice::SERVICE_NAME_LABEL].as_str();
        let ports = slice.ports.as_ref().unwrap();
        let names: Vec<_> = ports
            .iter()
            .filter_map(|port| port.name.as_deref())
            .collect();
        let numbers: BTreeSet<_> = ports.iter().filter_map(|port| port.port).collect();
        for address in slice.endpoints.iter().flat_map(|one| &one.addresses) {
            for &number in &numbers {
                let key = (service, address.as_str(), number);
                let other = known.insert(key, names.clone());
                assert_eq!(other, None, "two slices name {key:?}");
            }
        }
    }
    known
}

#[test]
fn a_server_has_one_slice_of_a_service_in_each_family() {
    let steps = manifest(Privilege::NetRaw).publication(
        &owner(),
        &BOTH,
        &slots([true, false]),
        &servers(),
        Publication::Update,
    );
    let slices = steps.concat();
    assert_eq!(slices.len(), 2 * (2 + 1));
    insta::assert_yaml_snapshot!([&slices[0], &slices[1], &slices[4]]);
}

#[test]
fn all_ports_of_a_server_are_in_the_one_slice_that_names_its_address() {
    for manifest in manifests_of_a_run_and_a_canary() {
        for is_balanced in [[true, true], [true, false], [false, false]] {
            let mut stored = Stored::new();
            for publication in [Publication::First, Publication::Update] {
                write(&mut stored, &manifest, is_balanced, publication, |stored| {
                    port_names(stored);
                });
                let known = port_names(&stored);
                assert_eq!(known.len(), 2 * 2 * 2);
                let ports = ["slot-0", "slot-1"].into_iter().zip(is_balanced);
                for (server, (slot, is_balanced)) in servers().iter().zip(ports) {
                    let names: Vec<_> = [slot]
                        .into_iter()
                        .chain(is_balanced.then_some("any"))
                        .collect();
                    for address in server.addresses.iter().map(ToString::to_string) {
                        assert_eq!(known[&("prober-k3x9q2", address.as_str(), 8080)], names);
                        assert_eq!(
                            known[&("prober-k3x9q2-local", address.as_str(), 8080)],
                            ["any"]
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn any_has_no_endpoint_until_every_slot_and_the_local_service_have_one() {
    for manifest in manifests_of_a_run_and_a_canary() {
        write(
            &mut Stored::new(),
            &manifest,
            [true, true],
            Publication::First,
            |stored| {
                let known = port_names(stored);
                let of_run = |key: &(&str, &str, i32)| key.0 == "prober-k3x9q2";
                let is_balanced =
                    (known.iter()).any(|(key, names)| of_run(key) && names.contains(&"any"));
                assert!(!is_balanced || known.len() == 2 * 2 * 2, "{known:#?}");
            },
        );
    }
}

#[test]
fn a_server_that_leaves_any_keeps_its_slot_and_others_keep_both() {
    for manifest in manifests_of_a_run_and_a_canary() {
        let mut stored = Stored::new();
        write(
            &mut stored,
            &manifest,
            [true, true],
            Publication::First,
            |_| {},
        );
        let names = |stored: &Stored, address: &str| {
            let known = port_names(stored);
            let names = known[&("prober-k3x9q2", address, 8080)].clone();
            names.into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        write(
            &mut stored,
            &manifest,
            [false, true],
            Publication::Update,
            |stored| {
                assert_eq!(names(stored, "10.244.2.5"), ["slot-1", "any"]);
                assert_eq!(names(stored, "10.244.1.5")[0], "slot-0");
            },
        );
        for address in ["10.244.1.5", "fd00:10:244:1::5"] {
            assert_eq!(names(&stored, address), ["slot-0"]);
        }
    }
}

#[test]
fn a_server_without_an_address_of_a_family_is_in_no_slice_of_it() {
    let only_v4 = |server: ServerEndpoint| ServerEndpoint {
        addresses: server.addresses[..1].to_vec(),
        ..server
    };
    let slots: Vec<_> = (slots([true, true]).into_iter())
        .map(|slot| SlotEndpoint {
            server: only_v4(slot.server),
            ..slot
        })
        .collect();
    let steps = manifest(Privilege::NetRaw).publication(
        &owner(),
        &[Family::Ipv6],
        &slots,
        &servers().map(only_v4),
        Publication::First,
    );
    assert!(
        steps
            .concat()
            .iter()
            .all(|slice| slice.endpoints.is_empty())
    );
}

#[test]
fn every_object_has_the_labels_of_its_run_and_the_owner_job() {
    let manifest = manifest(Privilege::NetRaw);
    let steps = manifest.publication(
        &owner(),
        &[Family::Ipv4],
        &slots([true, true]),
        &servers(),
        Publication::First,
    );
    let metas = steps
        .into_iter()
        .flatten()
        .map(|slice| slice.metadata)
        .chain(
            [AgentRole::Client, AgentRole::Server, AgentRole::Host]
                .map(|role| pod(Privilege::NetRaw, role).metadata),
        )
        .chain([
            manifest.service(&owner(), manifest.node_ports).metadata,
            manifest.local_service(&owner()).metadata,
        ]);
    for meta in metas {
        let labels = meta.labels.unwrap();
        for (key, value) in labels::run_labels(&manifest.run) {
            assert_eq!(labels.get(&key), Some(&value), "{:?}", meta.name);
        }
        let reference = &meta.owner_references.unwrap()[0];
        assert_eq!(
            (reference.kind.as_str(), reference.uid.as_str()),
            ("Job", owner().uid())
        );
        // OpenShift requires a permission for it that a run does not have.
        assert_eq!(reference.block_owner_deletion, None);
    }
}

#[test]
fn names_and_labels_have_valid_lengths() {
    let manifest = Manifest {
        run: run_name(u64::MAX),
        slots: 16,
        ..manifest(Privilege::NetRaw)
    };
    let servers = vec![servers()[0].clone(); 16];
    let slots = vec![slots([true, true])[0].clone(); 16];
    // Names of Services are DNS labels (RFC 1035), those of ports at most 15 letters (RFC 6335).
    for service in [
        manifest.service(&owner(), manifest.node_ports),
        manifest.local_service(&owner()),
    ] {
        assert!(service.metadata.name.unwrap().len() <= 63);
        for port in service.spec.unwrap().ports.unwrap() {
            assert!(port.name.unwrap().len() <= 15);
        }
    }
    let families = [Family::Ipv6];
    let steps = manifest.publication(&owner(), &families, &slots, &servers, Publication::First);
    for slice in steps.concat() {
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
fn different_nonces_give_different_names() {
    assert_eq!(run_name(0), "prober-bbbbbb");
    assert_eq!(run_name(28), "prober-ccbbbb");
    assert_ne!(run_name(1), run_name(2));
}

#[test]
fn a_pod_is_assigned_by_the_label_of_its_host_name_where_its_node_has_one() {
    let with_label = NodeInfo {
        hostname: Some("ip-10-0-3-17".to_owned()),
        ..node()
    };
    let spec = |node: &NodeInfo| {
        let role = AgentRole::Client;
        let pod = manifest(Privilege::NetRaw).pod(&owner(), node, role, &plan(role), &[]);
        pod.unwrap().spec.unwrap()
    };
    let labelled = spec(&with_label);
    assert_eq!(labelled.affinity, None, "Karpenter refuses matchFields");
    assert_eq!(
        labelled.node_selector,
        Some(
            [(
                "kubernetes.io/hostname".to_owned(),
                "ip-10-0-3-17".to_owned()
            )]
            .into()
        )
    );
    let unlabelled = spec(&node());
    assert!(unlabelled.affinity.is_some() && unlabelled.node_selector.is_none());
}

#[test]
fn a_user_chooses_pull_secrets_priority_resources_and_tolerations() {
    let pair = |name: &str, amount: &str| (name.to_owned(), amount.to_owned());
    let chosen = Manifest {
        pod_options: PodOptions {
            image_pull_secrets: vec!["registry".to_owned()],
            priority_class: Some("system-node-critical".to_owned()),
            requests: [pair("cpu", "5m")].into(),
            limits: [pair("memory", "64Mi"), pair("ephemeral-storage", "8Mi")].into(),
            tolerations: vec![ToleratedTaint {
                key: Some("dedicated".to_owned()),
                value: Some("gpu".to_owned()),
                effect: None,
            }],
        },
        ..manifest(Privilege::NetRaw)
    };
    let role = AgentRole::Client;
    let pod = chosen.pod(&owner(), &node(), role, &plan(role), &[]);
    let spec = pod.unwrap().spec.unwrap();
    insta::assert_yaml_snapshot!((
        &spec.image_pull_secrets,
        &spec.priority_class_name,
        &spec.containers[0].resources,
        &spec.tolerations,
    ));
    // What would be placed is what is tried.
    let tried = chosen.dry_run_pod(role, Privilege::NetRaw).spec.unwrap();
    assert_eq!(tried.priority_class_name, spec.priority_class_name);
    assert_eq!(tried.containers[0].resources, spec.containers[0].resources);
}
