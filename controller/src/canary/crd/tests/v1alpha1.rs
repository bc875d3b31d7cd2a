//! The version `v1alpha1` of a check, which the CustomResourceDefinition still serves.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Toleration;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::*;

const fn max_pairs() -> i32 {
    400
}

/// What is probed, and how often. Every field has a default: `spec: {}` is a complete check.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "prober.dev",
    version = "v1alpha1",
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
    printcolumn(name = "Cycle", type_ = "string", json_path = ".status.coverage.cycle"),
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

    /// Taints that the check tolerates. Nodes with other taints of the effect NoSchedule or NoExecute are skipped, and
    /// listed in the status.
    #[schemars(length(max = 32))]
    #[serde(default)]
    pub tolerations: Vec<Toleration>,

    /// How many other nodes each node probes in a round. They rotate, so that in time every node probes every other.
    #[schemars(range(min = 0, max = 16))]
    #[serde(default = "crate::canary::crd::defaults::peers_per_node")]
    pub peers_per_node: i32,

    /// The longest time from one round to the next: rounds begin up to a fifth earlier, so that checks do not
    /// synchronise. While no failure is found, agents repeat their rounds by themselves and their results are read once
    /// a minute.
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('1h')")
            .message("interval must be between 1s and 1h")
    )]
    #[serde(default = "crate::canary::crd::defaults::interval")]
    pub interval: GoDuration,

    /// The most pairs of nodes that one round probes, whatever the size of the cluster. Pairs rotate; in clusters of
    /// more than 64 nodes the agents do, too: `status.coverage.cycle` is the duration of a full rotation.
    #[schemars(range(min = 2, max = 20_000))]
    #[serde(default = "max_pairs")]
    pub max_pairs: i32,

    /// The IP families to probe, as far as the cluster has them.
    #[x_kube(
        validation = Rule::new("self.size() > 0").message("ipFamilies must name IPv4, IPv6 or both"),
        merge_strategy = ListMerge::Set
    )]
    #[schemars(length(max = 2))]
    #[serde(default = "crate::canary::crd::defaults::ip_families")]
    pub ip_families: Vec<IpFamily>,

    /// How servers are addressed.
    #[x_kube(
        validation = Rule::new("self.size() > 0").message("accessPaths must name at least one access path, such as cluster-ip"),
        merge_strategy = ListMerge::Set
    )]
    #[schemars(length(max = 7))]
    #[serde(default = "crate::canary::crd::defaults::access_paths")]
    pub access_paths: Vec<AccessPathName>,

    /// How long a probe waits for an answer before it has failed.
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('100ms') && duration(self) <= duration('1m')")
            .message("probeDeadline must be between 100ms and 1m")
    )]
    #[serde(default = "crate::canary::crd::defaults::probe_deadline")]
    pub probe_deadline: GoDuration,

    /// How many failed rounds confirm a failure, so that one lost packet is no outage.
    #[serde(default)]
    pub confirm: Confirm,

    /// How long an agent lives until a new one replaces it. Each new pod proves that the network plugin still adds
    /// pods.
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('168h')")
            .message("agentLifetime must be between 1m and 168h")
    )]
    #[serde(default = "crate::canary::crd::defaults::agent_lifetime")]
    pub agent_lifetime: GoDuration,

    /// Whether an agent in each node's host network reads the node's settings and counters. Without them, causes are
    /// `consistent` where they could be `proven`.
    #[serde(default)]
    pub node_facts: NodeFacts,

    /// The condition that the check writes on every node that it probes.
    #[serde(default)]
    pub node_condition: NodeConditionSpec,

    /// Stops probing and removes the agents; the status keeps what was found.
    #[serde(default)]
    pub paused: bool,
}
