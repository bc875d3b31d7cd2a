//! The interfaces of a node.

use prober_core::node_facts::{Link, LinkCounters, OtherLink, PortState, Vxlan};
use prober_core::packet::mac::Mac;

use crate::address::{
    Agent, Role, bridge_mac, client, node_ip, server, tunnel_mac, uplink_mac, veth_mac,
};
use crate::cluster::{Cluster, PodLink};
use crate::packet::Counts;
use crate::profile::{Attachment, Translation};

/// Cilium's own device of a node, with the gateway address.
pub(super) const CILIUM_HOST: &str = "cilium_host";

fn link(name: impl Into<String>, kind: &str, mac: Mac, mtu: u32) -> Link {
    Link {
        name: name.into(),
        index: 1,
        kind: (!kind.is_empty()).then(|| kind.to_owned()),
        mtu: Some(mtu),
        up: true,
        carrier: true,
        mac: Some(mac),
        counters: Some(LinkCounters::default()),
        ..Link::default()
    }
}

/// The node's end of a pod's veth.
pub(super) fn veth_name(prefix: &str, pod: Agent) -> String {
    let role = match pod.role {
        Role::Client => "client",
        Role::Server => "server",
        Role::Host => "host",
    };
    format!("{prefix}{role}{}", pod.node)
}

/// Every interface, with its counters so far.
pub(super) fn links(cluster: &Cluster, node: u8, counts: &Counts) -> Vec<Link> {
    let profile = cluster.profile;
    let settings = cluster.node(node);
    let pod_mtu = match (profile.vxlan(), settings.drops_large) {
        (Some(_), false) => 1450,
        (Some(_), true) | (None, _) => 1500,
    };
    let veth = |name: String, pod: Agent| {
        let mut end = link(name, "veth", veth_mac(pod), pod_mtu);
        // The pod's end is the second link of its own namespace.
        end.peer = Some(OtherLink {
            index: 2,
            netns: Some(i32::from(pod.role == Role::Server)),
        });
        end
    };
    let mut links = vec![link("eth0", "", uplink_mac(node), 1500)];
    for pod in [client(node), server(node)] {
        match profile.attachment {
            Attachment::Bridge { name } => {
                let mut port = veth(veth_name("veth", pod), pod);
                let is_up = cluster.pods[&pod].link == PodLink::Up;
                (port.up, port.carrier) = (is_up, is_up);
                port.port_state = Some(if is_up {
                    PortState::Forwarding
                } else {
                    PortState::Disabled
                });
                port.master = Some(name.to_owned());
                port.hairpin = Some(cluster.pods[&pod].hairpin);
                links.push(port);
            }
            Attachment::RoutedVeth { prefix, .. } => {
                links.push(veth(veth_name(prefix, pod), pod));
            }
            Attachment::OwnLayer2 => {}
        }
    }
    match profile.attachment {
        Attachment::Bridge { name } => {
            links.push(link(name, "bridge", bridge_mac(node), pod_mtu));
        }
        Attachment::OwnLayer2 => {
            let mut shim = link("shim0", "macvlan", bridge_mac(node), 1500);
            // eth0, the first link of all.
            shim.parent = Some(OtherLink {
                index: 2,
                netns: None,
            });
            shim.mode = Some("bridge".to_owned());
            links.push(shim);
        }
        Attachment::RoutedVeth { .. } => {}
    }
    if profile.translation == Translation::Socket {
        links.push(link(CILIUM_HOST, "veth", bridge_mac(node), 1500));
    }
    if profile.policy_routing {
        links.push(link("eth1", "", Mac([0x52, 0x54, 0, 1, 0, node]), 1500));
    }
    if profile.translation == Translation::Ipvs {
        links.push(link(
            "kube-ipvs0",
            "dummy",
            Mac([0x0e, 1, 0, 0, 0, node]),
            1500,
        ));
    }
    if profile.has_docker {
        let mac = Mac([0x02, 0x42, 0, 0, 0, node]);
        links.push(link("docker0", "bridge", mac, 1500));
        let mut port = link("vethdocker", "veth", Mac([0x02, 0x43, 0, 0, 0, node]), 1500);
        port.master = Some("docker0".to_owned());
        port.hairpin = Some(false);
        links.push(port);
    }
    if let Some((name, port)) = profile.vxlan() {
        let mut end = link(name, "vxlan", tunnel_mac(node), 1450);
        let family = cluster.families[0];
        end.vxlan = Some(Vxlan {
            id: Some(1),
            port: Some(port),
            local: Some(node_ip(profile, node, family)),
            underlay: Some("eth0".to_owned()),
            learning: Some(false),
        });
        links.push(end);
    }
    for link in &mut links {
        let counted = counts.links.iter();
        let own = counted.filter(|((at, name), _)| *at == node && *name == link.name);
        link.counters = own.map(|(_, counters)| *counters).next().or(link.counters);
    }
    for (index, link) in (2..).zip(&mut links) {
        link.index = index;
    }
    links
}
