//! Faults of connection tracking that touch single packets: it does not match one to its connection.

use prober_core::packet::family::Family;
use prober_core::plan::RESPONDER_PORT;

use super::filter::for_both_families;
use super::{FaultContext, Step};
use crate::kube_proxy::ProxyMode;

/// The first large segment of each connection to the node or a pod of it has a sequence number outside the window, as a
/// stray packet; what is sent again is intact. No rule drops what connection tracking calls invalid.
///
/// The chain precedes connection tracking, whose priority is -200 (`NF_IP_PRI_CONNTRACK`,
/// `include/uapi/linux/netfilter_ipv4.h`).
pub(super) fn segments_out_of_window(context: FaultContext<'_>) -> Vec<Step> {
    let rule = |destination: String| {
        format!(
            "    {destination} tcp sport {RESPONDER_PORT} meta length > 500 tcp dport != @seen add @seen {{ tcp dport }} tcp sequence set tcp sequence ^ 0x80000000\n"
        )
    };
    let rules = [
        format!("ip daddr {}", context.node.pod_cidr(Family::Ipv4)),
        format!("ip6 daddr {}", context.node.pod_cidr(Family::Ipv6)),
        "fib daddr type local".to_owned(),
    ];
    let altered = format!(
        "nft -f - <<'END'
table inet stray {{
  set seen {{ type inet_service; flags dynamic,timeout; timeout 5s; }}
  chain prerouting {{
    type filter hook prerouting priority -350;
{}  }}
}}
END
",
        rules.map(rule).concat()
    );
    let kept = match context.spec.proxy_mode() {
        ProxyMode::Iptables => for_both_families(|_| {
            "-D KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP".to_owned()
        }),
        ProxyMode::Nftables => String::new(),
    };
    vec![Step::on(context.node, kept + &altered)]
}
