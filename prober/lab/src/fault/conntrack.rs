//! Faults of connection tracking that touch single packets: it does not match one to its connection.

use prober_core::packet::family::Family;
use prober_core::plan::RESPONDER_PORT;

use super::filter::for_both_families;
use super::{FaultContext, Step, service};
use crate::kube_proxy::{self, ProxyMode, SLOT_PORT, nftables};
use crate::topology::client;
use crate::topology::scripts::{FAULT_TABLE, iptables};

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
table inet {FAULT_TABLE} {{
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

/// The source ports that the node may choose for IPv4.
const SOURCE_PORTS: &str = "40000-40015";

/// All Service traffic of the node is masqueraded to a few ports, and as many connections of its client pod to its server
/// stay open. `conntrack` finds no port for another one and drops it when it is to be inserted.
pub(super) fn source_ports_used_up(context: FaultContext<'_>) -> Vec<Step> {
    let family = Family::Ipv4;
    let few_ports = match context.spec.proxy_mode() {
        ProxyMode::Iptables => format!(
            "{} -t nat -I KUBE-POSTROUTING 3 -p tcp -j MASQUERADE --to-ports {SOURCE_PORTS}\n",
            iptables(family)
        ),
        ProxyMode::Nftables => {
            let table = nftables::table(family);
            let rule = |rule: &str| format!("add rule {table} masquerading {rule}; ");
            format!(
                "nft 'flush chain {table} masquerading; {}{}{}'\n",
                rule("mark and 0x4000 == 0 return"),
                rule("mark set mark xor 0x4000"),
                rule(&format!("meta l4proto tcp masquerade to :{SOURCE_PORTS}"))
            )
        }
    };
    let target = format!(
        "{}/{}",
        kube_proxy::cluster_ip(family),
        SLOT_PORT + u16::from(context.slot)
    );
    let mut steps = service::masquerade_all(context);
    steps.extend([
        Step::on(context.node, few_ports),
        Step::Run {
            namespace: client(context.node).name(),
            script: format!(
                "for i in $(seq 16); do
  bash -c 'exec 3<>/dev/tcp/{target}; while echo >&3; do sleep 5; done' >/dev/null 2>&1 &
done
for i in $(seq 100); do
  [ $(ss -Htn state established dst {} | wc -l) -ge 16 ] && exit 0
  sleep 0.1
done
echo 'not all connections that take the ports were established' >&2
exit 1
",
                kube_proxy::cluster_ip(family)
            ),
        },
    ]);
    steps
}
