//! NetworkPolicies that close every agent: the API knows of them, and nothing passes between pods.

use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Opinion, Place};
use crate::diagnosis::symptom::{ServerEnd, Symptom, Unit};
use crate::packet::family::Family;
use crate::topology::AccessPath;

/// What fails of a family, where the API says that policies close the agents and no SYN of it reaches another pod. That
/// something enforces them shows in nothing but this: node after node dropping everything would look the same.
pub(crate) fn closed(case: &Case<'_>, family: Family) -> Option<Opinion> {
    let policies = &case.matrix.policies;
    if policies.is_empty() {
        return None;
    }
    // A pod always reaches itself (Kubernetes, "Network Policies"), though not every enforcer lets it.
    let passes =
        case.passes(|path| path.family == family && path.access_path != AccessPath::Hairpin);
    let arrives = case.fails(|unit| unit.family == family && !is_held_up(unit));
    if passes || arrives {
        return None;
    }
    let units = case.places(|unit| unit.family == family);
    let opinion = Opinion::fits(Cause::NetworkPolicy, Place::namespace(family), units)
        .because(format!(
            "the API says that NetworkPolicy {} closes the agents, and no SYN passes from one pod to another",
            policies.join(", ")
        ))
        .decided_by("the same run from a namespace without such policies: `prober run -n NAMESPACE`")
        .decided_by("whether anything enforces NetworkPolicies in this cluster");
    Some(opinion)
}

/// Whether it fails as what a policy drops or refuses does: nothing of it came to the server's end.
fn is_held_up(unit: &Unit) -> bool {
    let is_refusal = match unit.symptom {
        Symptom::Silent
        | Symptom::Lossy
        | Symptom::Unreachable(_)
        | Symptom::Reset
        | Symptom::ForeignReset => true,
        Symptom::ForeignSynAck
        | Symptom::RefusedLocally(_)
        | Symptom::Mute
        | Symptom::Stalled
        | Symptom::Broken
        | Symptom::Impostor => false,
    };
    is_refusal && matches!(unit.server_end, ServerEnd::Nothing | ServerEnd::Unheard)
}
