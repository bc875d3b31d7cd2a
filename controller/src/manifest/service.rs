//! The test Services: ports that each lead to one known server, one port that is balanced over several, and the
//! same-node leg. They have no selector: what stands behind a port is written by hand, and moves only when the run says so.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use prober_core::plan::RESPONDER_PORT;

use super::{IpFamilies, Manifest, NodePorts, OwnerJob, ip_family_name};

/// The port of slot 0; slot `k` has this plus `k`.
pub const SLOT_PORT: u16 = 9000;

/// The port of `any`, and of the same-node leg.
pub const BALANCED_PORT: u16 = 9100;

/// Most slots of a Service: their ports must stay below that of the port that is balanced, and each costs every node of the
/// cluster a rule.
pub const MAX_SLOTS: u16 = 64;

const _: () = assert!(
    SLOT_PORT + MAX_SLOTS <= BALANCED_PORT,
    "a slot has the port that is balanced"
);

/// The name of the port that is balanced.
pub(super) const BALANCED_PORT_NAME: &str = "any";

/// The name of the Service that leads to servers of the client's own node.
pub fn local_service_name(run: &str) -> String {
    format!("{run}-local")
}

/// The name of a slot's port, which links it to its EndpointSlices.
pub(super) fn slot_port_name(slot: u16) -> String {
    format!("slot-{slot}")
}

impl Manifest {
    /// The Service with the slots and `any`.
    pub fn service(&self, anchor: &OwnerJob) -> Service {
        let slots = (0..self.slots).map(|slot| port(slot_port_name(slot), SLOT_PORT + slot));
        let kind = match self.node_ports {
            NodePorts::Enabled => "NodePort",
            NodePorts::Disabled => "ClusterIP",
        };
        Service {
            metadata: self.metadata(self.run.clone(), Some(anchor)),
            spec: Some(ServiceSpec {
                type_: Some(kind.to_owned()),
                ports: Some(
                    slots
                        .chain([port(BALANCED_PORT_NAME.to_owned(), BALANCED_PORT)])
                        .collect(),
                ),
                ..self.service_spec()
            }),
            status: None,
        }
    }

    /// The Service that leads to servers of the client's own node.
    ///
    /// <https://kubernetes.io/docs/concepts/services-networking/service-traffic-policy/>
    pub fn local_service(&self, anchor: &OwnerJob) -> Service {
        Service {
            metadata: self.metadata(local_service_name(&self.run), Some(anchor)),
            spec: Some(ServiceSpec {
                type_: Some("ClusterIP".to_owned()),
                internal_traffic_policy: Some("Local".to_owned()),
                ports: Some(vec![port(BALANCED_PORT_NAME.to_owned(), BALANCED_PORT)]),
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

/// Where a Service can be reached, as the API server answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceAddresses {
    /// Its ClusterIPs, one per family.
    pub cluster_ips: Vec<IpAddr>,
    /// The node port of each slot, in the order of the slots; empty where none were asked for.
    pub node_ports: Vec<u16>,
}

impl ServiceAddresses {
    /// Reads the API server's answer.
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
