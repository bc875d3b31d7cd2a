//! Builds a report from a matrix and its diagnoses: converts counts to shares and annotates packets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::notes::{notes, notes_of_evidence};
use super::share::{interval, share, two_digits};
use super::verdict::verdict;
use super::{
    AgentReport, BackendReport, CauseName, ComparisonReport, ConntrackReport, DiagnosisReport, End,
    EngineUse, Health, Meta, NodeReport, PathReport, ProbeReport, REPORT_SCHEMA, Report, RttReport,
    SampleProbe, UnprobedReport, Verdict,
};
use crate::data_plane::{DataPlane, NodeDataPlane};
use crate::diagnosis::Diagnosis;
use crate::evidence::conntrack::ProbeEntries;
use crate::evidence::start_up::Opening;
use crate::evidence::{AgentEvidence, Evidence, Matrix, NodeEvidence, PathEvidence, Source};
use crate::node_facts::{Counters, NodeFacts};
use crate::probe::event::OutcomeCounts;
use crate::probe::latency::Latency;
use crate::probe::outcome::EngineKind;
use crate::report::annotation::annotations;
use crate::time::nanos;
use crate::topology::{AgentId, NodeName, Path, PathId};

/// The most failing probes of one path that a report contains; further ones add no information.
const PROBES_PER_PATH: usize = 32;

/// The meaning of a diagnosis without a named cause.
const UNKNOWN: &str = "No known cause matches this evidence.";

impl Report {
    /// Builds the report of `matrix` and its `diagnoses`.
    pub fn new(matrix: &Matrix, diagnoses: &[Diagnosis], meta: Meta) -> Self {
        let explained: BTreeSet<PathId> = diagnoses
            .iter()
            .flat_map(|diagnosis| diagnosis.paths.iter().copied())
            .collect();
        let mut samples: BTreeMap<PathId, BTreeSet<usize>> = BTreeMap::new();
        for (path, probe) in diagnoses.iter().filter_map(|diagnosis| diagnosis.sample) {
            samples.entry(path).or_default().insert(probe);
        }
        let none = BTreeSet::new();
        let openings = matrix.openings();
        let first = matrix.first_connectivity(&openings);
        let mut places = BTreeMap::new();
        let (mut paths, mut comparisons) = (Vec::new(), Vec::new());
        for (id, evidence) in &matrix.paths {
            let kept = keep(evidence, samples.get(id).unwrap_or(&none));
            for (place, probe) in kept.iter().enumerate() {
                places.insert((*id, *probe), place);
            }
            let is_opened = openings.get(id).is_some_and(Opening::is_in_time);
            let health = health(matrix.source, evidence, explained.contains(id), is_opened);
            let path = path(*id, evidence, health, &kept);
            match matrix.comparisons.get(id) {
                Some(&kind) => comparisons.push(ComparisonReport { kind, path }),
                None => paths.push(path),
            }
        }
        let engines = engines(matrix);
        let plane = DataPlane::infer(matrix);
        let mut report = Self {
            schema: REPORT_SCHEMA.to_owned(),
            prober: meta.version,
            command: meta.command,
            started: meta.started.to_rfc3339(),
            duration_ms: nanos(meta.duration) / 1_000_000,
            source: matrix.source,
            completion: meta.completion,
            verdict: Verdict::Inconclusive,
            exit_status: Verdict::Inconclusive.exit_status(),
            tier: matrix.tier(),
            engines,
            socket_level: paths.iter().any(|path| path.socket_level),
            diagnoses: diagnoses
                .iter()
                .map(|diagnosis| diagnosis_report(diagnosis, &places, matrix))
                .collect(),
            paths,
            comparisons,
            unprobed: matrix
                .unprobed
                .iter()
                .map(|(path, reason)| unprobed(path, reason))
                .collect(),
            connections: None,
            agents: matrix
                .agents
                .iter()
                .map(|(id, evidence)| agent(id, evidence, first.get(id).copied()))
                .collect(),
            nodes: matrix
                .nodes
                .iter()
                .map(|(name, evidence)| node(name, evidence, plane.node(name)))
                .collect(),
            notes: (meta.notes.into_iter())
                .chain(notes_of_evidence(matrix, &openings, &first))
                .collect(),
        };
        report.verdict = verdict(matrix, &report);
        report.exit_status = report.verdict.exit_status();
        report.notes = notes(&report);
        report
    }
}

/// The engines that sent probes; none for a capture, whose connections are those of other programs.
fn engines(matrix: &Matrix) -> Vec<EngineKind> {
    let tallies = matrix.paths.values().flat_map(|path| path.tallies.keys());
    let engines: BTreeSet<EngineKind> = match matrix.source {
        Source::Run | Source::Host => tallies.copied().collect(),
        Source::Capture => BTreeSet::new(),
    };
    engines.into_iter().collect()
}

fn unprobed(path: &Path, reason: &str) -> UnprobedReport {
    UnprobedReport {
        client: End::from(&path.client),
        server: path.server.as_ref().map_or_else(End::default, End::from),
        access_path: path.access_path,
        scope: path.scope(),
        family: path.family,
        reason: reason.to_owned(),
    }
}

/// The health of a path. In a capture a path fails only if a diagnosis explains it: ordinary traffic also contains
/// refused and abandoned connections.
fn health(source: Source, evidence: &PathEvidence, explained: bool, is_opened: bool) -> Health {
    let total = evidence.total();
    let is_probing = match source {
        Source::Run | Source::Host => true,
        Source::Capture => false,
    };
    if explained {
        Health::Failing
    } else if is_opened {
        Health::Opened
    } else if total.outcomes.total() == 0 {
        Health::NotProbed
    } else if total.outcomes.established < total.outcomes.total() && is_probing {
        Health::Failing
    } else if total.first_syn_success < total.outcomes.established {
        Health::Late
    } else if !evidence.is_clean() && is_probing {
        Health::Failing
    } else {
        Health::Healthy
    }
}

/// Whether a probe failed, was late, or lost its banner or data after the handshake.
fn is_poor(probe: &Evidence) -> bool {
    !(probe.client.is_first_syn_success() && probe.is_carried())
}

/// The indices of the probes that the report contains: those in `shown`, and the first [`PROBES_PER_PATH`] poor ones.
fn keep(evidence: &PathEvidence, shown: &BTreeSet<usize>) -> Vec<usize> {
    let mut room = PROBES_PER_PATH;
    let mut kept = Vec::new();
    for (place, probe) in evidence.counted() {
        let is_wanted = is_poor(probe) && room > 0;
        if is_wanted {
            room -= 1;
        }
        if is_wanted || shown.contains(&place) {
            kept.push(place);
        }
    }
    kept
}

fn path(id: PathId, evidence: &PathEvidence, health: Health, kept: &[usize]) -> PathReport {
    let total = evidence.total();
    let whole = total.outcomes.total();
    let lost = unanswered(&total.outcomes);
    let poor = evidence.counted().filter(|(_, probe)| is_poor(probe));
    let poor_kept = kept
        .iter()
        .filter_map(|place| evidence.probes.get(*place))
        .filter(|probe| is_poor(probe));
    let omitted = poor.count() - poor_kept.count();
    let probes: Vec<ProbeReport> = kept
        .iter()
        .filter_map(|place| evidence.probes.get(*place))
        .map(|probe| ProbeReport {
            client: probe.client.clone(),
            server_agent: probe.server_agent.clone(),
            server: probe.server.clone(),
            annotations: annotations(probe),
        })
        .collect();
    PathReport {
        id,
        client: End::from(&evidence.path.client),
        server: evidence
            .path
            .server
            .as_ref()
            .map_or_else(End::default, End::from),
        access_path: evidence.path.access_path,
        scope: evidence.path.scope(),
        family: evidence.path.family,
        engine: engine(evidence),
        target: evidence.target,
        health,
        socket_level: evidence.socket_level,
        outcomes: total.outcomes,
        unfinished: evidence.unfinished(),
        first_syn_success: share(total.first_syn_success, whole),
        loss: share(lost, whole),
        loss_interval: interval(lost, whole),
        rtt_us: rtt(&total.rtt),
        backends: evidence
            .backends
            .iter()
            .map(|backend| BackendReport {
                node: backend.agent.as_ref().map(|agent| agent.node.clone()),
                pod: backend.agent.as_ref().map(|agent| agent.pod.clone()),
                address: backend.address,
                ready: backend.ready,
            })
            .collect(),
        ttl_probe: evidence.counted_ttl_probe().cloned(),
        other_port: evidence.other_port,
        probes,
        probes_omitted: u64::try_from(omitted).unwrap_or(u64::MAX),
    }
}

const fn unanswered(outcomes: &OutcomeCounts) -> u64 {
    outcomes.timeout + outcomes.mismatched
}

fn engine(evidence: &PathEvidence) -> Option<EngineUse> {
    let used = evidence.engines();
    match (
        used.contains(&EngineKind::Kernel),
        used.contains(&EngineKind::Raw),
    ) {
        (true, true) => Some(EngineUse::Both),
        (true, false) => Some(EngineUse::Kernel),
        (false, true) => Some(EngineUse::Raw),
        (false, false) => None,
    }
}

fn rtt(latency: &Latency) -> RttReport {
    let micros = |quantile| {
        latency
            .quantile(quantile)
            .map(|duration| two_digits(duration.as_secs_f64() * 1e6))
    };
    RttReport {
        p50: micros(0.5),
        p99: micros(0.99),
        count: latency.count(),
    }
}

/// The conntrack entries of a sample. Where only a part of the table was read and has none of it, those of another probe of
/// its path that ended likewise.
fn conntrack_of<'a>(
    matrix: &'a Matrix,
    path: &'a PathEvidence,
    sample: &'a Evidence,
) -> Vec<ProbeEntries<'a>> {
    let of_sample = matrix.conntrack_of(path, sample);
    let is_found = |found: &[ProbeEntries<'_>]| found.iter().any(|node| !node.entries.is_empty());
    if is_found(&of_sample) || of_sample.iter().all(|node| node.is_complete) {
        return of_sample;
    }
    let kind = sample.client.outcome.kind();
    let alike = (path.probes.iter()).filter(|other| other.client.outcome.kind() == kind);
    let mut of_others = alike.map(|other| matrix.conntrack_of(path, other));
    of_others.find(|found| is_found(found)).unwrap_or(of_sample)
}

fn diagnosis_report(
    diagnosis: &Diagnosis,
    places: &BTreeMap<(PathId, usize), usize>,
    matrix: &Matrix,
) -> DiagnosisReport {
    let Diagnosis {
        cause,
        node,
        segment,
        family,
        confidence,
        tier,
        paths,
        evidence,
        excluded,
        would_decide,
        remedy,
        sample,
    } = diagnosis.clone();
    let conntrack = sample.and_then(|(path, probe)| {
        let path = matrix.paths.get(&path)?;
        Some(conntrack_of(matrix, path, path.probes.get(probe)?))
    });
    DiagnosisReport {
        cause: CauseName(cause),
        meaning: cause.map_or(UNKNOWN, |cause| cause.meaning()).to_owned(),
        node,
        segment,
        family,
        confidence,
        tier,
        paths,
        evidence,
        excluded,
        would_decide,
        remedy,
        sample: sample.and_then(|(path, probe)| {
            let probe = *places.get(&(path, probe))?;
            Some(SampleProbe { path, probe })
        }),
        conntrack: (conntrack.iter().flatten())
            .map(ConntrackReport::new)
            .collect(),
    }
}

fn agent(id: &AgentId, evidence: &AgentEvidence, first: Option<Duration>) -> AgentReport {
    let hello = evidence.hello.as_ref();
    AgentReport {
        node: id.node.clone(),
        pod: id.pod.clone(),
        has_reported: evidence.has_reported,
        tier: hello.map(|hello| hello.tier),
        version: hello.map(|hello| hello.version.clone()),
        addresses: hello.map_or_else(Vec::new, |hello| hello.addresses.clone()),
        limits: hello.map_or_else(Vec::new, |hello| hello.limits.clone()),
        capture_dropped: evidence.capture_dropped,
        starved_ms: evidence.starved_ns / 1_000_000,
        first_connectivity_ms: first.map(|first| nanos(first) / 1_000_000),
        failed: evidence.failed.clone(),
        notices: evidence.notices.clone(),
    }
}

fn node(name: &NodeName, evidence: &NodeEvidence, data_plane: Option<NodeDataPlane>) -> NodeReport {
    let latest = evidence.latest();
    let grown = evidence
        .before
        .as_ref()
        .zip(latest)
        .and_then(|(before, after)| NodeFacts::delta(before, after))
        .map(|delta| Counters(delta.0.into_iter().filter(|(_, by)| *by > 0).collect()));
    NodeReport {
        node: name.clone(),
        facts: latest.map(|facts| NodeFacts {
            conntrack: None,
            counters: None,
            links: None,
            addresses: None,
            rules: None,
            routes: None,
            neighbours: None,
            fdb: None,
            qdiscs: None,
            tc_filters: None,
            ..facts.clone()
        }),
        data_plane,
        grown,
        unread: evidence.unread.clone(),
    }
}
