//! A cause as a model: where it applies, what it predicts for each path, and the evidence that it alone leaves.
//!
//! A hypothesis is a model at a place. It explains the failures that it predicts. A healthy path for which it predicts a
//! failure excludes it, whatever a setting says. Its fingerprint proves it where it applies: evidence that no other cause of
//! the catalogue leaves. Silence is no fingerprint, and neither is a counter of a whole host; they support.

use std::collections::BTreeSet;

use super::Remedy;
use super::case::{Case, is_crafted_alone};
use super::catalogue::Cause;
use super::hypothesis::{Hypothesis, Place, Proof};
use super::symptom::FailureGroup;
use crate::evidence::PathEvidence;
use crate::packet::family::Family;
use crate::topology::Path;

/// Whether a cause exists at all on the data plane of a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Applies {
    /// It does.
    Yes,
    /// It does not, for this reason.
    No(String),
    /// The data plane is not known; the observation that would show it.
    Unknown(String),
}

/// What a cause predicts for a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prediction {
    /// Every probe fails: a healthy one contradicts.
    Fails,
    /// Probes may fail: a part of the traffic, or only sometimes.
    MayFail,
    /// It does not touch the path.
    Passes,
}

impl Prediction {
    /// The same of a cause that knows packets by the pods' addresses: on a translated path the node may replace the client's by
    /// its own.
    pub(crate) const fn unless_translated(self, path: &Path) -> Self {
        match self {
            Self::Fails if path.access_path.is_translated() => Self::MayFail,
            Self::Fails | Self::MayFail | Self::Passes => self,
        }
    }
}

/// The evidence that a cause alone leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fingerprint {
    /// It was seen, in these sentences, strongest first.
    Seen(Proof, Vec<String>),
    /// Packets of these groups are dropped at this place and nowhere else, as the sentences say. It proves the cause if every
    /// other one that explains these groups is excluded.
    Located(BTreeSet<usize>, Vec<String>),
    /// It was not looked for, or could not be; the observations that would show it.
    Missing(Vec<String>),
    /// It was looked for and is not there, which excludes the cause.
    Refuted(String),
}

/// One cause of the catalogue, or one variant of it.
pub(crate) trait Model: Sync {
    /// The entry of the catalogue.
    fn cause(&self) -> Cause;

    /// The places at which failures of this family may have it as their cause.
    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place>;

    /// Whether it exists on the data plane of the place: on every one, unless a model says otherwise.
    fn applies(&self, _: &Case<'_>, _: &Place) -> Applies {
        Applies::Yes
    }

    /// What it predicts for a path.
    fn predict(&self, case: &Case<'_>, place: &Place, path: &Path) -> Prediction;

    /// Whether it predicts failures like these, on a path that it touches.
    fn explains(&self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool;

    /// Its fingerprint in the evidence of the groups that it explains.
    fn fingerprint(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Fingerprint;

    /// Further evidence that agrees with it and proves nothing.
    fn support(&self, _: &Case<'_>, _: &Place, _: &BTreeSet<usize>) -> Vec<String> {
        Vec::new()
    }

    /// The steps that repair it there, with the names of the data plane: its bridge, its links, its ports.
    fn remedy(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Vec<Remedy>;
}

/// The hypotheses of a model about the unexplained failures.
pub(crate) fn hypotheses(case: &Case<'_>, model: &dyn Model) -> Vec<Hypothesis> {
    let families = case.families().into_iter();
    families
        .flat_map(|family| model.places(case, family))
        .filter_map(|place| test(case, model, place))
        .collect()
}

/// Tests a model at a place; `None` where it explains no failure.
fn test(case: &Case<'_>, model: &dyn Model, place: Place) -> Option<Hypothesis> {
    let cause = model.cause();
    let predict = |path: &Path| {
        if path.family == place.family {
            model.predict(case, &place, path)
        } else {
            Prediction::Passes
        }
    };
    let groups = case.places(|group| {
        let path = case.path(group.path);
        path.is_some_and(|evidence| predict(&evidence.path) != Prediction::Passes)
            && model.explains(case, &place, group)
    });
    if groups.is_empty() {
        return None;
    }
    let is_certain = |group: &&FailureGroup| {
        let path = case.path(group.path);
        path.is_some_and(|evidence| predict(&evidence.path) == Prediction::Fails)
    };
    let certain = case.at(&groups).filter(is_certain).count();
    let missing = match model.applies(case, &place) {
        Applies::Yes => Vec::new(),
        Applies::No(because) => return Some(Hypothesis::excludes(cause, place, groups, because)),
        Applies::Unknown(observation) => vec![observation],
    };
    let contradicts = |evidence: &&PathEvidence| predict(&evidence.path) == Prediction::Fails;
    if let Some(works) = case.healthy().find(contradicts) {
        let because = format!("{} works", case.named(works));
        return Some(Hypothesis::excludes(cause, place, groups, because));
    }
    let answered = case.at(&groups).find_map(|group| {
        let path = case.path(group.path)?;
        let contradicts = is_crafted_alone(path) && predict(&path.path) == Prediction::Fails;
        contradicts.then(|| format!("crafted SYNs of {} are answered", case.named(path)))
    });
    if let Some(because) = answered {
        return Some(Hypothesis::excludes(cause, place, groups, because));
    }
    let support = model.support(case, &place, &groups);
    let hypothesis = match model.fingerprint(case, &place, &groups) {
        Fingerprint::Refuted(because) => {
            return Some(Hypothesis::excludes(cause, place, groups, because));
        }
        Fingerprint::Seen(proof, said) if missing.is_empty() => {
            Hypothesis::proves(cause, place, groups, proof).because_all(said)
        }
        Fingerprint::Located(at, said) if missing.is_empty() => {
            Hypothesis::locates(cause, place, groups, at).because_all(said)
        }
        Fingerprint::Seen(_, said) | Fingerprint::Located(_, said) => {
            let fits = Hypothesis::fits(cause, place, groups).because_all(said);
            missing.into_iter().fold(fits, Hypothesis::decided_by)
        }
        Fingerprint::Missing(observations) => {
            let fits = Hypothesis::fits(cause, place, groups);
            let wanted = missing.into_iter().chain(observations);
            wanted.fold(fits, Hypothesis::decided_by)
        }
    };
    let steps = model.remedy(case, &hypothesis.place, &hypothesis.groups);
    Some(Hypothesis {
        certain,
        ..hypothesis.because_all(support).repaired_by(steps)
    })
}
