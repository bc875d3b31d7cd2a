//! The rules of a node's CNI beside those of kube-proxy: they accept pods' packets, and masquerade what leaves the cluster.

use prober_core::packet::family::Family;

use crate::data_plane::Cni;
use crate::topology::{LabSpec, Node, SECOND_UPLINK, UPLINK, pods_cidr};

/// The lines of one family for `iptables-restore`, by table; rules follow those of kube-proxy.
#[derive(Debug, Default)]
pub(super) struct CniRules {
    /// Rules of `mangle`.
    pub(super) mangle: String,
    /// Declarations of chains of `filter`.
    pub(super) filter_chains: String,
    /// The jump of FORWARD.
    pub(super) forward_jump: String,
    /// The further rules of `filter`.
    pub(super) filter: String,
    /// Declarations of chains of `nat`.
    pub(super) nat_chains: String,
    /// Rules of `nat`.
    pub(super) nat: String,
}

impl CniRules {
    /// Returns the rules of the data plane's CNI.
    pub(super) fn of(spec: &LabSpec, family: Family, node: Node) -> Self {
        match spec.data_plane().cni() {
            Cni::Flannel => flannel(family, node),
            Cni::Calico => calico(spec, family),
            Cni::Vpc => vpc(spec, family, node),
            Cni::Bare => Self::default(),
        }
    }
}

/// The chains of flanneld (`pkg/trafficmngr/iptables`).
fn flannel(family: Family, node: Node) -> CniRules {
    let cluster = pods_cidr(family);
    let node_cidr = node.pod_cidr(family);
    let multicast = match family {
        Family::Ipv4 => "224.0.0.0/4",
        Family::Ipv6 => "ff00::/8",
    };
    let masq = "-m comment --comment \"flanneld masq\"";
    let forward = "-m comment --comment \"flanneld forward\"";
    CniRules {
        filter_chains: ":FLANNEL-FWD - [0:0]\n".to_owned(),
        forward_jump: format!("-A FORWARD {forward} -j FLANNEL-FWD\n"),
        filter: format!(
            "-A FLANNEL-FWD -s {cluster} {forward} -j ACCEPT
-A FLANNEL-FWD -d {cluster} {forward} -j ACCEPT
"
        ),
        nat_chains: ":FLANNEL-POSTRTG - [0:0]\n".to_owned(),
        nat: format!(
            "-A POSTROUTING {masq} -j FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 {masq} -j RETURN
-A FLANNEL-POSTRTG -s {node_cidr} -d {cluster} {masq} -j RETURN
-A FLANNEL-POSTRTG -s {cluster} -d {node_cidr} {masq} -j RETURN
-A FLANNEL-POSTRTG ! -s {cluster} -d {node_cidr} {masq} -j RETURN
-A FLANNEL-POSTRTG -s {cluster} ! -d {multicast} {masq} -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s {cluster} -d {cluster} {masq} -j MASQUERADE --random-fully
"
        ),
        ..CniRules::default()
    }
}

/// The chains of Calico's Felix that let pods' packets through without a policy, and masquerade what leaves the pool.
fn calico(spec: &LabSpec, family: Family) -> CniRules {
    let pool = pods_cidr(family);
    let interfaces = format!("{}+", spec.data_plane().pod_interface_prefix());
    CniRules {
        filter_chains: ":cali-FORWARD - [0:0]\n".to_owned(),
        forward_jump: "-A FORWARD -j cali-FORWARD\n".to_owned(),
        filter: format!(
            "-A cali-FORWARD -i {interfaces} -j ACCEPT
-A cali-FORWARD -o {interfaces} -j ACCEPT
"
        ),
        nat_chains: ":cali-POSTROUTING - [0:0]\n:cali-nat-outgoing - [0:0]\n".to_owned(),
        nat: format!(
            "-A POSTROUTING -j cali-POSTROUTING
-A cali-POSTROUTING -j cali-nat-outgoing
-A cali-nat-outgoing -s {pool} ! -d {pool} -m addrtype ! --dst-type LOCAL -j MASQUERADE --random-fully
"
        ),
        ..CniRules::default()
    }
}

/// The chains of the AWS VPC CNI: source translation outside of the VPC, and marks that lead replies of node ports back.
fn vpc(spec: &LabSpec, family: Family, node: Node) -> CniRules {
    let vpc = pods_cidr(family);
    let node_address = spec.node_address(node, family);
    let interfaces = format!("{}+", spec.data_plane().pod_interface_prefix());
    CniRules {
        mangle: format!(
            "-A PREROUTING -i {UPLINK} -m comment --comment \"AWS, primary ENI\" -m addrtype --dst-type LOCAL --limit-iface-in -j CONNMARK --set-xmark 0x80/0x80
-A PREROUTING -i {interfaces} -m comment --comment \"AWS, primary ENI\" -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80
"
        ),
        nat_chains: ":AWS-SNAT-CHAIN-0 - [0:0]\n".to_owned(),
        nat: format!(
            "-A POSTROUTING -m comment --comment \"AWS SNAT CHAIN\" -j AWS-SNAT-CHAIN-0
-A AWS-SNAT-CHAIN-0 -d {vpc} -m comment --comment \"AWS SNAT CHAIN\" -j RETURN
-A AWS-SNAT-CHAIN-0 ! -o {SECOND_UPLINK} -m comment --comment \"AWS, SNAT\" -m addrtype ! --dst-type LOCAL -j SNAT --to-source {node_address} --random-fully
"
        ),
        ..CniRules::default()
    }
}
