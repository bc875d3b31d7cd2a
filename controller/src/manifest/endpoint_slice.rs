//! Which agents are behind the test Services: EndpointSlices written by hand.
//!
//! A slice is of one family and is tied to a port by that port's name
//! (<https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/>).

use std::net::IpAddr;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use prober_core::packet::family::Family;
use prober_core::plan::RESPONDER_PORT;
use prober_core::topology::AgentId;

use super::service::{ANY, slot_name};
use super::{Anchor, Manifest, family_word, local_name};

/// The label that ties a slice to its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The label that tells other controllers to keep their hands off.
const SLICE_MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

/// Whether a slice is of the port that is balanced.
pub fn is_balanced(slice: &EndpointSlice) -> bool {
    let labels = slice.metadata.labels.as_ref();
    let service = labels.and_then(|labels| labels.get(SERVICE_NAME));
    let run = labels.and_then(|labels| labels.get(crate::kubernetes::labels::RUN));
    let ports = slice.ports.iter().flatten();
    service == run
        && ports
            .into_iter()
            .any(|port| port.name.as_deref() == Some(ANY))
}

/// One agent that answers behind a test Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The agent.
    pub agent: AgentId,
    /// Its addresses, one per family.
    pub addresses: Vec<IpAddr>,
}

impl Manifest {
    /// Every slice: slot `k` leads to `slots[k]`, the port that is balanced to `any`, the same-node leg to `local`.
    pub fn slices(
        &self,
        anchor: &Anchor,
        families: &[Family],
        slots: &[Backend],
        any: &[Backend],
        local: &[Backend],
    ) -> Vec<EndpointSlice> {
        let mut slices = Vec::new();
        for &family in families {
            for (slot, backend) in (0..).zip(slots) {
                slices.push(self.slice(
                    anchor,
                    &self.run,
                    &slot_name(slot),
                    family,
                    std::slice::from_ref(backend),
                ));
            }
            slices.push(self.slice(anchor, &self.run, ANY, family, any));
            slices.push(self.slice(anchor, &local_name(&self.run), ANY, family, local));
        }
        slices
    }

    fn slice(
        &self,
        anchor: &Anchor,
        service: &str,
        port: &str,
        family: Family,
        backends: &[Backend],
    ) -> EndpointSlice {
        let suffix = family_word(family).to_lowercase();
        let mut metadata = self.meta(format!("{service}-{port}-{suffix}"), Some(anchor));
        let labels = metadata.labels.get_or_insert_default();
        labels.insert(SERVICE_NAME.to_owned(), service.to_owned());
        labels.insert(
            SLICE_MANAGED_BY.to_owned(),
            crate::kubernetes::labels::PROBER.to_owned(),
        );
        EndpointSlice {
            metadata,
            address_type: family_word(family).to_owned(),
            ports: Some(vec![EndpointPort {
                name: Some(port.to_owned()),
                port: Some(i32::from(RESPONDER_PORT)),
                protocol: Some("TCP".to_owned()),
                app_protocol: None,
            }]),
            endpoints: backends
                .iter()
                .filter_map(|backend| self.endpoint(backend, family))
                .collect(),
        }
    }

    fn endpoint(&self, backend: &Backend, family: Family) -> Option<Endpoint> {
        let address = backend
            .addresses
            .iter()
            .find(|address| Family::of(**address) == family)?;
        Some(Endpoint {
            addresses: vec![address.to_string()],
            conditions: Some(EndpointConditions {
                ready: Some(true),
                ..EndpointConditions::default()
            }),
            // What internalTrafficPolicy goes by.
            node_name: Some(backend.agent.node.as_str().to_owned()),
            target_ref: Some(ObjectReference {
                kind: Some("Pod".to_owned()),
                namespace: Some(self.namespace.clone()),
                name: Some(backend.agent.pod.clone()),
                ..ObjectReference::default()
            }),
            ..Endpoint::default()
        })
    }
}
