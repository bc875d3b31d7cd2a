//! Faults in what kube-proxy wrote, and in what it was told.

use prober_core::packet::family::Family;

use super::filter::both;
use super::{Site, SliceChange, Step};
use crate::kube_proxy::{self, BALANCED_PORT};
use crate::topology::script::{iptables, restore};
use crate::topology::server;

/// The `EndpointSlices` say something else.
pub(super) fn slices(change: SliceChange) -> Vec<Step> {
    vec![Step::Slices(change)]
}

/// The Service is not translated but answered with a RST.
pub(super) fn reject(site: Site<'_>) -> Vec<Step> {
    let untranslated = both(|family| {
        format!(
            "-t nat -I KUBE-SERVICES 1 -d {} -p tcp -j RETURN",
            kube_proxy::cluster_ip(family)
        )
    });
    let rejected = both(|family| {
        format!(
            "-I FORWARD 1 -d {} -p tcp -j REJECT --reject-with tcp-reset",
            kube_proxy::cluster_ip(family)
        )
    });
    vec![Step::on(site.node, untranslated + &rejected)]
}

/// What was translated from the balanced port to the node's server.
pub(super) fn balanced_to_server(site: Site<'_>) -> impl Fn(Family) -> String {
    move |family| {
        format!(
            "-d {} -p tcp -m conntrack --ctstate DNAT --ctorigdst {} --ctorigdstport {BALANCED_PORT} --ctdir ORIGINAL",
            server(site.node).address(family),
            kube_proxy::cluster_ip(family)
        )
    }
}

/// PREROUTING no longer leads to the Services.
pub(super) fn jump_lost(site: Site<'_>) -> Vec<Step> {
    let script = both(|_| {
        "-t nat -D PREROUTING -m comment --comment 'kubernetes service portals' -j KUBE-SERVICES"
            .to_owned()
    });
    vec![Step::on(site.node, script)]
}

/// The chain of the slot of the node's server is empty.
pub(super) fn chain_lost(site: Site<'_>) -> Vec<Step> {
    let script = both(|_| format!("-t nat -F {}", kube_proxy::slot_chain(site.slot)));
    vec![Step::on(site.node, script)]
}

/// Whoever translates the Service does so before a packet leaves: no node has a rule for it.
pub(super) fn left_to_sockets(site: Site<'_>) -> Vec<Step> {
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
    site.spec
        .nodes()
        .map(|node| Step::on(node, script.clone()))
        .collect()
}

/// What was marked for it is not masqueraded.
pub(super) fn masquerade_lost(site: Site<'_>) -> Vec<Step> {
    vec![Step::on(
        site.node,
        both(|_| "-t nat -F KUBE-POSTROUTING".to_owned()),
    )]
}

/// All Service traffic is masqueraded.
pub(super) fn masquerade_all(site: Site<'_>) -> Vec<Step> {
    let script = both(|family| {
        format!(
            "-t nat -I KUBE-SERVICES 1 -d {},{} -p tcp -j KUBE-MARK-MASQ",
            kube_proxy::cluster_ip(family),
            kube_proxy::local_cluster_ip(family)
        )
    });
    vec![Step::on(site.node, script)]
}
