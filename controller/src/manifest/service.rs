//! The test Services: one with a port for each server and a balanced port, and one with `internalTrafficPolicy: Local`.
//!
//! They have no selector. The run writes their EndpointSlices, so a port changes its servers only when the run changes them.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use prober_core::plan::RESPONDER_PORT;

use super::{IpFamilies, Manifest, NodePorts, OwnerJob, ip_family_name};

/// The port of slot 0. Slot `k` has this port plus `k`.
pub const SLOT_PORT: u16 = 9000;

/// The port that is balanced over several servers, of both Services.
pub const BALANCED_PORT: u16 = 9100;

/// The most slots of a Service. Their ports stay below [`BALANCED_PORT`], and each slot costs every node of the cluster a rule.
pub const MAX_SLOTS: u16 = 64;

const _: () = assert!(
    SLOT_PORT + MAX_SLOTS <= BALANCED_PORT,
    "a slot has the balanced port"
);

/// The name of the balanced port.
pub(super) const BALANCED_PORT_NAME: &str = "any";

/// The name of the Service with `internalTrafficPolicy: Local`.
pub fn local_service_name(run: &str) -> String {
    format!("{run}-local")
}

/// The name of a slot's port, which links it to its EndpointSlices.
pub(super) fn slot_port_name(slot: u16) -> String {
    format!("slot-{slot}")
}

impl Manifest {
    /// Builds the Service with the slots and the balanced port, and with node ports or without.
    pub fn service(&self, owner: &OwnerJob, node_ports: NodePorts) -> Service {
        let slots = (0..self.slots).map(|slot| port(slot_port_name(slot), SLOT_PORT + slot));
        let balanced = port(BALANCED_PORT_NAME.to_owned(), BALANCED_PORT);
        let service_type = match node_ports {
            NodePorts::Enabled => "NodePort",
            NodePorts::Disabled => "ClusterIP",
        };
        Service {
            metadata: self.metadata(self.run.clone(), Some(owner)),
            spec: Some(ServiceSpec {
                type_: Some(service_type.to_owned()),
                ports: Some(slots.chain([balanced]).collect()),
                ..self.service_spec()
            }),
            status: None,
        }
    }

    /// Builds the Service that leads each client to servers of its own node.
    ///
    /// <https://kubernetes.io/docs/concepts/services-networking/service-traffic-policy/>
    pub fn local_service(&self, owner: &OwnerJob) -> Service {
        let balanced = port(BALANCED_PORT_NAME.to_owned(), BALANCED_PORT);
        Service {
            metadata: self.metadata(local_service_name(&self.run), Some(owner)),
            spec: Some(ServiceSpec {
                type_: Some("ClusterIP".to_owned()),
                internal_traffic_policy: Some("Local".to_owned()),
                ports: Some(vec![balanced]),
                ..self.service_spec()
            }),
            status: None,
        }
    }

    fn service_spec(&self) -> ServiceSpec {
        let (policy, families) = match self.families {
            IpFamilies::Available => ("PreferDualStack", None),
            IpFamilies::Only(family) => {
                ("SingleStack", Some(vec![ip_family_name(family).to_owned()]))
            }
        };
        ServiceSpec {
            ip_family_policy: Some(policy.to_owned()),
            ip_families: families,
            session_affinity: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            ..ServiceSpec::default()
        }
    }
}

fn port(name: String, port: u16) -> ServicePort {
    ServicePort {
        name: Some(name),
        protocol: Some("TCP".to_owned()),
        port: i32::from(port),
        target_port: Some(IntOrString::Int(i32::from(RESPONDER_PORT))),
        ..ServicePort::default()
    }
}

/// The addresses of a Service that the API server assigned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceAddresses {
    /// Its ClusterIPs, one per family.
    pub cluster_ips: Vec<IpAddr>,
    /// The node port of each slot, in the order of the slots; empty without node ports.
    pub node_ports: Vec<u16>,
}

impl ServiceAddresses {
    /// Reads a Service.
    pub fn from_service(service: &Service) -> Self {
        let Some(spec) = &service.spec else {
            return Self::default();
        };
        let node_port = |name: &str| {
            spec.ports
                .iter()
                .flatten()
                .find(|port| port.name.as_deref() == Some(name))
                .and_then(|port| u16::try_from(port.node_port?).ok())
        };
        Self {
            cluster_ips: spec
                .cluster_ips
                .iter()
                .flatten()
                .filter_map(|address| address.parse().ok())
                .collect(),
            node_ports: (0..)
                .map_while(|slot| node_port(&slot_port_name(slot)))
                .collect(),
        }
    }
}
