//! Commands that show and repair the state of Cilium on a node.

use super::{Remedy, step};

/// A command of the program of its agent on a node.
pub(crate) fn on(node: &str, command: &str) -> String {
    format!(
        "kubectl -n kube-system exec $(kubectl -n kube-system get pod {} -o name) -- cilium-dbg {command}",
        agent(node)
    )
}

/// Starts the agent of a node again. Its programs forward packets meanwhile.
pub(crate) fn restart(node: &str) -> String {
    format!("kubectl -n kube-system delete pod {}", agent(node))
}

/// The steps that find a policy by which the programs of a node drop packets.
pub(crate) fn find_policy(node: &str) -> Vec<Remedy> {
    vec![
        step(
            "See which policies Cilium has; each of these kinds may select the pods.",
            [
                "kubectl get networkpolicies,ciliumnetworkpolicies,ciliumclusterwidenetworkpolicies -A",
            ],
        ),
        step(
            "See what the programs of the node drop while a probe fails, and why.",
            [on(node, "monitor --type drop"), on(node, "endpoint list")],
        ),
    ]
}

/// The options that select the pod of its agent on a node.
fn agent(node: &str) -> String {
    format!("-l k8s-app=cilium --field-selector spec.nodeName={node}")
}
