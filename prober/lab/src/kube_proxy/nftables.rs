//! The rules of kube-proxy in nftables mode (Kubernetes 1.34), as input of `nft -f`.
//!
//! The names of the table, its chains and its maps follow pkg/proxy/nftables/proxier.go. A chain's name contains the first
//! eight letters of the base32 of the SHA-256 of the rest.

use std::collections::BTreeSet;
use std::net::IpAddr;

use prober_core::packet::family::Family;
use prober_core::plan::RESPONDER_PORT;

use super::{
    InternalTrafficPolicy, ServiceEndpoints, ServicePort, chain_hash, cluster_cidr, ports,
    service_cidr, target,
};
use crate::topology::{LabSpec, Node};

/// Returns the words for a family: those of tables and matches, and the type of an address.
fn words(family: Family) -> (&'static str, &'static str) {
    match family {
        Family::Ipv4 => ("ip", "ipv4_addr"),
        Family::Ipv6 => ("ip6", "ipv6_addr"),
    }
}

/// Returns kube-proxy's table of a family, such as `ip kube-proxy`.
pub fn table(family: Family) -> String {
    format!("{} kube-proxy", words(family).0)
}

/// Returns the table of a node without Services.
pub(super) fn initial(spec: &LabSpec, family: Family, node: Node) -> String {
    let (ip, address) = words(family);
    let node_address = spec.node_address(node, family);
    let services = service_cidr(family);
    format!(
        "add table {ip} kube-proxy
delete table {ip} kube-proxy
table {ip} kube-proxy {{
  comment \"rules for kube-proxy\"
  set cluster-ips {{ type {address}; comment \"Active ClusterIPs\"; }}
  set nodeport-ips {{ type {address}; comment \"IPs that accept NodePort traffic\"; elements = {{ {node_address} }} }}
  map firewall-ips {{ type {address} . inet_proto . inet_service : verdict; comment \"destinations that are subject to LoadBalancerSourceRanges\"; }}
  map no-endpoint-services {{ type {address} . inet_proto . inet_service : verdict; comment \"vmap to drop or reject packets to services with no endpoints\"; }}
  map no-endpoint-nodeports {{ type inet_proto . inet_service : verdict; comment \"vmap to drop or reject packets to service nodeports with no endpoints\"; }}
  map service-ips {{ type {address} . inet_proto . inet_service : verdict; comment \"ClusterIP, ExternalIP and LoadBalancer IP traffic\"; }}
  map service-nodeports {{ type inet_proto . inet_service : verdict; comment \"NodePort traffic\"; }}
  chain reject-chain {{ comment \"helper for @no-endpoint-services / @no-endpoint-nodeports\"; reject; }}
  chain mark-for-masquerade {{ mark set mark or 0x4000; }}
  chain masquerading {{
    mark and 0x4000 == 0 return
    mark set mark xor 0x4000
    masquerade fully-random
  }}
  chain firewall-check {{ {ip} daddr . meta l4proto . th dport vmap @firewall-ips; }}
  chain service-endpoints-check {{ {ip} daddr . meta l4proto . th dport vmap @no-endpoint-services; }}
  chain nodeport-endpoints-check {{ {ip} daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports; }}
  chain cluster-ips-check {{
    {ip} daddr @cluster-ips reject comment \"Reject traffic to invalid ports of ClusterIPs\"
    {ip} daddr {{ {services} }} drop comment \"Drop traffic to unallocated ClusterIPs\"
  }}
  chain services {{
    {ip} daddr . meta l4proto . th dport vmap @service-ips
    {ip} daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
  }}
  chain filter-prerouting {{ type filter hook prerouting priority -110; ct state new jump firewall-check; }}
  chain filter-forward {{
    type filter hook forward priority -110
    ct state new jump service-endpoints-check
    ct state new jump cluster-ips-check
  }}
  chain filter-input {{
    type filter hook input priority -110
    ct state new jump nodeport-endpoints-check
    ct state new jump service-endpoints-check
  }}
  chain filter-output {{
    type filter hook output priority -110
    ct state new jump service-endpoints-check
    ct state new jump firewall-check
  }}
  chain filter-output-post-dnat {{ type filter hook output priority -90; ct state new jump cluster-ips-check; }}
  chain nat-prerouting {{ type nat hook prerouting priority -100; jump services; }}
  chain nat-output {{ type nat hook output priority -100; jump services; }}
  chain nat-postrouting {{ type nat hook postrouting priority 100; jump masquerading; }}
}}
"
    )
}

/// Returns the shell lines of one sync of kube-proxy on a node: it rewrites the sets, the maps and the chains of Services.
///
/// `before` are the endpoints of the node's last sync: its other chains are deleted, in a transaction of their own, because
/// the kernel counts a map's former references to a chain until the transaction has ended.
pub(super) fn sync(
    spec: &LabSpec,
    family: Family,
    node: Node,
    before: &ServiceEndpoints,
    now: &ServiceEndpoints,
) -> String {
    let table = table(family);
    let mut text = format!("nft -f - <<'END'\nflush set {table} cluster-ips\n");
    for map in [
        "service-ips",
        "service-nodeports",
        "no-endpoint-services",
        "no-endpoint-nodeports",
    ] {
        text.extend([format!("flush map {table} {map}\n")]);
    }
    let ports = ports(family, node, now);
    let current = chains(&ports);
    // A chain exists before the rule that goes to it.
    for chain in &current {
        text.extend([format!(
            "add chain {table} {chain}\nflush chain {table} {chain}\n"
        )]);
    }
    let addresses: BTreeSet<IpAddr> = ports.iter().map(|port| port.ip).collect();
    for address in addresses {
        text.extend([format!("add element {table} cluster-ips {{ {address} }}\n")]);
    }
    for port in &ports {
        text += &if port.endpoints.is_empty() {
            without_endpoints(port, &table)
        } else {
            with_endpoints(spec, family, port)
        };
    }
    text += "END\n";
    let former = chains(&super::ports(family, node, before));
    let stale: Vec<_> = former.difference(&current).collect();
    if !stale.is_empty() {
        text += "nft -f - <<'END'\n";
        for verb in ["flush", "delete"] {
            for chain in &stale {
                text.extend([format!("{verb} chain {table} {chain}\n")]);
            }
        }
        text += "END\n";
    }
    text
}

/// Returns the rules of a Service port without endpoints, which reject or drop its packets.
fn without_endpoints(port: &ServicePort, table: &str) -> String {
    let verdict = match port.internal_policy {
        InternalTrafficPolicy::Cluster => "goto reject-chain",
        InternalTrafficPolicy::Local => "drop",
    };
    let mut text = format!(
        "add element {table} no-endpoint-services {{ {} . tcp . {} : {verdict} }}\n",
        port.ip, port.number
    );
    if let Some(number) = port.node_port {
        text.extend([format!(
            "add element {table} no-endpoint-nodeports {{ tcp . {number} : {verdict} }}\n"
        )]);
    }
    text
}

/// Returns the rules of a Service port with endpoints.
fn with_endpoints(spec: &LabSpec, family: Family, port: &ServicePort) -> String {
    let (ip, _) = words(family);
    let table = table(family);
    let (chain, vip, number) = (service_chain(port), port.ip, port.number);
    let cidr = cluster_cidr(spec.data_plane(), family);
    let mut text = format!(
        "add element {table} service-ips {{ {vip} . tcp . {number} : goto {chain} }}
add rule {table} {chain} {ip} daddr {vip} tcp dport {number} {ip} saddr != {cidr} jump mark-for-masquerade
"
    );
    if let Some(number) = port.node_port {
        let external = external_chain(port);
        text.extend([format!(
            "add element {table} service-nodeports {{ tcp . {number} : goto {external} }}
add rule {table} {external} jump mark-for-masquerade
add rule {table} {external} goto {chain}
"
        )]);
    }
    let mut choices = Vec::new();
    for (rank, address) in port.endpoints.iter().enumerate() {
        let endpoint = endpoint_chain(port, *address);
        text.extend([format!(
            "add rule {table} {endpoint} {ip} saddr {address} jump mark-for-masquerade
add rule {table} {endpoint} meta l4proto tcp dnat to {}
",
            target(*address)
        )]);
        choices.push(format!("{rank} : goto {endpoint}"));
    }
    text + &format!(
        "add rule {table} {chain} numgen random mod {} vmap {{ {} }}\n",
        choices.len(),
        choices.join(", ")
    )
}

/// Returns the chains of every Service port that has endpoints.
fn chains(ports: &[ServicePort]) -> BTreeSet<String> {
    let mut chains = BTreeSet::new();
    for port in ports.iter().filter(|port| !port.endpoints.is_empty()) {
        chains.insert(service_chain(port));
        chains.extend(port.node_port.map(|_| external_chain(port)));
        let endpoints = port.endpoints.iter();
        chains.extend(endpoints.map(|address| endpoint_chain(port, *address)));
    }
    chains
}

/// Returns a name with its hash in front.
fn hashed(name: &str) -> String {
    let hash: String = chain_hash(name).chars().take(8).collect();
    format!("{hash}-{name}")
}

/// Returns `namespace/service/tcp/port` of `namespace/service:port`.
fn port_name(name: &str) -> String {
    name.replace(':', "/tcp/")
}

/// Returns the chain of traffic from inside the cluster.
fn service_chain(port: &ServicePort) -> String {
    let prefix = match port.internal_policy {
        InternalTrafficPolicy::Cluster => "service",
        InternalTrafficPolicy::Local => "local",
    };
    format!("{prefix}-{}", hashed(&port_name(&port.name)))
}

/// Returns the chain of traffic from outside the cluster.
fn external_chain(port: &ServicePort) -> String {
    format!("external-{}", hashed(&port_name(&port.name)))
}

/// Returns the chain of an endpoint.
fn endpoint_chain(port: &ServicePort, address: IpAddr) -> String {
    let name = port_name(&port.name);
    let address = address.to_string().replace(':', ".");
    format!(
        "endpoint-{}",
        hashed(&format!("{name}__{address}/{RESPONDER_PORT}"))
    )
}

/// Returns the chain of a slot's Service port.
pub fn slot_chain(slot: u8) -> String {
    format!(
        "service-{}",
        hashed(&format!("prober/prober/tcp/slot-{slot}"))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube_proxy::tests::two_nodes;

    #[test]
    fn chain_names_are_those_of_a_real_cluster() {
        assert_eq!(hashed("ns1/svc1/tcp/p80"), "ULMVA6XW-ns1/svc1/tcp/p80");
        assert_eq!(
            hashed("ns1/svc1/tcp/p80__10.180.0.1/80"),
            "5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80"
        );
    }

    #[test]
    fn a_fresh_node_has_the_table_of_kube_proxy() {
        insta::assert_snapshot!(initial(&LabSpec::default(), Family::Ipv4, Node::FIRST));
    }

    #[test]
    fn a_sync_writes_the_chains_of_kube_proxy() {
        let spec = LabSpec::default();
        for family in [Family::Ipv4, Family::Ipv6] {
            let text = sync(
                &spec,
                family,
                Node::FIRST,
                &two_nodes(),
                &ServiceEndpoints::default(),
            );
            assert!(text.contains("delete chain"), "{text}");
        }
        let text = sync(
            &spec,
            Family::Ipv6,
            Node::FIRST,
            &ServiceEndpoints::default(),
            &two_nodes(),
        );
        let of_endpoints: Vec<&str> = text
            .lines()
            .filter(|line| !line.contains("no-endpoint"))
            .collect();
        insta::assert_snapshot!(of_endpoints.join("\n"));
    }
}
