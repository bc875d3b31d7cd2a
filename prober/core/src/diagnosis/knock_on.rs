//! Failures that follow from those of a hypothesis, and that no packets of their own show to be its.

use std::collections::BTreeSet;

use super::PathSegment;
use super::case::Case;
use super::hypothesis::Hypothesis;
use super::symptom::{FailureGroup, Symptom};
use crate::topology::{AccessPath, AgentId};

/// Symptoms that follow from a hypothesis and have no packets that prove it: the share of a balanced port that leads to
/// the same server, and its retries, which are balanced anew.
pub(crate) fn groups(case: &Case<'_>, best: &Hypothesis) -> BTreeSet<usize> {
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
            && group.is_unseen()
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
            && group.is_unseen()
            && claimed.iter().any(|other| {
                other.symptom == Symptom::SynAckFromWrongSource
                    && other.path == group.path
                    && other.server == group.server
                    && other.probes.len() > group.probes.len()
            })
    })
}
