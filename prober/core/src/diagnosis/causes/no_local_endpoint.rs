//! `no-local-endpoint`: a Service keeps its traffic on the node, which has no ready endpoint, and the node drops it by design.

use std::collections::BTreeSet;

use crate::diagnosis::Remedy;
use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Place, Proof};
use crate::diagnosis::model::{Fingerprint, Model, Prediction};
use crate::diagnosis::remedy::step;
use crate::diagnosis::symptom::{FailureGroup, Symptom};
use crate::packet::Unreachable;
use crate::packet::family::Family;
use crate::topology::{AccessPath, Path};

/// A node without a ready endpoint of a Service with `internalTrafficPolicy: Local`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoLocalEndpoint;

/// Whether traffic without an endpoint has this symptom: kube-proxy drops it, a balancer refuses it as a port, a program on
/// connect(2) refuses the call.
fn is_dropped(symptom: Symptom) -> bool {
    match symptom {
        Symptom::Silent
        | Symptom::RefusedLocally(_)
        | Symptom::Unreachable(Unreachable::Port | Unreachable::Network | Unreachable::Other) => {
            true
        }
        Symptom::Unreachable(Unreachable::Host | Unreachable::Prohibited)
        | Symptom::SynAckFromWrongSource
        | Symptom::ResetFromWrongSource
        | Symptom::Reset
        | Symptom::Lossy
        | Symptom::NoData
        | Symptom::Stalled
        | Symptom::Broken
        | Symptom::WrongBackend => false,
    }
}

impl Model for NoLocalEndpoint {
    fn cause(&self) -> Cause {
        Cause::NoLocalEndpoint
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        let is_local = |group: &FailureGroup| {
            group.family == family && group.access_path == AccessPath::ClusterIpLocal
        };
        case.failing(is_local)
            .map(|(_, group)| Place::node(&group.client.node, family))
            .collect()
    }

    fn predict(&self, _: &Case<'_>, place: &Place, path: &Path) -> Prediction {
        let is_own = place.node.as_ref() == Some(&path.client.node);
        if is_own && path.access_path == AccessPath::ClusterIpLocal {
            Prediction::Fails
        } else {
            Prediction::Passes
        }
    }

    fn explains(&self, _: &Case<'_>, _: &Place, group: &FailureGroup) -> bool {
        group.access_path == AccessPath::ClusterIpLocal && is_dropped(group.symptom)
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Fingerprint {
        let mut paths = case.at(groups).filter_map(|group| case.path(group.path));
        let (Some(node), Some(path)) = (&place.node, paths.next()) else {
            return Fingerprint::Missing(Vec::new());
        };
        let is_ready = path.backends.iter().any(|backend| {
            let agent = backend.agent.as_ref();
            backend.ready && agent.is_none_or(|agent| agent.node == *node)
        });
        if is_ready {
            return Fingerprint::Refuted(format!(
                "according to the API, the endpoint on {node} is ready"
            ));
        }
        Fingerprint::Seen(
            Proof::Facts,
            vec![format!(
                "according to the API, no endpoint on {node} is ready, and traffic to {} stays on the node, which drops it by design",
                path.target
            )],
        )
    }

    fn remedy(&self, _: &Case<'_>, _: &Place, _: &BTreeSet<usize>) -> Vec<Remedy> {
        vec![step(
            "Run a ready backend on this node, or let the Service leave the node (internalTrafficPolicy: Cluster).",
            [
                "kubectl get endpointslices -l kubernetes.io/service-name=SERVICE -o wide",
                "kubectl patch service SERVICE -p '{\"spec\":{\"internalTrafficPolicy\":\"Cluster\"}}'",
            ],
        )]
    }
}
