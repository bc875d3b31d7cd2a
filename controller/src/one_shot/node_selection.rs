//! Which nodes a run probes, and which are left out and why: decided from what the API server says of each.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Node, Taint};
use prober_core::topology::NodeName;
use thiserror::Error;

/// Names of one list that a sentence holds; the rest is counted.
const NAMED: usize = 5;

/// The nodes that were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeChoice {
    /// Every node of the cluster.
    All,
    /// These.
    Named(BTreeSet<String>),
}

/// What a selection needs to know of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSeen {
    /// Its name.
    pub name: String,
    /// Its condition `Ready`.
    pub readiness: Readiness,
    /// Whether it is cordoned.
    pub cordon: Cordon,
    /// Its taints but those that say again what is known: `key=value:effect`, as kubectl writes them.
    pub taints: Vec<String>,
    /// Its operating system, `linux` or `windows`; empty where it has not said.
    pub system: String,
}

/// Whether a node's kubelet says that it is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It says so.
    Ready,
    /// It says that it is not, or has fallen silent.
    NotReady {
        /// In the words of the node or of the node controller.
        why: String,
    },
}

/// Whether a node takes new pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cordon {
    /// It does.
    Open,
    /// `kubectl cordon` was said: only pods that tolerate it are placed there.
    Cordoned,
}

/// The nodes of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The nodes under test.
    pub selected: Vec<NodeName>,
    /// Every node that agents may be placed on: those under test and those that may be their peers.
    pub nodes: Vec<NodeName>,
    /// What the reader is to know of it, one sentence each.
    pub notes: Vec<String>,
}

/// Why no run can be made of the nodes that were asked for: one reason for each node.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", join(.0))]
pub struct SelectionError(pub Vec<NodeProblem>);

/// Why a node cannot be probed. None of these is a fault of the network.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NodeProblem {
    /// There is no such node.
    #[error("there is no node {name:?} in this cluster{}: `kubectl get nodes` lists them", meant(.nearest.as_deref()))]
    Missing {
        /// The name that was given.
        name: String,
        /// The one that may have been meant.
        nearest: Option<String>,
    },
    /// The node is not ready.
    #[error(
        "node {name} is NotReady ({why}): nothing can be started there, so nothing was probed; see `kubectl describe \
         node {name}`"
    )]
    NotReady {
        /// The node.
        name: String,
        /// In its own words.
        why: String,
    },
    /// Agents are Linux programs.
    #[error("node {name} runs {system}: the agent runs on Linux only")]
    OtherSystem {
        /// The node.
        name: String,
        /// What it runs.
        system: String,
    },
    /// The cluster has no node that could be probed.
    #[error("the cluster has no node that is Ready: `kubectl get nodes` shows them")]
    NoneReady,
}

impl NodeSeen {
    /// What `node` says of itself.
    pub fn of(node: &Node) -> Self {
        let spec = node.spec.as_ref();
        let status = node.status.as_ref();
        let ready = status
            .and_then(|status| status.conditions.as_ref())
            .and_then(|conditions| conditions.iter().find(|one| one.type_ == "Ready"));
        let readiness = match ready {
            Some(condition) if condition.status == "True" => Readiness::Ready,
            Some(condition) => Readiness::NotReady {
                why: condition
                    .message
                    .clone()
                    .or_else(|| condition.reason.clone())
                    .unwrap_or_else(|| format!("Ready={}", condition.status))
                    .trim_end_matches('.')
                    .to_owned(),
            },
            None => Readiness::NotReady {
                why: "its kubelet has not said anything yet".to_owned(),
            },
        };
        let cordon = match spec.and_then(|spec| spec.unschedulable) {
            Some(true) => Cordon::Cordoned,
            Some(false) | None => Cordon::Open,
        };
        Self {
            name: node.metadata.name.clone().unwrap_or_default(),
            readiness,
            cordon,
            taints: spec
                .and_then(|spec| spec.taints.as_ref())
                .into_iter()
                .flatten()
                .filter(|taint| keeps_off(taint))
                .map(taint_text)
                .collect(),
            system: status
                .and_then(|status| status.node_info.as_ref())
                .map(|info| info.operating_system.clone())
                .unwrap_or_default(),
        }
    }

    /// What keeps pods off it that do not tolerate it: a reason not to take it as a peer unasked.
    fn reserve(&self) -> Option<String> {
        let cordoned = match self.cordon {
            Cordon::Open => None,
            Cordon::Cordoned => Some("cordoned".to_owned()),
        };
        let words: Vec<String> = cordoned
            .into_iter()
            .chain(self.taints.iter().map(|taint| format!("tainted {taint}")))
            .collect();
        (!words.is_empty()).then(|| words.join(", "))
    }

    fn problem(&self) -> Option<NodeProblem> {
        if !self.system.is_empty() && self.system != "linux" {
            return Some(NodeProblem::OtherSystem {
                name: self.name.clone(),
                system: self.system.clone(),
            });
        }
        match &self.readiness {
            Readiness::Ready => None,
            Readiness::NotReady { why } => Some(NodeProblem::NotReady {
                name: self.name.clone(),
                why: why.clone(),
            }),
        }
    }
}

/// Whether a taint keeps pods off, and is not the shadow of a condition that is told anyway.
///
/// <https://kubernetes.io/docs/reference/labels-annotations-taints/#node-kubernetes-io-not-ready>
fn keeps_off(taint: &Taint) -> bool {
    let is_shadow = matches!(
        taint.key.as_str(),
        "node.kubernetes.io/not-ready"
            | "node.kubernetes.io/unreachable"
            | "node.kubernetes.io/unschedulable"
    );
    taint.effect != "PreferNoSchedule" && !is_shadow
}

fn taint_text(taint: &Taint) -> String {
    let value = taint.value.as_deref().unwrap_or_default();
    let equals = if value.is_empty() { "" } else { "=" };
    format!("{}{equals}{value}:{}", taint.key, taint.effect)
}

/// Chooses from `seen`, which holds the nodes that were named, as far as there are such, and those that could be their
/// peers. `names` are all the cluster's nodes where a name was not found, else empty: only to guess what was meant.
///
/// Named nodes are probed also when they are cordoned or tainted, and it is said. Unasked, no agent goes to such a node
/// as a peer while there are others. Where all nodes are probed, one that cannot be is left out, and it is said.
pub fn select(
    choice: &NodeChoice,
    seen: &[NodeSeen],
    names: &[String],
) -> Result<Selection, SelectionError> {
    match choice {
        NodeChoice::All => every(seen),
        NodeChoice::Named(wanted) => named(wanted, seen, names),
    }
}

fn every(seen: &[NodeSeen]) -> Result<Selection, SelectionError> {
    let usable: Vec<&NodeSeen> = seen
        .iter()
        .filter(|node| node.problem().is_none())
        .collect();
    if usable.is_empty() {
        return Err(SelectionError(vec![NodeProblem::NoneReady]));
    }
    let mut notes = reserves(&usable);
    let left_out: Vec<String> = seen
        .iter()
        .filter_map(|node| Some(format!("{} ({})", node.name, short(&node.problem()?))))
        .collect();
    if !left_out.is_empty() {
        notes.push(format!("not probed: {}", several(&left_out)));
    }
    let nodes: Vec<NodeName> = usable.iter().map(|node| name_of(node)).collect();
    Ok(Selection {
        selected: nodes.clone(),
        nodes,
        notes,
    })
}

fn named(
    wanted: &BTreeSet<String>,
    seen: &[NodeSeen],
    names: &[String],
) -> Result<Selection, SelectionError> {
    let mut chosen = Vec::new();
    let mut problems = Vec::new();
    for name in wanted {
        match seen.iter().find(|node| node.name == *name) {
            None => problems.push(NodeProblem::Missing {
                name: name.clone(),
                nearest: nearest(name, names.iter().map(String::as_str)),
            }),
            Some(node) => match node.problem() {
                Some(problem) => problems.push(problem),
                None => chosen.push(node),
            },
        }
    }
    if !problems.is_empty() {
        return Err(SelectionError(problems));
    }
    let mut notes = reserves(&chosen);
    let others: Vec<&NodeSeen> = seen
        .iter()
        .filter(|node| !wanted.contains(&node.name) && node.problem().is_none())
        .collect();
    let free: Vec<&NodeSeen> = others
        .iter()
        .copied()
        .filter(|node| node.reserve().is_none())
        .collect();
    let peers = if free.is_empty() { others } else { free };
    if peers.is_empty() && chosen.len() == 1 {
        notes.push(
            "no other node is Ready: only paths within the node were probed, none between nodes"
                .to_owned(),
        );
    }
    Ok(Selection {
        selected: chosen.iter().map(|node| name_of(node)).collect(),
        nodes: chosen
            .iter()
            .chain(&peers)
            .map(|node| name_of(node))
            .collect(),
        notes,
    })
}

/// One sentence for each node that ordinary pods are kept off.
fn reserves(nodes: &[&NodeSeen]) -> Vec<String> {
    nodes
        .iter()
        .filter_map(|node| {
            Some(format!(
                "{} is {}: probed all the same, its agents tolerate that",
                node.name,
                node.reserve()?
            ))
        })
        .collect()
}

fn short(problem: &NodeProblem) -> String {
    match problem {
        NodeProblem::Missing { .. } => "missing".to_owned(),
        NodeProblem::NotReady { why, .. } => format!("NotReady: {why}"),
        NodeProblem::OtherSystem { system, .. } => format!("runs {system}"),
        NodeProblem::NoneReady => "none is Ready".to_owned(),
    }
}

fn several(items: &[String]) -> String {
    let shown = items
        .iter()
        .take(NAMED)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    match items.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn name_of(node: &NodeSeen) -> NodeName {
    NodeName::new(node.name.as_str())
}

fn join(problems: &[NodeProblem]) -> String {
    let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
    words.join("\n")
}

/// What a sentence says of a wrong name behind it.
pub(crate) fn meant(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!(" (did you mean {name}?)"))
}

/// The name of `names` that may have been meant by `wrong`, if one is near enough.
pub fn nearest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let near = |name: &str| strsim::normalized_damerau_levenshtein(wrong, name);
    names
        .filter(|name| near(name) >= 0.6 || (wrong.len() >= 4 && name.starts_with(wrong)))
        .max_by(|one, other| near(one).total_cmp(&near(other)).then(other.cmp(one)))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(
        clippy::needless_pass_by_value,
        reason = "JSON is written where it is passed"
    )]
    fn node(name: &str, spec: serde_json::Value, ready: &str) -> NodeSeen {
        let message = "Kubelet stopped posting node status.";
        NodeSeen::of(
            &serde_json::from_value(serde_json::json!({
                "metadata": {"name": name},
                "spec": spec,
                "status": {
                    "conditions": [
                        {"type": "MemoryPressure", "status": "False"},
                        {"type": "Ready", "status": ready, "message": message},
                    ],
                },
            }))
            .expect("a node"),
        )
    }

    fn ready(name: &str) -> NodeSeen {
        node(name, serde_json::json!({}), "True")
    }

    fn cordoned(name: &str) -> NodeSeen {
        let taint =
            serde_json::json!({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"});
        node(
            name,
            serde_json::json!({"unschedulable": true, "taints": [taint]}),
            "True",
        )
    }

    fn tainted(name: &str) -> NodeSeen {
        let taint = serde_json::json!({"key": "dedicated", "value": "gpu", "effect": "NoSchedule"});
        node(name, serde_json::json!({"taints": [taint]}), "True")
    }

    fn dead(name: &str) -> NodeSeen {
        let taint =
            serde_json::json!({"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"});
        node(name, serde_json::json!({"taints": [taint]}), "Unknown")
    }

    fn choice(names: &[&str]) -> NodeChoice {
        NodeChoice::Named(names.iter().map(|name| (*name).to_owned()).collect())
    }

    fn names(nodes: &[NodeName]) -> Vec<&str> {
        nodes.iter().map(NodeName::as_str).collect()
    }

    #[test]
    fn peers_are_ready_and_ordinary_as_long_as_there_are_such() {
        let seen = [
            ready("a"),
            cordoned("b"),
            dead("c"),
            tainted("d"),
            ready("e"),
        ];
        let chosen = select(&choice(&["a"]), &seen, &[]).expect("a can be probed");
        assert_eq!(names(&chosen.selected), ["a"]);
        assert_eq!(names(&chosen.nodes), ["a", "e"]);
        assert_eq!(chosen.notes, Vec::<String>::new());

        let chosen = select(&choice(&["a"]), &seen[..4], &[]).expect("a can be probed");
        assert_eq!(names(&chosen.nodes), ["a", "b", "d"]);
    }

    #[test]
    fn a_node_that_was_named_is_probed_whatever_keeps_other_pods_off() {
        let seen = [ready("a"), cordoned("b"), tainted("d")];
        let chosen = select(&choice(&["b", "d"]), &seen, &[]).expect("both can be probed");
        assert_eq!(names(&chosen.selected), ["b", "d"]);
        assert_eq!(names(&chosen.nodes), ["b", "d", "a"]);
        insta::assert_snapshot!(chosen.notes.join("\n"));
    }

    #[test]
    fn all_means_all_that_can_be_probed_and_the_others_are_named() {
        let seen = [ready("a"), cordoned("b"), dead("c")];
        let chosen = select(&NodeChoice::All, &seen, &[]).expect("two can be probed");
        assert_eq!(names(&chosen.selected), ["a", "b"]);
        assert_eq!(chosen.selected, chosen.nodes);
        assert!(chosen.notes.iter().any(|note| note.contains("c (NotReady")));
        assert_eq!(
            select(&NodeChoice::All, &[dead("c")], &[]),
            Err(SelectionError(vec![NodeProblem::NoneReady]))
        );
    }

    #[test]
    fn a_node_alone_is_probed_within_and_it_is_said() {
        let chosen = select(&choice(&["a"]), &[ready("a"), dead("c")], &[]).expect("one node");
        assert_eq!(names(&chosen.nodes), ["a"]);
        assert_eq!(chosen.notes.len(), 1);
    }

    #[test]
    fn every_node_that_cannot_be_probed_is_told_with_its_reason() {
        let mut windows = ready("w");
        windows.system = "windows".to_owned();
        let all = ["ip-10-0-3-17", "ip-10-0-4-1"].map(str::to_owned);
        let wanted = choice(&["ip-10-0-3-71", "c", "w", "elsewhere"]);
        let error = select(&wanted, &[dead("c"), windows], &all).unwrap_err();
        insta::assert_snapshot!(error.to_string());
    }

    #[test]
    fn what_is_meant_is_guessed_only_where_it_is_near() {
        let guess = |wrong| nearest(wrong, ["node-1", "node-2", "control-plane"].into_iter());
        assert_eq!(guess("nod-2").as_deref(), Some("node-2"));
        assert_eq!(guess("node").as_deref(), Some("node-1"));
        assert_eq!(guess("control").as_deref(), Some("control-plane"));
        assert_eq!(guess("gpu"), None);
    }
}
