//! How packets get from one node to a pod of another: by the route that the node has to the pod's address.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::program;
use crate::node_facts::{Link, NodeFacts, RouteKind};

/// How packets to the pods of another node leave a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Transport {
    /// In the packets of a tunnel between the nodes' own addresses.
    Tunnel {
        /// Its encapsulation.
        tunnel: TunnelKind,
        /// The node's link.
        link: String,
        /// The UDP port, where it has one.
        port: Option<u16>,
        /// The address of the tunnel's other end on the link, where the route names it.
        gateway: Option<IpAddr>,
    },
    /// As they are, by a router or the other node itself.
    Direct {
        /// The node's link.
        link: String,
        /// The next router.
        gateway: Option<IpAddr>,
        /// Whether only the default route leads there: a router beyond knows the pods.
        by_default: bool,
    },
    /// The node refuses or drops them by its route.
    Refused,
    /// The node has no route to them.
    NoRoute,
    /// The evidence does not show it.
    #[default]
    Unknown,
}

/// The encapsulation of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TunnelKind {
    /// VXLAN over UDP (RFC 7348).
    Vxlan,
    /// Geneve over UDP (RFC 8926).
    Geneve,
    /// IP in IP (RFC 2003), also IPv6 in IPv6 and IPv6 in IPv4.
    Ipip,
    /// Generic routing encapsulation (RFC 2784).
    Gre,
    /// WireGuard over UDP.
    Wireguard,
}

impl TunnelKind {
    /// The kind of a link, if it is a tunnel's.
    fn of(link: &Link) -> Option<Self> {
        match link.kind.as_deref()? {
            "vxlan" => Some(Self::Vxlan),
            "geneve" => Some(Self::Geneve),
            "ipip" | "sit" | "ip6tnl" => Some(Self::Ipip),
            "gre" | "gretap" | "ip6gre" | "ip6gretap" => Some(Self::Gre),
            "wireguard" => Some(Self::Wireguard),
            _ => None,
        }
    }

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::Geneve => "geneve",
            Self::Ipip => "ipip",
            Self::Gre => "gre",
            Self::Wireguard => "wireguard",
        }
    }
}

impl Transport {
    /// Whether packets cross in a tunnel.
    pub const fn is_tunnel(&self) -> bool {
        match self {
            Self::Tunnel { .. } => true,
            Self::Direct { .. } | Self::Refused | Self::NoRoute | Self::Unknown => false,
        }
    }

    /// The link by which packets leave, where it is known.
    pub fn link(&self) -> Option<&str> {
        match self {
            Self::Tunnel { link, .. } | Self::Direct { link, .. } => Some(link),
            Self::Refused | Self::NoRoute | Self::Unknown => None,
        }
    }

    /// A few words; empty where it is not known.
    pub(super) fn summary(&self) -> String {
        match self {
            Self::Tunnel { tunnel, link, .. } => format!("{} {link}", tunnel.as_str()),
            Self::Direct {
                by_default: true, ..
            } => "the default route".to_owned(),
            Self::Direct { link, .. } => format!("routes by {link}"),
            Self::Refused => "a route that refuses".to_owned(),
            Self::NoRoute => "no route".to_owned(),
            Self::Unknown => String::new(),
        }
    }
}

/// The transport from the node of these facts to a pod's address.
pub(super) fn to(facts: &NodeFacts, address: IpAddr) -> Transport {
    let Some(routes) = facts.routes_to(address) else {
        return Transport::Unknown;
    };
    let Some(route) = routes.first() else {
        return Transport::NoRoute;
    };
    match route.kind {
        RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit => {
            return Transport::Refused;
        }
        RouteKind::Throw => return Transport::NoRoute,
        RouteKind::Unicast | RouteKind::Local | RouteKind::Other(_) => {}
    }
    let Some(link) = (route.dev.as_deref()).and_then(|dev| facts.link(dev).found()) else {
        return Transport::Unknown;
    };
    // A program that forwards packets may put them into a tunnel that no route shows.
    let is_by_program = link.kind.as_deref() == Some("veth") && program::of(facts).is_some();
    match TunnelKind::of(link) {
        None if is_by_program => Transport::Unknown,
        Some(tunnel) => Transport::Tunnel {
            tunnel,
            link: link.name.clone(),
            port: link.vxlan.as_ref().and_then(|vxlan| vxlan.port),
            gateway: route.gateway,
        },
        None => Transport::Direct {
            link: link.name.clone(),
            gateway: route.gateway,
            by_default: route.destination.prefix_len() == 0,
        },
    }
}
