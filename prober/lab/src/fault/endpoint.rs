//! Faults of pods and their processes: deleted, disconnected, duplicated, not listening, not accepting or frozen.

use prober_core::packet::family::Family;
use prober_core::packet::mac::Mac;
use prober_core::plan::AcceptMode;

use super::{FaultContext, SliceChange, Step};
use crate::topology::{BRIDGE, Node, PodRole, client, server};

/// The server listens on no port.
pub(super) fn not_listening(context: FaultContext<'_>) -> Vec<Step> {
    vec![Step::SetAcceptMode(
        server(context.node),
        AcceptMode::Closed,
    )]
}

/// The server does not accept connections, so its accept queue fills up.
pub(super) fn not_accepting(context: FaultContext<'_>) -> Vec<Step> {
    vec![Step::SetAcceptMode(
        server(context.node),
        AcceptMode::Paused,
    )]
}

/// The server's process is stopped (SIGSTOP).
pub(super) fn process_stopped(context: FaultContext<'_>) -> Vec<Step> {
    vec![Step::Freeze(server(context.node))]
}

/// The node's end of the server pod's veth is down.
pub(super) fn pod_port_down(context: FaultContext<'_>) -> Vec<Step> {
    let port = context.spec.pod_interface(PodRole::Server);
    vec![Step::on(context.node, format!("ip link set {port} down\n"))]
}

/// The slot names an address of a deleted pod, whose neighbour entry still exists.
pub(super) fn recently_deleted_pod(context: FaultContext<'_>) -> Vec<Step> {
    let mac = Mac([0x0a, 0x58, 100, 96, context.node.number(), 99]);
    let script = [Family::Ipv4, Family::Ipv6]
        .map(|family| {
            format!(
                "ip neigh replace {} lladdr {mac} dev {BRIDGE} nud permanent\n",
                context.node.unused_address(family)
            )
        })
        .concat();
    vec![
        Step::ChangeSlices(SliceChange::Stale(context.node)),
        Step::on(context.node, script),
    ]
}

/// Returns the network namespace of the pod that has a server's address, too.
pub fn duplicate_pod_name(node: Node) -> String {
    format!("{node}-duplicate")
}

/// A second pod has the server's address and sends packets, so that its neighbours learn its MAC address.
pub(super) fn duplicate_address(context: FaultContext<'_>) -> Vec<Step> {
    let (node, name) = (context.node, duplicate_pod_name(context.node));
    let (v4, v6) = (Family::Ipv4, Family::Ipv6);
    let (original, mtu) = (server(node), context.spec.data_plane().pod_mtu());
    let mac = Mac([0x0a, 0x58, 0xde, 0xad, node.number(), 1]);
    let links = format!(
        "ip netns add {name}
ip link add veth-duplicate index 199 netns {node} type veth peer name eth0 netns {name}
ip -n {node} link set veth-duplicate master {BRIDGE} mtu {mtu} up
"
    );
    let addresses = format!(
        "sysctl -qw net.ipv6.conf.eth0.accept_dad=0
ip -batch - <<'END'
link set lo up
link set eth0 address {mac} mtu {mtu}
link set eth0 up
addr add {}/24 dev eth0
addr add {}/64 dev eth0 nodad
route add default via {} dev eth0
route add default via {} dev eth0
END
",
        original.address(v4),
        original.address(v6),
        node.gateway(v4),
        node.gateway(v6),
    );
    // An ARP request or neighbour solicitation carries the sender's MAC address, which its target learns.
    let mut packets = String::new();
    for family in [v4, v6] {
        for peer in [node.gateway(family), client(node).address(family)] {
            packets.extend([format!("bash -c 'echo >/dev/udp/{peer}/9' || true\n")]);
        }
    }
    vec![
        Step::RunInLab(links),
        Step::Run {
            namespace: name.clone(),
            script: addresses + crate::topology::scripts::wait_for_carrier(),
        },
        Step::Run {
            namespace: name,
            script: packets,
        },
    ]
}
