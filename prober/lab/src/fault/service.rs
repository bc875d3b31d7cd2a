//! Faults of kube-proxy's rules, and of the EndpointSlices that it reads.

use prober_core::packet::family::Family;

use super::filter::for_both_families;
use super::{FaultContext, SliceChange, Step};
use crate::kube_proxy::{self, BALANCED_PORT};
use crate::topology::scripts::{iptables, restore};
use crate::topology::server;

/// The EndpointSlices have other content.
pub(super) fn slices(change: SliceChange) -> Vec<Step> {
    vec![Step::ChangeSlices(change)]
}

/// The node does not translate the ClusterIP; it answers with a RST.
pub(super) fn reject(context: FaultContext<'_>) -> Vec<Step> {
    let untranslated = for_both_families(|family| {
        format!(
            "-t nat -I KUBE-SERVICES 1 -d {} -p tcp -j RETURN",
            kube_proxy::cluster_ip(family)
        )
    });
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
    let script = for_both_families(|_| {
        "-t nat -D PREROUTING -m comment --comment 'kubernetes service portals' -j KUBE-SERVICES"
            .to_owned()
    });
    vec![Step::on(context.node, script)]
}

/// The chain of the slot of the node's server is empty.
pub(super) fn chain_flushed(context: FaultContext<'_>) -> Vec<Step> {
    let script =
        for_both_families(|_| format!("-t nat -F {}", kube_proxy::slot_chain(context.slot)));
    vec![Step::on(context.node, script)]
}

/// No node has a rule for the Service, as where it is translated inside connect(2).
pub(super) fn no_service_rules(context: FaultContext<'_>) -> Vec<Step> {
    let script = [Family::Ipv4, Family::Ipv6]
        .map(|family| {
            let rules = format!(" KUBE-SERVICES -d {}/", kube_proxy::cluster_ip(family));
            format!(
                "{{ echo '*nat'; {} -t nat -S KUBE-SERVICES | sed -n 's,^-A{rules},-D{rules},p'; echo COMMIT; }} | {} --noflush\n",
                iptables(family),
                restore(family)
            )
        })
        .concat();
    context
        .spec
        .nodes()
        .map(|node| Step::on(node, script.clone()))
        .collect()
}

/// Packets that are marked for masquerading are not masqueraded.
pub(super) fn masquerade_flushed(context: FaultContext<'_>) -> Vec<Step> {
    vec![Step::on(
        context.node,
        for_both_families(|_| "-t nat -F KUBE-POSTROUTING".to_owned()),
    )]
}

/// All Service traffic is masqueraded.
pub(super) fn masquerade_all(context: FaultContext<'_>) -> Vec<Step> {
    let script = for_both_families(|family| {
        format!(
            "-t nat -I KUBE-SERVICES 1 -d {},{} -p tcp -j KUBE-MARK-MASQ",
            kube_proxy::cluster_ip(family),
            kube_proxy::local_cluster_ip(family)
        )
    });
    vec![Step::on(context.node, script)]
}
