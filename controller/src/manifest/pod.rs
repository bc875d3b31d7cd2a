//! The pods of agents.
//!
//! A client or a server starts as uid 0. Its container drops every default capability of the runtime by name, except
//! `NET_RAW`, and adds none: Pod Security `baseline` forbids adding it, not keeping it. The agent opens its sockets, then drops
//! its uid and the capability. A host agent, and any agent where the namespace does not admit that, starts as uid 65534
//! without capabilities.

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, DownwardAPIVolumeFile, DownwardAPIVolumeSource,
    NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, ObjectFieldSelector,
    Pod, PodSecurityContext, PodSpec, Probe, SeccompProfile, SecurityContext, TCPSocketAction,
    Toleration, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use prober_core::plan::Plan;
use prober_core::topology::{AgentId, AgentRole};

use super::{Manifest, OwnerJob, Privilege};
use crate::kubernetes::mesh::{MetadataField, opt_outs};
use crate::kubernetes::node_info::{HOSTNAME, NodeInfo};

/// The annotation that holds the plan of an agent.
pub const PLAN_ANNOTATION: &str = "prober.dev/plan";

/// The name of an agent's container.
pub(super) const CONTAINER: &str = "agent";

/// Where the volume with the annotation is mounted.
const PLAN_MOUNT_PATH: &str = "/etc/prober";

/// The file name of the annotation in the volume.
const PLAN_FILE: &str = "plan";

/// The port that a canary's agent opens while it has nothing to report, for the readiness probe.
const READINESS_PORT: u16 = 8082;

/// The unprivileged uid that every Linux distribution reserves.
const UNPRIVILEGED_UID: i64 = 65_534;

/// The default capabilities of uid 0 in a container, without `NET_RAW`, and without `SETUID` and `SETGID`, which an agent needs
/// to drop its uid
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
    /// Builds the pod of an agent with its first plan. The agent sends packets only to addresses within `allowed_targets`.
    ///
    /// # Errors
    ///
    /// If the plan cannot be written as JSON.
    pub fn pod(
        &self,
        owner: &OwnerJob,
        node: &NodeInfo,
        role: AgentRole,
        plan: &Plan,
        allowed_targets: &[IpNet],
    ) -> Result<Pod, serde_json::Error> {
        let mut pod = self.pod_without_plan(&plan.agent, role, self.privilege, allowed_targets);
        pod.metadata.owner_references = Some(self.owner_references(owner));
        pod.metadata
            .annotations
            .get_or_insert_default()
            .insert(PLAN_ANNOTATION.to_owned(), serde_json::to_string(plan)?);
        if let Some(spec) = &mut pod.spec {
            match &node.hostname {
                Some(hostname) => {
                    let selector = [(HOSTNAME.to_owned(), hostname.clone())];
                    spec.node_selector = Some(selector.into());
                }
                None => spec.affinity = Some(node_affinity(plan.agent.node.as_str())),
            }
            (spec.tolerations.get_or_insert_default()).extend(tolerations(node));
        }
        Ok(pod)
    }

    /// Builds a pod of that role and privilege for a dry run, which shows whether the namespace admits it.
    pub fn dry_run_pod(&self, role: AgentRole, privilege: Privilege) -> Pod {
        let agent = AgentId::new("node", format!("{}-dry-run", self.run));
        self.pod_without_plan(&agent, role, privilege, &[])
    }

    fn pod_without_plan(
        &self,
        agent: &AgentId,
        role: AgentRole,
        privilege: Privilege,
        allowed_targets: &[IpNet],
    ) -> Pod {
        let mut metadata = self.metadata(agent.pod.clone(), None);
        metadata
            .labels
            .get_or_insert_default()
            .extend(opt_outs(MetadataField::Label));
        metadata.annotations = Some(opt_outs(MetadataField::Annotation));
        let (privilege, host_network, supplemental_groups) = match role {
            AgentRole::Client | AgentRole::Server => (privilege, None, None),
            // Group 0 may read the node's connection tracking table (`/proc/net/nf_conntrack`, mode 0440).
            AgentRole::Host => (Privilege::Unprivileged, Some(true), Some(vec![0])),
        };
        let has_readiness_gate = match role {
            AgentRole::Client | AgentRole::Server => self.check.is_some(),
            // A host agent opens no ports of its node.
            AgentRole::Host => false,
        };
        let mut container = self.container(agent, privilege, allowed_targets);
        if has_readiness_gate {
            add_readiness_probe(&mut container);
        }
        let mut pod = Pod {
            metadata,
            spec: Some(PodSpec {
                host_network,
                restart_policy: Some("Never".to_owned()),
                // An agent needs no time to shut down. Without a grace period the API server removes a pod at once, and the
                // kubelet kills it afterwards. With one, the deletion waits for the report of the kubelet.
                termination_grace_period_seconds: Some(0),
                automount_service_account_token: Some(false),
                enable_service_links: Some(false),
                security_context: Some(PodSecurityContext {
                    supplemental_groups,
                    ..pod_security_context()
                }),
                containers: vec![container],
                volumes: Some(vec![plan_volume()]),
                ..PodSpec::default()
            }),
            status: None,
        };
        if let Some(spec) = &mut pod.spec {
            self.pod_options.apply(spec);
        }
        pod
    }

    fn container(
        &self,
        agent: &AgentId,
        privilege: Privilege,
        allowed_targets: &[IpNet],
    ) -> Container {
        let mut args = vec![
            "--agent".to_owned(),
            format!("{}/{}", agent.node, agent.pod),
            "--plan".to_owned(),
            format!("{PLAN_MOUNT_PATH}/{PLAN_FILE}"),
            "--run".to_owned(),
            self.run.clone(),
        ];
        for prefix in allowed_targets {
            args.extend(["--allow".to_owned(), prefix.to_string()]);
        }
        if privilege == Privilege::Unprivileged {
            args.extend(["--tier".to_owned(), "T0".to_owned()]);
        }
        Container {
            name: CONTAINER.to_owned(),
            image: Some(self.image.clone()),
            image_pull_policy: Some("IfNotPresent".to_owned()),
            args: Some(args),
            resources: Some(self.pod_options.resources()),
            security_context: Some(match privilege {
                Privilege::NetRaw => net_raw_context(),
                Privilege::Unprivileged => unprivileged_context(),
            }),
            // The last lines of the log say why an agent ended.
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

/// Makes the kubelet probe a port of the agent each second. The agent closes the port to raise an alert.
fn add_readiness_probe(container: &mut Container) {
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

/// Assigns a pod to a node without a label of its host name. As with that label, the scheduler does it, which reports the
/// resources that the node lacks; with `nodeName`, the kubelet would reject the pod. Karpenter refuses to consider a pod with
/// `matchFields`, so the label is preferred
/// (<https://karpenter.sh/docs/concepts/scheduling/>).
fn node_affinity(node: &str) -> Affinity {
    let has_name = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: vec![NodeSelectorTerm {
                    match_fields: Some(vec![has_name]),
                    match_expressions: None,
                }],
            }),
            preferred_during_scheduling_ignored_during_execution: None,
        }),
        ..Affinity::default()
    }
}

fn tolerations(node: &NodeInfo) -> Vec<Toleration> {
    node.taints
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

/// The security context of every pod of a run.
pub(super) fn pod_security_context() -> PodSecurityContext {
    PodSecurityContext {
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        }),
        ..PodSecurityContext::default()
    }
}

/// An unprivileged uid without capabilities.
pub(super) fn unprivileged_context() -> SecurityContext {
    SecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(UNPRIVILEGED_UID),
        run_as_group: Some(UNPRIVILEGED_UID),
        ..restricted_context(&["ALL"])
    }
}

/// Uid 0 with `NET_RAW`. Another uid could keep a capability only in an ambient set.
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
