//! NetworkPolicies that close every agent: the API knows of them, and nothing passes between pods.

use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Hypothesis, Place};
use crate::diagnosis::symptom::{FailureGroup, ServerEnd, Symptom};
use crate::packet::family::Family;
use crate::topology::AccessPath;

/// What fails of a family, where the API says that policies close the agents and no SYN of it reaches another pod. That
/// something enforces them shows in nothing but this: node after node dropping everything would look the same.
pub(crate) fn closed(case: &Case<'_>, family: Family) -> Option<Hypothesis> {
    let policies = &case.matrix.policies;
    if policies.is_empty() {
        return None;
    }
    // A pod always reaches itself (Kubernetes, "Network Policies"), though not every enforcer lets it.
    let passes =
        case.passes(|path| path.family == family && path.access_path != AccessPath::Hairpin);
    let arrives = case.fails(|group| group.family == family && !is_held_up(group));
    if passes || arrives {
        return None;
    }
    let groups = case.places(|group| group.family == family);
    let hypothesis = Hypothesis::fits(Cause::NetworkPolicy, Place::namespace(family), groups)
        .because(format!(
            "the API says that NetworkPolicy {} closes the agents, and no SYN passes from one pod to another",
            policies.join(", ")
        ))
        .decided_by("the same run from a namespace without such policies: `prober run -n NAMESPACE`")
        .decided_by("whether anything enforces NetworkPolicies in this cluster");
    Some(hypothesis)
}

/// Whether it fails as what a policy drops or refuses does: nothing of it came to the server's end.
fn is_held_up(group: &FailureGroup) -> bool {
    let is_refusal = match group.symptom {
        Symptom::Silent
        | Symptom::Lossy
        | Symptom::Unreachable(_)
        | Symptom::Reset
        | Symptom::ResetFromWrongSource => true,
        Symptom::SynAckFromWrongSource
        | Symptom::RefusedLocally(_)
        | Symptom::NoData
        | Symptom::Stalled
        | Symptom::Broken
        | Symptom::WrongBackend => false,
    };
    is_refusal && matches!(group.server_end, ServerEnd::Nothing | ServerEnd::Unknown)
}
