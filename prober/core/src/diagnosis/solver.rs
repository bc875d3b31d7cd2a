//! From hypotheses to diagnoses: the strongest hypothesis takes the groups that it explains, then every rule runs again on
//! the remaining ones, so that one cause explains its knock-on symptoms. NetworkPolicies of the API that block everything,
//! and that no evidence contradicts, precede all rules: their symptoms are those of a drop on every node.

use std::collections::{BTreeMap, BTreeSet};

use super::case::Case;
use super::catalogue::Cause;
use super::filtering;
use super::symptom::{FailureGroup, ServerEnd, Symptom};
use super::{Confidence, Diagnosis, Exclusion, PathSegment, Remedy, remedy, sample, unknown};
use crate::diagnosis::hypothesis::{Finding, Hypothesis, Proof};
use crate::diagnosis::node_routes;
use crate::evidence::{PathEvidence, Source};
use crate::probe::tier::Tier;
use crate::topology::{AccessPath, AgentId, PathId};

/// The diagnoses that explain the case, and one `unknown` for each kind of unexplained failure.
pub(crate) fn solve(
    mut case: Case<'_>,
    rules: &[fn(&Case<'_>) -> Vec<Hypothesis>],
) -> Vec<Diagnosis> {
    let mut found: Vec<Diagnosis> = Vec::new();
    for family in case.families() {
        if let Some(hypothesis) = filtering::blocked_by_policies(&case, family) {
            accept(&mut case, &hypothesis, &[], &mut found);
        }
    }
    loop {
        let hypotheses: Vec<Hypothesis> = rules
            .iter()
            .flat_map(|rule| rule(&case))
            .filter(|hypothesis| is_detectable(&case, hypothesis))
            .collect();
        let best = hypotheses
            .iter()
            .filter(|hypothesis| strength(&hypothesis.finding) > 0)
            .filter(|hypothesis| {
                hypothesis
                    .groups
                    .iter()
                    .any(|at| case.unexplained.contains(at))
            })
            .max_by(|a, b| {
                let by_name = (b.cause, &b.place).cmp(&(a.cause, &a.place));
                rank(a).cmp(&rank(b)).then(by_name)
            });
        let Some(best) = best else {
            case.unexplained.append(&mut case.node_groups);
            found.extend(unknown::unexplained(&case, &hypotheses));
            break;
        };
        accept(&mut case, best, &hypotheses, &mut found);
    }
    merge(found)
}

/// Removes the groups of a hypothesis, and those that follow from it, from the unexplained ones.
fn accept(
    case: &mut Case<'_>,
    best: &Hypothesis,
    hypotheses: &[Hypothesis],
    found: &mut Vec<Diagnosis>,
) {
    let mut explained = best.groups.clone();
    explained.extend(knock_on(case, best));
    explained.extend(node_routes::explained(case, best));
    found.push(diagnosis(case, best, &explained, hypotheses));
    case.unexplained.retain(|at| !explained.contains(at));
    case.node_groups.retain(|at| !explained.contains(at));
}

/// Whether evidence of this source can show such a cause.
fn is_detectable(case: &Case<'_>, hypothesis: &Hypothesis) -> bool {
    match case.matrix.source {
        Source::Run | Source::Host => true,
        Source::Capture => hypothesis.cause.shows_in_packets(),
    }
}

fn strength(finding: &Finding) -> u8 {
    match finding {
        Finding::Proves(Proof::Facts) => 3,
        Finding::Proves(Proof::Packets) => 2,
        Finding::Fits { .. } => 1,
        Finding::Excludes { .. } => 0,
    }
}

/// The stronger one first, then the one that explains more.
fn rank(hypothesis: &Hypothesis) -> (u8, usize) {
    (strength(&hypothesis.finding), hypothesis.groups.len())
}

/// Symptoms that follow from a hypothesis and have no packets that prove it: the share of a balanced port that leads to
/// the same server, and its retries, which are balanced anew.
fn knock_on(case: &Case<'_>, best: &Hypothesis) -> BTreeSet<usize> {
    let claimed: Vec<&FailureGroup> = case.at(&best.groups).collect();
    let pod_wide = matches!(
        best.place.segment,
        PathSegment::Pod { .. } | PathSegment::Service | PathSegment::Namespace
    );
    let mut found = rate_limited(case, &claimed);
    found.extend(dropped_by_conntrack(case, &claimed));
    found.extend(case.places(|group| {
        if !case.is_balanced(group) || group.family != best.place.family {
            return false;
        }
        claimed.iter().any(|other| {
            let client = pod_wide || other.client.node == group.client.node;
            let behind = |server: &AgentId| case.is_behind(group, server);
            let server = match (&group.server, &other.server) {
                // Late, and answered in the end: the first SYNs may have been balanced to another endpoint.
                (Some(_), Some(other)) if group.symptom == Symptom::Lossy => behind(other),
                (Some(group), Some(other)) => group == other,
                (None, Some(other)) => behind(other),
                (Some(_) | None, None) => pod_wide,
            };
            // ICMP errors are rate-limited per destination: it is chance which access path receives one.
            let is_refused_too = group.symptom.is_unroutable()
                && other.symptom == Symptom::Silent
                && group.client == other.client;
            let is_alike = group.symptom == other.symptom
                || is_refused_too
                || matches!(group.symptom, Symptom::Lossy | Symptom::Silent);
            client && server && is_alike
        })
    }));
    found
}

/// Silence between two pods where the same client received an ICMP unreachable on another access path: ICMP errors are
/// rate-limited per destination, whatever the access path.
fn rate_limited(case: &Case<'_>, claimed: &[&FailureGroup]) -> BTreeSet<usize> {
    case.places(|group| {
        group.symptom == Symptom::Silent
            && group.server.is_some()
            && matches!(group.server_end, ServerEnd::Nothing | ServerEnd::Unknown)
            && claimed.iter().any(|other| {
                matches!(other.symptom, Symptom::Unreachable(_))
                    && other.family == group.family
                    && other.client == group.client
                    && other.server == group.server
                    && (other.access_path == AccessPath::PodIp
                        || other.access_path == group.access_path)
            })
    })
}

/// SYNs that vanished where the same server also sent untranslated answers on the same path: while conntrack waits for
/// the answer of a connection from the same port to the same pod by another address, it drops such SYNs.
fn dropped_by_conntrack(case: &Case<'_>, claimed: &[&FailureGroup]) -> BTreeSet<usize> {
    case.places(|group| {
        group.symptom == Symptom::Silent
            && matches!(group.server_end, ServerEnd::Nothing | ServerEnd::Unknown)
            && claimed.iter().any(|other| {
                other.symptom == Symptom::SynAckFromWrongSource
                    && other.path == group.path
                    && other.server == group.server
                    && other.probes.len() > group.probes.len()
            })
    })
}

fn diagnosis(
    case: &Case<'_>,
    best: &Hypothesis,
    explained: &BTreeSet<usize>,
    hypotheses: &[Hypothesis],
) -> Diagnosis {
    let (confidence, mut would_decide) = match &best.finding {
        // A capture may contain only a part of the traffic, and has no facts of the nodes.
        Finding::Proves(_) if case.matrix.source == Source::Capture => {
            let run = "the facts of the nodes, and probes of the other paths: `prober run`";
            (Confidence::Consistent, vec![run.to_owned()])
        }
        Finding::Proves(_) => (Confidence::Proven, Vec::new()),
        Finding::Fits { missing } => (Confidence::Consistent, missing.clone()),
        Finding::Excludes { .. } => (Confidence::Consistent, Vec::new()),
    };
    let mut excluded = best.excluded.clone();
    for other in hypotheses {
        let about = other.groups.intersection(&best.groups).next().is_some();
        if !about || other.cause == best.cause {
            continue;
        }
        match &other.finding {
            Finding::Excludes { because } => excluded.push(Exclusion {
                cause: other.cause,
                because: because.clone(),
            }),
            Finding::Fits { missing } if confidence == Confidence::Consistent => {
                would_decide.push(format!(
                    "{} has the same symptoms{}",
                    other.cause,
                    missing
                        .first()
                        .map_or_else(String::new, |first| format!("; it is decided by: {first}"))
                ));
            }
            Finding::Fits { .. } | Finding::Proves(_) => {}
        }
    }
    excluded.sort_by_key(|exclusion| exclusion.cause);
    excluded.dedup_by_key(|exclusion| exclusion.cause);
    let mut seen = BTreeSet::new();
    would_decide.retain(|observation| seen.insert(observation.clone()));
    let paths: BTreeSet<PathId> = case.at(explained).map(|group| group.path).collect();
    Diagnosis {
        cause: Some(best.cause),
        node: best.place.node.clone(),
        segment: best.place.segment.clone(),
        family: Some(best.place.family),
        confidence,
        tier: tier(case, best),
        evidence: with_scope(case, &paths, best),
        paths: paths.into_iter().collect(),
        excluded,
        would_decide,
        remedy: steps(case, best),
        sample: sample::choose(case, &best.groups),
    }
}

/// The remedy; only a run has the names of pods.
fn steps(case: &Case<'_>, best: &Hypothesis) -> Vec<Remedy> {
    let target = case
        .at(&best.groups)
        .find_map(|group| case.path(group.path));
    match (case.matrix.source, target) {
        (Source::Host | Source::Capture, Some(path)) => {
            remedy::at_address(best.cause, &best.place, &path.target.to_string())
        }
        (Source::Run, _) | (_, None) => remedy::remedy(best.cause, &best.place),
    }
}

/// The tier of the evidence that a hypothesis actually uses.
fn tier(case: &Case<'_>, best: &Hypothesis) -> Tier {
    let packets = case
        .at(&best.groups)
        .any(|group| case.client_packets(group).next().is_some());
    let facts = best.finding == Finding::Proves(Proof::Facts)
        && case
            .matrix
            .nodes
            .values()
            .any(|node| node.latest().is_some());
    if facts {
        Tier::T2
    } else if packets {
        Tier::T1.min(case.matrix.tier())
    } else {
        Tier::T0
    }
}

/// The evidence, and the healthy paths that bound the cause.
fn with_scope(case: &Case<'_>, paths: &BTreeSet<PathId>, best: &Hypothesis) -> Vec<String> {
    let mut evidence = best.evidence.clone();
    let named = |evidence: &PathEvidence| {
        let path = &evidence.path;
        if case.matrix.source == Source::Host {
            return evidence.target.to_string();
        }
        let server = path
            .server
            .as_ref()
            .map_or("any", |server| server.pod.as_str());
        format!(
            "{} {} -> {} ({})",
            path.access_path, path.client.pod, server, path.family
        )
    };
    let all: Vec<String> = paths
        .iter()
        .filter_map(|&id| case.path(id))
        .map(&named)
        .collect();
    let shown = all.iter().take(4).cloned().collect::<Vec<_>>().join(", ");
    let more = all.len().saturating_sub(4);
    evidence.push(if more > 0 {
        format!("fails: {shown} and {more} more")
    } else {
        format!("fails: {shown}")
    });
    let healthy: Vec<String> = case
        .all_healthy()
        .filter(|path| path.path.family == best.place.family)
        .filter(|path| {
            best.place.node.as_ref().is_none_or(|node| {
                path.path.client.node == *node
                    || path
                        .path
                        .server
                        .as_ref()
                        .is_some_and(|server| server.node == *node)
            })
        })
        .map(named)
        .collect();
    if let Some(first) = healthy.first() {
        let rest = healthy.len() - 1;
        let shown = healthy
            .iter()
            .take(4)
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        evidence.push(if rest > 3 {
            format!("works: {shown} and {} more", rest - 3)
        } else if rest > 0 {
            format!("works: {shown}")
        } else {
            format!("works: {first}")
        });
    }
    evidence
}

/// Merges two diagnoses into one where both families have the same cause at the same place.
fn merge(found: Vec<Diagnosis>) -> Vec<Diagnosis> {
    let mut merged: BTreeMap<(u8, usize), Diagnosis> = BTreeMap::new();
    let mut place: Vec<(Option<Cause>, PathSegment, (u8, usize))> = Vec::new();
    for (at, next) in found.into_iter().enumerate() {
        let known = place
            .iter()
            .find(|(cause, segment, _)| *cause == next.cause && *segment == next.segment)
            .map(|(_, _, key)| *key);
        if let Some(first) = known.and_then(|key| merged.get_mut(&key)) {
            merge_into(first, next);
            continue;
        }
        let rank =
            u8::from(next.confidence != Confidence::Proven) + 2 * u8::from(next.cause.is_none());
        place.push((next.cause, next.segment.clone(), (rank, at)));
        merged.insert((rank, at), next);
    }
    merged.into_values().collect()
}

fn merge_into(first: &mut Diagnosis, next: Diagnosis) {
    if first.family != next.family {
        first.family = None;
    }
    first.confidence = first.confidence.min(next.confidence);
    first.tier = first.tier.max(next.tier);
    let paths: BTreeSet<PathId> = first.paths.iter().copied().chain(next.paths).collect();
    first.paths = paths.into_iter().collect();
    extend(&mut first.evidence, next.evidence);
    extend(&mut first.would_decide, next.would_decide);
    extend(&mut first.remedy, next.remedy);
    for exclusion in next.excluded {
        if first
            .excluded
            .iter()
            .all(|known| known.cause != exclusion.cause)
        {
            first.excluded.push(exclusion);
        }
    }
    if first.confidence == Confidence::Proven {
        first.would_decide.clear();
    }
    first.sample = first.sample.or(next.sample);
}

fn extend<T: PartialEq>(list: &mut Vec<T>, more: Vec<T>) {
    for item in more {
        if !list.contains(&item) {
            list.push(item);
        }
    }
}
