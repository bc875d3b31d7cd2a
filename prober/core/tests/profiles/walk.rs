//! The way of a packet: from a pod through its node's stack, over the network, through the other node's stack to the other
//! pod; and back.

use std::net::SocketAddr;

use prober_core::packet::Unreachable;
use prober_core::packet::family::Family;
use prober_core::packet::mac::Mac;
use prober_core::probe::outcome::Errno;

use super::address::{Agent, Role, gateway_ip, gateway_mac};
use super::cluster::{Cluster, PodLink, Rule};
use super::conntrack::Tables;
use super::packet::{Arrival, Counts, Flow, Packet, Router, Stop};
use super::profile::{Attachment, Translation};
use super::stack::{Hop, error, unresolved};

/// When a packet is sent: what varies from packet to packet of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moment {
    /// The number of the path.
    pub(crate) path: usize,
    /// The number of the probe on its path.
    pub(crate) probe: usize,
    /// The number of the SYN within the probe.
    pub(crate) attempt: usize,
    /// Milliseconds since the start of the run.
    pub(crate) ms: u64,
}

impl Moment {
    /// Whether a fault that loses the first packet of every second probe loses this one: on each path other ones.
    pub(crate) const fn is_unlucky(self) -> bool {
        self.attempt == 0 && (self.probe + self.path).is_multiple_of(2)
    }
}

/// A cluster with a clock and counters.
pub(crate) struct Walk<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) counts: &'a mut Counts,
    pub(crate) tables: &'a mut Tables,
    pub(crate) moment: Moment,
}

impl Walk<'_> {
    /// From a client towards its target.
    pub(crate) fn deliver_to_server(
        &mut self,
        flow: &mut Flow,
        mut packet: Packet,
    ) -> Result<Arrival, Stop> {
        let client = flow.client;
        if client.role == Role::Host {
            return self.send_from_host(flow, packet);
        }
        if (self.cluster.pods.get(&client)).is_some_and(|pod| pod.link != PodLink::Up) {
            return Err(Stop::Dropped);
        }
        if self.cluster.pod_at(packet.dst.ip()) == Some(client) {
            return Ok(on_loopback(client, packet));
        }
        if let Some(pod) = self.neighbour(client, packet) {
            return self.on_segment(client, pod, packet);
        }
        let node = client.node;
        self.pass_gate(node, packet)?;
        self.track(node, packet)?;
        let came = packet;
        let rule = self.translate(flow, node, &mut packet)?;
        let is_before_routing = self.cluster.profile.translation == Translation::Iptables;
        let is_local = flow.translated.is_some_and(|to| {
            is_before_routing && self.cluster.range_of(to.backend.ip()) == Some(node)
        });
        if is_local && self.passes_netfilter_within_bridge(node) {
            return self.within_bridge(flow, came, packet);
        }
        let hop = self.hop(node, packet.dst, true);
        self.forward(node, &mut packet, hop, rule)?;
        self.masquerade(flow, &mut packet)?;
        flow.is_confirmed = true;
        self.confirm(node, came, packet);
        if flow.translated.is_some_and(|to| to.source.is_none())
            && packet.src.ip() == packet.dst.ip()
        {
            let arrival = self.delivered(client, packet);
            return Err(Stop::Returned(arrival));
        }
        self.onward(node, packet, hop)
    }

    /// From a node's own network: a local packet is routed before it is translated, and passes no FORWARD chain.
    fn send_from_host(&mut self, flow: &mut Flow, mut packet: Packet) -> Result<Arrival, Stop> {
        let node = flow.client.node;
        let profile = self.cluster.profile;
        if profile.translation == Translation::Iptables
            && !self.cluster.node(node).has_default_route
        {
            return Err(Stop::Refused(Errno::Enetunreach));
        }
        self.track(node, packet)?;
        let came = packet;
        match self.translate(flow, node, &mut packet)? {
            Rule::Leads(_) => {}
            Rule::NoEndpoint if profile.translation == Translation::Socket => {
                return Err(Stop::Refused(Errno::Ehostunreach));
            }
            Rule::NoEndpoint => {
                return Err(error(Router::Node(node), Unreachable::Port, packet.ttl));
            }
            Rule::NoLocalEndpoint | Rule::Missing => return Err(Stop::Dropped),
        }
        let hop = self.hop(node, packet.dst, false);
        self.check_route(node, packet, hop)?;
        let family = Family::of(packet.src.ip());
        let source = match hop {
            Hop::Peer(peer) => self.own_ip_towards(node, peer, family),
            Hop::Pod(_) | Hop::Unresolved => gateway_ip(profile, node, family),
            Hop::Own
            | Hop::PeerNode(_)
            | Hop::Default
            | Hop::Blackhole
            | Hop::Unreachable
            | Hop::None => packet.src.ip(),
        };
        packet.src = SocketAddr::new(source, packet.src.port());
        if let Some(to) = &mut flow.translated {
            to.source = Some(packet.src);
        }
        flow.is_confirmed = true;
        self.confirm(node, came, packet);
        self.onward(node, packet, hop)
    }

    /// From a pod that answers to the client of a connection.
    pub(crate) fn deliver_to_client(
        &mut self,
        flow: &Flow,
        from: Agent,
        mut packet: Packet,
    ) -> Result<Arrival, Stop> {
        let node = from.node;
        if flow.client == from && packet.dst.ip() == packet.src.ip() {
            return Ok(on_loopback(from, packet));
        }
        if let Some(pod) = self.neighbour(from, packet) {
            let mut arrival = self.on_segment(from, pod, packet)?;
            if self.passes_netfilter_within_bridge(node) {
                self.undo_destination(flow, node, &mut arrival.packet);
            }
            return Ok(arrival);
        }
        if self.cluster.profile.is_layer_2() {
            // To the node that has replaced the source.
            return self.reach_client(flow, node, packet);
        }
        self.pass_gate(node, packet)?;
        self.track(node, packet)?;
        self.undo_source(flow, node, &mut packet);
        let hop = self.hop(node, packet.dst, true);
        match hop {
            Hop::Own => return self.arrive_at_own(flow, node, packet),
            Hop::Pod(pod) if self.passes_netfilter_within_bridge(node) => {
                self.undo_destination(flow, node, &mut packet);
                return Ok(Arrival {
                    at: pod,
                    packet,
                    src_mac: from.mac(),
                });
            }
            Hop::Pod(_)
            | Hop::Peer(_)
            | Hop::PeerNode(_)
            | Hop::Unresolved
            | Hop::Default
            | Hop::Blackhole
            | Hop::Unreachable
            | Hop::None => {}
        }
        self.forward(node, &mut packet, hop, Rule::Missing)?;
        self.undo_destination(flow, node, &mut packet);
        match hop {
            Hop::Pod(pod) => Ok(self.delivered(pod, packet)),
            Hop::Own
            | Hop::Peer(_)
            | Hop::PeerNode(_)
            | Hop::Unresolved
            | Hop::Default
            | Hop::Blackhole
            | Hop::Unreachable
            | Hop::None => self.back(flow, node, packet, hop),
        }
    }

    /// The pod on the sender's own segment that has the packet's destination.
    fn neighbour(&self, from: Agent, packet: Packet) -> Option<Agent> {
        let pod = self.cluster.pod_at(packet.dst.ip())?;
        let is_on_segment = match self.cluster.profile.attachment {
            Attachment::Bridge { .. } => pod.node == from.node,
            Attachment::RoutedVeth { .. } => false,
            Attachment::OwnLayer2 => true,
        };
        is_on_segment.then_some(pod)
    }

    /// From pod to pod on one segment: a bridge, whose frames pass netfilter where `bridge-nf-call-iptables` is 1, or the
    /// nodes' own.
    fn on_segment(&mut self, from: Agent, to: Agent, packet: Packet) -> Result<Arrival, Stop> {
        if self.cluster.profile.is_bridged() {
            self.pass_gate(from.node, packet)?;
            if self.passes_netfilter_within_bridge(from.node) {
                self.track(from.node, packet)?;
                self.filter(from.node, packet, true)?;
                self.confirm(from.node, packet, packet);
            }
        } else if from.node != to.node {
            self.pass_wire(from.node, to.node, packet, false)?;
        }
        self.reach(to, packet)?;
        Ok(Arrival {
            at: to,
            packet,
            src_mac: from.mac(),
        })
    }

    /// Over the link of a pod.
    fn reach(&self, pod: Agent, packet: Packet) -> Result<(), Stop> {
        let link = self.cluster.pods.get(&pod).map(|pod| pod.link);
        match link {
            None | Some(PodLink::Up) => Ok(()),
            // The first SYN of a probe waits for the neighbour; a probe that begins just after another one's sees its failure.
            Some(PodLink::Down) if (self.moment.probe + self.moment.path).is_multiple_of(4) => {
                Err(unresolved(pod.node, packet.ttl))
            }
            Some(PodLink::Down | PodLink::DownUnanswered) => Err(Stop::Dropped),
        }
    }

    /// A Service of a pod on the client's own bridge: br_netfilter translates the frame, which is never routed.
    fn within_bridge(
        &mut self,
        flow: &mut Flow,
        came: Packet,
        mut packet: Packet,
    ) -> Result<Arrival, Stop> {
        let client = flow.client;
        let node = client.node;
        let Some(pod) = self.cluster.pod_at(packet.dst.ip()) else {
            return Err(unresolved(node, packet.ttl));
        };
        if pod == client && !self.cluster.pods[&client].hairpin {
            return Err(Stop::Dropped);
        }
        self.filter(node, packet, true)?;
        self.masquerade(flow, &mut packet)?;
        flow.is_confirmed = true;
        self.confirm(node, came, packet);
        self.reach(pod, packet)?;
        let arrival = Arrival {
            at: pod,
            packet,
            src_mac: client.mac(),
        };
        if packet.src.ip() == packet.dst.ip() {
            return Err(Stop::Returned(arrival));
        }
        Ok(arrival)
    }

    /// From POSTROUTING of the client's node to the server's pod.
    fn onward(&mut self, node: u8, packet: Packet, hop: Hop) -> Result<Arrival, Stop> {
        let (peer, mut packet) = match hop {
            Hop::Pod(pod) => {
                self.reach(pod, packet)?;
                return Ok(self.delivered(pod, packet));
            }
            Hop::Unresolved => return Err(unresolved(node, packet.ttl)),
            Hop::Peer(peer) | Hop::PeerNode(peer) => (peer, self.cross(node, peer, packet, hop)?),
            Hop::Own | Hop::Default | Hop::Blackhole | Hop::Unreachable | Hop::None => {
                return Err(Stop::Dropped);
            }
        };
        if self.cluster.profile.is_layer_2() {
            let pod = self
                .cluster
                .pod_at(packet.dst.ip())
                .ok_or_else(|| unresolved(node, packet.ttl))?;
            return Ok(self.delivered(pod, packet));
        }
        self.pass_gate(peer, packet)?;
        self.track(peer, packet)?;
        self.check_reverse_path(peer, packet)?;
        let hop = self.hop(peer, packet.dst, false);
        self.forward_received(peer, &mut packet, hop)?;
        self.confirm(peer, packet, packet);
        match hop {
            Hop::Pod(pod) => {
                self.reach(pod, packet)?;
                Ok(self.delivered(pod, packet))
            }
            Hop::Unresolved => Err(unresolved(peer, packet.ttl)),
            Hop::Own
            | Hop::Peer(_)
            | Hop::PeerNode(_)
            | Hop::Default
            | Hop::Blackhole
            | Hop::Unreachable
            | Hop::None => Err(Stop::Dropped),
        }
    }

    /// Through the chains of the node that receives a packet from another one.
    fn forward_received(&mut self, node: u8, packet: &mut Packet, hop: Hop) -> Result<(), Stop> {
        if self.cluster.profile.receiver_decrements {
            self.forward(node, packet, hop, Rule::Missing)?;
        } else {
            self.check_route(node, *packet, hop)?;
            self.filter(node, *packet, false)?;
        }
        Ok(())
    }

    /// From POSTROUTING of another node to the client.
    pub(crate) fn back(
        &mut self,
        flow: &Flow,
        node: u8,
        packet: Packet,
        hop: Hop,
    ) -> Result<Arrival, Stop> {
        match hop {
            Hop::Peer(peer) | Hop::PeerNode(peer) => {
                let packet = self.cross(node, peer, packet, hop)?;
                self.arrive(flow, peer, packet)
            }
            Hop::Unresolved => Err(unresolved(node, packet.ttl)),
            Hop::Own
            | Hop::Pod(_)
            | Hop::Default
            | Hop::Blackhole
            | Hop::Unreachable
            | Hop::None => Err(Stop::Dropped),
        }
    }

    /// From the segment of a node (or from its router) to the client's node.
    pub(crate) fn reach_client(
        &mut self,
        flow: &Flow,
        node: u8,
        packet: Packet,
    ) -> Result<Arrival, Stop> {
        let to = flow.client.node;
        if node != to {
            self.pass_wire(node, to, packet, false)?;
        }
        self.arrive(flow, to, packet)
    }

    /// From the wire through the client's node to the client.
    fn arrive(&mut self, flow: &Flow, node: u8, mut packet: Packet) -> Result<Arrival, Stop> {
        self.pass_gate(node, packet)?;
        self.track(node, packet)?;
        self.undo_source(flow, node, &mut packet);
        self.check_reverse_path(node, packet)?;
        let hop = self.hop(node, packet.dst, false);
        if hop == Hop::Own {
            return self.arrive_at_own(flow, node, packet);
        }
        self.forward_received(node, &mut packet, hop)?;
        self.undo_destination(flow, node, &mut packet);
        match hop {
            Hop::Pod(pod) => Ok(self.delivered(pod, packet)),
            Hop::Own
            | Hop::Peer(_)
            | Hop::PeerNode(_)
            | Hop::Unresolved
            | Hop::Default
            | Hop::Blackhole
            | Hop::Unreachable
            | Hop::None => Err(Stop::Dropped),
        }
    }

    /// At an address of a node's own: its host agent, if the packet is for it.
    fn arrive_at_own(
        &mut self,
        flow: &Flow,
        node: u8,
        mut packet: Packet,
    ) -> Result<Arrival, Stop> {
        let is_for_host = flow.client.role == Role::Host && flow.client.node == node;
        if !is_for_host {
            return Err(Stop::Dropped);
        }
        self.undo_destination(flow, node, &mut packet);
        Ok(self.delivered(flow.client, packet))
    }

    /// At a pod, from its gateway.
    pub(crate) fn delivered(&self, at: Agent, packet: Packet) -> Arrival {
        Arrival {
            at,
            packet,
            src_mac: gateway_mac(self.cluster.profile, at),
        }
    }
}

const fn on_loopback(at: Agent, packet: Packet) -> Arrival {
    Arrival {
        at,
        packet,
        src_mac: Mac::LOOPBACK,
    }
}
