//! Which agents are behind the test Services: EndpointSlices written by hand.
//!
//! A slice is of one family, and its ports lead to the Service's ports of the same names
//! (<https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/>). A server of the Service RUN has one slice in
//! each family, with all its ports: Cilium keeps a Service's backends by address and port, and of two slices that name the
//! same address and port the later one replaces the port names of the other
//! (<https://github.com/cilium/cilium/blob/main/pkg/loadbalancer/writer/writer.go>, `updateBackends`).

use std::net::IpAddr;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use prober_core::packet::family::Family;
use prober_core::plan::RESPONDER_PORT;
use prober_core::topology::AgentId;

use super::service::{BALANCED_PORT_NAME, slot_port_name};
use super::{Manifest, OwnerJob, ip_family_name, local_service_name};

/// The label that ties a slice to its Service.
pub(super) const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// The label that tells other controllers to keep their hands off.
const SLICE_MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";

/// One agent that answers behind a test Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The agent.
    pub agent: AgentId,
    /// Its addresses, one per family.
    pub addresses: Vec<IpAddr>,
}

/// The server behind a slot of the Service RUN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The server.
    pub backend: Backend,
    /// Whether the port `any` leads to it as well.
    pub is_balanced: bool,
}

/// Whether the slices of a run are written for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publication {
    /// They are.
    First,
    /// They exist, and clients use them.
    Update,
}

impl Manifest {
    /// The slices of both Services, in steps: those of a step are written when those of the step before have been.
    ///
    /// Proxies take slices in the order in which they are written. Agents take an answer from `any` to mean that the rules of
    /// every port are there, so in a first publication no slice has `any` until each has its slot. An update takes no port away
    /// that is to stay.
    pub fn publication(
        &self,
        anchor: &OwnerJob,
        families: &[Family],
        slots: &[Slot],
        local: &[Backend],
        publication: Publication,
    ) -> Vec<Vec<EndpointSlice>> {
        let local = self.local_slices(anchor, families, local);
        let complete = self.slot_slices(anchor, families, slots);
        match publication {
            Publication::First => {
                let unbalanced: Vec<Slot> = slots
                    .iter()
                    .map(|slot| Slot {
                        backend: slot.backend.clone(),
                        is_balanced: false,
                    })
                    .collect();
                let mut first = self.slot_slices(anchor, families, &unbalanced);
                first.extend(local);
                vec![first, complete]
            }
            Publication::Update => vec![complete.into_iter().chain(local).collect()],
        }
    }

    /// The slices of the Service RUN: one for each slot in each family.
    fn slot_slices(
        &self,
        anchor: &OwnerJob,
        families: &[Family],
        slots: &[Slot],
    ) -> Vec<EndpointSlice> {
        let numbered = (0..).zip(slots);
        let each = |family| {
            numbered.clone().map(move |(number, slot)| {
                let name = slot_port_name(number);
                let object = format!("{}-{name}", self.run);
                let any = slot.is_balanced.then(|| BALANCED_PORT_NAME.to_owned());
                let ports = std::iter::once(name).chain(any);
                let backends = std::slice::from_ref(&slot.backend);
                self.slice(anchor, &object, &self.run, ports, family, backends)
            })
        };
        families.iter().copied().flat_map(each).collect()
    }

    /// The slices of the Service RUN-local: one in each family.
    pub fn local_slices(
        &self,
        anchor: &OwnerJob,
        families: &[Family],
        local: &[Backend],
    ) -> Vec<EndpointSlice> {
        let service = local_service_name(&self.run);
        let object = format!("{service}-{BALANCED_PORT_NAME}");
        let ports = [BALANCED_PORT_NAME.to_owned()];
        families
            .iter()
            .map(|&family| self.slice(anchor, &object, &service, ports.clone(), family, local))
            .collect()
    }

    /// A slice of a Service in one family, in which these ports lead to these backends.
    fn slice(
        &self,
        anchor: &OwnerJob,
        object: &str,
        service: &str,
        ports: impl IntoIterator<Item = String>,
        family: Family,
        backends: &[Backend],
    ) -> EndpointSlice {
        let suffix = ip_family_name(family).to_lowercase();
        let mut metadata = self.metadata(format!("{object}-{suffix}"), Some(anchor));
        let labels = metadata.labels.get_or_insert_default();
        labels.insert(SERVICE_NAME_LABEL.to_owned(), service.to_owned());
        labels.insert(
            SLICE_MANAGED_BY_LABEL.to_owned(),
            crate::kubernetes::labels::PROBER.to_owned(),
        );
        let port = |name| EndpointPort {
            name: Some(name),
            port: Some(i32::from(RESPONDER_PORT)),
            protocol: Some("TCP".to_owned()),
            app_protocol: None,
        };
        EndpointSlice {
            metadata,
            address_type: ip_family_name(family).to_owned(),
            ports: Some(ports.into_iter().map(port).collect()),
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
