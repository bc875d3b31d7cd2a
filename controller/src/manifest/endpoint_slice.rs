//! The EndpointSlices of the test Services, which the run writes itself.
//!
//! A slice is of one family, and its ports belong to the Service's ports of the same names
//! (<https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/>). A server of the Service RUN has one slice in
//! each family, with all its ports: Cilium keeps a Service's backends by address and port, and of two slices that name the
//! same address and port the later one replaces the port names of the other
//! (<https://github.com/cilium/cilium/blob/main/pkg/loadbalancer/writer/writer.go>, `updateBackends`).

use std::net::IpAddr;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use prober_core::packet::family::Family;
use prober_core::plan::RESPONDER_PORT;
use prober_core::topology::AgentId;

use super::service::{BALANCED_PORT_NAME, slot_port_name};
use super::{Manifest, OwnerJob, ip_family_name, local_service_name};
use crate::kubernetes::labels;

/// The label that assigns a slice to its Service.
pub(super) const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// The label that makes the EndpointSlice controller of Kubernetes ignore a slice.
const SLICE_MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";

/// The labels of every slice that is written here: its managers.
pub(super) const MANAGED_SLICE_LABELS: [(&str, &str); 2] = [
    (SLICE_MANAGED_BY_LABEL, labels::PROBER),
    (labels::MANAGED_BY, labels::PROBER),
];

/// A server behind a test Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerEndpoint {
    /// The agent that serves.
    pub agent: AgentId,
    /// Its addresses, one per family.
    pub addresses: Vec<IpAddr>,
}

/// The server behind a slot of the Service RUN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotEndpoint {
    /// The server.
    pub server: ServerEndpoint,
    /// Whether the port `any` leads to the server, too.
    pub is_balanced: bool,
}

/// Whether the slices of a run are written for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publication {
    /// For the first time.
    First,
    /// They exist, and clients use them.
    Update,
}

impl Manifest {
    /// Builds the slices of both Services in steps. The slices of a step are written after those of the step before.
    ///
    /// Service proxies process slices in the order in which they are written. Agents conclude from a response of `any` that the
    /// rules of every port are there, so in a first publication no slice has `any` until each slot has its slice. An update
    /// removes no port that stays.
    pub fn publication(
        &self,
        owner: &OwnerJob,
        families: &[Family],
        slots: &[SlotEndpoint],
        local: &[ServerEndpoint],
        publication: Publication,
    ) -> Vec<Vec<EndpointSlice>> {
        let local = self.local_slices(owner, families, local);
        let complete = self.slot_slices(owner, families, slots);
        match publication {
            Publication::First => {
                let unbalanced: Vec<SlotEndpoint> = slots
                    .iter()
                    .map(|slot| SlotEndpoint {
                        server: slot.server.clone(),
                        is_balanced: false,
                    })
                    .collect();
                let mut first = self.slot_slices(owner, families, &unbalanced);
                first.extend(local);
                vec![first, complete]
            }
            Publication::Update => vec![complete.into_iter().chain(local).collect()],
        }
    }

    /// Builds the slices of the Service RUN: one for each slot in each family.
    fn slot_slices(
        &self,
        owner: &OwnerJob,
        families: &[Family],
        slots: &[SlotEndpoint],
    ) -> Vec<EndpointSlice> {
        let numbered = (0..).zip(slots);
        let each = |family| {
            numbered.clone().map(move |(number, slot)| {
                let name = slot_port_name(number);
                let object = format!("{}-{name}", self.run);
                let any = slot.is_balanced.then(|| BALANCED_PORT_NAME.to_owned());
                let ports = std::iter::once(name).chain(any);
                let servers = std::slice::from_ref(&slot.server);
                self.slice(owner, &object, &self.run, ports, family, servers)
            })
        };
        families.iter().copied().flat_map(each).collect()
    }

    /// Builds the slices of the Service RUN-local: one in each family.
    pub fn local_slices(
        &self,
        owner: &OwnerJob,
        families: &[Family],
        local: &[ServerEndpoint],
    ) -> Vec<EndpointSlice> {
        let service = local_service_name(&self.run);
        let object = format!("{service}-{BALANCED_PORT_NAME}");
        let ports = [BALANCED_PORT_NAME.to_owned()];
        families
            .iter()
            .map(|&family| self.slice(owner, &object, &service, ports.clone(), family, local))
            .collect()
    }

    /// Builds a slice of a Service in one family, in which these ports lead to these servers.
    fn slice(
        &self,
        owner: &OwnerJob,
        object: &str,
        service: &str,
        ports: impl IntoIterator<Item = String>,
        family: Family,
        servers: &[ServerEndpoint],
    ) -> EndpointSlice {
        let suffix = ip_family_name(family).to_lowercase();
        let mut metadata = self.metadata(format!("{object}-{suffix}"), Some(owner));
        let labels = metadata.labels.get_or_insert_default();
        labels.insert(SERVICE_NAME_LABEL.to_owned(), service.to_owned());
        labels.extend(MANAGED_SLICE_LABELS.map(|(key, value)| (key.to_owned(), value.to_owned())));
        slice(metadata, family, ports, servers)
    }
}

/// Builds a slice in one family, in which these ports lead to these servers.
pub(super) fn slice<'a>(
    metadata: ObjectMeta,
    family: Family,
    ports: impl IntoIterator<Item = String>,
    servers: impl IntoIterator<Item = &'a ServerEndpoint>,
) -> EndpointSlice {
    let port = |name| EndpointPort {
        name: Some(name),
        port: Some(i32::from(RESPONDER_PORT)),
        protocol: Some("TCP".to_owned()),
        app_protocol: None,
    };
    let namespace = metadata.namespace.clone();
    EndpointSlice {
        metadata,
        address_type: ip_family_name(family).to_owned(),
        ports: Some(ports.into_iter().map(port).collect()),
        endpoints: servers
            .into_iter()
            .filter_map(|server| endpoint(server, family, namespace.clone()))
            .collect(),
    }
}

fn endpoint(
    server: &ServerEndpoint,
    family: Family,
    namespace: Option<String>,
) -> Option<Endpoint> {
    let address = server
        .addresses
        .iter()
        .find(|address| Family::of(**address) == family)?;
    Some(Endpoint {
        addresses: vec![address.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(true),
            ..EndpointConditions::default()
        }),
        // internalTrafficPolicy: Local compares it to the node of the client.
        node_name: Some(server.agent.node.as_str().to_owned()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace,
            name: Some(server.agent.pod.clone()),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    })
}
