//! Properties that relate the diagnoses of two matrices: of one with an irrelevant fact more, of one with less evidence,
//! of one with other names.

use std::collections::{BTreeMap, BTreeSet};

use prober_core::diagnosis::{Diagnosis, diagnose};
use prober_core::evidence::{Matrix, PathEvidence};
use prober_core::node_facts::Vxlan;
use prober_core::probe::outcome::Exchange;
use prober_core::topology::{AgentId, NodeName, PathId};

use super::change::{add_foreign_veth, each_reading_of_all, link};
use super::fault::Fault;
use super::known_wrong;
use super::profile::{ALL, Profile};
use super::run::run;
use super::verdict::{described, proven};

/// One matrix for each kind of fault and each profile: the first place, two nodes.
fn samples(profile: &'static Profile) -> Vec<(String, Matrix)> {
    let mut kinds = BTreeSet::new();
    let mut faults = Fault::all(profile, 2);
    faults.retain(|fault| kinds.insert(fault.kind));
    let named = |fault: Fault| {
        let id = format!("{}: {} at {}", profile.name, fault.kind.name(), fault.place);
        (id, run(&fault.on(profile, 2)))
    };
    faults.into_iter().map(named).collect()
}

/// A change of a matrix, with its name.
type Change = (&'static str, fn(&mut Matrix));

/// Facts that have nothing to do with any path of a run.
const IRRELEVANT: [Change; 4] = [
    ("another bridge", |matrix| {
        each_reading_of_all(matrix, |facts| {
            facts
                .links
                .as_mut()
                .unwrap()
                .insert(0, link("br-other", "bridge"));
        });
    }),
    ("another vxlan link", |matrix| {
        each_reading_of_all(matrix, |facts| {
            let mut other = link("vxlan.other", "vxlan");
            other.vxlan = Some(Vxlan {
                id: Some(4096),
                port: Some(4789),
                ..Vxlan::default()
            });
            facts.links.as_mut().unwrap().insert(0, other);
        });
    }),
    ("the veth of another pod is down", |matrix| {
        add_foreign_veth(matrix);
    }),
    ("every counter of each node grows by one", |matrix| {
        for node in matrix.nodes.values_mut() {
            let counters = node.after.as_mut().unwrap().counters.as_mut().unwrap();
            for value in counters.0.values_mut() {
                *value += 1;
            }
        }
    }),
];

/// Evidence that may be missing.
const LESS: [Change; 6] = [
    ("no facts of any node", |matrix| matrix.nodes.clear()),
    ("no facts of node-1", |matrix| {
        matrix.nodes.remove(&NodeName::new("node-1"));
    }),
    ("no TTL probes", |matrix| {
        for path in matrix.paths.values_mut() {
            path.ttl_probe = None;
        }
    }),
    ("no captures of servers", |matrix| {
        for probe in matrix.paths.values_mut().flat_map(|path| &mut path.probes) {
            probe.server = None;
            probe.server_agent = None;
        }
    }),
    ("no second clients and servers", |matrix| {
        let comparisons = std::mem::take(&mut matrix.comparisons);
        matrix.paths.retain(|id, _| !comparisons.contains_key(id));
    }),
    ("no probes of other ports", |matrix| {
        for path in matrix.paths.values_mut() {
            path.other_port = None;
        }
    }),
];

/// The proven diagnoses in short.
fn names(found: &[Diagnosis]) -> BTreeSet<String> {
    described(&proven(found.to_vec())).into_iter().collect()
}

/// What differs from the verdicts of every sample after each change, where `is_worse` finds a difference.
fn differences(
    changes: &[Change],
    is_worse: impl Fn(&[Diagnosis], &[Diagnosis]) -> bool,
) -> BTreeMap<String, String> {
    let mut wrong = BTreeMap::new();
    for (id, matrix) in ALL.iter().flat_map(samples) {
        let before = diagnose(&matrix);
        for (name, change) in changes {
            let mut changed = matrix.clone();
            change(&mut changed);
            let after = diagnose(&changed);
            if is_worse(&before, &after) {
                let said = format!(
                    "{} -> {}",
                    described(&before).join(", "),
                    described(&after).join(", ")
                );
                wrong.insert(format!("{name}; {id}"), said);
            }
        }
    }
    wrong
}

#[test]
fn an_irrelevant_fact_changes_no_verdict() {
    let wrong = differences(&IRRELEVANT, |before, after| {
        described(before) != described(after)
    });
    known_wrong::check(&[("irrelevant", wrong)]);
}

#[test]
fn less_evidence_makes_no_verdict_surer() {
    let wrong = differences(&LESS, |before, after| {
        !names(after).is_subset(&names(before))
    });
    known_wrong::check(&[("less_evidence", wrong)]);
}

/// The other node of two, under names that sort the other way round.
fn renamed(node: &NodeName) -> NodeName {
    match node.as_str() {
        "node-1" => NodeName::new("worker-b"),
        "node-2" => NodeName::new("worker-a"),
        other => NodeName::new(other),
    }
}

fn renamed_agent(agent: &AgentId) -> AgentId {
    let node = renamed(&agent.node);
    let pod = agent.pod.replace(agent.node.as_str(), node.as_str());
    AgentId { node, pod }
}

/// The matrix with other names and the opposite order of nodes and paths.
fn rename(matrix: &Matrix) -> Matrix {
    let last = matrix.paths.len();
    let renamed_path = |(at, path): (usize, &PathEvidence)| {
        let mut path = path.clone();
        let id = PathId(u32::try_from(last - at).unwrap());
        path.path.client = renamed_agent(&path.path.client);
        path.path.server = path.path.server.as_ref().map(renamed_agent);
        for backend in &mut path.backends {
            backend.agent = backend.agent.as_ref().map(renamed_agent);
        }
        if let Some(ttl_probe) = &mut path.ttl_probe {
            ttl_probe.path = id;
        }
        for probe in &mut path.probes {
            probe.client.path = id;
            probe.server_agent = probe.server_agent.as_ref().map(renamed_agent);
            if let Exchange::BannerReceived { banner, .. } = &mut probe.client.exchange {
                let named = AgentId {
                    node: banner.node.clone(),
                    pod: banner.pod.clone(),
                };
                let named = renamed_agent(&named);
                (banner.node, banner.pod) = (named.node, named.pod);
            }
        }
        (id, path)
    };
    let agents = matrix.agents.iter().map(|(agent, known)| {
        let mut known = known.clone();
        if let Some(hello) = &mut known.hello {
            hello.agent = renamed_agent(agent);
        }
        (renamed_agent(agent), known)
    });
    let nodes = matrix.nodes.iter();
    let comparisons = matrix.paths.keys().enumerate().filter_map(|(at, id)| {
        let id_after = PathId(u32::try_from(last - at).unwrap());
        Some((id_after, *matrix.comparisons.get(id)?))
    });
    Matrix {
        comparisons: comparisons.collect(),
        paths: matrix
            .paths
            .values()
            .enumerate()
            .map(renamed_path)
            .collect(),
        agents: agents.collect(),
        nodes: nodes
            .map(|(node, known)| (renamed(node), known.clone()))
            .collect(),
        socket_level: matrix.socket_level.iter().map(renamed).collect(),
        ..matrix.clone()
    }
}

#[test]
fn other_names_and_another_order_change_no_verdict() {
    let mut wrong = BTreeMap::new();
    for (id, matrix) in ALL.iter().flat_map(samples) {
        let back = |said: String| {
            said.replace("worker-b", "node-1")
                .replace("worker-a", "node-2")
        };
        let before: BTreeSet<String> = described(&diagnose(&matrix)).into_iter().collect();
        let after = described(&diagnose(&rename(&matrix)));
        let after: BTreeSet<String> = after.into_iter().map(back).collect();
        if before != after {
            wrong.insert(id, format!("{before:?} -> {after:?}"));
        }
    }
    known_wrong::check(&[("renamed", wrong)]);
}
