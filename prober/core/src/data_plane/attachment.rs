//! How a pod is attached to its node: by the route that the node has to the pod's address.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::program;
use crate::node_facts::{NodeFacts, Resolution, RouteQuery};
use crate::packet::mac::Mac;

/// How a pod is attached to its node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Attachment {
    /// A port of a bridge of the node: pods of one node reach each other without being routed.
    Bridge {
        /// The bridge.
        bridge: String,
        /// The pod's port, where the forwarding database has the pod's address.
        port: Option<String>,
    },
    /// A device of the node that leads to this pod alone: all its packets are routed.
    Routed {
        /// The node's end.
        link: String,
    },
    /// A device of its own on the layer-2 network of the node's uplink (macvlan, ipvlan): its packets to other pods do not
    /// pass the node.
    OwnDevice {
        /// The node's uplink.
        parent: String,
    },
    /// The evidence does not show it.
    #[default]
    Unknown,
}

impl Attachment {
    /// The bridge, if the pod is a port of one.
    pub fn bridge(&self) -> Option<&str> {
        match self {
            Self::Bridge { bridge, .. } => Some(bridge),
            Self::Routed { .. } | Self::OwnDevice { .. } | Self::Unknown => None,
        }
    }

    /// The node's device that pods' packets pass: the bridge, or its end of a routed pod's link.
    pub fn link(&self) -> Option<&str> {
        match self {
            Self::Bridge { bridge, .. } => Some(bridge),
            Self::Routed { link } => Some(link),
            Self::OwnDevice { .. } | Self::Unknown => None,
        }
    }

    /// A few words; empty where it is not known.
    pub(super) fn summary(&self) -> String {
        match self {
            Self::Bridge { bridge, .. } => format!("bridge {bridge}"),
            Self::Routed { .. } => "routed pods".to_owned(),
            Self::OwnDevice { parent } => format!("pods on the network of {parent}"),
            Self::Unknown => String::new(),
        }
    }
}

/// The attachment of the pod with this address, by the facts of its own node.
pub(super) fn of(facts: &NodeFacts, address: IpAddr, mac: Option<Mac>) -> Attachment {
    let Resolution::Route(route) = facts.resolve(RouteQuery::to(address)) else {
        return Attachment::Unknown;
    };
    let Some(link) = (route.dev.as_deref()).and_then(|dev| facts.link(dev).found()) else {
        return Attachment::Unknown;
    };
    if program::is_own_device(link) {
        return Attachment::Unknown;
    }
    let is_host_route = route.destination.prefix_len() == route.destination.max_prefix_len();
    if link.kind.as_deref() == Some("bridge") {
        let entries = mac.and_then(|mac| facts.fdb(mac)).unwrap_or_default();
        let is_port = |dev: &str| {
            let port = facts.link(dev).found();
            port.is_some_and(|port| port.master.as_deref() == Some(link.name.as_str()))
        };
        let mut ports = entries.iter().filter(|entry| is_port(&entry.dev));
        return Attachment::Bridge {
            bridge: link.name.clone(),
            port: ports.next().map(|entry| entry.dev.clone()),
        };
    }
    if is_host_route && route.gateway.is_none() {
        return Attachment::Routed {
            link: link.name.clone(),
        };
    }
    // Reached without a router by an address of the same network: the pod is a neighbour of the node itself.
    let is_neighbour = route.gateway.is_none() && route.destination.prefix_len() > 0;
    if is_neighbour {
        return Attachment::OwnDevice {
            parent: link.name.clone(),
        };
    }
    Attachment::Unknown
}
