//! The manifests and the code agree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Container, PodSpec};
use k8s_openapi::api::rbac::v1::{ClusterRole, Role};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use prober_core::plan::{OTHER_RESPONDER_PORT, PortRanges, RESPONDER_PORT};
use prober_core::topology::AgentId;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::*;
use crate::kubernetes::mesh::{MetadataField, opt_outs};
use crate::manifest::{BALANCED_PORT, MAX_SLOTS, PLAN_ANNOTATION, SLOT_PORT};

/// The YAML documents of a file of `deploy/kustomize`.
fn documents(file: &str) -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kustomize");
    let text = std::fs::read_to_string(folder.join(file)).unwrap();
    let documents = text.split("\n---\n");
    documents
        .map(|document| serde_saphyr::from_str(document).unwrap())
        .collect()
}

/// The object of this kind and name in a file.
fn object<T: DeserializeOwned>(file: &str, kind: &str, name: &str) -> T {
    let found = documents(file)
        .into_iter()
        .find(|document| document["kind"] == kind && document["metadata"]["name"] == name);
    let found = found.unwrap_or_else(|| panic!("{file} has no {kind} {name}"));
    serde_json::from_value(found).unwrap()
}

/// The DaemonSets, by component.
fn daemon_sets() -> BTreeMap<&'static str, DaemonSet> {
    [
        (CLIENT, "default/client.yaml"),
        (SERVER, "default/server.yaml"),
        (NODE, "components/node-facts/node.yaml"),
    ]
    .into_iter()
    .map(|(component, file)| {
        (
            component,
            object(file, "DaemonSet", &format!("prober-{component}")),
        )
    })
    .collect()
}

fn pod_spec(set: &DaemonSet) -> &PodSpec {
    set.spec.as_ref().unwrap().template.spec.as_ref().unwrap()
}

fn container(set: &DaemonSet) -> &Container {
    let [container] = pod_spec(set).containers.as_slice() else {
        panic!("one container");
    };
    container
}

/// The value of an argument `--NAME=VALUE`.
fn argument<'a>(set: &'a DaemonSet, name: &str) -> Option<&'a str> {
    let mut args = container(set).args.iter().flatten();
    args.find_map(|arg| {
        arg.strip_prefix("--")?
            .strip_prefix(name)?
            .strip_prefix('=')
    })
}

#[test]
fn the_agents_have_the_labels_that_select_them() {
    for (component, set) in daemon_sets() {
        let spec = set.spec.as_ref().unwrap();
        let labels = spec
            .template
            .metadata
            .as_ref()
            .unwrap()
            .labels
            .clone()
            .unwrap();
        let selector = spec.selector.match_labels.clone().unwrap();
        assert_eq!(labels[labels::COMPONENT], component);
        assert!(
            selector
                .iter()
                .all(|(key, value)| labels.get(key) == Some(value))
        );
        for word in AGENT_SELECTOR.split(',') {
            let (key, value) = word.split_once('=').unwrap();
            assert_eq!(labels[key], value, "{component}");
        }
    }
}

#[test]
fn the_agents_that_probe_stay_out_of_every_mesh() {
    for component in [CLIENT, SERVER] {
        let sets = daemon_sets();
        let template = sets[component].spec.as_ref().unwrap().template.clone();
        let metadata = template.metadata.unwrap();
        let has = |has: Option<BTreeMap<String, String>>, wanted: BTreeMap<String, String>| {
            let has = has.unwrap();
            wanted
                .iter()
                .all(|(key, value)| has.get(key) == Some(value))
        };
        assert!(
            has(metadata.labels, opt_outs(MetadataField::Label)),
            "{component}"
        );
        assert!(
            has(metadata.annotations, opt_outs(MetadataField::Annotation)),
            "{component}"
        );
    }
}

#[test]
fn the_agents_listen_where_they_are_probed_and_may_probe_what_the_services_have() {
    let ports = |set: &DaemonSet| -> BTreeMap<String, i32> {
        let ports = container(set).ports.clone().unwrap_or_default();
        ports
            .into_iter()
            .map(|port| (port.name.unwrap(), port.container_port))
            .collect()
    };
    let sets = daemon_sets();
    let server = ports(&sets[SERVER]);
    assert_eq!(server["responder"], i32::from(RESPONDER_PORT));
    assert_eq!(server["other"], i32::from(OTHER_RESPONDER_PORT));
    for component in [CLIENT, SERVER] {
        let set = &sets[component];
        assert_eq!(argument(set, "role"), Some(component));
        let port = |name| argument(set, name).unwrap().parse::<i32>().unwrap();
        assert_eq!(ports(set)["readiness"], port("readiness-port"));
        assert_eq!(ports(set)["metrics"], port("metrics-port"));
        assert_eq!(ports(set)["metrics"], i32::from(METRICS_PORT));
        let probe = container(set).readiness_probe.clone().unwrap();
        let readiness = IntOrString::String("readiness".to_owned());
        assert_eq!(probe.tcp_socket.unwrap().port, readiness);
        let allowed: PortRanges = argument(set, "allow-ports").unwrap().parse().unwrap();
        let needed = [
            RESPONDER_PORT,
            OTHER_RESPONDER_PORT,
            SLOT_PORT,
            SLOT_PORT + MAX_SLOTS - 1,
        ];
        for port in needed.into_iter().chain([BALANCED_PORT, 30_000, 32_767]) {
            assert!(allowed.contains(port), "{component}: {port}");
        }
    }
}

#[test]
fn plans_are_mounted_where_the_arguments_say() {
    for (component, set) in daemon_sets() {
        let container = container(&set);
        let mount = |volume: &str| {
            let mounts = container.volume_mounts.iter().flatten();
            let mut of_volume = mounts.filter(|mount| mount.name == volume);
            of_volume.next().map(|mount| mount.mount_path.clone())
        };
        let volumes = pod_spec(&set).volumes.as_ref().unwrap();
        let plan = volumes.iter().find(|volume| volume.name == "plan").unwrap();
        let items = plan.downward_api.as_ref().unwrap().items.as_ref().unwrap();
        let field = items[0].field_ref.as_ref().unwrap();
        assert_eq!(
            field.field_path,
            format!("metadata.annotations['{PLAN_ANNOTATION}']")
        );
        assert_eq!(
            argument(&set, "plan"),
            Some(&*format!("{}/{}", mount("plan").unwrap(), items[0].path))
        );
        let standing = volumes.iter().find(|volume| volume.name == "standing-plan");
        assert_eq!(standing.is_some(), component != NODE);
        if let Some(standing) = standing {
            let source = standing.config_map.as_ref().unwrap();
            assert_eq!(
                (&*source.name, source.optional),
                (STANDING_PLAN, Some(true))
            );
            let file = format!("{}/{STANDING_PLAN_KEY}", mount("standing-plan").unwrap());
            assert_eq!(argument(&set, "standing-plan"), Some(&*file));
        }
    }
}

#[test]
fn no_agent_has_a_token_and_only_those_that_probe_have_a_capability() {
    for (component, set) in daemon_sets() {
        let spec = pod_spec(&set);
        assert_eq!(spec.automount_service_account_token, Some(false));
        assert_eq!(spec.service_account_name, None);
        assert_eq!(spec.host_network.unwrap_or_default(), component == NODE);
        let context = container(&set).security_context.as_ref().unwrap();
        let capabilities = context.capabilities.as_ref().unwrap();
        assert_eq!(
            capabilities.drop.as_deref(),
            Some(["ALL".to_owned()].as_slice())
        );
        let added = capabilities.add.clone().unwrap_or_default();
        let wanted: &[&str] = if component == NODE {
            &[]
        } else {
            &["NET_RAW", "SETGID", "SETUID"]
        };
        assert_eq!(added, wanted, "{component}");
        assert_eq!(context.privileged, None);
        assert_eq!(context.allow_privilege_escalation, Some(false));
    }
}

#[test]
fn the_services_have_the_ports_of_the_slots() {
    let service: Service = object("default/services.yaml", "Service", SERVICE);
    let ports = service.spec.as_ref().unwrap().ports.clone().unwrap();
    let ports: BTreeMap<_, _> = ports
        .into_iter()
        .map(|port| (port.name.unwrap(), (port.port, port.target_port.unwrap())))
        .collect();
    let responder = || IntOrString::Int(i32::from(RESPONDER_PORT));
    let slots = (0..MAX_SLOTS).map(|slot| (slot_port_name(slot), SLOT_PORT + slot));
    let all = slots.chain([(BALANCED_PORT_NAME.to_owned(), BALANCED_PORT)]);
    let wanted: BTreeMap<_, _> = all
        .map(|(name, port)| (name, (i32::from(port), responder())))
        .collect();
    assert_eq!(ports, wanted);
    assert_eq!(service.spec.unwrap().selector, None);
    let local: Service = object("default/services.yaml", "Service", LOCAL_SERVICE);
    let local = local.spec.unwrap();
    assert_eq!(local.internal_traffic_policy.as_deref(), Some("Local"));
    assert_eq!(local.publish_not_ready_addresses, Some(true));
    let sets = daemon_sets();
    let labels = sets[SERVER]
        .spec
        .as_ref()
        .unwrap()
        .selector
        .match_labels
        .clone()
        .unwrap();
    let selector = local.selector.unwrap();
    assert_eq!(selector[labels::COMPONENT], SERVER);
    assert!(selector.iter().all(|(key, value)| labels[key] == *value));
}

#[test]
fn the_standing_plan_is_the_controllers_alone() {
    let plan: ConfigMap = object("default/standing-plan.yaml", "ConfigMap", STANDING_PLAN);
    assert_eq!((plan.data, plan.binary_data), (None, None));
}

#[test]
fn the_rules_name_the_objects_that_the_code_names() {
    let role: Role = object("default/rbac.yaml", "Role", "prober-controller");
    let names = |resource: &str| -> BTreeSet<String> {
        let rules = role.rules.iter().flatten();
        let of_resource = rules.filter(|rule| {
            rule.resources
                .iter()
                .flatten()
                .any(|named| named == resource)
        });
        of_resource
            .flat_map(|rule| rule.resource_names.clone().unwrap_or_default())
            .collect()
    };
    assert_eq!(
        names("configmaps"),
        BTreeSet::from([STANDING_PLAN.to_owned()])
    );
    let services = BTreeSet::from([SERVICE.to_owned(), LOCAL_SERVICE.to_owned()]);
    assert_eq!(names("services"), services);
}

/// Verbs with which a stolen token could run a program on a node, or obtain another token.
#[test]
fn no_rule_lets_the_controller_run_anything() {
    let files = [
        "default/rbac.yaml",
        "components/node-condition/rbac.yaml",
        "components/startup-taint/rbac.yaml",
    ];
    let rules = files
        .iter()
        .flat_map(|file| documents(file))
        .flat_map(|document| {
            let kind = document["kind"].as_str().unwrap_or_default().to_owned();
            match kind.as_str() {
                "Role" => serde_json::from_value::<Role>(document).unwrap().rules,
                "ClusterRole" => {
                    serde_json::from_value::<ClusterRole>(document)
                        .unwrap()
                        .rules
                }
                _ => None,
            }
            .unwrap_or_default()
        });
    let mut count = 0;
    for rule in rules {
        let verbs = rule.verbs.clone();
        for resource in rule.resources.iter().flatten() {
            count += 1;
            let has = |verb: &str| {
                verbs
                    .iter()
                    .any(|allowed| allowed == verb || allowed == "*")
            };
            assert_ne!(resource, "*");
            assert!(!has("*") && !has("escalate") && !has("bind") && !has("impersonate"));
            let may_create = ["endpointslices", "leases", "events"];
            assert!(
                !has("create") || may_create.contains(&&**resource),
                "{resource}"
            );
            assert!(
                resource != "secrets" && !resource.starts_with("pods/") || resource == "pods/log"
            );
            assert!(!has("update") || resource == "leases", "{resource}");
        }
    }
    assert!(count > 10, "{count}");
}

#[test]
fn all_images_are_of_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    for set in daemon_sets().values() {
        let image = format!("prober.dev/prober-agent:{version}");
        assert_eq!(container(set).image, Some(image));
    }
    let controller: Deployment =
        object("default/deployment.yaml", "Deployment", "prober-controller");
    let template = controller.spec.unwrap().template;
    let image = format!("prober.dev/prober-controller:{version}");
    assert_eq!(template.spec.unwrap().containers[0].image, Some(image));
}

#[test]
fn the_slice_of_a_reserved_slot_is_not_behind_the_balanced_port() {
    let services = StandingServices {
        namespace: "prober-system".to_owned(),
        uid: "u".to_owned(),
        ..StandingServices::default()
    };
    let server = ServerEndpoint {
        agent: AgentId::new("node-1", "prober-server-x"),
        addresses: vec!["10.244.0.8".parse().unwrap(), "fd00::8".parse().unwrap()],
    };
    let ports = |slot| -> Vec<String> {
        let slice = services.slot_slice(slot, Family::Ipv6, Some(&server));
        assert_eq!(slice.endpoints[0].addresses, ["fd00::8"]);
        let ports = slice.ports.unwrap();
        ports.into_iter().filter_map(|port| port.name).collect()
    };
    assert_eq!(ports(FIRST_RESERVED_SLOT - 1), ["slot-55", "any"]);
    assert_eq!(ports(FIRST_RESERVED_SLOT), ["slot-56"]);
    let empty = services.slot_slice(3, Family::Ipv4, None);
    assert_eq!(empty.endpoints, []);
    let labels = empty.metadata.labels.unwrap();
    for word in SLICE_SELECTOR.split(',') {
        let (key, value) = word.split_once('=').unwrap();
        assert_eq!(labels[key], value);
    }
    assert_eq!(empty.metadata.owner_references.unwrap()[0].uid, "u");
}
