//! Faults of pods: dead, unplugged, doubled, deaf or frozen.

use prober_core::packet::family::Family;
use prober_core::packet::mac::Mac;
use prober_core::plan::AcceptMode;

use super::{Site, SliceChange, Step};
use crate::topology::{BRIDGE, Node, Role, client, server};

/// The server listens on no port.
pub(super) fn not_listening(site: Site<'_>) -> Vec<Step> {
    vec![Step::Accept(server(site.node), AcceptMode::Closed)]
}

/// The server leaves connections in its queue.
pub(super) fn not_accepting(site: Site<'_>) -> Vec<Step> {
    vec![Step::Accept(server(site.node), AcceptMode::Paused)]
}

/// The server's process is stopped.
pub(super) fn frozen(site: Site<'_>) -> Vec<Step> {
    vec![Step::Freeze(server(site.node))]
}

/// The server pod's port is down.
pub(super) fn unplugged(site: Site<'_>) -> Vec<Step> {
    let port = Role::Server.port();
    vec![Step::on(site.node, format!("ip link set {port} down\n"))]
}

/// The slot names a dead address whose neighbour entry outlived the pod.
pub(super) fn recently_dead(site: Site<'_>) -> Vec<Step> {
    let mac = Mac([0x0a, 0x58, 100, 96, site.node.number(), 99]);
    let script = [Family::Ipv4, Family::Ipv6]
        .map(|family| {
            format!(
                "ip neigh replace {} lladdr {mac} dev {BRIDGE} nud permanent\n",
                site.node.vacant(family)
            )
        })
        .concat();
    vec![
        Step::Slices(SliceChange::Dead(site.node)),
        Step::on(site.node, script),
    ]
}

/// The namespace of the pod with a server's address.
pub fn impostor_name(node: Node) -> String {
    format!("{node}-impostor")
}

/// A second pod with the server's address, which it announces and uses, so that neighbours learn its hardware address.
pub(super) fn impostor(site: Site<'_>) -> Vec<Step> {
    let (node, name) = (site.node, impostor_name(site.node));
    let (v4, v6) = (Family::Ipv4, Family::Ipv6);
    let own = server(node);
    let mac = Mac([0x0a, 0x58, 0xde, 0xad, node.number(), 1]);
    let plug = format!(
        "ip netns add {name}
ip link add veth-impostor index 199 netns {node} type veth peer name eth0 netns {name}
ip -n {node} link set veth-impostor master {BRIDGE} mtu 1450 up
"
    );
    let address = format!(
        "sysctl -qw net.ipv6.conf.eth0.accept_dad=0
ip -batch - <<'END'
link set lo up
link set eth0 address {mac} mtu 1450
link set eth0 up
addr add {}/24 dev eth0
addr add {}/64 dev eth0 nodad
route add default via {} dev eth0
route add default via {} dev eth0
END
",
        own.address(v4),
        own.address(v6),
        node.gateway(v4),
        node.gateway(v6),
    );
    // To ask for a neighbour's hardware address is to tell it one's own.
    let mut talk = String::new();
    for family in [v4, v6] {
        for peer in [node.gateway(family), client(node).address(family)] {
            talk.extend([format!("bash -c 'echo >/dev/udp/{peer}/9' || true\n")]);
        }
    }
    vec![
        Step::RunOutside(plug),
        Step::Run {
            place: name.clone(),
            script: address + crate::topology::script::until_up(),
        },
        Step::Run {
            place: name,
            script: talk,
        },
    ]
}
