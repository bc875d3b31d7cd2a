//! NetworkPolicies that block every agent: the API has them, and no packet passes between pods.

use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Hypothesis, Place};
use crate::diagnosis::remedy::step;
use crate::diagnosis::symptom::{FailureGroup, Symptom};
use crate::packet::family::Family;
use crate::topology::AccessPath;

/// The failures of a family where, according to the API, policies block the agents, and none of its SYNs reaches another
/// pod. There is no other sign that they are enforced: a drop on every node has the same symptoms.
pub(crate) fn blocked_by_policies(case: &Case<'_>, family: Family) -> Option<Hypothesis> {
    let policies = &case.matrix.policies;
    if policies.is_empty() {
        return None;
    }
    // A pod always reaches itself (Kubernetes, "Network Policies"), though some implementations block that, too.
    let passes =
        case.passes(|path| path.family == family && path.access_path != AccessPath::Hairpin);
    let arrives = case.fails(|group| group.family == family && !is_blocked(group));
    if passes || arrives {
        return None;
    }
    let groups = case.places(|group| group.family == family);
    let hypothesis = Hypothesis::fits(Cause::NetworkPolicy, Place::namespace(family), groups)
        .because(format!(
            "according to the API, NetworkPolicy {} blocks the agents, and no SYN passes from one pod to another",
            policies.join(", ")
        ))
        .decided_by("the same run from a namespace without such policies: `prober run -n NAMESPACE`")
        .decided_by("whether the network plugin of this cluster enforces NetworkPolicies")
        .repaired_by(vec![
            step(
                "Probe from a namespace whose policies let pods connect to each other.",
                ["prober run --node NODE -n NAMESPACE"],
            ),
            step(
                "If these pods are to be reached: see what the policies allow, and allow the clients.",
                ["kubectl get networkpolicy -n NAMESPACE -o yaml"],
            ),
        ]);
    Some(hypothesis)
}

/// Whether a group fails like a connection that a policy drops or rejects: none of its packets arrived at the server's end.
fn is_blocked(group: &FailureGroup) -> bool {
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
    is_refusal && group.is_unseen()
}
