//! Groups the failures of a path by symptom and server, and distinguishes loss from complete failure.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::diagnosis::symptom::{
    FailureGroup, ServerEnd, Symptom, symptom, translated_destination, wrong_source,
};
use crate::evidence::start_up::Opening;
use crate::evidence::{Evidence, Matrix, PathEvidence, Source};
use crate::packet::Unreachable;
use crate::probe::outcome::{EngineKind, Errno, Outcome, OutcomeKind, ProbeResult};
use crate::topology::{AccessPath, AgentId, Path, PathId, Scope};

/// Every group of the matrix that needs an explanation, in the order of paths. The failures of a path that opened in time need
/// none; those of one that opened later are lost, however they were refused.
pub(crate) fn groups(matrix: &Matrix, openings: &BTreeMap<PathId, Opening>) -> Vec<FailureGroup> {
    let mut groups: Vec<FailureGroup> = Vec::new();
    for (&id, evidence) in &matrix.paths {
        match openings.get(&id) {
            Some(opening) if opening.is_in_time() => {}
            Some(_) => {
                let all = of_path(matrix, id, evidence).into_iter();
                groups.extend(all.map(|group| FailureGroup {
                    symptom: Symptom::Lossy,
                    ..group
                }));
            }
            None => groups.extend(of_path(matrix, id, evidence)),
        }
    }
    for (index, group) in groups.iter_mut().enumerate() {
        group.index = index;
    }
    groups
}

fn of_path(matrix: &Matrix, id: PathId, evidence: &PathEvidence) -> Vec<FailureGroup> {
    let mut groups: BTreeMap<(Symptom, Option<AgentId>), Vec<usize>> = BTreeMap::new();
    let mut good: Vec<(Option<AgentId>, &ProbeResult)> = Vec::new();
    let has_answers = crate::diagnosis::case::counts(evidence).0.established > 0;
    let client = matrix.agents.get(&evidence.path.client);
    let has_lost_packets = client.is_some_and(|agent| agent.capture_dropped > 0);
    let starved_ns = client.map_or(0, |agent| agent.starved_ns);
    for (at, probe) in evidence.counted() {
        let server = server_of(matrix, evidence, probe);
        match symptom(matrix.source, evidence, probe, starved_ns) {
            // A packet that only the capture lost is not lost, where other probes of the same path were answered.
            Some(Symptom::Silent) if has_lost_packets && has_answers => {}
            Some(symptom) => groups.entry((symptom, server)).or_default().push(at),
            None => good.push((server, &probe.client)),
        }
    }
    merge_rate_limited(evidence, &mut groups);
    reclassify_loss(evidence, &mut groups, &good);
    if groups.is_empty()
        && (evidence.counted()).all(|(_, probe)| probe.client.is_first_syn_success())
    {
        add_counted_failures(evidence, &mut groups);
    }
    let mut groups: Vec<FailureGroup> = groups
        .into_iter()
        .map(|((symptom, server), probes)| FailureGroup {
            index: 0,
            path: id,
            client: evidence.path.client.clone(),
            server_end: server_end(matrix, evidence, &probes, server.as_ref()),
            server,
            access_path: evidence.path.access_path,
            family: evidence.path.family,
            symptom,
            probes,
        })
        .collect();
    if matrix.source == Source::Capture {
        // A refused connection in other traffic is no fault of the network.
        groups.retain(|group| group.symptom != Symptom::Reset && group.symptom != Symptom::Broken);
    }
    groups
}

/// Kernels limit the rate of ICMP unreachable (`icmp_ratelimit`, RFC 1812 4.3.2.8): where
/// some probes of a path received such an error, its silent ones were refused as well.
fn merge_rate_limited(
    evidence: &PathEvidence,
    groups: &mut BTreeMap<(Symptom, Option<AgentId>), Vec<usize>>,
) {
    let Some(server) = &evidence.path.server else {
        return;
    };
    let unreachable = groups
        .keys()
        .find(|(symptom, _)| matches!(symptom, Symptom::Unreachable(_)))
        .cloned();
    if let Some(unreachable) = unreachable
        && let Some(silent) = groups.remove(&(Symptom::Silent, Some(server.clone())))
    {
        let all = groups.entry(unreachable).or_default();
        all.extend(silent);
        all.sort_unstable();
    }
}

/// Silence on a path where the same engine also received answers is loss, not a complete failure.
fn reclassify_loss(
    evidence: &PathEvidence,
    groups: &mut BTreeMap<(Symptom, Option<AgentId>), Vec<usize>>,
    good: &[(Option<AgentId>, &ProbeResult)],
) {
    let silent: Vec<_> = groups
        .keys()
        .filter(|(symptom, _)| *symptom == Symptom::Silent)
        .cloned()
        .collect();
    for key in silent {
        let engines: Vec<_> = groups
            .get(&key)
            .into_iter()
            .flatten()
            .filter_map(|&at| evidence.probes.get(at))
            .map(|probe| probe.client.engine)
            .collect();
        let same = |server: &Option<AgentId>| *server == key.1 || evidence.path.server.is_some();
        let also_good = good
            .iter()
            .any(|(server, probe)| same(server) && engines.contains(&probe.engine));
        let also_late = groups
            .keys()
            .any(|(symptom, server)| *symptom == Symptom::Lossy && same(server));
        let tallied = evidence.path.scope() != Scope::Any
            && engines.iter().any(|engine| {
                evidence
                    .tallies
                    .get(engine)
                    .is_some_and(|tally| tally.outcomes.established > 0)
            });
        let pinned_good = also_good || also_late || tallied;
        if pinned_good
            && (key.1.is_some() || evidence.path.server.is_some())
            && let Some(probes) = groups.remove(&key)
        {
            let lossy = groups.entry((Symptom::Lossy, key.1)).or_default();
            lossy.extend(probes);
            lossy.sort_unstable();
        }
    }
}

/// Failures that were counted but not reported in full (tier T0 may report none).
fn add_counted_failures(
    evidence: &PathEvidence,
    groups: &mut BTreeMap<(Symptom, Option<AgentId>), Vec<usize>>,
) {
    let (outcomes, first_syn_success) = crate::diagnosis::case::counts(evidence);
    let symptom = |kind| match kind {
        OutcomeKind::Established => Symptom::Lossy,
        OutcomeKind::Reset => Symptom::Reset,
        OutcomeKind::Timeout => Symptom::Silent,
        OutcomeKind::Unreachable => Symptom::Unreachable(Unreachable::Other),
        OutcomeKind::RefusedLocally => Symptom::RefusedLocally(Errno::Other),
        OutcomeKind::Mismatched => Symptom::SynAckFromWrongSource,
    };
    for kind in OutcomeKind::ALL {
        let failed = match kind {
            OutcomeKind::Established => outcomes.established.saturating_sub(first_syn_success),
            OutcomeKind::Reset
            | OutcomeKind::Timeout
            | OutcomeKind::Unreachable
            | OutcomeKind::RefusedLocally
            | OutcomeKind::Mismatched => outcomes.of(kind),
        };
        if failed > 0 {
            let lost = kind == OutcomeKind::Timeout
                && outcomes.established > 0
                && evidence.path.server.is_some();
            let symptom = if lost { Symptom::Lossy } else { symptom(kind) };
            groups.insert((symptom, evidence.path.server.clone()), Vec::new());
        }
    }
}

/// The server that a probe reached, or was expected to reach.
fn server_of(matrix: &Matrix, evidence: &PathEvidence, probe: &Evidence) -> Option<AgentId> {
    if let Some(server) = &evidence.path.server {
        return Some(server.clone());
    }
    let banner = probe.client.exchange.banner().map(|banner| AgentId {
        node: banner.node.clone(),
        pod: banner.pod.clone(),
    });
    // The banner and the packets of this probe take precedence over the server's trace: a five-tuple may be used twice.
    banner
        .or_else(|| backend_at(evidence, wrong_source(&probe.client)?.0))
        .or_else(|| {
            let seen = probe
                .server
                .as_ref()
                .filter(|server_trace| server_trace.syns > 0);
            seen.and(probe.server_agent.clone())
        })
        .or_else(|| backend_at(evidence, translated_destination(&probe.client)?))
        .or_else(|| only_endpoint_never_reached(matrix, evidence))
}

fn backend_at(evidence: &PathEvidence, address: SocketAddr) -> Option<AgentId> {
    evidence
        .backends
        .iter()
        .find(|backend| backend.address == address)
        .and_then(|backend| backend.agent.clone())
}

/// The only endpoint of a balanced port that no probe reached, if probes reached all others.
fn only_endpoint_never_reached(matrix: &Matrix, evidence: &PathEvidence) -> Option<AgentId> {
    let mut reached: BTreeMap<&str, u32> = BTreeMap::new();
    let balanced = |path: &Path| {
        path.access_path == AccessPath::ClusterIpAny && path.family == evidence.path.family
    };
    let reported = matrix
        .paths
        .values()
        .filter(|other| balanced(&other.path))
        .flat_map(|other| &other.probes);
    for probe in reported {
        if let Some(banner) = probe.client.exchange.banner() {
            *reached.entry(banner.pod.as_str()).or_default() += 1;
        } else if let Some(agent) = &probe.server_agent
            && probe
                .server
                .as_ref()
                .is_some_and(|server_trace| server_trace.syns > 0)
            && matches!(probe.client.outcome, Outcome::Established { .. })
        {
            *reached.entry(agent.pod.as_str()).or_default() += 1;
        }
    }
    let mut missing = evidence
        .backends
        .iter()
        .filter_map(|backend| backend.agent.as_ref())
        .filter(|agent| !reached.contains_key(agent.pod.as_str()));
    let only = missing.next()?;
    (missing.next().is_none() && !reached.is_empty()).then(|| only.clone())
}

/// The furthest state of these probes that the server's end observed.
fn server_end(
    matrix: &Matrix,
    evidence: &PathEvidence,
    probes: &[usize],
    server: Option<&AgentId>,
) -> ServerEnd {
    let is_unreliable = server
        .and_then(|server| matrix.agents.get(server))
        .is_some_and(|agent| agent.is_capture_unreliable() || agent.is_starved());
    let end = |probe: &Evidence| {
        let theirs = server.is_none()
            || probe.server_agent.is_none()
            || probe.server_agent.as_ref() == server;
        let Some(server_trace) = probe.server.as_ref().filter(|_| theirs) else {
            return ServerEnd::Unknown;
        };
        if server_trace.resets_sent > 0 && server_trace.syn_acks == 0 {
            ServerEnd::ResetSent
        } else if server_trace.acks > 0 {
            ServerEnd::Completed
        } else if server_trace.syn_acks > 0
            && server_trace.resets_received > 0
            && is_refused(&probe.client)
        {
            ServerEnd::SynAckReset
        } else if server_trace.syn_acks > 0 {
            ServerEnd::SynAck
        } else if server_trace.syns > 0 {
            ServerEnd::SynOnly
        } else if is_unreliable {
            ServerEnd::Unknown
        } else {
            ServerEnd::Nothing
        }
    };
    probes
        .iter()
        .filter_map(|&at| evidence.probes.get(at))
        .map(end)
        .max()
        .unwrap_or(ServerEnd::Unknown)
}

/// Whether a RST to the server can be an answer to its SYN+ACK: a raw probe resets every connection that it
/// began, also where no answer came.
fn is_refused(probe: &ProbeResult) -> bool {
    match probe.engine {
        EngineKind::Kernel => true,
        EngineKind::Raw => wrong_source(probe).is_some(),
    }
}
