//! The custom resource that asks for a canary: what may be asked, its defaults and its limits, and what is told back.
//!
//! The schema that a cluster checks specs with is generated from these types (`deploy/kustomize/crd`), so what was
//! admitted parses, and what parses was admitted.
#![expect(
    unreachable_pub,
    clippy::duplicated_attributes,
    reason = "KubeSchema copies public structs into functions, where nobody reaches them; and several columns are strings"
)]

/// What is meant where nothing is said.
mod default;
/// Lengths of time as people write them.
mod span;
/// What is told back.
pub mod status;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use k8s_openapi::api::core::v1::Toleration;
use kube::{CustomResource, KubeSchema};
use prober_core::packet::family::Family;
use prober_core::plan::pairing::rotation::Budget;
use prober_core::topology::Route;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use span::{Span, SpanError};
pub use status::ConnectivityCheckStatus;

/// The fewest pairs of a round: one of a node with itself, and one across nodes.
const LEAST_PAIRS: NonZeroUsize = NonZeroUsize::new(2).unwrap();

/// The group of the resource.
pub const GROUP: &str = "prober.dev";

/// What is to be probed for ever, and how often. Every field has a default: `spec: {}` is a whole check.
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
    /// Only nodes with all of these labels are probed; empty means every node.
    #[serde(default)]
    pub node_selector: BTreeMap<String, String>,

    /// Taints of nodes that are probed nevertheless. Nodes with other taints that keep pods away are skipped, and named in
    /// the status.
    #[schemars(length(max = 32))]
    #[serde(default)]
    pub tolerations: Vec<Toleration>,

    /// How many other nodes each node asks in a round; they rotate, so that in time everybody asks everybody.
    #[schemars(range(min = 0, max = 16))]
    #[serde(default = "default::peers_per_node")]
    pub peers_per_node: i32,

    /// From one round to the next, at most: rounds begin up to a fifth earlier, so that checks never march in step.
    /// While all is well agents keep to it by themselves, and are read once a minute.
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('1h')")
            .message("interval must be between 1s and 1h")
    )]
    #[serde(default = "default::interval")]
    pub interval: Span,

    /// The most pairs of nodes that one round probes, whatever the size of the cluster. All pairs come in rotation, and of more
    /// than 64 nodes the agents as well: `status.coverage.cycle` says how long that takes.
    #[schemars(range(min = 2, max = 20_000))]
    #[serde(default = "default::max_pairs")]
    pub max_pairs: i32,

    /// The IP families to probe, as far as the cluster has them.
    #[x_kube(
        validation = Rule::new("self.size() > 0").message("ipFamilies must name IPv4, IPv6 or both"),
        merge_strategy = ListMerge::Set
    )]
    #[schemars(length(max = 2))]
    #[serde(default = "default::ip_families")]
    pub ip_families: Vec<IpFamily>,

    /// How servers are addressed.
    #[x_kube(
        validation = Rule::new("self.size() > 0").message("routes must name at least one route, such as cluster-ip"),
        merge_strategy = ListMerge::Set
    )]
    #[schemars(length(max = 7))]
    #[serde(default = "default::routes")]
    pub routes: Vec<RouteName>,

    /// When a probe without an answer has failed.
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('100ms') && duration(self) <= duration('1m')")
            .message("probeDeadline must be between 100ms and 1m")
    )]
    #[serde(default = "default::probe_deadline")]
    pub probe_deadline: Span,

    /// How many failures make a failure: one lost packet wakes nobody.
    #[serde(default)]
    pub confirm: Confirm,

    /// After this an agent is replaced by a fresh one, whose pod proves that the network plugin still adds pods.
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('168h')")
            .message("agentLifetime must be between 1m and 168h")
    )]
    #[serde(default = "default::agent_lifetime")]
    pub agent_lifetime: Span,

    /// Whether nodes are asked what they say of themselves, by an agent in their own network. Without it, causes are
    /// `consistent` where they could be `proven`.
    #[serde(default)]
    pub node_facts: NodeFacts,

    /// A condition of the check's own on every node that it probes.
    #[serde(default)]
    pub node_condition: NodeConditionSpec,

    /// Probes nothing and keeps what was found; agents are removed.
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
    /// This many failed looks at a path. A round is one look, and is followed by another soon after where it failed. Where nothing
    /// at all got through, what the round itself tries again at once is another look: 2 of them confirm such a failure in
    /// one round.
    #[schemars(range(min = 1, max = 10))]
    #[serde(default = "default::failures")]
    pub failures: i32,
    /// Out of this many last ones.
    #[schemars(range(min = 1, max = 10))]
    #[serde(default = "default::of")]
    pub of: i32,
}

/// Whether nodes carry the outcome. Of the checks that mean a node one at most should want that: they would write the same
/// condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeConditionSpec {
    /// Sets the condition `prober.dev/ServiceConnectivity` on nodes, which a cluster can turn into a taint.
    pub enabled: bool,
}

/// Whether nodes are asked what they say of themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NodeFacts {
    /// Where the namespace admits such a pod.
    #[default]
    Auto,
    /// Never.
    Never,
    /// Always: where the namespace does not admit it, the check is not ready.
    Always,
}

/// An IP family, as Services write it.
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

/// A route, as reports write it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum RouteName {
    /// See [`Route::PodIp`].
    PodIp,
    /// See [`Route::ClusterIp`].
    ClusterIp,
    /// See [`Route::ClusterIpAny`].
    ClusterIpAny,
    /// See [`Route::ProberLocal`].
    ProberLocal,
    /// See [`Route::Hairpin`].
    Hairpin,
    /// See [`Route::NodePort`].
    NodePort,
    /// See [`Route::HostNetwork`].
    HostNetwork,
}

impl Default for ConnectivityCheckSpec {
    fn default() -> Self {
        Self {
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            peers_per_node: default::peers_per_node(),
            interval: default::interval(),
            max_pairs: default::max_pairs(),
            ip_families: default::ip_families(),
            routes: default::routes(),
            probe_deadline: default::probe_deadline(),
            confirm: Confirm::default(),
            agent_lifetime: default::agent_lifetime(),
            node_facts: NodeFacts::default(),
            node_condition: NodeConditionSpec::default(),
            paused: false,
        }
    }
}

impl ConnectivityCheckSpec {
    /// Whether everybody who asks can ring when something happens, so that nobody has to be read all the time. A pod in its
    /// node's own network has no port to ring by.
    pub fn asks_by_bells(&self) -> bool {
        !self.routes.contains(&RouteName::HostNetwork)
    }

    /// How much one round may cost, where at most `seats` nodes have agents at a time. What no API server admits is moved to
    /// the nearest that means something.
    pub fn budget(&self, seats: NonZeroUsize) -> Budget {
        let pairs = usize::try_from(self.max_pairs).unwrap_or_default();
        Budget {
            peers: usize::try_from(self.peers_per_node).unwrap_or_default(),
            pairs: NonZeroUsize::new(pairs).map_or(LEAST_PAIRS, |pairs| pairs.max(LEAST_PAIRS)),
            nodes: seats,
        }
    }
}

impl Default for Confirm {
    fn default() -> Self {
        Self {
            failures: default::failures(),
            of: default::of(),
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

impl From<RouteName> for Route {
    fn from(route: RouteName) -> Self {
        match route {
            RouteName::PodIp => Self::PodIp,
            RouteName::ClusterIp => Self::ClusterIp,
            RouteName::ClusterIpAny => Self::ClusterIpAny,
            RouteName::ProberLocal => Self::ProberLocal,
            RouteName::Hairpin => Self::Hairpin,
            RouteName::NodePort => Self::NodePort,
            RouteName::HostNetwork => Self::HostNetwork,
        }
    }
}

#[cfg(test)]
mod tests;
