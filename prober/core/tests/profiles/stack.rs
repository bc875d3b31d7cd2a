//! The stages of a node's stack.
//!
//! Their order is that of net/ipv4: PREROUTING (conntrack, DNAT), reverse-path filter, route, `ip_forward` setting, TTL, MTU,
//! FORWARD, POSTROUTING (SNAT, conntrack confirms), next hop.

use std::net::SocketAddr;

use prober_core::packet::Unreachable;
use prober_core::packet::family::Family;

use super::address::{Agent, Role, ServicePort, gateway_ip, node_ip};
use super::cluster::{BrokenRoute, Rule, Verdict};
use super::packet::{Flow, Icmp, IcmpError, Packet, Router, Stop, Translated};
use super::profile::{Attachment, Translation, UnusedAddress};
use super::walk::Walk;

/// How far the port of a replaced source is below the client's: each connection has its own.
const MASQUERADED_BELOW: u16 = 30_000;

/// When a neighbour that does not answer makes its packets refused, milliseconds: 3060 at first, and 2200 to 2700 within the
/// window of an earlier failure.
const RESOLUTION_MS: u64 = 2500;

/// The result of a route lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hop {
    Own,
    Pod(Agent),
    /// A node, for its pods' range; over the pods' transport.
    Peer(u8),
    /// A node's own address.
    PeerNode(u8),
    /// On-link, and nothing has the address.
    Unresolved,
    Default,
    Blackhole,
    Unreachable,
    None,
}

impl Walk<'_> {
    /// PREROUTING and OUTPUT: where the node's rules lead the Service's address.
    pub(crate) fn translate(
        &self,
        flow: &mut Flow,
        node: u8,
        packet: &mut Packet,
    ) -> Result<Rule, Stop> {
        let Some(port) = ServicePort::at(packet.dst) else {
            return Ok(Rule::Leads(packet.dst));
        };
        if let Some(known) = flow.translated.filter(|_| flow.is_confirmed) {
            packet.dst = known.backend;
            return Ok(Rule::Leads(known.backend));
        }
        let is_from_pod = flow.client.role != Role::Host;
        if is_from_pod && self.cluster.profile.translation == Translation::Socket {
            return Ok(Rule::Missing);
        }
        let turn = self.moment.probe + self.moment.attempt;
        let rule = self
            .cluster
            .rule(node, port, Family::of(packet.dst.ip()), turn);
        match rule {
            Rule::Leads(backend) => {
                packet.dst = backend;
                flow.translated = Some(Translated {
                    node,
                    backend,
                    source: None,
                });
            }
            Rule::NoEndpoint => match self.cluster.profile.translation {
                // A rule of the FORWARD chain.
                Translation::Iptables | Translation::Socket => {}
                Translation::Ipvs | Translation::TcBpf => {
                    return Err(error(Router::Balancer, Unreachable::Port, packet.ttl));
                }
            },
            Rule::NoLocalEndpoint | Rule::Missing => {}
        }
        Ok(rule)
    }

    /// POSTROUTING: replaces the source where the answer would not return otherwise.
    pub(crate) fn masquerade(&mut self, flow: &mut Flow, packet: &mut Packet) -> Result<(), Stop> {
        let Some(to) = &mut flow.translated else {
            return Ok(());
        };
        if let Some(source) = to.source {
            packet.src = source;
            return Ok(());
        }
        let profile = self.cluster.profile;
        let is_hairpin = packet.src.ip() == packet.dst.ip();
        let masquerades = self.cluster.node(to.node).masquerades || !profile.uses_netfilter();
        if (is_hairpin || profile.masquerades_all) && masquerades {
            if self.cluster.node(to.node).has_no_source_port {
                self.counts.node(to.node, "ConntrackInsertFailed");
                self.counts.node(to.node, "ConntrackDrop");
                return Err(Stop::Dropped);
            }
            let family = Family::of(packet.src.ip());
            let port = packet.src.port() - MASQUERADED_BELOW;
            let source = SocketAddr::new(gateway_ip(profile, to.node, family), port);
            packet.src = source;
            to.source = Some(source);
        }
        Ok(())
    }

    /// PREROUTING of a reply: its destination becomes the client's again, where the source was replaced.
    pub(crate) fn undo_source(&mut self, flow: &Flow, node: u8, packet: &mut Packet) {
        let Some(to) = translated_at(flow, node, *packet) else {
            return;
        };
        if self.cluster.node(node).untracked_replies {
            self.counts.node(node, "ConntrackInvalid");
        } else if to.source == Some(packet.dst) && !packet.is_outside_window {
            packet.dst = flow.src;
        }
    }

    /// POSTROUTING of a reply: its source becomes the Service's again.
    pub(crate) fn undo_destination(&mut self, flow: &Flow, node: u8, packet: &mut Packet) {
        let is_untracked = self.cluster.node(node).untracked_replies || packet.is_outside_window;
        if translated_at(flow, node, *packet).is_some() && !is_untracked {
            packet.src = flow.target;
        }
    }

    /// Whether frames between the ports of a node's bridge pass netfilter.
    pub(crate) fn passes_netfilter_within_bridge(&self, node: u8) -> bool {
        self.cluster.profile.is_bridged() && self.cluster.node(node).bridge_nf
    }

    /// What happens to every packet of pods on a node.
    pub(crate) fn pass_gate(&self, node: u8, packet: Packet) -> Result<(), Stop> {
        let settings = self.cluster.node(node);
        let is_down = self.moment.ms < settings.down_until_ms;
        let is_lost = settings.is_lossy && packet.is_new() && self.moment.is_unlucky();
        if is_down || is_lost {
            return Err(Stop::Dropped);
        }
        Ok(())
    }

    /// PREROUTING and OUTPUT: conntrack, which may have no room for new connections.
    pub(crate) fn track(&mut self, node: u8, packet: Packet) -> Result<(), Stop> {
        if !self.cluster.profile.uses_netfilter() {
            return Ok(());
        }
        let settings = self.cluster.node(node);
        if settings.is_conntrack_full && packet.is_new() {
            self.counts.node(node, "ConntrackDrop");
            return Err(Stop::Dropped);
        }
        if !packet.is_outside_window {
            let sees_replies = !settings.untracked_replies;
            (self.tables).see(node, packet, self.moment.ms, sees_replies);
        }
        Ok(())
    }

    /// POSTROUTING: conntrack confirms the connection of a packet that came so and leaves so.
    pub(crate) fn confirm(&mut self, node: u8, came: Packet, leaves: Packet) {
        if self.cluster.profile.uses_netfilter() {
            self.tables.confirm(node, came, leaves, self.moment.ms);
        }
    }

    /// The route to an address. Packets of pods follow a table of their own where the profile has policy routing.
    pub(crate) fn hop(&self, node: u8, dst: SocketAddr, is_from_pod: bool) -> Hop {
        let cluster = self.cluster;
        let settings = cluster.node(node);
        let default = if settings.has_default_route {
            Hop::Default
        } else {
            Hop::None
        };
        let family = Family::of(dst.ip());
        let is_own = |peer: &u8| node_ip(cluster.profile, *peer, family) == dst.ip();
        let range = cluster
            .range_of(dst.ip())
            .or_else(|| cluster.node_at(dst.ip()));
        if cluster.node_at(dst.ip()) == Some(node) {
            return Hop::Own;
        }
        if range == Some(node) {
            return match cluster.pod_at(dst.ip()) {
                Some(pod) if !settings.lost_pod_routes.contains(&pod) => Hop::Pod(pod),
                Some(_) | None => match cluster.profile.attachment {
                    Attachment::Bridge { .. } | Attachment::OwnLayer2 => Hop::Unresolved,
                    Attachment::RoutedVeth { unused, .. } => match unused {
                        UnusedAddress::DefaultRoute => default,
                        UnusedAddress::Blackhole => Hop::Blackhole,
                        UnusedAddress::Unreachable => Hop::Unreachable,
                    },
                },
            };
        }
        if is_from_pod && settings.is_pod_table_blackhole {
            return Hop::Blackhole;
        }
        if let Some(peer) = cluster.numbers().find(is_own) {
            return Hop::PeerNode(peer);
        }
        let Some(peer) = range else {
            return default;
        };
        match settings.routes.get(&peer) {
            None => Hop::Peer(peer),
            Some(BrokenRoute::Absent) => default,
            Some(BrokenRoute::Blackhole) => Hop::Blackhole,
            Some(BrokenRoute::Unreachable) => Hop::Unreachable,
        }
    }

    /// Refuses or drops what the route does not carry.
    pub(crate) fn check_route(&mut self, node: u8, packet: Packet, hop: Hop) -> Result<(), Stop> {
        match hop {
            Hop::Blackhole => Err(Stop::Dropped),
            Hop::Unreachable => Err(error(Router::Node(node), Unreachable::Host, packet.ttl)),
            Hop::None => {
                self.counts.node(node, "IpExtInNoRoutes");
                Err(error(Router::Node(node), Unreachable::Network, packet.ttl))
            }
            Hop::Own
            | Hop::Pod(_)
            | Hop::Peer(_)
            | Hop::PeerNode(_)
            | Hop::Unresolved
            | Hop::Default => Ok(()),
        }
    }

    /// From the route to POSTROUTING.
    pub(crate) fn forward(
        &mut self,
        node: u8,
        packet: &mut Packet,
        hop: Hop,
        rule: Rule,
    ) -> Result<(), Stop> {
        let profile = self.cluster.profile;
        let settings = self.cluster.node(node);
        if profile.uses_netfilter() && !settings.forwards {
            self.counts.node(
                node,
                match Family::of(packet.dst.ip()) {
                    Family::Ipv4 => "IpInAddrErrors",
                    Family::Ipv6 => "Ip6InAddrErrors",
                },
            );
            return Err(Stop::Dropped);
        }
        self.check_route(node, *packet, hop)?;
        if packet.ttl <= 1 {
            let is_answered =
                profile.answers_expired_ttl || Family::of(packet.src.ip()) == Family::Ipv6;
            return Err(if is_answered {
                Stop::Error(IcmpError {
                    by: Router::Node(node),
                    what: Icmp::TimeExceeded,
                    quoted_ttl: packet.ttl,
                    after_ms: 0,
                })
            } else {
                Stop::Dropped
            });
        }
        packet.ttl -= 1;
        if settings.drops_large && packet.is_large && matches!(hop, Hop::Peer(_)) {
            self.counts.node(node, "IpFragFails");
            return Err(Stop::Dropped);
        }
        if packet.is_new() && ServicePort::at(packet.dst).is_some() {
            match rule {
                Rule::NoEndpoint => {
                    return Err(error(Router::Node(node), Unreachable::Port, packet.ttl));
                }
                Rule::NoLocalEndpoint => return Err(Stop::Dropped),
                Rule::Leads(_) | Rule::Missing => {}
            }
        }
        self.filter(node, *packet, false)
    }

    /// The FORWARD chain, and whatever enforces policies.
    pub(crate) fn filter(
        &mut self,
        node: u8,
        packet: Packet,
        is_bridged: bool,
    ) -> Result<(), Stop> {
        let settings = self.cluster.node(node);
        if self.cluster.profile.uses_netfilter() && packet.is_stray {
            self.counts.node(node, "ConntrackInvalid");
            return Err(Stop::Dropped);
        }
        let chain = self
            .cluster
            .profile
            .uses_netfilter()
            .then_some(&settings.forward_chain);
        let filter = chain
            .into_iter()
            .flatten()
            .chain(&settings.policies)
            .find(|filter| filter.matches(self.cluster, packet.src, packet.dst, packet.is_new()));
        match filter.map(|filter| filter.verdict) {
            None => Ok(()),
            Some(Verdict::Drop) => Err(Stop::Dropped),
            Some(Verdict::RejectReset) => Err(Stop::ForgedReset { node, is_bridged }),
            Some(Verdict::RejectProhibited) => Err(error(
                Router::Node(node),
                Unreachable::Prohibited,
                packet.ttl,
            )),
        }
    }

    /// Strict reverse-path filtering of what arrives from other nodes' ranges (IPv4 only).
    pub(crate) fn check_reverse_path(&mut self, node: u8, packet: Packet) -> Result<(), Stop> {
        let from_peer = self
            .cluster
            .range_of(packet.src.ip())
            .is_some_and(|from| from != node);
        if self.cluster.node(node).strict_reverse_path
            && Family::of(packet.src.ip()) == Family::Ipv4
            && from_peer
        {
            self.counts.node(node, "TcpExtIPReversePathFilter");
            return Err(Stop::Dropped);
        }
        Ok(())
    }
}

pub(crate) const fn error(by: Router, reason: Unreachable, quoted_ttl: u8) -> Stop {
    Stop::Error(IcmpError {
        by,
        what: Icmp::Unreachable(reason),
        quoted_ttl,
        after_ms: 0,
    })
}

/// Nothing answers for an address on the node's own segment.
pub(crate) const fn unresolved(node: u8, quoted_ttl: u8) -> Stop {
    Stop::Error(IcmpError {
        by: Router::Node(node),
        what: Icmp::Unreachable(Unreachable::Host),
        quoted_ttl,
        after_ms: RESOLUTION_MS,
    })
}

/// The translation that a node has made of a reply's connection.
fn translated_at(flow: &Flow, node: u8, reply: Packet) -> Option<Translated> {
    let made_here = flow.translated.filter(|to| to.node == node);
    made_here.filter(|to| reply.src == to.backend)
}
