//! The rules of a node without Services: kube-proxy's jumps, flanneld's chains, and empty chains.

use prober_core::packet::family::Family;

use super::cluster_cidr;
use crate::topology::Node;

/// Returns every table of a family on a node, as input of `iptables-restore`.
///
/// kube-proxy inserts each of its jumps at the head, so their order is the reverse of that in its source;
/// flanneld appends its jumps (pkg/proxy/iptables/proxier.go, pkg/trafficmngr/iptables).
pub fn tables(family: Family, node: Node) -> String {
    let cluster = cluster_cidr(family);
    let node_cidr = node.pod_cidr(family);
    let multicast = match family {
        Family::Ipv4 => "224.0.0.0/4",
        Family::Ipv6 => "ff00::/8",
    };
    let masq = "-m comment --comment \"flanneld masq\"";
    let forward = "-m comment --comment \"flanneld forward\"";
    let new = "-m conntrack --ctstate NEW";
    let portals = "-m comment --comment \"kubernetes service portals\"";
    let external = "-m comment --comment \"kubernetes externally-visible service portals\"";
    let firewall = "-m comment --comment \"kubernetes load balancer firewall\"";
    let localnet = match family {
        Family::Ipv4 => {
            "-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment \"block incoming localnet connections\" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP\n"
        }
        Family::Ipv6 => "",
    };
    format!(
        "*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
COMMIT
*mangle
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-PROXY-CANARY - [0:0]
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:FLANNEL-FWD - [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-PROXY-CANARY - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SERVICES - [0:0]
-A INPUT {new} {firewall} -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment \"kubernetes health check service ports\" -j KUBE-NODEPORTS
-A INPUT {new} {external} -j KUBE-EXTERNAL-SERVICES
-A INPUT -j KUBE-FIREWALL
-A FORWARD {new} {firewall} -j KUBE-PROXY-FIREWALL
-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
-A FORWARD {new} {portals} -j KUBE-SERVICES
-A FORWARD {new} {external} -j KUBE-EXTERNAL-SERVICES
-A FORWARD {forward} -j FLANNEL-FWD
-A OUTPUT {new} {firewall} -j KUBE-PROXY-FIREWALL
-A OUTPUT {new} {portals} -j KUBE-SERVICES
-A OUTPUT -j KUBE-FIREWALL
{localnet}-A FLANNEL-FWD -s {cluster} {forward} -j ACCEPT
-A FLANNEL-FWD -d {cluster} {forward} -j ACCEPT
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:FLANNEL-POSTRTG - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-PROXY-CANARY - [0:0]
:KUBE-SERVICES - [0:0]
-A PREROUTING {portals} -j KUBE-SERVICES
-A OUTPUT {portals} -j KUBE-SERVICES
-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
-A POSTROUTING {masq} -j FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 {masq} -j RETURN
-A FLANNEL-POSTRTG -s {node_cidr} -d {cluster} {masq} -j RETURN
-A FLANNEL-POSTRTG -s {cluster} -d {node_cidr} {masq} -j RETURN
-A FLANNEL-POSTRTG ! -s {cluster} -d {node_cidr} {masq} -j RETURN
-A FLANNEL-POSTRTG -s {cluster} ! -d {multicast} {masq} -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s {cluster} -d {cluster} {masq} -j MASQUERADE --random-fully
COMMIT
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_node_has_the_jumps_of_kube_proxy_and_flannel() {
        insta::assert_snapshot!(tables(Family::Ipv4, Node::FIRST));
    }
}
