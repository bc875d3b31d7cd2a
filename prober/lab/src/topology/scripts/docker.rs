//! Docker's bridge with one container on it: an interface of a node that carries no packet of any pod.

use super::NodePart;
use crate::topology::Node;

/// The bridge.
const BRIDGE: &str = "docker0";
/// Its port.
const PORT: &str = "vethdocker";

/// Returns the network namespace of a node's container.
pub(super) fn container(node: Node) -> String {
    format!("{node}-docker")
}

/// Returns the `ip -batch` lines that create a node's container and its veth.
pub(super) fn links(node: Node) -> String {
    let container = container(node);
    format!(
        "netns add {container}\nlink add {PORT} index 90 netns {node} type veth peer name eth0 netns {container}\n"
    )
}

/// Returns the bridge; its packets do not pass netfilter, as where nothing needs br_netfilter.
pub(super) fn node() -> NodePart {
    NodePart {
        create: format!(
            "link add {BRIDGE} type bridge
addr add 172.17.0.1/16 dev {BRIDGE}
link set {BRIDGE} up
link set {PORT} master {BRIDGE} up
"
        ),
        sysctls: vec![
            "net.bridge.bridge-nf-call-iptables=0".to_owned(),
            "net.bridge.bridge-nf-call-ip6tables=0".to_owned(),
        ],
        ..NodePart::default()
    }
}

/// Returns the script that creates the container's interface.
pub(super) fn create_container() -> &'static str {
    "ip -batch - <<'END'
link set lo up
link set eth0 up
addr add 172.17.0.2/16 dev eth0
route add default via 172.17.0.1 dev eth0
END
"
}
