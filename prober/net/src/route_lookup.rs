//! The route that the kernel takes to a destination: the source address and the interface.
//!
//! A crafted probe needs both: its source address, and the one interface on which to capture it, since on a node the same
//! packet passes several (a pod's veth, the bridge, the uplink).
use std::net::IpAddr;

use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

pub use crate::netlink::NetlinkError;
use crate::netlink::get;

/// A route as `ip route get` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResolvedRoute {
    /// The source address of packets.
    pub source: IpAddr,
    /// The index of the interface that they leave by; the loopback for an address of this host.
    pub interface: u32,
}

/// There is no route.
#[derive(Debug, thiserror::Error)]
pub enum RouteLookupError {
    /// The kernel refused the lookup.
    #[error("cannot find a route to {destination}: {source}; see `ip route get {destination}`")]
    Kernel {
        /// The destination.
        destination: IpAddr,
        /// The kernel's error.
        source: NetlinkError,
    },
    /// The kernel's answer lacks the address or the interface.
    #[error(
        "cannot find a route to {destination}: the route has no source address; see `ip route get {destination}`"
    )]
    Incomplete {
        /// The destination.
        destination: IpAddr,
    },
}

/// Looks up a route in the network namespace of the calling thread. Sends nothing, and needs no capability.
pub fn look_up_route(destination: IpAddr) -> Result<ResolvedRoute, RouteLookupError> {
    let mut request = RouteMessage::default();
    (
        request.header.address_family,
        request.header.destination_prefix_length,
    ) = match destination {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    request
        .attributes
        .push(RouteAttribute::Destination(destination.into()));
    let answer =
        get(RouteNetlinkMessage::GetRoute(request)).map_err(|source| RouteLookupError::Kernel {
            destination,
            source,
        })?;
    let (mut source, mut interface) = (None, None);
    if let Some(RouteNetlinkMessage::NewRoute(route)) = answer {
        for attribute in &route.attributes {
            if let RouteAttribute::PrefSource(address) = attribute {
                source = crate::node_facts::route_address(address);
            } else if let RouteAttribute::Oif(index) = attribute {
                interface = Some(*index);
            }
        }
    }
    let route = source
        .zip(interface)
        .map(|(source, interface)| ResolvedRoute { source, interface });
    route.ok_or(RouteLookupError::Incomplete { destination })
}
