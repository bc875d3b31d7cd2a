//! `accept-queue-full`: the backend does not accept connections fast enough, and its kernel drops new ones.

use std::collections::BTreeSet;

use super::traffic::may_fail_to;
use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Place, Proof};
use crate::diagnosis::model::{Fingerprint, Model, Prediction};
use crate::diagnosis::remedy::step;
use crate::diagnosis::symptom::{FailureGroup, ServerEnd, Symptom};
use crate::diagnosis::{PathSegment, Remedy};
use crate::packet::family::Family;
use crate::topology::{AgentId, Path};

/// A full queue of established connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AcceptQueueFull;

/// Connections that the pod's kernel dropped because a queue was full, in the pod's own namespace.
fn overflows(case: &Case<'_>, pod: &AgentId) -> Option<u64> {
    case.agent_grown(pod, "TcpExtListenOverflows")
        .filter(|&grown| grown > 0)
}

/// Whether the server's end saw SYNs of a group and answered none.
fn is_ignored(group: &FailureGroup) -> bool {
    matches!(group.symptom, Symptom::Silent | Symptom::Lossy)
        && group.server_end == ServerEnd::SynOnly
}

/// Whether a full queue has this symptom: the first connections complete and receive nothing, later ones are silent.
fn is_of_overflow(group: &FailureGroup) -> bool {
    let is_alike = match group.symptom {
        Symptom::Silent | Symptom::Lossy | Symptom::NoData | Symptom::Broken | Symptom::Stalled => {
            true
        }
        Symptom::SynAckFromWrongSource
        | Symptom::ResetFromWrongSource
        | Symptom::Reset
        | Symptom::Unreachable(_)
        | Symptom::RefusedLocally(_)
        | Symptom::WrongBackend => false,
    };
    is_alike && group.server_end != ServerEnd::Nothing
}

impl Model for AcceptQueueFull {
    fn cause(&self) -> Cause {
        Cause::AcceptQueueFull
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        case.failing(|group| group.family == family)
            .filter_map(|(_, group)| group.server.as_ref())
            .map(|server| Place::pod(server, family))
            .collect()
    }

    fn predict(&self, _: &Case<'_>, place: &Place, path: &Path) -> Prediction {
        let PathSegment::Pod { pod } = &place.segment else {
            return Prediction::Passes;
        };
        // A queue has room whenever the process accepts one connection.
        may_fail_to(pod, path)
    }

    fn explains(&self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        let PathSegment::Pod { pod } = &place.segment else {
            return false;
        };
        group.server.as_ref() == Some(pod)
            && (is_ignored(group) || (overflows(case, pod).is_some() && is_of_overflow(group)))
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Fingerprint {
        let PathSegment::Pod { pod } = &place.segment else {
            return Fingerprint::Missing(Vec::new());
        };
        let is_observed = case.at(groups).any(is_ignored);
        let failures = u64::try_from(case.count(groups)).unwrap_or(u64::MAX);
        // Without packets of the server's end the queue must account for every failing probe.
        match overflows(case, pod) {
            Some(grown) if is_observed || grown >= failures => Fingerprint::Seen(
                Proof::Facts,
                vec![format!(
                    "{pod} counted TcpExtListenOverflows +{grown}: its accept queue is full"
                )],
            ),
            Some(_) | None => Fingerprint::Missing(vec![format!(
                "`nstat -az TcpExtListenOverflows IpOutNoRoutes TcpInCsumErrors` in {pod}: the first grows with a full queue, the others where the pod has no route back or receives broken packets"
            )]),
        }
    }

    fn support(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Vec<String> {
        let PathSegment::Pod { pod } = &place.segment else {
            return Vec::new();
        };
        if case.at(groups).any(is_ignored) {
            vec![format!("{pod}'s end saw SYNs that it did not answer")]
        } else {
            Vec::new()
        }
    }

    fn remedy(&self, _: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Vec<Remedy> {
        let PathSegment::Pod { pod } = &place.segment else {
            return Vec::new();
        };
        vec![step(
            "See whether the accept queue is full (Recv-Q above Send-Q) and why the process does not accept: stuck, or too small a backlog.",
            [
                format!("kubectl exec {} -- ss -ltn", pod.pod),
                format!(
                    "kubectl exec {} -- nstat -az TcpExtListenOverflows",
                    pod.pod
                ),
            ],
        )]
    }
}
