//! The rules of a node without Services: kube-proxy's jumps, the CNI's chains, and empty chains.

use prober_core::packet::family::Family;

use super::ProxyMode;
use super::cni_rules::CniRules;
use crate::topology::{LabSpec, Node};

/// Returns every table of a family on a node, as input of `iptables-restore`.
///
/// kube-proxy inserts each of its jumps at the head, so their order is the reverse of that in its source; the CNI's jumps
/// follow them (pkg/proxy/iptables/proxier.go).
pub(super) fn tables(spec: &LabSpec, family: Family, node: Node) -> String {
    let cni = CniRules::of(spec, family, node);
    match spec.proxy_mode() {
        ProxyMode::Iptables => with_kube_proxy(family, &cni),
        ProxyMode::Nftables => without_kube_proxy(family, &cni),
    }
}

/// Returns kubelet's rule against packets to the loopback from elsewhere.
fn localnet(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => {
            "-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment \"block incoming localnet connections\" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP\n"
        }
        Family::Ipv6 => "",
    }
}

fn without_kube_proxy(family: Family, cni: &CniRules) -> String {
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
{mangle}COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
{filter_chains}:KUBE-FIREWALL - [0:0]
-A INPUT -j KUBE-FIREWALL
{forward_jump}-A OUTPUT -j KUBE-FIREWALL
{localnet}{filter}COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
{nat_chains}{nat}COMMIT
",
        mangle = cni.mangle,
        filter_chains = cni.filter_chains,
        forward_jump = cni.forward_jump,
        localnet = localnet(family),
        filter = cni.filter,
        nat_chains = cni.nat_chains,
        nat = cni.nat,
    )
}

fn with_kube_proxy(family: Family, cni: &CniRules) -> String {
    let new = "-m conntrack --ctstate NEW";
    let portals = "-m comment --comment \"kubernetes service portals\"";
    let external = "-m comment --comment \"kubernetes externally-visible service portals\"";
    let firewall = "-m comment --comment \"kubernetes load balancer firewall\"";
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
{mangle}COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
{filter_chains}:KUBE-EXTERNAL-SERVICES - [0:0]
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
{forward_jump}-A OUTPUT {new} {firewall} -j KUBE-PROXY-FIREWALL
-A OUTPUT {new} {portals} -j KUBE-SERVICES
-A OUTPUT -j KUBE-FIREWALL
{localnet}{filter}COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
{nat_chains}:KUBE-MARK-MASQ - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-PROXY-CANARY - [0:0]
:KUBE-SERVICES - [0:0]
-A PREROUTING {portals} -j KUBE-SERVICES
-A OUTPUT {portals} -j KUBE-SERVICES
-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
{nat}COMMIT
",
        mangle = cni.mangle,
        filter_chains = cni.filter_chains,
        forward_jump = cni.forward_jump,
        localnet = localnet(family),
        filter = cni.filter,
        nat_chains = cni.nat_chains,
        nat = cni.nat,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_node_has_the_jumps_of_kube_proxy_and_flannel() {
        insta::assert_snapshot!(tables(&LabSpec::default(), Family::Ipv4, Node::FIRST));
    }
}
