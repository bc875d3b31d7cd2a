//! Faults of pods and their processes: deleted, disconnected, duplicated, not listening, not accepting or frozen.

use std::net::IpAddr;

use prober_core::packet::family::Family;
use prober_core::packet::mac::Mac;
use prober_core::plan::AcceptMode;

use super::{FaultContext, SliceChange, Step};
use crate::data_plane::Attachment;
use crate::topology::{BRIDGE, Node, PodRole, UPLINK, client, server};

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
    let mtu = context.spec.data_plane().pod_mtu();
    let mac = Mac([0x0a, 0x58, 0xde, 0xad, node.number(), 1]);
    let links = match context.spec.data_plane().attachment() {
        Attachment::Bridge | Attachment::RoutedVeth(_) => format!(
            "ip netns add {name}
ip link add veth-duplicate index 199 netns {node} type veth peer name eth0 netns {name}
ip -n {node} link set veth-duplicate master {BRIDGE} mtu {mtu} up
"
        ),
        Attachment::Macvlan => format!(
            "ip netns add {name}
ip -n {node} link add link {UPLINK} name mv-duplicate netns {name} type macvlan mode bridge
ip -n {name} link set mv-duplicate name eth0
"
        ),
    };
    let mut addresses = format!(
        "sysctl -qw net.ipv6.conf.eth0.accept_dad=0
ip -batch - <<'END'
link set lo up
link set eth0 address {mac} mtu {mtu}
link set eth0 up
"
    );
    // An ARP request or neighbour solicitation carries the sender's MAC address, which its target learns.
    let mut packets = String::new();
    for family in [Family::Ipv4, Family::Ipv6] {
        let link = SharedLink::of(context, family);
        let option = match family {
            Family::Ipv4 => "",
            Family::Ipv6 => " nodad",
        };
        let address = server(node).address(family);
        addresses.extend([format!(
            "addr add {address}/{} dev eth0{option}\nroute add default via {} dev eth0\n",
            link.length, link.gateway
        )]);
        for peer in link.peers {
            packets.extend([format!("bash -c 'echo >/dev/udp/{peer}/9' || true\n")]);
        }
    }
    addresses += "END\n";
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

/// The link on which a node's pods and others resolve each other's addresses.
struct SharedLink {
    /// The length of its prefix, in bits.
    length: u8,
    /// The router of the pods.
    gateway: IpAddr,
    /// Those that resolve the address of the node's server there.
    peers: Vec<IpAddr>,
}

impl SharedLink {
    /// The node's bridge, or the subnet that pods and nodes share.
    fn of(context: FaultContext<'_>, family: Family) -> Self {
        let (spec, node) = (context.spec, context.node);
        let data_plane = spec.data_plane();
        match data_plane.attachment() {
            Attachment::Bridge | Attachment::RoutedVeth(_) => Self {
                length: match family {
                    Family::Ipv4 => 24,
                    Family::Ipv6 => 64,
                },
                gateway: node.gateway(family),
                peers: vec![node.gateway(family), client(node).address(family)],
            },
            Attachment::Macvlan => {
                let subnet = data_plane.subnet(node);
                // A node does not exchange packets with its own macvlan devices.
                let others = spec.peers(node).map(|peer| spec.node_address(peer, family));
                let clients = spec.nodes().map(|at| client(at).address(family));
                Self {
                    length: subnet.length(family),
                    gateway: subnet.router(family),
                    peers: clients.chain(others).collect(),
                }
            }
        }
    }
}
