//! One diagnosis for both families, where both have the same cause at the same place.

use std::collections::{BTreeMap, BTreeSet};

use super::catalogue::Cause;
use super::{Confidence, Diagnosis, PathSegment};
use crate::topology::PathId;

/// Merges two diagnoses into one where both families have the same cause at the same place.
pub(crate) fn merge(found: Vec<Diagnosis>) -> Vec<Diagnosis> {
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
