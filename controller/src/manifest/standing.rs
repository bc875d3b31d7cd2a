//! What the manifests of `deploy/kustomize` install, by name: the agents' DaemonSets, their Services and the standing plan. A test
//! compares each constant with the manifests.
//!
//! The controller creates none of these objects. It writes the standing plan and the EndpointSlices of `SERVICE`.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use prober_core::packet::family::Family;

use super::endpoint_slice::{MANAGED_SLICE_LABELS, SERVICE_NAME_LABEL, ServerEndpoint, slice};
use super::service::{BALANCED_PORT_NAME, slot_port_name};
use super::{ServiceAddresses, ip_family_name};
use crate::kubernetes::labels;

/// The Service with a port for each slot and the balanced port.
pub const SERVICE: &str = "prober";

/// The Service that leads each client to the server of its own node.
pub const LOCAL_SERVICE: &str = "prober-local";

/// The ConfigMap with the standing plan.
pub const STANDING_PLAN: &str = "prober-standing-plan";

/// The key of the standing plan in its ConfigMap.
pub const STANDING_PLAN_KEY: &str = "plan.json";

/// The value of [`labels::COMPONENT`] of clients.
pub const CLIENT: &str = "client";

/// The value of [`labels::COMPONENT`] of servers.
pub const SERVER: &str = "server";

/// The value of [`labels::COMPONENT`] of the agents that read node facts.
pub const NODE: &str = "node";

/// The label selector for the agents' pods.
pub const AGENT_SELECTOR: &str =
    "app.kubernetes.io/name=prober-agent,app.kubernetes.io/part-of=prober";

/// The label selector for the EndpointSlices of `SERVICE` that the controller writes.
pub const SLICE_SELECTOR: &str =
    "kubernetes.io/service-name=prober,endpointslice.kubernetes.io/managed-by=prober";

/// The port at which clients and servers answer `GET /metrics`.
pub const METRICS_PORT: u16 = 8083;

/// Slots that rotate over all servers of the cluster: those before this one. The others are reserved for examinations.
pub const FIRST_RESERVED_SLOT: u16 = 56;

/// The Services of the standing agents, as the API server has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StandingServices {
    /// The namespace of both.
    pub namespace: String,
    /// The uid of `SERVICE`, which owns its EndpointSlices.
    pub uid: String,
    /// The addresses and node ports of `SERVICE`.
    pub balanced: ServiceAddresses,
    /// The addresses of [`LOCAL_SERVICE`].
    pub local: ServiceAddresses,
}

impl StandingServices {
    /// Reads both Services; `None` if the first has no uid or no namespace, which the API server always sets.
    pub fn from_services(balanced: &Service, local: &Service) -> Option<Self> {
        Some(Self {
            namespace: balanced.metadata.namespace.clone()?,
            uid: balanced.metadata.uid.clone()?,
            balanced: ServiceAddresses::from_service(balanced),
            local: ServiceAddresses::from_service(local),
        })
    }

    /// The families of the Services.
    pub fn families(&self) -> Vec<Family> {
        let cluster_ips = self.balanced.cluster_ips.iter();
        cluster_ips.map(|&ip| Family::of(ip)).collect()
    }

    /// Builds the EndpointSlice of a slot in one family; without a server it has no endpoint. Slots that rotate are behind the
    /// balanced port, too.
    pub fn slot_slice(
        &self,
        slot: u16,
        family: Family,
        server: Option<&ServerEndpoint>,
    ) -> EndpointSlice {
        let port = slot_port_name(slot);
        let suffix = ip_family_name(family).to_lowercase();
        let balanced = (slot < FIRST_RESERVED_SLOT).then(|| BALANCED_PORT_NAME.to_owned());
        let labels = MANAGED_SLICE_LABELS
            .into_iter()
            .chain([
                (SERVICE_NAME_LABEL, SERVICE),
                (labels::PART_OF, labels::PROBER),
            ])
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        let metadata = ObjectMeta {
            name: Some(format!("{SERVICE}-{port}-{suffix}")),
            namespace: Some(self.namespace.clone()),
            labels: Some(labels.collect()),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Service".to_owned(),
                name: SERVICE.to_owned(),
                uid: self.uid.clone(),
                controller: None,
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        };
        let ports = std::iter::once(port).chain(balanced);
        slice(metadata, family, ports, server)
    }
}

#[cfg(test)]
mod tests;
