//! The custom resource ConnectivityCheck: its fields, defaults and limits.
//!
//! The CustomResourceDefinition (`deploy/kustomize/crd`) is generated from these types, so the API server admits
//! exactly the specs that they parse. It also serves `v1alpha1`, whose objects parse as these types do: they have the same
//! fields and two more, which DaemonSets make meaningless.
#![expect(
    unreachable_pub,
    clippy::duplicated_attributes,
    reason = "KubeSchema copies public structs into functions, which are not reachable; and several columns are strings"
)]

/// Default values.
mod defaults;
/// Durations as text, such as `10s`.
mod go_duration;
/// The status.
pub mod status;

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use prober_core::packet::family::Family;
use prober_core::topology::AccessPath;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use go_duration::{GoDuration, GoDurationError};
pub use status::ConnectivityCheckStatus;

/// The API group.
pub const GROUP: &str = "prober.dev";

/// What is probed, and how often. Every field has a default: `spec: {}` is a complete check.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "prober.dev",
    version = "v1beta1",
    kind = "ConnectivityCheck",
    shortname = "cc",
    status = "ConnectivityCheckStatus",
    derive = "PartialEq",
    doc = "Keeps probing the nodes of a cluster through its Services, and says which of them fail and why.",
    printcolumn(
        name = "Healthy",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Healthy\")].status"
    ),
    printcolumn(name = "Failing", type_ = "string", json_path = ".status.headline"),
    printcolumn(
        name = "Coverage",
        type_ = "string",
        json_path = ".status.coverage.share"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[x_kube(
    validation = Rule::new("duration(self.probeDeadline) <= duration(self.interval)")
        .message("probeDeadline must not be longer than interval: a probe would outlast its round"),
    validation = Rule::new("duration(self.agentLifetime) >= duration(self.interval)")
        .message("agentLifetime must not be shorter than interval: an agent would be replaced before it has probed")
)]
#[serde(rename_all = "camelCase")]
pub struct ConnectivityCheckSpec {
    /// Only nodes with all of these labels are probed; empty selects every node.
    #[serde(default)]
    pub node_selector: BTreeMap<String, String>,

    /// How many other nodes each node probes in a round, of those whose servers have a slot now. They rotate, so that in time
    /// every node probes every other.
    #[schemars(range(min = 0, max = 16))]
    #[serde(default = "defaults::peers_per_node")]
    pub peers_per_node: i32,

    /// The time from one round to the next. Agents repeat their rounds by themselves, for all checks together: the shortest
    /// interval of a check that is not paused counts.
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('1h')")
            .message("interval must be between 1s and 1h")
    )]
    #[serde(default = "defaults::interval")]
    pub interval: GoDuration,

    /// The IP families to probe, as far as the cluster has them.
    #[x_kube(
        validation = Rule::new("self.size() > 0").message("ipFamilies must name IPv4, IPv6 or both"),
        merge_strategy = ListMerge::Set
    )]
    #[schemars(length(max = 2))]
    #[serde(default = "defaults::ip_families")]
    pub ip_families: Vec<IpFamily>,

    /// How servers are addressed. `node-port` needs the component node-ports of the installation; `host-network` is probed by
    /// `prober run` alone.
    #[x_kube(
        validation = Rule::new("self.size() > 0").message("accessPaths must name at least one access path, such as cluster-ip"),
        merge_strategy = ListMerge::Set
    )]
    #[schemars(length(max = 7))]
    #[serde(default = "defaults::access_paths")]
    pub access_paths: Vec<AccessPathName>,

    /// How long a probe waits for an answer before it has failed.
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('100ms') && duration(self) <= duration('1m')")
            .message("probeDeadline must be between 100ms and 1m")
    )]
    #[serde(default = "defaults::probe_deadline")]
    pub probe_deadline: GoDuration,

    /// How many failed rounds confirm a failure, so that one lost packet is no outage.
    #[serde(default)]
    pub confirm: Confirm,

    /// How long an agent's pod lives until a new one replaces it, on nodes where nothing fails. Each new pod proves that the
    /// network plugin still adds pods.
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('168h')")
            .message("agentLifetime must be between 1m and 168h")
    )]
    #[serde(default = "defaults::agent_lifetime")]
    pub agent_lifetime: GoDuration,

    /// Whether an examination reads the node's settings and counters, where the component node-facts of the installation is.
    /// Without them, causes are `consistent` where they could be `proven`.
    #[serde(default)]
    pub node_facts: NodeFacts,

    /// The condition that the check writes on every node that it measures. It needs the component node-condition of the
    /// installation.
    #[serde(default)]
    pub node_condition: NodeConditionSpec,

    /// Stops probing, unless another check goes on; the status keeps what was found.
    #[serde(default)]
    pub paused: bool,
}

/// K of N.
#[derive(KubeSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("self.failures <= self.of")
        .message("confirm.failures must not be more than confirm.of: it could never be reached")
)]
#[serde(rename_all = "camelCase")]
pub struct Confirm {
    /// The number of failed results of a path that confirm a failure. After a failure an agent probes the path again soon.
    #[schemars(range(min = 1, max = 10))]
    #[serde(default = "defaults::failures")]
    pub failures: i32,
    /// The number of latest results that are considered.
    #[schemars(range(min = 1, max = 10))]
    #[serde(default = "defaults::of")]
    pub of: i32,
}

/// The condition on nodes. At most one of the checks that select a node should enable it: they would write the same
/// condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeConditionSpec {
    /// Whether the check writes the condition `prober.dev/ServiceConnectivity`, from which a cluster can derive a
    /// taint.
    pub enabled: bool,
}

/// Whether an agent in the host network reads a node's settings and counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NodeFacts {
    /// Where an agent for it runs on the node.
    #[default]
    Auto,
    /// Never.
    Never,
    /// As `Auto`: what installs agents decides it now.
    Always,
}

/// An IP family, as Services name it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum IpFamily {
    /// IPv4.
    #[serde(rename = "IPv4")]
    Ipv4,
    /// IPv6.
    #[serde(rename = "IPv6")]
    Ipv6,
}

/// How a server is addressed, as reports name it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum AccessPathName {
    /// See [`AccessPath::PodIp`].
    PodIp,
    /// See [`AccessPath::ClusterIp`].
    ClusterIp,
    /// See [`AccessPath::ClusterIpAny`].
    ClusterIpAny,
    /// See [`AccessPath::ClusterIpLocal`].
    ClusterIpLocal,
    /// See [`AccessPath::Hairpin`].
    Hairpin,
    /// See [`AccessPath::NodePort`].
    NodePort,
    /// See [`AccessPath::HostNetwork`].
    HostNetwork,
}

impl Default for ConnectivityCheckSpec {
    fn default() -> Self {
        Self {
            node_selector: BTreeMap::new(),
            peers_per_node: defaults::peers_per_node(),
            interval: defaults::interval(),
            ip_families: defaults::ip_families(),
            access_paths: defaults::access_paths(),
            probe_deadline: defaults::probe_deadline(),
            confirm: Confirm::default(),
            agent_lifetime: defaults::agent_lifetime(),
            node_facts: NodeFacts::default(),
            node_condition: NodeConditionSpec::default(),
            paused: false,
        }
    }
}

impl Default for Confirm {
    fn default() -> Self {
        Self {
            failures: defaults::failures(),
            of: defaults::of(),
        }
    }
}

impl From<IpFamily> for Family {
    fn from(family: IpFamily) -> Self {
        match family {
            IpFamily::Ipv4 => Self::Ipv4,
            IpFamily::Ipv6 => Self::Ipv6,
        }
    }
}

impl From<AccessPathName> for AccessPath {
    fn from(access_path: AccessPathName) -> Self {
        match access_path {
            AccessPathName::PodIp => Self::PodIp,
            AccessPathName::ClusterIp => Self::ClusterIp,
            AccessPathName::ClusterIpAny => Self::ClusterIpAny,
            AccessPathName::ClusterIpLocal => Self::ClusterIpLocal,
            AccessPathName::Hairpin => Self::Hairpin,
            AccessPathName::NodePort => Self::NodePort,
            AccessPathName::HostNetwork => Self::HostNetwork,
        }
    }
}

#[cfg(test)]
mod tests;
