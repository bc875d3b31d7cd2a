//! `not-listening`: nothing in the backend's pod listens on the port, and its kernel answers SYNs by RST.

use std::collections::BTreeSet;

use super::reset_sender::{reset_packet, reset_senders};
use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Place, Proof};
use crate::diagnosis::model::{Fingerprint, Model, Prediction};
use crate::diagnosis::remedy::step;
use crate::diagnosis::symptom::{FailureGroup, Symptom};
use crate::diagnosis::{PathSegment, Remedy};
use crate::evidence::Source;
use crate::packet::family::Family;
use crate::probe::outcome::OutcomeKind;
use crate::topology::{AccessPath, AgentId, Path};

/// Whose port is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotListening {
    /// That of a server of the run.
    Backend,
    /// That of the target of a host's own probes, whose pod is not known.
    Target,
}

/// Whether the kernel of this pod is known to have sent a RST.
fn refuses(case: &Case<'_>, pod: &AgentId, family: Family) -> bool {
    case.fails(|group| {
        group.family == family
            && group.symptom == Symptom::Reset
            && group.server.as_ref() == Some(pod)
            && reset_senders(case, group).is_only_server()
    })
}

/// What the probe of another port of the same pod showed, as a sentence.
fn other_port(case: &Case<'_>, groups: &BTreeSet<usize>) -> Option<String> {
    let mut paths = case.at(groups).filter_map(|group| case.path(group.path));
    Some(match paths.find_map(|path| path.other_port)? {
        OutcomeKind::Established => "another port of the same pod answers".to_owned(),
        OutcomeKind::Reset => "another port of the same pod refuses as well".to_owned(),
        other @ (OutcomeKind::Timeout
        | OutcomeKind::Unreachable
        | OutcomeKind::RefusedLocally
        | OutcomeKind::Mismatched) => format!(
            "a probe of another port of the same pod ended with {}",
            other.as_str()
        ),
    })
}

impl Model for NotListening {
    fn cause(&self) -> Cause {
        Cause::NotListening
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        let is_host = case.matrix.source == Source::Host;
        let refused =
            case.failing(|group| group.family == family && group.symptom == Symptom::Reset);
        match self {
            Self::Backend => refused
                .filter_map(|(_, group)| group.server.as_ref())
                .map(|server| Place::pod(server, family))
                .collect(),
            Self::Target => refused
                .filter(|_| is_host)
                .map(|_| Place {
                    node: None,
                    segment: PathSegment::Unknown,
                    family,
                })
                .collect(),
        }
    }

    fn predict(&self, case: &Case<'_>, place: &Place, path: &Path) -> Prediction {
        let PathSegment::Pod { pod } = &place.segment else {
            return Prediction::MayFail;
        };
        match &path.server {
            Some(server) if server != pod => Prediction::Passes,
            // What a pod's own kernel has refused it refuses while nothing listens, which may begin or end during the run.
            Some(_) if refuses(case, pod, place.family) => Prediction::MayFail,
            Some(_) if path.access_path == AccessPath::PodIp => Prediction::Fails,
            Some(_) | None => Prediction::MayFail,
        }
    }

    fn explains(&self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        let is_refused = group.symptom == Symptom::Reset && reset_senders(case, group).server;
        match &place.segment {
            PathSegment::Pod { pod } => is_refused && group.server.as_ref() == Some(pod),
            PathSegment::Unknown => group.symptom == Symptom::Reset,
            PathSegment::Node { .. }
            | PathSegment::Between { .. }
            | PathSegment::Service
            | PathSegment::Namespace => false,
        }
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Fingerprint {
        let PathSegment::Pod { pod } = &place.segment else {
            return Fingerprint::Missing(vec![
                "a capture at the server's end: with a SYN and a RST of its own it is this; without, a rule on the path sends the RST (reject-reset)".to_owned(),
            ]);
        };
        let mut groups_by_server =
            (case.at(groups)).filter(|group| reset_senders(case, group).is_only_server());
        if groups_by_server.next().is_none() {
            return Fingerprint::Missing(vec![
                "the packets at the server's end: with a SYN and a RST of its own it is this; without, a rule sends the RST".to_owned(),
            ]);
        }
        let sent = format!("{pod} received the SYN, and its own kernel sent the RST");
        let said = std::iter::once(sent).chain(other_port(case, groups));
        Fingerprint::Seen(Proof::Packets, said.collect())
    }

    fn support(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Vec<String> {
        let PathSegment::Pod { pod } = &place.segment else {
            let Some(group) = case.at(groups).next() else {
                return Vec::new();
            };
            let Some(path) = case.path(group.path) else {
                return Vec::new();
            };
            let ttl = reset_packet(case, group)
                .map_or_else(String::new, |(_, ip)| format!(" with TTL {}", ip.hop_limit));
            return vec![format!("{} refuses by RST{ttl}", path.target)];
        };
        if refuses(case, pod, place.family) {
            Vec::new()
        } else {
            vec![format!("connections to {pod} are refused")]
        }
    }

    fn remedy(&self, _: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Vec<Remedy> {
        let PathSegment::Pod { pod } = &place.segment else {
            return Vec::new();
        };
        vec![step(
            "See what listens in the pod, on which address (127.0.0.1 is not enough) and port (targetPort).",
            [
                format!("kubectl exec {} -- ss -ltn", pod.pod),
                format!("kubectl logs --tail=50 {}", pod.pod),
            ],
        )]
    }
}
