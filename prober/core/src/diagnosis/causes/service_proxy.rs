//! The program that translates Services on a node: how its rules are read, and how it writes them again.

use std::net::IpAddr;

use super::conntrack_full;
use crate::data_plane::Translation;
use crate::diagnosis::Remedy;
use crate::diagnosis::case::Case;
use crate::diagnosis::hypothesis::Place;
use crate::diagnosis::model::Applies;
use crate::diagnosis::remedy::{cilium, step, tables};
use crate::node_facts::{KubeProxyMode, NodeFacts};
use crate::packet::family::Family;
use crate::topology::NodeName;

/// What translates Services on the node of a place.
pub(super) fn translation(case: &Case<'_>, place: &Place) -> Translation {
    let node = place.node.as_ref();
    node.map_or(Translation::Unknown, |node| case.plane.translation(node))
}

/// The other nodes whose Services are translated inside connect(2), as a sentence, where nothing shows what translates on this
/// one, neither kube-proxy nor connection tracking: the same was to be expected there.
pub(super) fn connect_elsewhere(case: &Case<'_>, place: &Place) -> Option<String> {
    let node = place.node.as_ref()?;
    if case.plane.translation(node) != Translation::Unknown {
        return None;
    }
    let others = case.nodes().into_iter().filter(|other| *other != node);
    let others: Vec<&str> = others
        .map(|other| {
            let is_connect = case.plane.translation(other) == Translation::Connect;
            is_connect.then(|| other.as_str())
        })
        .collect::<Option<_>>()?;
    let first = others.first()?;
    Some(format!(
        "{first} translates Services inside connect(2), and nothing shows that {node} does: its program is not attached, or has no entry of them"
    ))
}

/// A cause of packets that are translated exists only where they are, not where a program on connect(2) translates;
/// `otherwise` says what happens there.
pub(super) fn applies(case: &Case<'_>, node: &NodeName, otherwise: &str) -> Applies {
    match case.plane.translation(node) {
        Translation::Connect => Applies::No(format!(
            "Services are translated inside connect(2) on {node}: {otherwise}"
        )),
        Translation::Iptables
        | Translation::Nftables
        | Translation::Netfilter
        | Translation::Ipvs
        | Translation::Bpf
        | Translation::Unknown => Applies::Yes,
    }
}

/// Whether what translates there gives the Service's address to every ICMP error that quotes a translated connection: netfilter
/// does (`nf_nat_icmp_reply_translation`, net/netfilter/nf_nat_proto.c), and so does IPVS (`ip_vs_nat_icmp`,
/// net/netfilter/ipvs/ip_vs_core.c).
pub(super) fn rewrites_errors(case: &Case<'_>, place: &Place) -> bool {
    match translation(case, place) {
        Translation::Iptables
        | Translation::Nftables
        | Translation::Netfilter
        | Translation::Ipvs => true,
        Translation::Connect | Translation::Bpf | Translation::Unknown => false,
    }
}

/// The observation of the rules for a Service's address.
pub(super) fn rules_for(case: &Case<'_>, place: &Place, address: IpAddr) -> String {
    let on = on_node(place);
    let family = match place.family {
        Family::Ipv4 => "ip",
        Family::Ipv6 => "ip6",
    };
    match translation(case, place) {
        Translation::Iptables => format!(
            "the Service's chains on {on}: `{}-save -t nat | grep {address}`",
            tables(place.family)
        ),
        Translation::Nftables => format!(
            "the Service's entry on {on}: `nft list table {family} kube-proxy | grep {address}`"
        ),
        Translation::Ipvs => {
            format!("the Service's backends on {on}: `ipvsadm -ln | grep -A4 {address}`")
        }
        Translation::Connect => format!(
            "the backends that the program on connect(2) has on {on}: with Cilium, `cilium-dbg service list` in its agent there"
        ),
        Translation::Bpf => format!(
            "the backends that Cilium has on {on}: `cilium-dbg service list`, and `cilium-dbg bpf lb list | grep {address}`, in its agent there"
        ),
        Translation::Netfilter | Translation::Unknown => format!(
            "what translates Services on {on}, and its rules for {address}: `{}-save -t nat`, `nft list ruleset`, or the CNI agent's own list",
            tables(place.family)
        ),
    }
}

/// Whether kube-proxy of the node does not answer at its metrics address, although it did, or does on other nodes: a sentence.
/// In IPVS mode the links show the mode, whether it runs or not; where connection tracking is full, nothing answers the node.
pub(super) fn silence(case: &Case<'_>, place: &Place) -> Option<String> {
    let node = place.node.as_ref()?;
    let answers = |facts: &NodeFacts| match facts.kube_proxy {
        Some(KubeProxyMode::Iptables | KubeProxyMode::Nftables) => Some(true),
        Some(KubeProxyMode::Ipvs) => None,
        None => Some(false),
    };
    let own = case.matrix.nodes.get(node)?;
    if own.latest().and_then(answers) != Some(false) || conntrack_full::was_full(case, node) {
        return None;
    }
    if own.readings().any(|facts| answers(facts) == Some(true)) {
        return Some(format!(
            "kube-proxy of {node} answered at its metrics address when the run began, and does not any more"
        ));
    }
    let mut others = case.matrix.nodes.iter().filter(|(other, _)| *other != node);
    let (other, _) = others.find(|(_, known)| known.latest().and_then(answers) == Some(true))?;
    Some(format!(
        "kube-proxy of {node} does not answer at its metrics address, while that of {other} does: it does not run there, or is stuck"
    ))
}

/// The steps that make the program write its rules again.
pub(super) fn write_again(case: &Case<'_>, place: &Place) -> Vec<Remedy> {
    let kube_proxy = pods(place, "k8s-app=kube-proxy");
    let restart = format!("kubectl -n kube-system delete pod {kube_proxy}");
    let restarts = || {
        vec![
            step(
                "Restart kube-proxy on this node: only a full sync writes every chain and jump again (changes of endpoints do not).",
                [restart],
            ),
            step(
                "See why it fell behind, before the log is gone.",
                [format!(
                    "kubectl -n kube-system logs --tail=100 $(kubectl -n kube-system get pod {kube_proxy} -o name)"
                )],
            ),
        ]
    };
    match translation(case, place) {
        Translation::Iptables
        | Translation::Nftables
        | Translation::Netfilter
        | Translation::Ipvs => restarts(),
        Translation::Unknown if silence(case, place).is_some() => restarts(),
        Translation::Connect | Translation::Bpf => restart_balancer(place),
        Translation::Unknown if connect_elsewhere(case, place).is_some() => restart_balancer(place),
        Translation::Unknown => vec![
            step(
                "See what translates Services on this node: a proxy, or the agent of the network plugin.",
                [format!(
                    "kubectl get pods -A -o wide --field-selector spec.nodeName={}",
                    on_node(place)
                )],
            ),
            step(
                "Restart it there: its start writes every rule again.",
                ["kubectl -n NAMESPACE delete pod POD"],
            ),
        ],
    }
}

/// The steps that make the agent of a balancer of BPF programs attach them and write their entries again.
fn restart_balancer(place: &Place) -> Vec<Remedy> {
    let on = on_node(place);
    vec![
        step(
            "See whether programs are attached to the node's cgroup, as load balancing inside connect(2) needs them.",
            ["bpftool cgroup tree | grep -e connect4 -e connect6"],
        ),
        step(
            "See the backends that the agent which loads the programs has on this node, and those of its maps (with Cilium).",
            ["service list", "bpf lb list"].map(|command| cilium::on(on, command)),
        ),
        step(
            "Restart that agent: its start attaches the programs, and reads every Service and EndpointSlice again.",
            [cilium::restart(on)],
        ),
    ]
}

/// The options of kubectl that select the pods with this label on the node.
fn pods(place: &Place, label: &str) -> String {
    format!(
        "-l {label} --field-selector spec.nodeName={}",
        on_node(place)
    )
}

fn on_node(place: &Place) -> &str {
    place.node.as_ref().map_or("NODE", |node| node.as_str())
}
