//! Interfaces, with what their kind adds.

use std::net::IpAddr;

use netlink_packet_route::link::{
    BridgePortState, InfoBridge, InfoBridgePort, InfoData, InfoGeneve, InfoGre, InfoGre6,
    InfoIpTunnel, InfoIpVlan, InfoMacVlan, InfoPortData, InfoVxlan, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage, LinkXdp, Prop,
};
use prober_core::node_facts::{
    BridgeOptions, Link, LinkCounters, OtherLink, PortState, Tunnel, Vxlan,
};
use prober_core::packet::mac::Mac;

use crate::node_facts::network::LinkNames;

/// The name of the interface.
pub(in crate::node_facts::network) fn name(message: &LinkMessage) -> String {
    let name = message.attributes.iter().find_map(|attribute| {
        if let LinkAttribute::IfName(name) = attribute {
            Some(name.clone())
        } else {
            None
        }
    });
    name.unwrap_or_else(|| format!("if{}", message.header.index))
}

/// An interface.
pub(in crate::node_facts::network) fn link(message: &LinkMessage, names: &LinkNames) -> Link {
    let mut link = Link {
        name: name(message),
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        carrier: message.header.flags.contains(LinkFlags::LowerUp),
        ..Link::default()
    };
    let (mut other, mut netns) = (None, None);
    for attribute in &message.attributes {
        if let LinkAttribute::Mtu(mtu) = attribute {
            link.mtu = Some(*mtu);
        } else if let LinkAttribute::Address(bytes) = attribute {
            link.mac = Mac::from_slice(bytes);
        } else if let LinkAttribute::Controller(index) = attribute {
            link.master = Some(names.get(*index));
        } else if let LinkAttribute::Stats64(stats) = attribute {
            link.counters = Some(LinkCounters {
                rx_packets: stats.rx_packets,
                tx_packets: stats.tx_packets,
                rx_dropped: stats.rx_dropped,
                tx_dropped: stats.tx_dropped,
                rx_errors: stats.rx_errors,
                tx_errors: stats.tx_errors,
            });
        } else if let LinkAttribute::LinkInfo(infos) = attribute {
            for info in infos {
                link_info(&mut link, info, names);
            }
        } else if let LinkAttribute::Link(index) = attribute {
            other = Some(*index);
        } else if let LinkAttribute::LinkNetNsId(id) = attribute {
            netns = Some(*id);
        } else if let LinkAttribute::PropList(properties) = attribute {
            for property in properties {
                if let Prop::AltIfName(name) = property {
                    link.alt_names.push(name.clone());
                }
            }
        } else if let LinkAttribute::Xdp(xdp) = attribute {
            link.xdp_program = xdp.iter().find_map(program_id);
        }
    }
    let other = other
        .filter(|index| *index != 0)
        .map(|index| OtherLink { index, netns });
    match link.kind.as_deref() {
        Some("veth" | "netkit") => link.peer = other,
        Some("macvlan" | "macvtap" | "ipvlan" | "ipvtap" | "vlan") => link.parent = other,
        _ => {}
    }
    link
}

/// The id of an XDP program: that of the driver, the generic or the device's, where there are several.
fn program_id(xdp: &LinkXdp) -> Option<u32> {
    match xdp {
        LinkXdp::ProgId(id)
        | LinkXdp::DrvProgId(id)
        | LinkXdp::SkbProgId(id)
        | LinkXdp::HwProgId(id) => Some(*id),
        _ => None,
    }
}

fn link_info(link: &mut Link, info: &LinkInfo, names: &LinkNames) {
    if let LinkInfo::Kind(kind) = info {
        link.kind = Some(kind.to_string());
    } else if let LinkInfo::PortData(InfoPortData::BridgePort(options)) = info {
        for option in options {
            if let InfoBridgePort::HairpinMode(on) = option {
                link.hairpin = Some(*on);
            } else if let InfoBridgePort::State(state) = option {
                link.port_state = Some(port_state(*state));
            }
        }
    } else if let LinkInfo::Data(data) = info {
        link_data(link, data, names);
    }
}

fn port_state(state: BridgePortState) -> PortState {
    match state {
        BridgePortState::Disabled => PortState::Disabled,
        BridgePortState::Listening => PortState::Listening,
        BridgePortState::Learning => PortState::Learning,
        BridgePortState::Forwarding => PortState::Forwarding,
        BridgePortState::Blocking => PortState::Blocking,
        other => PortState::Other(other.into()),
    }
}

fn link_data(link: &mut Link, data: &InfoData, names: &LinkNames) {
    match data {
        InfoData::Bridge(options) => link.bridge = Some(bridge(options)),
        InfoData::Vxlan(options) => link.vxlan = Some(vxlan(options, names)),
        InfoData::MacVlan(options) => {
            link.mode = options.iter().find_map(|option| match option {
                InfoMacVlan::Mode(mode) => Some(mode.to_string()),
                _ => None,
            });
        }
        InfoData::IpVlan(options) => {
            link.mode = options.iter().find_map(|option| match option {
                InfoIpVlan::Mode(mode) => Some(mode.to_string()),
                _ => None,
            });
        }
        InfoData::IpTunnel(options) => {
            link.tunnel = Some(tunnel(options.iter().map(|option| match option {
                InfoIpTunnel::Local(address) => End::Local(*address),
                InfoIpTunnel::Remote(address) => End::Remote(*address),
                _ => End::Other,
            })));
        }
        InfoData::GreTun(options) | InfoData::GreTap(options) => {
            link.tunnel = Some(tunnel(options.iter().map(|option| match option {
                InfoGre::Local(address) => End::Local(IpAddr::V4(*address)),
                InfoGre::Remote(address) => End::Remote(IpAddr::V4(*address)),
                _ => End::Other,
            })));
        }
        InfoData::GreTun6(options) | InfoData::GreTap6(options) => {
            link.tunnel = Some(tunnel(options.iter().map(|option| match option {
                InfoGre6::Local(address) => End::Local(IpAddr::V6(*address)),
                InfoGre6::Remote(address) => End::Remote(IpAddr::V6(*address)),
                _ => End::Other,
            })));
        }
        InfoData::Geneve(options) => {
            link.tunnel = Some(tunnel(options.iter().map(|option| match option {
                InfoGeneve::Local(address) => End::Local(IpAddr::V4(*address)),
                InfoGeneve::Local6(address) => End::Local(IpAddr::V6(*address)),
                InfoGeneve::Remote(address) => End::Remote(IpAddr::V4(*address)),
                InfoGeneve::Remote6(address) => End::Remote(IpAddr::V6(*address)),
                InfoGeneve::Port(port) => End::Port(*port),
                _ => End::Other,
            })));
        }
        _ => {}
    }
}

/// An option of a tunnel, whatever its kind.
enum End {
    Local(IpAddr),
    Remote(IpAddr),
    Port(u16),
    Other,
}

/// The ends of a tunnel. The kernel lists an end that is not set as the unspecified address.
fn tunnel(options: impl Iterator<Item = End>) -> Tunnel {
    let mut tunnel = Tunnel::default();
    for option in options {
        match option {
            End::Local(address) => tunnel.local = Some(address),
            End::Remote(address) => tunnel.remote = Some(address),
            End::Port(port) => tunnel.port = Some(port),
            End::Other => {}
        }
    }
    tunnel.local = tunnel.local.filter(|address| !address.is_unspecified());
    tunnel.remote = tunnel.remote.filter(|address| !address.is_unspecified());
    tunnel
}

fn bridge(options: &[InfoBridge]) -> BridgeOptions {
    let mut bridge = BridgeOptions::default();
    for option in options {
        if let InfoBridge::NfCallIpTables(on) = option {
            bridge.nf_call_iptables = Some(*on);
        } else if let InfoBridge::NfCallIp6Tables(on) = option {
            bridge.nf_call_ip6tables = Some(*on);
        }
    }
    bridge
}

fn vxlan(options: &[InfoVxlan], names: &LinkNames) -> Vxlan {
    let mut vxlan = Vxlan::default();
    for option in options {
        if let InfoVxlan::Id(id) = option {
            vxlan.id = Some(*id);
        } else if let InfoVxlan::Port(port) = option {
            vxlan.port = Some(*port);
        } else if let InfoVxlan::Local(address) = option {
            vxlan.local = Some(IpAddr::V4(*address));
        } else if let InfoVxlan::Local6(address) = option {
            vxlan.local = Some(IpAddr::V6(*address));
        } else if let InfoVxlan::Link(index) = option {
            vxlan.underlay = Some(names.get(*index));
        } else if let InfoVxlan::Learning(on) = option {
            vxlan.learning = Some(*on);
        }
    }
    vxlan
}
