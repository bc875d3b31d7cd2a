//! From hypotheses to diagnoses: the strongest hypothesis takes the groups that it explains, then every model is tested again on
//! the remaining ones, so that one cause explains its knock-on symptoms.

use std::collections::BTreeSet;

use super::case::Case;
use super::catalogue::Cause;
use super::{
    Confidence, Diagnosis, Exclusion, PathSegment, causes, knock_on, location, merge, sample,
    unknown,
};
use crate::diagnosis::hypothesis::{Finding, Hypothesis, Proof};
use crate::diagnosis::node_routes;
use crate::evidence::{PathEvidence, Source};
use crate::probe::tier::Tier;
use crate::topology::{NodeName, PathId};

/// The diagnoses that explain the case, and one `unknown` for each kind of unexplained failure.
pub(crate) fn solve(mut case: Case<'_>) -> Vec<Diagnosis> {
    let mut found: Vec<Diagnosis> = Vec::new();
    loop {
        let hypotheses: Vec<Hypothesis> = causes::hypotheses(&case)
            .into_iter()
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
            .map(|hypothesis| (rank(hypothesis, &hypotheses), hypothesis))
            .max_by(|(a_rank, a), (b_rank, b)| {
                let by_name = (b.cause, &b.place).cmp(&(a.cause, &a.place));
                a_rank.cmp(b_rank).then(by_name)
            })
            .map(|(_, best)| best);
        let Some(best) = best else {
            case.unexplained.append(&mut case.node_groups);
            found.extend(unknown::unexplained(&case, &hypotheses));
            break;
        };
        accept(&mut case, best, &hypotheses, &mut found);
    }
    merge::merge(found)
}

/// Removes the groups of a hypothesis, and those that follow from it, from the unexplained ones.
fn accept(
    case: &mut Case<'_>,
    best: &Hypothesis,
    hypotheses: &[Hypothesis],
    found: &mut Vec<Diagnosis>,
) {
    let mut explained = best.groups.clone();
    explained.extend(knock_on::groups(case, best));
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
        Finding::Proves(Proof::Packets) | Finding::Locates { .. } => 2,
        Finding::Fits { .. } => 1,
        Finding::Excludes { .. } => 0,
    }
}

/// The stronger one first; then one that predicts some failure for certain, the one that explains more, and the one that
/// predicts more of it for certain.
fn rank(hypothesis: &Hypothesis, all: &[Hypothesis]) -> (u8, bool, usize, usize) {
    // The only place at which packets are dropped is no proof while another cause may act there.
    let strength = match &hypothesis.finding {
        Finding::Locates { .. } if rivals(hypothesis, all).next().is_some() => 1,
        finding @ (Finding::Proves(_)
        | Finding::Locates { .. }
        | Finding::Fits { .. }
        | Finding::Excludes { .. }) => strength(finding),
    };
    (
        strength,
        hypothesis.certain > 0,
        hypothesis.groups.len(),
        hypothesis.certain,
    )
}

/// The other hypotheses that may be the truth instead of this one: each explains the failures that show it, and a second one, of
/// another cause, those that it leaves.
fn rivals<'a>(
    best: &'a Hypothesis,
    hypotheses: &'a [Hypothesis],
) -> impl Iterator<Item = &'a Hypothesis> {
    let others = hypotheses.iter().filter(|other| {
        let is_same = other.cause == best.cause && other.place.segment == best.place.segment;
        !is_same && strength(&other.finding) > 0
    });
    let seconds = others.clone();
    others.filter(move |other| {
        let rest: BTreeSet<usize> = best.groups.difference(&other.groups).copied().collect();
        other.groups.is_superset(best.contested())
            && (rest.is_empty()
                || (seconds.clone())
                    .any(|second| second.cause != other.cause && second.groups.is_superset(&rest)))
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
        Finding::Proves(_) | Finding::Locates { .. } if case.matrix.source == Source::Capture => {
            let run = "the facts of the nodes, and probes of the other paths: `prober run`";
            (Confidence::Consistent, vec![run.to_owned()])
        }
        // What came up during the run is not broken.
        Finding::Proves(_) | Finding::Locates { .. } if has_come_up(case, best) => {
            let again = "whether it fails again: `prober run` once more";
            (Confidence::Consistent, vec![again.to_owned()])
        }
        Finding::Proves(_) => (Confidence::Proven, Vec::new()),
        Finding::Locates { .. } if rivals(best, hypotheses).next().is_none() => {
            (Confidence::Proven, Vec::new())
        }
        Finding::Fits { missing } => (Confidence::Consistent, missing.clone()),
        Finding::Locates { .. } | Finding::Excludes { .. } => (Confidence::Consistent, Vec::new()),
    };
    let excluded = exclusions(best, hypotheses);
    let undecided = rivals(best, hypotheses)
        .filter(|other| confidence != Confidence::Proven && other.cause != best.cause);
    would_decide.extend(undecided.filter_map(|other| decided_by(best, other)));
    let mut seen = BTreeSet::new();
    would_decide.retain(|observation| seen.insert(observation.clone()));
    let (node, segment) = honest_place(case, best, confidence, hypotheses);
    let paths: BTreeSet<PathId> = case.at(explained).map(|group| group.path).collect();
    Diagnosis {
        cause: Some(best.cause),
        node,
        segment,
        family: Some(best.place.family),
        confidence,
        tier: tier(case, best),
        evidence: with_scope(case, &paths, best),
        paths: paths.into_iter().collect(),
        excluded,
        would_decide,
        remedy: best.remedy.clone(),
        sample: sample::choose(case, &best.groups),
    }
}

/// Whether every path of a hypothesis failed at first and works since, which only causes that end by themselves explain.
fn has_come_up(case: &Case<'_>, best: &Hypothesis) -> bool {
    let mut paths = case.at(&best.groups).map(|group| case.path(group.path));
    !best.cause.ends_by_itself() && paths.all(|path| path.is_some_and(PathEvidence::has_come_up))
}

/// What distinguishes a rival from a hypothesis, as a sentence.
fn decided_by(best: &Hypothesis, other: &Hypothesis) -> Option<String> {
    let decided = match &other.finding {
        Finding::Fits { missing } => missing
            .first()
            .map_or_else(String::new, |first| format!("; it is decided by: {first}")),
        Finding::Locates { .. } => String::new(),
        Finding::Excludes { .. } | Finding::Proves(_) => return None,
    };
    let what = if other.groups.is_superset(&best.groups) {
        "has the same symptoms"
    } else {
        "has a part of the symptoms, and a second cause may have the rest"
    };
    Some(format!("{} {what}{decided}", other.cause))
}

/// The causes that the evidence rules out for failures of a hypothesis, wherever they might be. At the same place comes first.
fn exclusions(best: &Hypothesis, hypotheses: &[Hypothesis]) -> Vec<Exclusion> {
    let about = || {
        hypotheses.iter().filter(|other| {
            other.cause != best.cause && other.groups.intersection(&best.groups).next().is_some()
        })
    };
    let remaining: BTreeSet<Cause> = about()
        .filter(|other| strength(&other.finding) > 0)
        .map(|other| other.cause)
        .collect();
    let mut excluded: Vec<(Cause, bool, &str)> = about()
        .filter(|other| !remaining.contains(&other.cause))
        .filter_map(|other| match &other.finding {
            Finding::Excludes { because } => Some((
                other.cause,
                other.place.node != best.place.node,
                because.as_str(),
            )),
            Finding::Fits { .. } | Finding::Locates { .. } | Finding::Proves(_) => None,
        })
        .collect();
    excluded.sort_unstable();
    excluded.dedup_by_key(|(cause, ..)| *cause);
    let exclusions = excluded.into_iter().map(|(cause, _, because)| Exclusion {
        cause,
        because: because.to_owned(),
    });
    exclusions.collect()
}

/// The place of a hypothesis; where rivals at other places remain, the narrowest that has all of them.
fn honest_place(
    case: &Case<'_>,
    best: &Hypothesis,
    confidence: Confidence,
    hypotheses: &[Hypothesis],
) -> (Option<NodeName>, PathSegment) {
    let own = (best.place.node.clone(), best.place.segment.clone());
    let is_elsewhere = rivals(best, hypotheses).any(|other| other.place.segment != own.1);
    if confidence == Confidence::Proven || !is_elsewhere {
        return own;
    }
    match location::place_of(&location::common(case, &best.groups)) {
        PathSegment::Node { node } => (Some(node.clone()), PathSegment::Node { node }),
        segment @ PathSegment::Between { .. } => (None, segment),
        PathSegment::Pod { .. }
        | PathSegment::Service
        | PathSegment::Namespace
        | PathSegment::Unknown => own,
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
    let named = |evidence: &PathEvidence| case.named(evidence);
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
        .filter(|path| (best.place.node.as_ref()).is_none_or(|node| path.path.involves(node)))
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
