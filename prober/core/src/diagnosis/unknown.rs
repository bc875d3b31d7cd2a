//! Failures that no cause explains: `unknown`, with the observations, what they exclude, and what would decide.

use std::collections::{BTreeMap, BTreeSet};

use super::case::{Case, STARVED_NS};
use super::symptom::{ServerEnd, Symptom};
use super::{Confidence, Diagnosis, Exclusion, PathSegment, location, sample};
use crate::diagnosis::hypothesis::{Finding, Hypothesis};
use crate::evidence::Source;
use crate::packet::Unreachable;
use crate::probe::outcome::Outcome;
use crate::probe::tier::Tier;
use crate::topology::PathId;
use crate::units::duration;

/// One diagnosis without a cause for each symptom that no hypothesis explains.
pub(crate) fn unexplained(case: &Case<'_>, hypotheses: &[Hypothesis]) -> Vec<Diagnosis> {
    let mut groups: BTreeMap<Symptom, BTreeSet<usize>> = BTreeMap::new();
    for (at, group) in case.failing(|_| true) {
        groups.entry(group.symptom).or_default().insert(at);
    }
    groups
        .into_iter()
        .map(|(symptom, places)| unknown(case, symptom, &places, hypotheses))
        .collect()
}

fn unknown(
    case: &Case<'_>,
    symptom: Symptom,
    places: &BTreeSet<usize>,
    hypotheses: &[Hypothesis],
) -> Diagnosis {
    let paths: BTreeSet<PathId> = case.at(places).map(|group| group.path).collect();
    let families: BTreeSet<_> = case.at(places).map(|group| group.family).collect();
    let mut evidence = vec![format!(
        "{} probes on {} paths {}",
        case.count(places),
        paths.len(),
        predicate(case, symptom, places)
    )];
    for group in case.at(places).take(6) {
        let server = group
            .server
            .as_ref()
            .map_or("any", |server| server.pod.as_str());
        let target = case.path(group.path).map(|path| path.target);
        if let Some(target) = target.filter(|_| case.matrix.source == Source::Host) {
            evidence.push(format!("{target}: {}", server_end(group.server_end)));
            continue;
        }
        evidence.push(format!(
            "{} {} -> {} ({}): {}",
            group.access_path,
            group.client.pod,
            server,
            group.family,
            if symptom.refused_locally().is_some() {
                "nothing was sent"
            } else {
                server_end(group.server_end)
            }
        ));
    }
    for (agent, known) in &case.matrix.agents {
        if known.starved_ns > STARVED_NS {
            evidence.push(format!(
                "{agent} was starved of CPU (up to {}): its silence proves nothing",
                duration(known.starved_ns)
            ));
        }
        if known.capture_dropped > 0 {
            evidence.push(format!(
                "the capture of {agent} lost {} packets: a packet that it lacks may have been there",
                known.capture_dropped
            ));
        }
    }
    let excluded = hypotheses
        .iter()
        .filter(|hypothesis| hypothesis.groups.intersection(places).next().is_some())
        .filter_map(|hypothesis| match &hypothesis.finding {
            Finding::Excludes { because } => Some(Exclusion {
                cause: hypothesis.cause,
                because: because.clone(),
            }),
            Finding::Proves(_) | Finding::Locates { .. } | Finding::Fits { .. } => None,
        })
        .collect();
    // A place is only as good as the observations that bound it.
    let segment = location::place_of(&location::common(case, places));
    let bounds = location::sentences(case, places);
    let (segment, node) = match segment {
        PathSegment::Node { ref node } => {
            let node = node.clone();
            (segment, Some(node))
        }
        PathSegment::Between { .. } => (segment, None),
        PathSegment::Pod { .. }
        | PathSegment::Service
        | PathSegment::Namespace
        | PathSegment::Unknown => {
            let client = only(case.at(places).map(|group| group.client.node.clone()));
            (PathSegment::Unknown, client)
        }
    };
    if segment != PathSegment::Unknown {
        evidence.extend(bounds);
    }
    Diagnosis {
        cause: None,
        node,
        segment,
        family: if families.len() == 1 {
            families.into_iter().next()
        } else {
            None
        },
        confidence: Confidence::Consistent,
        tier: case.matrix.tier(),
        paths: paths.into_iter().collect(),
        evidence,
        excluded,
        would_decide: would_decide(case, places),
        remedy: Vec::new(),
        sample: sample::choose(case, places),
    }
}

/// The results of the probes. Mentions an ICMP error only where one was observed.
fn predicate(case: &Case<'_>, symptom: Symptom, places: &BTreeSet<usize>) -> String {
    let mut outcomes = case
        .at(places)
        .flat_map(|group| case.probes(group))
        .map(|probe| probe.client.outcome)
        .peekable();
    let is_unseen = outcomes.peek().is_some()
        && outcomes.all(|outcome| matches!(outcome, Outcome::Unreachable { by: None, .. }));
    let errno = match symptom.unreachable() {
        Some(Unreachable::Host) => "EHOSTUNREACH",
        Some(Unreachable::Network) => "ENETUNREACH",
        Some(Unreachable::Prohibited) => "EACCES or EPERM",
        Some(Unreachable::Port | Unreachable::Other) | None => return symptom.predicate(),
    };
    if is_unseen {
        format!(
            "failed with {errno} after a SYN; without packets it is not known whether an ICMP error arrived"
        )
    } else {
        symptom.predicate()
    }
}

const fn server_end(end: ServerEnd) -> &'static str {
    match end {
        ServerEnd::Unknown => "no capture from the server side",
        ServerEnd::Nothing => "the server's end saw nothing",
        ServerEnd::SynOnly => "the server's end saw the SYN and answered nothing",
        ServerEnd::SynAck => "the server's end saw the SYN and sent SYN+ACK",
        ServerEnd::SynAckReset => "the server's end sent SYN+ACK and received RST",
        ServerEnd::ResetSent => "the server's end saw the SYN and sent RST",
        ServerEnd::Completed => "the server's end saw the handshake completed",
    }
}

fn would_decide(case: &Case<'_>, places: &BTreeSet<usize>) -> Vec<String> {
    let mut wanted = Vec::new();
    if case
        .at(places)
        .all(|group| group.symptom.refused_locally().is_some())
    {
        let commands = case.at(places).filter_map(|group| {
            let target = case.path(group.path)?.target.ip();
            Some(format!(
                "`ip route get {target}` where {} runs, on {}",
                group.client, group.client.node
            ))
        });
        return commands
            .collect::<BTreeSet<_>>()
            .into_iter()
            .take(6)
            .collect();
    }
    match case.matrix.tier() {
        Tier::T0 => wanted.push(
            "the packets of both ends: give the agents CAP_NET_RAW, or capture with `tcpdump -ni any` in both pods"
                .to_owned(),
        ),
        Tier::T1 => wanted.push(
            "the facts of the nodes: allow host-network readers of node facts".to_owned(),
        ),
        Tier::T2 => {}
    }
    if case
        .at(places)
        .any(|group| group.server_end == ServerEnd::Unknown)
    {
        wanted.push("the packets of the same probes at the server's end".to_owned());
    }
    if case
        .at(places)
        .all(|group| case.ttl_probe(group.path).is_none())
    {
        wanted.push("a TTL probe (SYNs with TTL 1, 2, 3, 64) on a failing path".to_owned());
    }
    let nodes: BTreeSet<_> = case.at(places).map(|group| &group.client.node).collect();
    for node in nodes {
        wanted.push(format!(
            "the rule counters of {node} before and after a failing probe: `iptables-save -c`, `nft list ruleset`"
        ));
    }
    wanted
}

/// The value that all have in common, if there is one.
fn only<T: PartialEq>(mut values: impl Iterator<Item = T>) -> Option<T> {
    let first = values.next()?;
    values.all(|value| value == first).then_some(first)
}
