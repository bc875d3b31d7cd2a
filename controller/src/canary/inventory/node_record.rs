//! A node: what decides whether it is selected and measured, and which addresses are its own.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Node, NodeCondition};
use prober_core::time::Timestamp;

use crate::kubernetes::api_time::timestamp;
use crate::kubernetes::node_info::NodeInfo;
use crate::kubernetes::node_summary::{NodeReadiness, NodeSummary};

/// The taint that keeps pods off a node until its data path is proven; an optional component of the installation.
pub const STARTUP_TAINT: &str = "prober.dev/unverified";

/// The type of the condition that the canary writes on nodes.
pub const SERVICE_CONNECTIVITY: &str = "prober.dev/ServiceConnectivity";

/// A node, as far as the canary reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeRecord {
    /// Its uid, which Events name.
    pub uid: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether its kubelet reports that it is ready.
    pub readiness: Readiness,
    /// Whether agents can run there: its operating system is Linux, or not known yet.
    pub is_linux: bool,
    /// When it was created, by the clock of the API server.
    pub created: Timestamp,
    /// Its own addresses.
    pub internal_ips: Vec<IpAddr>,
    /// The ranges of its pods, as far as the Node names them.
    pub pod_cidrs: Vec<String>,
    /// The condition of the canary, as an earlier controller or this one has written it.
    pub condition: Option<NodeCondition>,
    /// The keys of its taints.
    pub taints: Vec<String>,
    /// What runs on it, as its kubelet reports.
    pub system: NodeSystem,
}

/// The versions of what runs on a node; empty before its kubelet has reported them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSystem {
    /// The kernel, such as `6.1.0-18-amd64`.
    pub kernel: String,
    /// The operating system's image, such as `Debian GNU/Linux 12 (bookworm)`.
    pub os_image: String,
    /// The kubelet, such as `v1.33.1`.
    pub kubelet: String,
}

/// Whether a node is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It is.
    Ready,
    /// It is not: the message of its condition.
    NotReady(String),
    /// It is being deleted.
    Deleted,
}

impl NodeSystem {
    fn of(node: &Node) -> Self {
        let status = node.status.as_ref();
        let Some(info) = status.and_then(|status| status.node_info.as_ref()) else {
            return Self::default();
        };
        Self {
            kernel: info.kernel_version.clone(),
            os_image: info.os_image.clone(),
            kubelet: info.kubelet_version.clone(),
        }
    }
}

impl NodeRecord {
    /// Reads a Node.
    pub fn of(node: &Node) -> Self {
        let summary = NodeSummary::from_node(node);
        let metadata = &node.metadata;
        let spec = node.spec.as_ref();
        let taints = spec.and_then(|spec| spec.taints.as_ref());
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            labels: metadata.labels.clone().unwrap_or_default(),
            readiness: match (&metadata.deletion_timestamp, summary.readiness) {
                (Some(_), _) => Readiness::Deleted,
                (None, NodeReadiness::Ready) => Readiness::Ready,
                (None, NodeReadiness::NotReady { why }) => Readiness::NotReady(why),
            },
            is_linux: matches!(summary.operating_system.as_str(), "" | "linux"),
            created: metadata
                .creation_timestamp
                .as_ref()
                .map(timestamp)
                .unwrap_or_default(),
            internal_ips: NodeInfo::from_node(node).internal_ips,
            pod_cidrs: spec
                .and_then(|spec| spec.pod_cidrs.clone())
                .unwrap_or_default(),
            condition: own_condition(node).cloned(),
            taints: (taints.into_iter().flatten())
                .map(|taint| taint.key.clone())
                .collect(),
            system: NodeSystem::of(node),
        }
    }

    /// Whether it has all of these labels, and agents can run there.
    pub fn is_selected(&self, labels: &BTreeMap<String, String>) -> bool {
        let has_labels = (labels.iter()).all(|(key, value)| self.labels.get(key) == Some(value));
        has_labels && self.is_linux
    }

    /// Whether its kubelet reports that it is ready.
    pub fn is_ready(&self) -> bool {
        self.readiness == Readiness::Ready
    }

    /// Whether it carries the start-up taint.
    pub fn has_startup_taint(&self) -> bool {
        self.taints.iter().any(|key| key == STARTUP_TAINT)
    }
}

fn own_condition(node: &Node) -> Option<&NodeCondition> {
    let mut conditions = node.status.as_ref()?.conditions.iter().flatten();
    conditions.find(|condition| condition.type_ == SERVICE_CONNECTIVITY)
}
