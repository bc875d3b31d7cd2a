//! From node to node: the tunnel, the router, the wire.

use std::net::IpAddr;

use prober_core::packet::family::Family;

use super::address::{node_ip, tunnel_ip};
use super::cluster::{Dropped, StaleNeighbour};
use super::packet::{Icmp, IcmpError, Packet, Router, Stop};
use super::profile::Transport;
use super::stack::Hop;
use super::walk::Walk;

/// A part of the way between two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leg {
    /// The whole way, with the packet's own addresses.
    Plain,
    /// The whole way, inside a tunnel between the nodes.
    Tunnelled,
    /// To the router of the sender's segment.
    ToRouter,
}

impl Walk<'_> {
    /// From node to node: the next hop, the tunnel, the router, the wire.
    pub(crate) fn cross(
        &mut self,
        from: u8,
        to: u8,
        mut packet: Packet,
        hop: Hop,
    ) -> Result<Packet, Stop> {
        let profile = self.cluster.profile;
        let transport = match (hop, profile.transport(from, to)) {
            (Hop::PeerNode(_), Transport::Vxlan { .. }) => Transport::Direct,
            (_, pods) => pods,
        };
        match transport {
            Transport::Vxlan { link, .. } => self.through_tunnel(from, to, packet, link)?,
            Transport::Direct => self.pass_wire(from, to, packet, false)?,
            Transport::Fabric => {
                if self.is_dropped(from, to, packet, Leg::ToRouter) {
                    return Err(Stop::Dropped);
                }
                if packet.ttl <= 1 {
                    return Err(Stop::Error(IcmpError {
                        by: Router::TopOfRack(from),
                        what: Icmp::TimeExceeded,
                        quoted_ttl: packet.ttl,
                        after_ms: 0,
                    }));
                }
                packet.ttl -= 1;
                self.pass_wire(from, to, packet, false)?;
            }
        }
        Ok(packet)
    }

    pub(crate) fn through_tunnel(
        &mut self,
        from: u8,
        to: u8,
        packet: Packet,
        link: &'static str,
    ) -> Result<(), Stop> {
        let stale = self.cluster.node(from).stale_neighbours.get(&to).copied();
        if stale == Some(StaleNeighbour::NoFdbEntry) {
            self.counts.link(from, link).tx_dropped += 1;
            return Err(Stop::Dropped);
        }
        self.counts.link(from, link).tx_packets += 1;
        self.pass_wire(from, to, packet, true)?;
        self.counts.link(to, link).rx_packets += 1;
        if stale == Some(StaleNeighbour::WrongMac) {
            return Err(Stop::Dropped);
        }
        Ok(())
    }

    /// Over the network between nodes.
    pub(crate) fn pass_wire(
        &mut self,
        from: u8,
        to: u8,
        packet: Packet,
        is_tunnelled: bool,
    ) -> Result<(), Stop> {
        self.counts.link(from, "eth0").tx_packets += 1;
        let leg = if is_tunnelled {
            Leg::Tunnelled
        } else {
            Leg::Plain
        };
        if self.is_dropped(from, to, packet, leg) {
            return Err(Stop::Dropped);
        }
        self.counts.link(to, "eth0").rx_packets += 1;
        Ok(())
    }

    pub(crate) fn is_dropped(&self, from: u8, to: u8, packet: Packet, leg: Leg) -> bool {
        let is_pod = |ip| leg != Leg::Tunnelled && self.cluster.pod_at(ip).is_some();
        let matches = |what| match what {
            Dropped::Everything => true,
            Dropped::BehindRouter => leg != Leg::ToRouter,
            Dropped::FromPods => is_pod(packet.src.ip()),
            Dropped::ToPods => is_pod(packet.dst.ip()),
            Dropped::NewOfPods => {
                packet.is_new() && is_pod(packet.src.ip()) && is_pod(packet.dst.ip())
            }
            Dropped::Tunnel => leg == Leg::Tunnelled,
            Dropped::Large => packet.is_large,
            Dropped::Share => packet.is_new() && self.moment.is_unlucky(),
        };
        self.cluster.wire.iter().any(|drop| {
            drop.from.is_none_or(|node| node == from)
                && drop.to.is_none_or(|node| node == to)
                && matches(drop.what)
        })
    }

    /// The address by which a node sends its own packets to a peer's pods.
    pub(crate) fn own_ip_towards(&self, node: u8, peer: u8, family: Family) -> IpAddr {
        match self.cluster.profile.transport(node, peer) {
            Transport::Vxlan { .. } => tunnel_ip(node, family),
            Transport::Direct | Transport::Fabric => node_ip(self.cluster.profile, node, family),
        }
    }
}
