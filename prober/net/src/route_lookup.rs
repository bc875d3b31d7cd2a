//! The route that the kernel would take to a destination: from which address, by which interface.
//!
//! A raw probe needs both: its source address, and, on a node, where the same packet passes several interfaces (a pod's
//! veth, the bridge, the uplink), the one interface on which to capture it once.
use std::net::IpAddr;

use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

pub use crate::rtnetlink::RtnetlinkError;
use crate::rtnetlink::request;

/// What `ip route get` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResolvedRoute {
    /// The address of ours that packets leave with.
    pub source: IpAddr,
    /// The index of the interface that they leave by; the loopback for an address of our own.
    pub interface: u32,
}

/// The kernel knows no route.
#[derive(Debug, thiserror::Error)]
pub enum RouteLookupError {
    /// It says why.
    #[error("cannot find a route to {destination}: {source}; see `ip route get {destination}`")]
    Kernel {
        /// Where to.
        destination: IpAddr,
        /// What the kernel said.
        source: RtnetlinkError,
    },
    /// Its answer lacks the address or the interface.
    #[error(
        "cannot find a route to {destination}: the route has no source address; see `ip route get {destination}`"
    )]
    Incomplete {
        /// Where to.
        destination: IpAddr,
    },
}

/// Asks the routes and rules of the calling thread's network namespace. Sends nothing, wants no capability.
pub fn look_up_route(destination: IpAddr) -> Result<ResolvedRoute, RouteLookupError> {
    let mut question = RouteMessage::default();
    (
        question.header.address_family,
        question.header.destination_prefix_length,
    ) = match destination {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    question
        .attributes
        .push(RouteAttribute::Destination(destination.into()));
    let answer = request(RouteNetlinkMessage::GetRoute(question)).map_err(|source| {
        RouteLookupError::Kernel {
            destination,
            source,
        }
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
