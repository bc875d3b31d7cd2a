//! The pods that agents run in.
//!
//! A client or a server starts as uid 0 with every capability of the runtime's default set dropped by name but
//! `NET_RAW`, and adds none: Pod Security `baseline` forbids adding it, not keeping it. The agent opens its sockets and
//! then drops uid and capability. A host agent, and any agent where that is refused, starts as nobody with nothing.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, DownwardAPIVolumeFile, DownwardAPIVolumeSource,
    NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, ObjectFieldSelector,
    Pod, PodSecurityContext, PodSpec, Probe, ResourceRequirements, SeccompProfile, SecurityContext,
    TCPSocketAction, Toleration, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use prober_core::plan::Plan;
use prober_core::topology::{AgentId, AgentRole};

use super::{Manifest, OwnerJob, Privilege};
use crate::kubernetes::mesh::{MetadataField, opt_outs};
use crate::kubernetes::node_info::NodeInfo;

/// The annotation that an agent reads its plans from.
pub const PLAN_ANNOTATION: &str = "prober.dev/plan";

/// The name of an agent's container.
pub(super) const CONTAINER: &str = "agent";

/// Where the annotation is a file.
const PLAN_MOUNT_PATH: &str = "/etc/prober";

/// Its name there.
const PLAN_FILE: &str = "plan";

/// The readiness port of an agent of a canary: open while no probe has failed.
const READINESS_PORT: u16 = 8082;

/// Nobody, in every distribution.
const NOBODY_UID: i64 = 65_534;

/// What a container runtime gives to uid 0, without `NET_RAW`, and without the two that an agent gives up its uid by
/// (containerd: pkg/oci/spec.go `defaultUnixCaps`; CRI-O and Docker give a subset of it).
const DROPPED_DEFAULT_CAPABILITIES: [&str; 11] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETPCAP",
    "SYS_CHROOT",
];

impl Manifest {
    /// The pod of an agent, which starts with its first plan and may ask only addresses within `allowed`.
    pub fn pod(
        &self,
        anchor: &OwnerJob,
        site: &NodeInfo,
        role: AgentRole,
        plan: &Plan,
        allowed: &[String],
    ) -> Result<Pod, serde_json::Error> {
        let mut pod = self.pod_without_plan(&plan.agent, role, self.privilege, allowed);
        pod.metadata.owner_references = Some(self.owner_references(anchor));
        pod.metadata
            .annotations
            .get_or_insert_default()
            .insert(PLAN_ANNOTATION.to_owned(), serde_json::to_string(plan)?);
        if let Some(spec) = &mut pod.spec {
            spec.affinity = Some(node_affinity(plan.agent.node.as_str()));
            spec.tolerations = Some(tolerations(site));
        }
        Ok(pod)
    }

    /// A pod of that role and privilege as an admission chain would see it: to be tried, never to be made.
    pub fn dry_run_pod(&self, role: AgentRole, privilege: Privilege) -> Pod {
        let agent = AgentId::new("node", format!("{}-trial", self.run));
        self.pod_without_plan(&agent, role, privilege, &[])
    }

    fn pod_without_plan(
        &self,
        agent: &AgentId,
        role: AgentRole,
        privilege: Privilege,
        allowed: &[String],
    ) -> Pod {
        let mut metadata = self.metadata(agent.pod.clone(), None);
        metadata
            .labels
            .get_or_insert_default()
            .extend(opt_outs(MetadataField::Label));
        metadata.annotations = Some(opt_outs(MetadataField::Annotation));
        let (privilege, host_network) = match role {
            AgentRole::Client | AgentRole::Server => (privilege, None),
            AgentRole::Host => (Privilege::Unprivileged, Some(true)),
        };
        let has_bell = match role {
            AgentRole::Client | AgentRole::Server => self.check.is_some(),
            // The node's ports are not ours.
            AgentRole::Host => false,
        };
        let mut container = self.container(agent, privilege, allowed);
        if has_bell {
            hang_bell(&mut container);
        }
        Pod {
            metadata,
            spec: Some(PodSpec {
                host_network,
                restart_policy: Some("Never".to_owned()),
                // An agent has nothing to put in order. Without grace the API server forgets a pod at once, and its kubelet
                // ends it when it hears of that; with some, everybody waits until the kubelet has told that it did.
                termination_grace_period_seconds: Some(0),
                automount_service_account_token: Some(false),
                enable_service_links: Some(false),
                security_context: Some(pod_security_context()),
                containers: vec![container],
                volumes: Some(vec![plan_volume()]),
                ..PodSpec::default()
            }),
            status: None,
        }
    }

    fn container(&self, agent: &AgentId, privilege: Privilege, allowed: &[String]) -> Container {
        let mut args = vec![
            "--agent".to_owned(),
            format!("{}/{}", agent.node, agent.pod),
            "--plan".to_owned(),
            format!("{PLAN_MOUNT_PATH}/{PLAN_FILE}"),
            "--run".to_owned(),
            self.run.clone(),
        ];
        for prefix in allowed {
            args.extend(["--allow".to_owned(), prefix.clone()]);
        }
        if privilege == Privilege::Unprivileged {
            args.extend(["--tier".to_owned(), "T0".to_owned()]);
        }
        Container {
            name: CONTAINER.to_owned(),
            image: Some(self.image.clone()),
            image_pull_policy: Some("IfNotPresent".to_owned()),
            args: Some(args),
            resources: Some(resources()),
            security_context: Some(match privilege {
                Privilege::NetRaw => net_raw_context(),
                Privilege::Unprivileged => unprivileged_context(),
            }),
            // Why an agent ended is told by what it said last.
            termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
            volume_mounts: Some(vec![VolumeMount {
                name: PLAN_FILE.to_owned(),
                mount_path: PLAN_MOUNT_PATH.to_owned(),
                read_only: Some(true),
                ..VolumeMount::default()
            }]),
            ..Container::default()
        }
    }
}

/// Lets the agent ring, and its kubelet listen each second: who is not ready has rung.
fn hang_bell(container: &mut Container) {
    let args = container.args.get_or_insert_default();
    args.extend(["--readiness-port".to_owned(), READINESS_PORT.to_string()]);
    container.readiness_probe = Some(Probe {
        tcp_socket: Some(TCPSocketAction {
            port: IntOrString::Int(READINESS_PORT.into()),
            host: None,
        }),
        period_seconds: Some(1),
        failure_threshold: Some(1),
        ..Probe::default()
    });
}

/// By the scheduler, which says what the node lacks, and not by `nodeName`, which lets the kubelet refuse.
fn node_affinity(node: &str) -> Affinity {
    let is_it = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: vec![NodeSelectorTerm {
                    match_fields: Some(vec![is_it]),
                    match_expressions: None,
                }],
            }),
            preferred_during_scheduling_ignored_during_execution: None,
        }),
        ..Affinity::default()
    }
}

fn tolerations(site: &NodeInfo) -> Vec<Toleration> {
    site.taints
        .iter()
        .map(|taint| Toleration {
            key: Some(taint.key.clone()),
            operator: Some("Exists".to_owned()),
            effect: Some(taint.effect.clone()),
            value: None,
            toleration_seconds: None,
        })
        .collect()
}

fn plan_volume() -> Volume {
    Volume {
        name: PLAN_FILE.to_owned(),
        downward_api: Some(DownwardAPIVolumeSource {
            default_mode: Some(0o444),
            items: Some(vec![DownwardAPIVolumeFile {
                path: PLAN_FILE.to_owned(),
                field_ref: Some(ObjectFieldSelector {
                    api_version: Some("v1".to_owned()),
                    field_path: format!("metadata.annotations['{PLAN_ANNOTATION}']"),
                }),
                ..DownwardAPIVolumeFile::default()
            }]),
        }),
        ..Volume::default()
    }
}

/// Little, but a share that lets a probe leave in time on a node whose every core is wanted; and limits too, since quotas
/// may ask for them.
pub(super) fn resources() -> ResourceRequirements {
    let quantities = |cpu: &str, memory: &str| -> BTreeMap<String, Quantity> {
        [("cpu", cpu), ("memory", memory)]
            .map(|(name, quantity)| (name.to_owned(), Quantity(quantity.to_owned())))
            .into()
    };
    ResourceRequirements {
        requests: Some(quantities("100m", "24Mi")),
        limits: Some(quantities("1", "128Mi")),
        claims: None,
    }
}

/// What every pod of a run has.
pub(super) fn pod_security_context() -> PodSecurityContext {
    PodSecurityContext {
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        }),
        ..PodSecurityContext::default()
    }
}

/// Nobody, with nothing.
pub(super) fn unprivileged_context() -> SecurityContext {
    SecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(NOBODY_UID),
        run_as_group: Some(NOBODY_UID),
        ..restricted_context(&["ALL"])
    }
}

/// Uid 0, which alone can keep a capability without an ambient set, and `NET_RAW`.
fn net_raw_context() -> SecurityContext {
    SecurityContext {
        run_as_user: Some(0),
        ..restricted_context(&DROPPED_DEFAULT_CAPABILITIES)
    }
}

fn restricted_context(dropped: &[&str]) -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            add: None,
            drop: Some(dropped.iter().map(|&name| name.to_owned()).collect()),
        }),
        ..SecurityContext::default()
    }
}
