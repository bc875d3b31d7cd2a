//! The rules that kube-proxy (Kubernetes 1.34) writes on one node for the test Services.
//!
//! This module has those of iptables mode, [`nftables`] the others. `initial_rules::tables` returns the rules of a node on which kube-proxy and flanneld have just started. `sync` is
//! one of kube-proxy's partial syncs: it rewrites the contents of kube-proxy's chains and nothing else, so a deleted jump
//! stays deleted, and other rules stay where they are. The chains follow pkg/proxy/iptables/proxier.go; their names are
//! the hashes that kube-proxy computes.

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
pub mod initial_rules;
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

/// Returns the chain of a slot's Service port.
pub fn slot_chain(slot: u8) -> String {
    format!(
        "KUBE-SVC-{}",
        chain_hash(&format!("prober/prober:slot-{slot}tcp"))
    )
}

impl ServicePort {
    /// Returns the chain of traffic from inside the cluster.
    fn chain(&self) -> String {
        let prefix = match self.internal_policy {
            InternalTrafficPolicy::Cluster => "SVC",
            InternalTrafficPolicy::Local => "SVL",
        };
        format!("KUBE-{prefix}-{}", chain_hash(&format!("{}tcp", self.name)))
    }

    /// Returns the chain of traffic from outside the cluster.
    fn external_chain(&self) -> String {
        format!("KUBE-EXT-{}", chain_hash(&format!("{}tcp", self.name)))
    }

    /// Returns the rules of the node port (externalTrafficPolicy: Cluster).
    fn node_port_rules(&self) -> Option<[String; 3]> {
        let (name, number) = (&self.name, self.node_port?);
        let external = self.external_chain();
        Some([
            format!(
                "-A KUBE-NODEPORTS -m comment --comment {name} -m tcp -p tcp --dport {number} -j {external}"
            ),
            format!(
                "-A {external} -m comment --comment \"masquerade traffic for {name} external destinations\" -j KUBE-MARK-MASQ"
            ),
            format!("-A {external} -j {}", self.chain()),
        ])
    }

    /// Returns the rules of a Service port without endpoints, which reject or drop its traffic.
    fn rules_without_endpoints(&self) -> Vec<String> {
        let (comment, action) = match self.internal_policy {
            InternalTrafficPolicy::Cluster => ("has no endpoints", "REJECT"),
            InternalTrafficPolicy::Local => ("has no local endpoints", "DROP"),
        };
        let internal = format!("-A KUBE-SERVICES {} -j {action}", self.destination(comment));
        let external = self.node_port.map(|number| {
            format!(
                "-A KUBE-EXTERNAL-SERVICES -m comment --comment \"{} {comment}\" -m addrtype --dst-type LOCAL -m tcp -p tcp --dport {number} -j {action}",
                self.name
            )
        });
        std::iter::once(internal).chain(external).collect()
    }

    /// Returns the match on the ClusterIP and port; the rule's comment is the Service port's name and `comment`.
    fn destination(&self, comment: &str) -> String {
        format!(
            "-m comment --comment \"{} {comment}\" -m tcp -p tcp -d {} --dport {}",
            self.name, self.ip, self.number
        )
    }
}

fn endpoint_chain(port: &ServicePort, target: &str) -> String {
    format!(
        "KUBE-SEP-{}",
        chain_hash(&format!("{}tcp{target}", port.name))
    )
}

/// Returns the value of kube-proxy's `--cluster-cidr`: sources outside of it are masqueraded.
///
/// Where pods answer each other directly it is a prefix that no pod has, so that all replies return to kube-proxy's node.
pub fn cluster_cidr(data_plane: DataPlane, family: Family) -> &'static str {
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
                sync(spec.data_plane(), family, node, before, now)
            ),
            ProxyMode::Nftables => nftables::sync(spec, family, node, before, now),
        })
        .concat()
}

/// Returns one sync of kube-proxy on a node, as input of `iptables-restore --noflush`.
///
/// `before` are the endpoints of the node's last sync: chains that are no longer used are deleted.
fn sync(
    data_plane: DataPlane,
    family: Family,
    node: Node,
    before: &ServiceEndpoints,
    now: &ServiceEndpoints,
) -> String {
    let mut rejects = Vec::new();
    let mut services = Vec::new();
    let mut chains = BTreeSet::new();
    let mut rules = Vec::new();
    for port in ports(family, node, now) {
        if port.endpoints.is_empty() {
            rejects.extend(port.rules_without_endpoints());
            continue;
        }
        let chain = port.chain();
        services.push(format!(
            "-A KUBE-SERVICES {} -j {chain}",
            port.destination("cluster IP")
        ));
        rules.push(format!(
            "-A {chain} {} ! -s {} -j KUBE-MARK-MASQ",
            port.destination("cluster IP"),
            cluster_cidr(data_plane, family)
        ));
        let count = port.endpoints.len();
        for (rank, ip) in port.endpoints.iter().enumerate() {
            let target = target(*ip);
            let endpoint = endpoint_chain(&port, &target);
            let name = &port.name;
            let choice = match count - rank {
                1 => String::new(),
                left => format!(
                    "-m statistic --mode random --probability {} ",
                    probability(left)
                ),
            };
            rules.push(format!(
                "-A {chain} -m comment --comment \"{name} -> {target}\" {choice}-j {endpoint}"
            ));
            rules.push(format!(
                "-A {endpoint} -m comment --comment {name} -s {ip} -j KUBE-MARK-MASQ"
            ));
            rules.push(format!(
                "-A {endpoint} -m comment --comment {name} -m tcp -p tcp -j DNAT --to-destination {target}"
            ));
            chains.insert(endpoint);
        }
        if let Some(external) = port.node_port_rules() {
            rules.extend(external);
            chains.insert(port.external_chain());
        }
        chains.insert(chain);
    }
    let stale: Vec<String> = chain_names(family, node, before)
        .difference(&chains)
        .cloned()
        .collect();
    let mut text = String::from(
        "*filter
:KUBE-SERVICES - [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
",
    );
    for rule in &rejects {
        text.extend([format!("{rule}\n")]);
    }
    text += "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding rules\" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
";
    for chain in chains.iter().chain(&stale) {
        text.extend([format!(":{chain} - [0:0]\n")]);
    }
    text += "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
";
    for rule in services.iter().chain(&rules) {
        text.extend([format!("{rule}\n")]);
    }
    let except = match family {
        Family::Ipv4 => "",
        Family::Ipv6 => " ! -d ::1/128",
    };
    text.extend([format!(
        "-A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this chain\" -m addrtype --dst-type LOCAL{except} -j KUBE-NODEPORTS\n"
    )]);
    for chain in &stale {
        text.extend([format!("-X {chain}\n")]);
    }
    text + "COMMIT\n"
}

/// Returns the probability 1/`left`, with ten digits as kube-proxy prints it.
fn probability(left: usize) -> String {
    let billionths = 10_000_000_000_u64
        .checked_div(left as u64)
        .unwrap_or_default();
    format!("0.{billionths:010}")
}

fn chain_names(family: Family, node: Node, endpoints: &ServiceEndpoints) -> BTreeSet<String> {
    ports(family, node, endpoints)
        .iter()
        .filter(|port| !port.endpoints.is_empty())
        .flat_map(|port| {
            port.endpoints
                .iter()
                .map(|ip| endpoint_chain(port, &target(*ip)))
                .chain([port.chain()])
                .chain(port.node_port.map(|_| port.external_chain()))
                .collect::<Vec<_>>()
        })
        .collect()
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

    #[test]
    fn a_sync_writes_the_rules_of_kube_proxy_for_ipv4() {
        let text = sync(
            DataPlane::BridgeVxlan,
            Family::Ipv4,
            Node::FIRST,
            &ServiceEndpoints::default(),
            &two_nodes(),
        );
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_sync_writes_the_rules_of_kube_proxy_for_ipv6() {
        let text = sync(
            DataPlane::BridgeVxlan,
            Family::Ipv6,
            Node::FIRST,
            &ServiceEndpoints::default(),
            &two_nodes(),
        );
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_node_without_a_ready_server_drops_traffic_of_the_local_service() {
        let mut endpoints = two_nodes();
        endpoints
            .local
            .retain(|endpoint| endpoint.node != Node::FIRST);
        let text = sync(
            DataPlane::BridgeVxlan,
            Family::Ipv4,
            Node::FIRST,
            &ServiceEndpoints::default(),
            &endpoints,
        );
        assert!(text.contains(
            "has no local endpoints\" -m tcp -p tcp -d 100.67.30.134 --dport 80 -j DROP"
        ));
        assert!(!text.contains("KUBE-SVL-"));
    }

    #[test]
    fn unused_chains_are_deleted() {
        let text = sync(
            DataPlane::BridgeVxlan,
            Family::Ipv4,
            Node::FIRST,
            &two_nodes(),
            &ServiceEndpoints::default(),
        );
        // The internal and external chains of three ports, the chain of the local one, and the chains of five endpoints.
        assert_eq!(text.matches("\n-X KUBE-").count(), 12);
        assert!(text.contains(&format!("\n-X {}\n", slot_chain(0))));
    }

    #[test]
    fn three_endpoints_are_chosen_with_equal_probability() {
        assert_eq!(probability(3), "0.3333333333");
        assert_eq!(probability(2), "0.5000000000");
    }
}
