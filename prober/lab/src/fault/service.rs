//! Faults of kube-proxy's rules, and of the EndpointSlices that it reads.

use prober_core::packet::family::Family;

use super::filter::for_both_families;
use super::{FaultContext, SliceChange, Step, loss};
use crate::kube_proxy::{self, BALANCED_PORT, ProxyMode, nftables};
use crate::topology::scripts::{iptables, restore};
use crate::topology::server;

const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

/// Returns a script with one line of iptables for each family, or one of nft where kube-proxy writes nftables; each function
/// returns the line without the command.
fn by_mode(
    context: FaultContext<'_>,
    iptables: impl Fn(Family) -> String,
    nft: impl Fn(Family) -> String,
) -> String {
    match context.spec.proxy_mode() {
        ProxyMode::Iptables => for_both_families(iptables),
        ProxyMode::Nftables => FAMILIES
            .map(|family| format!("nft '{}'\n", nft(family)))
            .concat(),
    }
}

/// Returns the line of nft that removes every rule of a chain of kube-proxy.
fn flush(family: Family, chain: &str) -> String {
    format!("flush chain {} {chain}", nftables::table(family))
}

/// Returns the line of nft that inserts a rule for TCP packets to these addresses before those of all Services.
fn insert(family: Family, addresses: &[std::net::IpAddr], verdict: &str) -> String {
    let word = match family {
        Family::Ipv4 => "ip",
        Family::Ipv6 => "ip6",
    };
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    format!(
        "insert rule {} services {word} daddr {{ {} }} meta l4proto tcp {verdict}",
        nftables::table(family),
        addresses.join(", ")
    )
}

/// The EndpointSlices have other content.
pub(super) fn slices(change: SliceChange) -> Vec<Step> {
    vec![Step::ChangeSlices(change)]
}

/// The node does not translate the ClusterIP; it answers with a RST.
pub(super) fn reject(context: FaultContext<'_>) -> Vec<Step> {
    let untranslated = by_mode(
        context,
        |family| {
            format!(
                "-t nat -I KUBE-SERVICES 1 -d {} -p tcp -j RETURN",
                kube_proxy::cluster_ip(family)
            )
        },
        // kube-proxy itself rejects what it does not translate, with ICMP.
        |family| {
            format!(
                "{}; {}",
                insert(family, &[kube_proxy::cluster_ip(family)], "return"),
                flush(family, "cluster-ips-check")
            )
        },
    );
    let rejected = for_both_families(|family| {
        format!(
            "-I FORWARD 1 -d {} -p tcp -j REJECT --reject-with tcp-reset",
            kube_proxy::cluster_ip(family)
        )
    });
    vec![Step::on(context.node, untranslated + &rejected)]
}

/// Matches packets that were translated from the balanced port to the node's server.
pub(super) fn balanced_to_server(context: FaultContext<'_>) -> impl Fn(Family) -> String {
    move |family| {
        format!(
            "-d {} -p tcp -m conntrack --ctstate DNAT --ctorigdst {} --ctorigdstport {BALANCED_PORT} --ctdir ORIGINAL",
            server(context.node).address(family),
            kube_proxy::cluster_ip(family)
        )
    }
}

/// PREROUTING has no jump to KUBE-SERVICES.
pub(super) fn jump_removed(context: FaultContext<'_>) -> Vec<Step> {
    vec![Step::on(context.node, removed_jump(context))]
}

/// Returns the script that removes the jump.
fn removed_jump(context: FaultContext<'_>) -> String {
    by_mode(
        context,
        |_| {
            "-t nat -D PREROUTING -m comment --comment 'kubernetes service portals' -j KUBE-SERVICES"
                .to_owned()
        },
        |family| flush(family, "nat-prerouting"),
    )
}

/// PREROUTING has no jump to KUBE-SERVICES until some time after the first packet to a Service.
pub(super) fn rules_late(context: FaultContext<'_>) -> Vec<Step> {
    let counted = |family| {
        let (vip, local) = (
            kube_proxy::cluster_ip(family),
            kube_proxy::local_cluster_ip(family),
        );
        format!("PREROUTING -p tcp -d {vip},{local} {}", loss::COUNTED)
    };
    let count = for_both_families(|family| format!("-t mangle -A {}", counted(family)));
    let end = for_both_families(|family| format!("-t mangle -D {}", counted(family)));
    let restored = by_mode(
        context,
        |_| {
            "-t nat -I PREROUTING 1 -m comment --comment 'kubernetes service portals' -j KUBE-SERVICES"
                .to_owned()
        },
        |family| {
            format!(
                "add rule {} nat-prerouting jump services",
                nftables::table(family)
            )
        },
    );
    // After the fault was healed, there is nothing to count, and nothing to restore.
    let end: Vec<String> = (end.lines().zip(restored.lines()))
        .map(|(counted, restored)| format!("{counted} && {restored}\n"))
        .collect();
    let begin = count + &removed_jump(context);
    loss::until_later(context, &begin, "-t mangle -L PREROUTING", &end.concat())
}

/// The chain of the slot of the node's server is empty.
pub(super) fn chain_flushed(context: FaultContext<'_>) -> Vec<Step> {
    let script = by_mode(
        context,
        |_| {
            format!(
                "-t nat -F {}",
                kube_proxy::iptables::slot_chain(context.slot)
            )
        },
        |family| flush(family, &nftables::slot_chain(context.slot)),
    );
    vec![Step::on(context.node, script)]
}

/// No node has a rule for the Service, as where it is translated inside connect(2).
pub(super) fn no_service_rules(context: FaultContext<'_>) -> Vec<Step> {
    let script = FAMILIES
        .map(|family| match context.spec.proxy_mode() {
            ProxyMode::Iptables => iptables_rules_deleted(family),
            ProxyMode::Nftables => {
                let table = nftables::table(family);
                format!(
                    "nft 'flush map {table} service-ips; flush set {table} cluster-ips; {}'\n",
                    flush(family, "cluster-ips-check")
                )
            }
        })
        .concat();
    context
        .spec
        .nodes()
        .map(|node| Step::on(node, script.clone()))
        .collect()
}

/// Returns the line that deletes the rules of the Service in one transaction.
fn iptables_rules_deleted(family: Family) -> String {
    let rules = format!(" KUBE-SERVICES -d {}/", kube_proxy::cluster_ip(family));
    format!(
        "{{ echo '*nat'; {} -t nat -S KUBE-SERVICES | sed -n 's,^-A{rules},-D{rules},p'; echo COMMIT; }} | {} --noflush\n",
        iptables(family),
        restore(family)
    )
}

/// Packets that are marked for masquerading are not masqueraded.
pub(super) fn masquerade_flushed(context: FaultContext<'_>) -> Vec<Step> {
    let script = by_mode(
        context,
        |_| "-t nat -F KUBE-POSTROUTING".to_owned(),
        |family| flush(family, "nat-postrouting"),
    );
    vec![Step::on(context.node, script)]
}

/// All Service traffic is masqueraded.
pub(super) fn masquerade_all(context: FaultContext<'_>) -> Vec<Step> {
    let addresses = |family| {
        [
            kube_proxy::cluster_ip(family),
            kube_proxy::local_cluster_ip(family),
        ]
    };
    let script = by_mode(
        context,
        |family| {
            let [vip, local] = addresses(family);
            format!("-t nat -I KUBE-SERVICES 1 -d {vip},{local} -p tcp -j KUBE-MARK-MASQ")
        },
        |family| insert(family, &addresses(family), "jump mark-for-masquerade"),
    );
    vec![Step::on(context.node, script)]
}
