//! Selects the nodes of a run, and explains why others are left out, from the state of each node.

use std::collections::{BTreeMap, BTreeSet};

use prober_core::suggestion::{closest, did_you_mean};
use prober_core::topology::NodeName;
use thiserror::Error;

use crate::kubernetes::node_choice::NodeChoice;
use crate::kubernetes::node_summary::{NodeKind, NodeReadiness, NodeSummary};

/// Names that a note lists before it counts the rest.
const MAX_LISTED: usize = 5;

/// The nodes of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSelection {
    /// The nodes under test.
    pub selected: Vec<NodeName>,
    /// The nodes that agents may be placed on: those under test and their possible peers.
    pub nodes: Vec<NodeName>,
    /// Notes for the reader of the report, one sentence each.
    pub notes: Vec<String>,
}

/// No run is possible with the chosen nodes: one problem for each node.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", one_per_line(.0))]
pub struct SelectionError(pub Vec<NodeProblem>);

/// Why a node cannot be probed. None of these is a fault of the network.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NodeProblem {
    /// The node does not exist.
    #[error("there is no node {name:?} in this cluster{}: `kubectl get nodes` lists them", did_you_mean(.nearest.as_deref()))]
    NotFound {
        /// The name that was given.
        name: String,
        /// The most similar existing name.
        nearest: Option<String>,
    },
    /// The node is not ready.
    #[error(
        "node {name} is NotReady ({why}): no pod can start there, so nothing was probed; see `kubectl describe \
         node {name}`"
    )]
    NotReady {
        /// The node.
        name: String,
        /// The message of its condition `Ready`.
        why: String,
    },
    /// The node does not run Linux, as agents need it.
    #[error("node {name} runs {system}: the agent runs on Linux only")]
    UnsupportedOs {
        /// The node.
        name: String,
        /// Its operating system.
        system: String,
    },
    /// The node is no machine.
    #[error(
        "node {name} is virtual (Virtual Kubelet or Fargate): its pods run elsewhere, so there is no node to probe"
    )]
    Virtual {
        /// The node.
        name: String,
    },
    /// No node of the cluster, or of those chosen, is ready.
    #[error("there is no node that is Ready among those chosen: `kubectl get nodes` shows them")]
    NoneReady,
}

impl NodeProblem {
    /// The reason why `node` cannot be probed, if there is one.
    fn of(node: &NodeSummary) -> Option<Self> {
        if !node.operating_system.is_empty() && node.operating_system != "linux" {
            return Some(Self::UnsupportedOs {
                name: node.name.clone(),
                system: node.operating_system.clone(),
            });
        }
        match node.kind {
            NodeKind::Machine => {}
            NodeKind::Virtual => {
                return Some(Self::Virtual {
                    name: node.name.clone(),
                });
            }
        }
        match &node.readiness {
            NodeReadiness::Ready => None,
            NodeReadiness::NotReady { why } => Some(Self::NotReady {
                name: node.name.clone(),
                why: why.clone(),
            }),
        }
    }

    /// The problem in a few words, for a list of nodes.
    fn short(&self) -> String {
        match self {
            Self::NotFound { .. } => "not found".to_owned(),
            Self::NotReady { why, .. } => format!("NotReady: {why}"),
            Self::UnsupportedOs { system, .. } => format!("runs {system}"),
            Self::Virtual { .. } => "virtual".to_owned(),
            Self::NoneReady => "none is Ready".to_owned(),
        }
    }
}

/// Selects the nodes of a run from `nodes`: the chosen nodes that exist, and candidates for their peers. `names` are the
/// names of all nodes of the cluster if a chosen node does not exist, else empty; they serve only to suggest a name.
///
/// A named node is probed even if it is cordoned or tainted, with a note. As a peer such a node is used only if there is no
/// other. With [`NodeChoice::All`] a node that cannot be probed is left out, with a note.
///
/// # Errors
///
/// If a named node cannot be probed, or no node of the cluster can.
pub fn select(
    choice: &NodeChoice,
    nodes: &[NodeSummary],
    names: &[String],
) -> Result<NodeSelection, SelectionError> {
    match choice {
        NodeChoice::All | NodeChoice::Labelled(_) => select_all(nodes),
        NodeChoice::Named(chosen) => select_named(chosen, nodes, names),
    }
}

fn select_all(nodes: &[NodeSummary]) -> Result<NodeSelection, SelectionError> {
    let usable: Vec<&NodeSummary> = nodes
        .iter()
        .filter(|node| NodeProblem::of(node).is_none())
        .collect();
    if usable.is_empty() {
        return Err(SelectionError(vec![NodeProblem::NoneReady]));
    }
    let mut notes = restriction_notes(&usable);
    let left_out: Vec<String> = nodes
        .iter()
        .filter_map(|node| {
            let problem = NodeProblem::of(node)?;
            Some(format!("{} ({})", node.name, problem.short()))
        })
        .collect();
    if !left_out.is_empty() {
        notes.push(format!("not probed: {}", abbreviated_list(&left_out)));
    }
    let nodes: Vec<NodeName> = usable.iter().map(|node| node_name(node)).collect();
    Ok(NodeSelection {
        selected: nodes.clone(),
        nodes,
        notes,
    })
}

fn select_named(
    names: &BTreeSet<String>,
    nodes: &[NodeSummary],
    existing_names: &[String],
) -> Result<NodeSelection, SelectionError> {
    let mut selected = Vec::new();
    let mut problems = Vec::new();
    for name in names {
        match nodes.iter().find(|node| node.name == *name) {
            None => problems.push(NodeProblem::NotFound {
                name: name.clone(),
                nearest: closest(name, existing_names.iter().map(String::as_str))
                    .map(str::to_owned),
            }),
            Some(node) => match NodeProblem::of(node) {
                Some(problem) => problems.push(problem),
                None => selected.push(node),
            },
        }
    }
    if !problems.is_empty() {
        return Err(SelectionError(problems));
    }
    let mut notes = restriction_notes(&selected);
    let others: Vec<&NodeSummary> = nodes
        .iter()
        .filter(|node| !names.contains(&node.name) && NodeProblem::of(node).is_none())
        .collect();
    let unrestricted: Vec<&NodeSummary> = others
        .iter()
        .copied()
        .filter(|node| node.scheduling_restriction().is_none())
        .collect();
    let peers = if unrestricted.is_empty() {
        others
    } else {
        unrestricted
    };
    if peers.is_empty() && selected.len() == 1 {
        notes.push(
            "no other node is Ready: only paths within the node were probed, none between nodes"
                .to_owned(),
        );
    }
    Ok(NodeSelection {
        selected: selected.iter().map(|node| node_name(node)).collect(),
        nodes: selected
            .iter()
            .chain(&peers)
            .map(|node| node_name(node))
            .collect(),
        notes,
    })
}

/// One sentence for each kind of cordon and taints that nodes have.
fn restriction_notes(nodes: &[&NodeSummary]) -> Vec<String> {
    let mut restricted: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for node in nodes {
        if let Some(restriction) = node.scheduling_restriction() {
            restricted
                .entry(restriction)
                .or_default()
                .push(node.name.clone());
        }
    }
    let (shown, others) = {
        let mut kinds: Vec<_> = restricted.into_iter().collect();
        kinds.sort_by_key(|(_, names)| std::cmp::Reverse(names.len()));
        let others = kinds.split_off(kinds.len().min(MAX_LISTED));
        (kinds, others)
    };
    let more: usize = others.iter().map(|(_, names)| names.len()).sum();
    let more = (more > 0).then(|| {
        format!("{more} more nodes are cordoned or tainted: probed nevertheless, their agents tolerate that")
    });
    let sentence = |(restriction, names): (String, Vec<String>)| {
        let (are, its) = if names.len() == 1 {
            ("is", "its")
        } else {
            ("are", "their")
        };
        format!(
            "{} {are} {restriction}: probed nevertheless, {its} agents tolerate that",
            abbreviated_list(&names)
        )
    };
    shown.into_iter().map(sentence).chain(more).collect()
}

/// The first [`MAX_LISTED`] items and the number of the rest.
fn abbreviated_list(items: &[String]) -> String {
    let shown = items
        .iter()
        .take(MAX_LISTED)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    match items.len().saturating_sub(MAX_LISTED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn node_name(node: &NodeSummary) -> NodeName {
    NodeName::new(node.name.as_str())
}

fn one_per_line(problems: &[NodeProblem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(
        clippy::needless_pass_by_value,
        reason = "JSON is written where it is passed"
    )]
    fn node(name: &str, spec: serde_json::Value, ready: &str) -> NodeSummary {
        let message = "Kubelet stopped posting node status.";
        NodeSummary::from_node(
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

    fn ready(name: &str) -> NodeSummary {
        node(name, serde_json::json!({}), "True")
    }

    fn cordoned(name: &str) -> NodeSummary {
        let taint =
            serde_json::json!({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"});
        node(
            name,
            serde_json::json!({"unschedulable": true, "taints": [taint]}),
            "True",
        )
    }

    fn tainted(name: &str) -> NodeSummary {
        let taint = serde_json::json!({"key": "dedicated", "value": "gpu", "effect": "NoSchedule"});
        node(name, serde_json::json!({"taints": [taint]}), "True")
    }

    fn unreachable(name: &str) -> NodeSummary {
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
    fn restricted_nodes_are_peers_only_if_there_are_no_others() {
        let nodes = [
            ready("a"),
            cordoned("b"),
            unreachable("c"),
            tainted("d"),
            ready("e"),
        ];
        let selection = select(&choice(&["a"]), &nodes, &[]).expect("a can be probed");
        assert_eq!(names(&selection.selected), ["a"]);
        assert_eq!(names(&selection.nodes), ["a", "e"]);
        assert_eq!(selection.notes, Vec::<String>::new());

        let selection = select(&choice(&["a"]), &nodes[..4], &[]).expect("a can be probed");
        assert_eq!(names(&selection.nodes), ["a", "b", "d"]);
    }

    #[test]
    fn a_named_node_is_probed_despite_cordon_and_taints() {
        let nodes = [ready("a"), cordoned("b"), tainted("d")];
        let selection = select(&choice(&["b", "d"]), &nodes, &[]).expect("both can be probed");
        assert_eq!(names(&selection.selected), ["b", "d"]);
        assert_eq!(names(&selection.nodes), ["b", "d", "a"]);
        insta::assert_snapshot!(selection.notes.join("\n"));
    }

    #[test]
    fn all_selects_every_usable_node_and_notes_the_others() {
        let nodes = [ready("a"), cordoned("b"), unreachable("c")];
        let selection = select(&NodeChoice::All, &nodes, &[]).expect("two can be probed");
        assert_eq!(names(&selection.selected), ["a", "b"]);
        assert_eq!(selection.selected, selection.nodes);
        assert!(
            selection
                .notes
                .iter()
                .any(|note| note.contains("c (NotReady"))
        );
        assert_eq!(
            select(&NodeChoice::All, &[unreachable("c")], &[]),
            Err(SelectionError(vec![NodeProblem::NoneReady]))
        );
    }

    #[test]
    fn a_single_node_is_probed_alone_with_a_note() {
        let selection =
            select(&choice(&["a"]), &[ready("a"), unreachable("c")], &[]).expect("one node");
        assert_eq!(names(&selection.nodes), ["a"]);
        assert_eq!(selection.notes.len(), 1);
    }

    #[test]
    fn virtual_nodes_are_never_probed() {
        let of = |metadata: serde_json::Value, spec: serde_json::Value| {
            NodeSummary::from_node(
                &serde_json::from_value(serde_json::json!({
                    "metadata": metadata,
                    "spec": spec,
                    "status": {"conditions": [{"type": "Ready", "status": "True"}]},
                }))
                .expect("a node"),
            )
        };
        let labelled = |name: &str, key: &str, value: &str| {
            let metadata = serde_json::json!({"name": name, "labels": {key: value}});
            of(metadata, serde_json::json!({}))
        };
        let taint = serde_json::json!({"key": "virtual-kubelet.io/provider", "value": "azure", "effect": "NoSchedule"});
        let nodes = [
            ready("a"),
            labelled("b", "type", "virtual-kubelet"),
            of(
                serde_json::json!({"name": "c"}),
                serde_json::json!({"taints": [taint]}),
            ),
            labelled("d", "eks.amazonaws.com/compute-type", "fargate"),
            labelled("e", "type", "compute"),
        ];
        let selection = select(&NodeChoice::All, &nodes, &[]).expect("two can be probed");
        assert_eq!(names(&selection.nodes), ["a", "e"]);
        assert!(
            selection
                .notes
                .iter()
                .any(|note| note.contains("c (virtual)"))
        );
        let error = select(&choice(&["c"]), &nodes, &[]).unwrap_err();
        assert!(error.to_string().contains("is virtual"), "{error}");
    }

    #[test]
    fn many_restricted_nodes_are_few_notes() {
        let nodes: Vec<NodeSummary> = (0..200)
            .map(|number| {
                let taint = serde_json::json!({
                    "key": format!("pool-{}", number % 40), "effect": "NoSchedule"
                });
                node(
                    &format!("n{number}"),
                    serde_json::json!({"taints": [taint]}),
                    "True",
                )
            })
            .collect();
        let selection = select(&NodeChoice::All, &nodes, &[]).expect("all can be probed");
        assert_eq!(selection.selected.len(), 200);
        assert_eq!(selection.notes.len(), MAX_LISTED + 1);
        assert!(
            selection.notes[5].starts_with("175 more nodes"),
            "{:?}",
            selection.notes
        );
    }

    #[test]
    fn each_unusable_node_is_reported_with_its_reason() {
        let mut windows = ready("w");
        windows.operating_system = "windows".to_owned();
        let all = ["ip-10-0-3-17", "ip-10-0-4-1"].map(str::to_owned);
        let choice = choice(&["ip-10-0-3-71", "c", "w", "elsewhere"]);
        let error = select(&choice, &[unreachable("c"), windows], &all).unwrap_err();
        insta::assert_snapshot!(error.to_string());
    }
}
