//! The rules of kube-proxy in iptables mode, as input of `iptables-restore`.
//!
//! A sync rewrites the contents of kube-proxy's chains and nothing else, so a deleted jump stays deleted, and other rules
//! stay where they are. The chains follow pkg/proxy/iptables/proxier.go; their names are the hashes that kube-proxy computes.

use std::collections::BTreeSet;

use prober_core::packet::family::Family;

use super::{
    InternalTrafficPolicy, ServiceEndpoints, ServicePort, chain_hash, cluster_cidr, ports, target,
};
use crate::data_plane::DataPlane;
use crate::topology::Node;

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

/// Returns one sync of kube-proxy on a node, as input of `iptables-restore --noflush`.
///
/// `before` are the endpoints of the node's last sync: chains that are no longer used are deleted.
pub(super) fn sync(
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
    use crate::kube_proxy::tests::two_nodes;

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
