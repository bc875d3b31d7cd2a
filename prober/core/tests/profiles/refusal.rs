//! Refusals on their way to the client: ICMP errors of routers, and forged RSTs of rules.

use std::net::SocketAddr;

use prober_core::packet::TcpFlags;
use prober_core::packet::family::Family;

use super::address::{Agent, gateway_ip, router_ip};
use super::packet::{Arrival, Flow, IcmpError, Packet, Router, Stop};
use super::walk::Walk;

impl Walk<'_> {
    /// An ICMP error on its way to the client: its source there, and its TTL.
    pub(crate) fn error_to_client(
        &mut self,
        flow: &Flow,
        error: &IcmpError,
    ) -> Result<Arrival, Stop> {
        let family = Family::of(flow.src.ip());
        let (client, profile) = (flow.client, self.cluster.profile);
        let from = |ip| Packet::new(SocketAddr::new(ip, 0), flow.src, TcpFlags::default());
        let mut arrival = match error.by {
            Router::Balancer => self.delivered(client, from(flow.target.ip())),
            Router::Node(node) if node == client.node => {
                self.delivered(client, from(gateway_ip(profile, node, family)))
            }
            Router::Node(node) => {
                let packet = from(self.own_ip_towards(node, client.node, family));
                let hop = self.hop(node, packet.dst, false);
                self.check_route(node, packet, hop)?;
                self.back(flow, node, packet, hop)?
            }
            Router::TopOfRack(node) => {
                let packet = from(router_ip(profile, node, family));
                self.reach_client(flow, node, packet)?
            }
        };
        // Conntrack translates the source of an error about a translated packet (nf_nat_icmp_reply_translation).
        if flow.translated.is_some() && profile.uses_netfilter() {
            arrival.packet.src.set_ip(flow.target.ip());
        }
        Ok(arrival)
    }

    /// A forged RST on its way to the client.
    pub(crate) fn forged_reset(
        &mut self,
        flow: &Flow,
        node: u8,
        is_bridged: bool,
    ) -> Result<Arrival, Stop> {
        let backend = flow.translated.map_or(flow.target, |to| to.backend);
        let packet = Packet::new(backend, flow.src, TcpFlags::RST.with(TcpFlags::ACK));
        if is_bridged {
            // The bridge's reject is not translated back, and has the backend's Ethernet address.
            let mac = self.cluster.pod_at(backend.ip()).map(Agent::mac);
            return Ok(Arrival {
                at: flow.client,
                packet,
                src_mac: mac.ok_or(Stop::Dropped)?,
            });
        }
        if node == flow.client.node {
            let mut packet = packet;
            self.undo_destination(flow, node, &mut packet);
            return Ok(self.delivered(flow.client, packet));
        }
        let hop = self.hop(node, packet.dst, false);
        self.check_route(node, packet, hop)?;
        self.back(flow, node, packet, hop)
    }
}
