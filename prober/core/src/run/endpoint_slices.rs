//! The EndpointSlices of the test Services as the API has them, which may differ from the run's request.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use crate::evidence::Backend;
use crate::packet::family::Family;
use crate::topology::{AccessPath, AgentId, NodeName, Path};

/// The endpoints of the test Services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSlices {
    /// The endpoints of slot `k`, of every family.
    pub slots: Vec<Vec<SliceEndpoint>>,
    /// The endpoints of the port `any`.
    pub any: Vec<SliceEndpoint>,
    /// The endpoints of `prober-local`, of every node.
    pub local: Vec<SliceEndpoint>,
}

/// One endpoint of an EndpointSlice (`discovery.k8s.io/v1`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Its address and the slice's port.
    pub address: SocketAddr,
    /// Its field `nodeName`.
    pub node: NodeName,
    /// Its condition `ready`.
    pub ready: bool,
    /// The agent that it names, if that is known to run: the run may not use it.
    pub agent: Option<AgentId>,
}

impl EndpointSlices {
    /// The backends of a path to this slot, if it leads to one; `None` for an access path without a Service. An
    /// address that no agent has, and for which the slice names none, belongs to no running pod.
    pub(super) fn backends(
        &self,
        path: &Path,
        slot: Option<usize>,
        addresses: &BTreeMap<AgentId, Vec<IpAddr>>,
    ) -> Option<Vec<Backend>> {
        let (listed, stays) = match path.access_path {
            AccessPath::PodIp => return None,
            AccessPath::ClusterIp
            | AccessPath::Hairpin
            | AccessPath::NodePort
            | AccessPath::HostNetwork => (self.slots.get(slot?)?, false),
            AccessPath::ClusterIpAny => (&self.any, false),
            AccessPath::ClusterIpLocal => (&self.local, true),
        };
        let may_answer = |endpoint: &&SliceEndpoint| {
            Family::of(endpoint.address.ip()) == path.family
                && (!stays || endpoint.node == path.client.node)
        };
        let backend = |endpoint: &SliceEndpoint| Backend {
            agent: (addresses.iter())
                .find_map(|(agent, own)| own.contains(&endpoint.address.ip()).then_some(agent))
                .or(endpoint.agent.as_ref())
                .cloned(),
            address: endpoint.address,
            ready: endpoint.ready,
        };
        Some(listed.iter().filter(may_answer).map(backend).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(address: &str, node: &str, ready: bool) -> SliceEndpoint {
        SliceEndpoint {
            address: address.parse().unwrap(),
            node: NodeName::new(node),
            ready,
            agent: None,
        }
    }

    #[test]
    fn a_backend_is_the_agent_with_the_address_that_the_slice_names() {
        let server = AgentId::new("node-1", "node-1-server");
        let addresses = BTreeMap::from([(server.clone(), vec!["100.96.1.20".parse().unwrap()])]);
        let slices = EndpointSlices {
            slots: vec![
                vec![
                    endpoint("100.96.1.20:8080", "node-1", true),
                    endpoint("[fd00:96:1::20]:8080", "node-1", true),
                ],
                vec![endpoint("100.96.1.99:8080", "node-1", true)],
                Vec::new(),
            ],
            any: Vec::new(),
            local: vec![
                endpoint("100.96.1.20:8080", "node-1", false),
                endpoint("100.96.2.20:8080", "node-2", true),
            ],
        };
        let backends = |access_path, slot| {
            let path = Path {
                client: AgentId::new("node-1", "node-1-client"),
                server: Some(server.clone()),
                access_path,
                family: Family::Ipv4,
            };
            slices.backends(&path, slot, &addresses).map(|all| {
                all.into_iter()
                    .map(|one| (one.address.to_string(), one.agent.is_some(), one.ready))
                    .collect::<Vec<_>>()
            })
        };
        let live = ("100.96.1.20:8080".to_owned(), true, true);
        let dead = ("100.96.1.99:8080".to_owned(), false, true);
        let unready = ("100.96.1.20:8080".to_owned(), true, false);
        assert_eq!(backends(AccessPath::ClusterIp, Some(0)), Some(vec![live]));
        assert_eq!(backends(AccessPath::Hairpin, Some(1)), Some(vec![dead]));
        assert_eq!(backends(AccessPath::ClusterIp, Some(2)), Some(Vec::new()));
        assert_eq!(
            backends(AccessPath::ClusterIpLocal, None),
            Some(vec![unready])
        );
        assert_eq!(backends(AccessPath::PodIp, None), None);
    }
}
