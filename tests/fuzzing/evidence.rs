//! Arbitrary evidence of a run, as JSON: paths with their probes, agents, and the facts of nodes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use prober_core::diagnosis::diagnose;
use prober_core::evidence::{
    AgentEvidence, Evidence, Matrix, NodeEvidence, PathEvidence, PathTally,
};
use prober_core::node_facts::NodeFacts;
use prober_core::probe::event::{Hello, ServerTrace, TtlProbe};
use prober_core::probe::outcome::{OutcomeKind, ProbeResult};
use prober_core::report::render::{html, json, junit, text};
use prober_core::report::{Completion, Meta, Report};
use prober_core::time::Timestamp;
use prober_core::topology::{AgentId, NodeName, Path, PathId};
use serde::Deserialize;

use super::CaseResult;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RunEvidence {
    paths: Vec<FuzzedPath>,
    agents: Vec<Hello>,
    nodes: BTreeMap<String, NodeFacts>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FuzzedPath {
    path: Path,
    target: SocketAddr,
    probes: Vec<(ProbeResult, Option<ServerTrace>)>,
    ttl_probe: Option<TtlProbe>,
    other_port: Option<OutcomeKind>,
}

/// The evidence of a run, as JSON. It is rejected, or is diagnosed: each diagnosis is about paths of the run, does not
/// depend on when it is made, and appears in a report that reads back without loss and renders in every form.
///
/// # Panics
///
/// Where one of these does not hold.
pub fn evidence(data: &[u8]) -> CaseResult {
    let Ok(run) = serde_json::from_slice::<RunEvidence>(data) else {
        return CaseResult::Rejected;
    };
    let matrix = matrix(run);
    let diagnoses = diagnose(&matrix);
    assert_eq!(diagnoses, diagnose(&matrix), "two diagnoses differ");
    for diagnosis in &diagnoses {
        let mut paths = diagnosis.paths.iter();
        assert!(
            paths.all(|path| matrix.paths.contains_key(path)),
            "{diagnosis:?} is about a path that the run does not have"
        );
    }
    let meta = Meta {
        version: "0.0.0".to_owned(),
        command: vec!["prober".to_owned(), "run".to_owned()],
        started: Timestamp::from_nanos(0),
        duration: Duration::ZERO,
        completion: Completion::Complete,
        notes: Vec::new(),
    };
    let report = Report::new(&matrix, &diagnoses, meta);
    let written = json(&report).unwrap_or_else(|error| panic!("write {report:?}: {error}"));
    let again = Report::parse(written.as_bytes())
        .unwrap_or_else(|error| panic!("read {written} again: {error}"));
    assert_eq!(report, again);
    for rendered in [html::report(&report), junit(&report)] {
        assert!(!rendered.is_empty());
    }
    let text = text::report(&report, text::Options::default());
    assert!(text.pieces().next().is_some());
    CaseResult::Accepted
}

fn matrix(run: RunEvidence) -> Matrix {
    let mut matrix = Matrix::default();
    for (id, fuzzed) in (0..).map(PathId).zip(run.paths) {
        let mut tallies: BTreeMap<_, PathTally> = BTreeMap::new();
        for (client, _) in &fuzzed.probes {
            tallies.entry(client.engine).or_default().count(client);
        }
        let server_agent = fuzzed.path.server.clone();
        let joined = |(client, server)| Evidence {
            client: ProbeResult { path: id, ..client },
            server_agent: server_agent.clone(),
            server,
        };
        let evidence = PathEvidence {
            requested: fuzzed.probes.len() as u64,
            tallies,
            probes: fuzzed.probes.into_iter().map(joined).collect(),
            ttl_probe: (fuzzed.ttl_probe).map(|ttl_probe| TtlProbe {
                path: id,
                ..ttl_probe
            }),
            other_port: fuzzed.other_port,
            ..PathEvidence::new(fuzzed.path, fuzzed.target, Vec::new())
        };
        matrix.paths.insert(id, evidence);
        matrix.learn_socket_level(id);
    }
    for hello in run.agents {
        let agent: AgentId = hello.agent.clone();
        let evidence = AgentEvidence {
            hello: Some(hello),
            has_reported: true,
            ..AgentEvidence::default()
        };
        matrix.agents.insert(agent, evidence);
    }
    for (node, facts) in run.nodes {
        let evidence = NodeEvidence {
            after: Some(facts),
            ..NodeEvidence::default()
        };
        matrix.nodes.insert(NodeName::new(node), evidence);
    }
    matrix
}
