//! The program that enforces policies for a node's pods, by the node's network plugin, and the steps in its own words.

use std::collections::BTreeSet;

use crate::data_plane::Plugin;
use crate::diagnosis::Remedy;
use crate::diagnosis::case::Case;
use crate::diagnosis::remedy::{cilium, step};
use crate::evidence::policies::{ApiPolicy, PolicyEngine, PolicyKind};
use crate::topology::NodeName;

/// A program that writes a node's rules for pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Engine {
    /// Calico's Felix.
    Felix,
    /// Cilium's agent.
    Cilium,
    /// kube-router.
    KubeRouter,
}

impl Engine {
    /// The engine of the node's network plugin; `None` where no plugin shows, or it enforces no policies.
    pub(crate) fn on(case: &Case<'_>, node: &NodeName) -> Option<Self> {
        match case.plane.plugin(node)? {
            Plugin::Calico => Some(Self::Felix),
            Plugin::Cilium => Some(Self::Cilium),
            Plugin::KubeRouter => Some(Self::KubeRouter),
            Plugin::AwsVpc => None,
        }
    }

    /// The engine as a sentence of evidence: how it shows, and what a node without it does.
    pub(crate) fn sentence(self, node: &NodeName) -> String {
        match self {
            Self::Felix => format!(
                "the links of pods on {node} are Calico's: its agent, Felix, writes their rules, and what has none yet is dropped"
            ),
            Self::Cilium => format!(
                "cilium_host is a device of Cilium on {node}: its agent loads the programs of pods and their policies"
            ),
            Self::KubeRouter => format!(
                "kube-bridge is a device of kube-router on {node}, which writes the rules of pods"
            ),
        }
    }

    /// The steps that show whether it works there, and which of its rules drops.
    pub(crate) fn steps(self, node: &NodeName) -> Vec<Remedy> {
        let agents = format!("kubectl get pods -A --field-selector spec.nodeName={node} -o wide");
        match self {
            Self::Felix => vec![
                step(
                    "See whether calico-node (Felix) runs on this node and is ready; where it does not, new pods have no rules. Restart it.",
                    [agents, "calicoctl node status".to_owned()],
                ),
                step(
                    "See which of Calico's policies select the pods, and what its chains drop.",
                    [
                        "calicoctl get globalnetworkpolicy; calicoctl get networkpolicy -A"
                            .to_owned(),
                        "iptables-save -c | grep -e cali-fw -e cali-tw -e cali-FORWARD".to_owned(),
                    ],
                ),
            ],
            Self::Cilium => cilium::find_policy(node.as_str()),
            Self::KubeRouter => vec![step(
                "See whether kube-router runs on this node, and what its chains for pods drop.",
                [
                    agents,
                    "iptables-save -c | grep -e KUBE-POD-FW -e KUBE-NWPLCY -e KUBE-ROUTER-FORWARD"
                        .to_owned(),
                ],
            )],
        }
    }
}

/// The commands that show the policies for pods: those that the run has read, or else the lists of every kind that may matter on
/// a node with this engine.
pub(crate) fn policy_commands(case: &Case<'_>, engine: Option<Engine>) -> Vec<String> {
    let policies = &case.matrix.policies;
    if !policies.denying.is_empty() {
        let shown = policies.denying.iter().take(4);
        return shown.map(ApiPolicy::show_command).collect();
    }
    let of_engine = match engine {
        Some(Engine::Felix) => PolicyEngine::Calico,
        Some(Engine::Cilium) => PolicyEngine::Cilium,
        Some(Engine::KubeRouter) | None => PolicyEngine::Any,
    };
    let own = PolicyKind::ALL.iter().filter(|kind| {
        kind.engine() == of_engine && of_engine != PolicyEngine::Any
            || **kind == PolicyKind::NetworkPolicy
    });
    let kinds: BTreeSet<PolicyKind> = own.chain(&policies.unread).copied().collect();
    kinds.into_iter().map(PolicyKind::list_command).collect()
}
