//! The network plugin of a node, where its links and policy rules show one.

use serde::{Deserialize, Serialize};

use crate::node_facts::{Fwmark, NodeFacts, Route, Rule, RuleAction};

/// The rule of the VPC CNI for connections that came in by the first interface (`hostRulePriority` and `defaultConnmark`,
/// pkg/networkutils/network.go of amazon-vpc-cni-k8s).
const VPC_HOST_RULE: (u32, Fwmark) = (
    1024,
    Fwmark {
        value: 0x80,
        mask: 0x80,
    },
);

/// The priority of its rules for what pods of a second interface send (`FromPodRulePriority`), and the first letters of its
/// pods' links (`AWS_VPC_K8S_CNI_VETHPREFIX`).
const VPC_POD_RULE: (u32, &str) = (1536, "eni");

/// The device that Cilium gives each node.
pub(super) const CILIUM_HOST: &str = "cilium_host";

/// The first letters of the links of Calico's pods, which eleven more follow.
const CALICO_POD: &str = "cali";

/// The bridge of kube-router's pods.
const KUBE_ROUTER_BRIDGE: &str = "kube-bridge";

/// A network plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Plugin {
    /// The Amazon VPC CNI plugin: pods have addresses of the node's network interfaces (ENIs), and those of every interface but
    /// the first a routing table of its own.
    AwsVpc,
    /// Calico: its agent, Felix, writes the routes and rules of pods.
    Calico,
    /// Cilium: its BPF programs at the pods' links forward and filter packets.
    Cilium,
    /// kube-router.
    KubeRouter,
}

impl Plugin {
    /// The plugin that a node's facts show.
    pub(super) fn of(facts: &NodeFacts) -> Option<Self> {
        let has_link = |is_its: &dyn Fn(&str) -> bool| {
            let mut links = facts.links.iter().flatten();
            links.any(|link| is_its(&link.name))
        };
        let mut rules = facts.rules.iter().flatten();
        if has_link(&|name| name == CILIUM_HOST) {
            Some(Self::Cilium)
        } else if rules.any(|rule| is_vpc_host_rule(rule) || is_vpc_pod_rule(facts, rule)) {
            Some(Self::AwsVpc)
        } else if has_link(&|name| {
            (name.strip_prefix(CALICO_POD)).is_some_and(|rest| rest.len() == 11)
        }) {
            Some(Self::Calico)
        } else if has_link(&|name| name == KUBE_ROUTER_BRIDGE) {
            Some(Self::KubeRouter)
        } else {
            None
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AwsVpc => "AWS VPC CNI",
            Self::Calico => "Calico",
            Self::Cilium => "Cilium",
            Self::KubeRouter => "kube-router",
        }
    }

    /// Whether a pod's packets may take a route that the node gets with the pod: a reading from before shows another.
    pub(super) const fn routes_each_pod(self) -> bool {
        match self {
            Self::AwsVpc => true,
            Self::Calico | Self::Cilium | Self::KubeRouter => false,
        }
    }
}

fn is_vpc_host_rule(rule: &Rule) -> bool {
    let (priority, mark) = VPC_HOST_RULE;
    rule.priority == priority
        && rule.mark == Some(mark)
        && rule.action == RuleAction::Table(Route::MAIN)
}

fn is_vpc_pod_rule(facts: &NodeFacts, rule: &Rule) -> bool {
    let (priority, prefix) = VPC_POD_RULE;
    let is_pod = |from: ipnet::IpNet| from.prefix_len() == from.max_prefix_len();
    let mut links = facts.links.iter().flatten();
    rule.priority == priority
        && rule.from.is_some_and(is_pod)
        && links.any(|link| link.name.starts_with(prefix) && link.kind.as_deref() == Some("veth"))
}
