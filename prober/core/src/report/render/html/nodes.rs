//! The state of each node, as one cell for each; for more nodes than a matrix can show.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::state::{self, Range};
use crate::report::{DiagnosisReport, End, Health, PathReport, Report};
use crate::topology::{NodeName, PathId};
use crate::units::micros;

/// The state of a node, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum NodeState {
    /// A diagnosis names it, or paths fail and no other node explains them.
    Faulty,
    /// Paths fail, and diagnoses of other nodes explain all of them.
    Affected,
    /// Some handshakes took more than one SYN, or the path opened after its pods were ready.
    Late,
    /// None of its paths was probed.
    NotProbed,
    /// All its paths work.
    Works,
}

/// The summary of one node's paths and diagnoses.
#[derive(Clone, Debug, Default)]
struct Summary<'a> {
    /// The causes of diagnoses that name it.
    causes: BTreeSet<&'static str>,
    /// Its failing paths that no other node explains.
    fails: usize,
    /// Its failing paths that another node explains.
    affected: usize,
    late: usize,
    probed: usize,
    /// The slowest median of the paths whose client is on it, in microseconds.
    slowest: Option<f64>,
    kernel: Option<&'a str>,
}

impl Summary<'_> {
    fn state(&self) -> NodeState {
        if self.fails > 0 || !self.causes.is_empty() {
            NodeState::Faulty
        } else if self.affected > 0 {
            NodeState::Affected
        } else if self.late > 0 {
            NodeState::Late
        } else if self.probed == 0 {
            NodeState::NotProbed
        } else {
            NodeState::Works
        }
    }
}

/// The summaries of all nodes of a report.
pub(super) struct NodeOverview<'a> {
    nodes: BTreeMap<&'a NodeName, Summary<'a>>,
    range: Range,
}

impl<'a> NodeOverview<'a> {
    /// Summarizes the nodes of `report`.
    pub(super) fn of(report: &'a Report) -> Self {
        let mut nodes: BTreeMap<&NodeName, Summary<'a>> = BTreeMap::new();
        for node in &report.nodes {
            let facts = node.facts.as_ref();
            let kernel = facts.and_then(|facts| facts.kernel.as_deref());
            nodes.entry(&node.node).or_default().kernel = kernel;
        }
        for agent in &report.agents {
            nodes.entry(&agent.node).or_default();
        }
        for path in &report.unprobed {
            for node in ends(&path.client, &path.server) {
                nodes.entry(node).or_default();
            }
        }
        let explained = explained(&report.diagnoses);
        for path in &report.paths {
            let by = explained.get(&path.id);
            for node in ends(&path.client, &path.server) {
                count(nodes.entry(node).or_default(), path, node, by);
            }
        }
        for diagnosis in &report.diagnoses {
            if let Some(node) = &diagnosis.node {
                let causes = &mut nodes.entry(node).or_default().causes;
                causes.insert(diagnosis.cause.as_str());
            }
        }
        Self {
            nodes,
            range: Range::of(report),
        }
    }

    /// The number of nodes.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The names of the nodes, in natural order.
    pub(super) fn names(&self) -> Vec<&'a NodeName> {
        self.nodes.keys().copied().collect()
    }

    /// One cell for each node, grouped by kernel version if there are several, the worst group first.
    pub(super) fn grid(&self) -> Markup {
        let mut groups: BTreeMap<Option<&str>, Vec<(&NodeName, &Summary<'_>)>> = BTreeMap::new();
        for name in self.names() {
            if let Some(summary) = self.nodes.get(name) {
                groups
                    .entry(summary.kernel)
                    .or_default()
                    .push((name, summary));
            }
        }
        let is_grouped = groups.len() > 1;
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by_key(|(_, nodes)| {
            let faulty = faulty(nodes);
            std::cmp::Reverse(faulty * 1_000 / nodes.len().max(1))
        });
        html! {
            @for (kernel, nodes) in &groups {
                @if is_grouped {
                    h3 {
                        @match kernel {
                            Some(kernel) => { "Kernel " (kernel) }
                            None => { "Kernel not known" }
                        }
                        ": " (faulty(nodes)) " of " (nodes.len()) " nodes fail"
                    }
                }
                ul class="nodes" {
                    @for (name, summary) in nodes { (cell(name, summary, self.range)) }
                }
            }
        }
    }
}

fn faulty(nodes: &[(&NodeName, &Summary<'_>)]) -> usize {
    nodes
        .iter()
        .filter(|(_, summary)| summary.state() == NodeState::Faulty)
        .count()
}

/// The nodes of a path's ends that are known.
fn ends<'a>(client: &'a End, server: &'a End) -> BTreeSet<&'a NodeName> {
    [&client.node, &server.node].into_iter().flatten().collect()
}

/// For each path that diagnoses explain, the nodes that they name.
fn explained(diagnoses: &[DiagnosisReport]) -> BTreeMap<PathId, BTreeSet<&NodeName>> {
    let mut explained: BTreeMap<PathId, BTreeSet<&NodeName>> = BTreeMap::new();
    for diagnosis in diagnoses {
        for (path, node) in diagnosis.paths.iter().zip(diagnosis.node.iter().cycle()) {
            explained.entry(*path).or_default().insert(node);
        }
    }
    explained
}

fn count(
    summary: &mut Summary<'_>,
    path: &PathReport,
    node: &NodeName,
    explained: Option<&BTreeSet<&NodeName>>,
) {
    match path.health {
        Health::Failing if explained.is_some_and(|by| !by.contains(node)) => summary.affected += 1,
        Health::Failing => summary.fails += 1,
        Health::Late | Health::Opened => summary.late += 1,
        Health::Healthy => {}
        Health::NotProbed => return,
    }
    summary.probed += 1;
    if path.client.node.as_ref() == Some(node) {
        let median = path.rtt_us.p50;
        summary.slowest = [summary.slowest, median]
            .into_iter()
            .flatten()
            .reduce(f64::max);
    }
}

fn cell(name: &NodeName, summary: &Summary<'_>, range: Range) -> Markup {
    let failing = |count| match count {
        1 => "1 path fails".to_owned(),
        count => format!("{} fail", state::paths(count)),
    };
    let heat = summary
        .slowest
        .map_or("heat-0", |slowest| range.class(slowest));
    let (class, text) = match summary.state() {
        NodeState::Faulty if summary.causes.is_empty() => {
            ("failing", format!("✕ {}", failing(summary.fails)))
        }
        NodeState::Faulty => {
            let causes: Vec<&str> = summary.causes.iter().copied().collect();
            ("failing", format!("✕ {}", causes.join(", ")))
        }
        NodeState::Affected => ("affected", format!("△ {}", failing(summary.affected))),
        NodeState::Late => ("late", format!("◔ {} late", state::paths(summary.late))),
        NodeState::NotProbed => ("not-probed", "○ not probed".to_owned()),
        NodeState::Works => {
            let slowest = summary.slowest.map(micros);
            let works = slowest.map_or_else(|| "✓ works".to_owned(), |us| format!("✓ {us}"));
            ("works", works)
        }
    };
    let heat = match summary.state() {
        NodeState::Works | NodeState::Late => heat,
        NodeState::Faulty | NodeState::Affected | NodeState::NotProbed => "",
    };
    node_cell(&format!("{class} {heat}"), name.as_str(), &text, None)
}

/// The cell of a node in a grid (`ul class="nodes"`): its class in the style sheet, its name, its state as a symbol and words,
/// and the page of the node, if it has one.
pub fn node_cell(class: &str, name: &str, state: &str, href: Option<&str>) -> Markup {
    html! {
        li class=(class) {
            @match href {
                Some(href) => a class=(class) href=(href) { strong { (name) } " " span { (state) } },
                None => { strong { (name) } " " span { (state) } },
            }
        }
    }
}
