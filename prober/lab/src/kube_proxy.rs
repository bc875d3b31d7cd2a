//! The rules that kube-proxy (Kubernetes 1.34) writes on one node for the test Services.
//!
//! `initial_script` writes the rules of a node on which kube-proxy and the CNI have just started, `sync_script` one of
//! kube-proxy's partial syncs: it rewrites what belongs to Services and nothing else, so what a fault deletes stays deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use prober_core::packet::family::Family;
use prober_core::plan::RESPONDER_PORT;
use sha2::{Digest as _, Sha256};

use crate::data_plane::{Attachment, DataPlane};
use crate::topology::scripts::restore;
use crate::topology::{LabSpec, Node, Pod, pods_cidr};

/// The chains of the CNI, beside kube-proxy's.
mod cni_rules;
/// The chains and jumps of a node without Services.
mod initial_rules;
/// The rules of iptables mode.
pub mod iptables;
/// The answer to a request for the mode.
pub(crate) mod mode_server;
/// The rules of nftables mode.
pub mod nftables;
/// The modes of kube-proxy.
mod proxy_mode;

pub use proxy_mode::{ProxyMode, UnknownProxyMode};

/// The number of slots of the test Service: ports from 9000 on, each with one endpoint.
pub const SLOTS: u8 = 64;
/// The port of slot 0.
pub const SLOT_PORT: u16 = 9000;
/// The port that is balanced over a set of endpoints, and the port of `prober-local`.
pub const BALANCED_PORT: u16 = 80;
/// The node port of slot 0; the other slots follow.
pub const NODE_PORT: u16 = 30_900;
/// The node port of the balanced port.
const BALANCED_NODE_PORT: u16 = 30_880;

/// The ClusterIP of the Service `prober`.
pub fn cluster_ip(family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => IpAddr::from([100, 67, 30, 133]),
        Family::Ipv6 => IpAddr::from([0xfd00, 0x67, 0, 0, 0, 0, 0, 0x133]),
    }
}

/// The ClusterIP of the Service `prober-local`.
pub fn local_cluster_ip(family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => IpAddr::from([100, 67, 30, 134]),
        Family::Ipv6 => IpAddr::from([0xfd00, 0x67, 0, 0, 0, 0, 0, 0x134]),
    }
}

/// One endpoint of a Service, with an address of each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// The node that the EndpointSlice names.
    pub node: Node,
    /// The IPv4 address.
    pub v4: IpAddr,
    /// The IPv6 address.
    pub v6: IpAddr,
}

impl Endpoint {
    /// Returns the endpoint of a pod.
    pub fn of(pod: Pod) -> Self {
        Self {
            node: pod.node,
            v4: pod.address(Family::Ipv4),
            v6: pod.address(Family::Ipv6),
        }
    }

    /// Returns an endpoint on this node with addresses that no pod has.
    pub fn stale(node: Node) -> Self {
        Self {
            node,
            v4: node.unused_address(Family::Ipv4),
            v6: node.unused_address(Family::Ipv6),
        }
    }

    /// Returns the address of a family.
    pub fn address(self, family: Family) -> IpAddr {
        match family {
            Family::Ipv4 => self.v4,
            Family::Ipv6 => self.v6,
        }
    }
}

/// The content of the EndpointSlices of the test Services.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceEndpoints {
    /// The endpoint of each slot; a slot without an entry has an empty slice.
    pub slots: BTreeMap<u8, Endpoint>,
    /// The endpoints behind the balanced port.
    pub any: BTreeSet<Endpoint>,
    /// The ready endpoints of `prober-local`.
    pub local: BTreeSet<Endpoint>,
}

/// One Service port on one node, with the endpoints that kube-proxy uses there.
struct ServicePort {
    /// `namespace/service:port`, from which the names of its chains are hashed.
    name: String,
    ip: IpAddr,
    number: u16,
    /// The node port that leads to the same endpoints.
    node_port: Option<u16>,
    internal_policy: InternalTrafficPolicy,
    endpoints: Vec<IpAddr>,
}

/// The internalTrafficPolicy of a Service.
#[derive(Clone, Copy, PartialEq, Eq)]
enum InternalTrafficPolicy {
    Cluster,
    Local,
}

fn ports(family: Family, node: Node, endpoints: &ServiceEndpoints) -> Vec<ServicePort> {
    let mut ports: Vec<ServicePort> = (0..SLOTS)
        .map(|slot| ServicePort {
            name: format!("prober/prober:slot-{slot}"),
            ip: cluster_ip(family),
            number: SLOT_PORT + u16::from(slot),
            node_port: Some(NODE_PORT + u16::from(slot)),
            internal_policy: InternalTrafficPolicy::Cluster,
            endpoints: endpoints
                .slots
                .get(&slot)
                .map(|endpoint| endpoint.address(family))
                .into_iter()
                .collect(),
        })
        .collect();
    ports.push(ServicePort {
        name: "prober/prober:any".to_owned(),
        ip: cluster_ip(family),
        number: BALANCED_PORT,
        node_port: Some(BALANCED_NODE_PORT),
        internal_policy: InternalTrafficPolicy::Cluster,
        endpoints: endpoints
            .any
            .iter()
            .map(|each| each.address(family))
            .collect(),
    });
    ports.push(ServicePort {
        name: "prober/prober-local:http".to_owned(),
        ip: local_cluster_ip(family),
        number: BALANCED_PORT,
        node_port: None,
        internal_policy: InternalTrafficPolicy::Local,
        endpoints: endpoints
            .local
            .iter()
            .filter(|endpoint| endpoint.node == node)
            .map(|each| each.address(family))
            .collect(),
    });
    ports
}

/// Returns the first sixteen letters of the base32 of a SHA-256, with which kube-proxy shortens chain names for iptables.
fn chain_hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let bits = digest
        .iter()
        .take(10)
        .fold(0u128, |bits, byte| bits << 8 | u128::from(*byte));
    (0..16)
        .rev()
        .map(|letter| {
            let value = u8::try_from(bits >> (5 * letter) & 31).unwrap_or(0);
            char::from(if value < 26 {
                b'A' + value
            } else {
                b'2' + value - 26
            })
        })
        .collect()
}

/// Returns the value of kube-proxy's `--cluster-cidr`: sources outside of it are masqueraded.
///
/// Where pods answer each other directly it is a prefix that no pod has, so that all replies return to kube-proxy's node.
fn cluster_cidr(data_plane: DataPlane, family: Family) -> &'static str {
    match (data_plane.attachment(), family) {
        (Attachment::Bridge | Attachment::RoutedVeth(_), family) => pods_cidr(family),
        (Attachment::Macvlan, Family::Ipv4) => "10.244.0.0/16",
        (Attachment::Macvlan, Family::Ipv6) => "fd00:10:244::/56",
    }
}

/// Returns the prefix of all ClusterIPs: the value of the API server's `--service-cluster-ip-range`.
pub fn service_cidr(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "100.64.0.0/13",
        Family::Ipv6 => "fd00:67::/108",
    }
}

/// Returns `ip:port`, with IPv6 in brackets.
fn target(ip: IpAddr) -> String {
    std::net::SocketAddr::new(ip, RESPONDER_PORT).to_string()
}

/// Returns the shell lines that write the rules of a node without Services, for both families.
pub fn initial_script(spec: &LabSpec, node: Node) -> String {
    let mut text = String::new();
    for family in [Family::Ipv4, Family::Ipv6] {
        text.extend([format!(
            "{} <<'END'\n{}END\n",
            restore(family),
            initial_rules::tables(spec, family, node)
        )]);
        match spec.proxy_mode() {
            ProxyMode::Iptables => {}
            ProxyMode::Nftables => text.extend([format!(
                "nft -f - <<'END'\n{}END\n",
                nftables::initial(spec, family, node)
            )]),
        }
    }
    text
}

/// Returns the shell lines of one sync of kube-proxy on a node, for both families.
///
/// `before` are the endpoints of the node's last sync: chains that are no longer used are deleted.
pub fn sync_script(
    spec: &LabSpec,
    node: Node,
    before: &ServiceEndpoints,
    now: &ServiceEndpoints,
) -> String {
    [Family::Ipv4, Family::Ipv6]
        .map(|family| match spec.proxy_mode() {
            ProxyMode::Iptables => format!(
                "{} --noflush <<'END'\n{}END\n",
                restore(family),
                iptables::sync(spec.data_plane(), family, node, before, now)
            ),
            ProxyMode::Nftables => nftables::sync(spec, family, node, before, now),
        })
        .concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{LabSpec, server};

    pub(super) fn two_nodes() -> ServiceEndpoints {
        let servers: Vec<Endpoint> = LabSpec::default()
            .nodes()
            .map(|node| Endpoint::of(server(node)))
            .collect();
        ServiceEndpoints {
            slots: (0..).zip(servers.iter().copied()).collect(),
            any: servers.iter().copied().collect(),
            local: servers.into_iter().collect(),
        }
    }

    #[test]
    fn chain_names_are_those_of_a_real_cluster() {
        assert_eq!(
            chain_hash("default/kubernetes:httpstcp"),
            "NPX46M4PTMTKRN6Y"
        );
        assert_eq!(
            chain_hash("kube-system/kube-dns:dns-tcptcp"),
            "ERIFXISQEP7F7OF4"
        );
    }
}
