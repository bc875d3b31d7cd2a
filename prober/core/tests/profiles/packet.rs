//! A packet between two stages of its way, and how its way can end.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use prober_core::node_facts::LinkCounters;
use prober_core::packet::mac::Mac;
use prober_core::packet::{TcpFlags, Unreachable};
use prober_core::probe::outcome::Errno;

use super::address::Agent;

/// The initial TTL of every packet.
pub(crate) const TTL: u8 = 64;

/// A packet, as the current stage has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet {
    pub(crate) src: SocketAddr,
    pub(crate) dst: SocketAddr,
    pub(crate) ttl: u8,
    pub(crate) flags: TcpFlags,
    /// It fills the pod's MTU.
    pub(crate) is_large: bool,
    /// It belongs to no connection that conntrack has: INVALID.
    pub(crate) is_stray: bool,
    /// Its sequence number is outside the window: conntrack neither drops nor translates it.
    pub(crate) is_outside_window: bool,
}

impl Packet {
    pub(crate) const fn new(src: SocketAddr, dst: SocketAddr, flags: TcpFlags) -> Self {
        Self {
            src,
            dst,
            ttl: TTL,
            flags,
            is_large: false,
            is_stray: false,
            is_outside_window: false,
        }
    }

    /// Whether it starts a connection.
    pub(crate) const fn is_new(&self) -> bool {
        self.flags.is_syn()
    }
}

/// One connection of a client, with the translation that a node has chosen for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    pub(crate) client: Agent,
    pub(crate) src: SocketAddr,
    pub(crate) target: SocketAddr,
    pub(crate) translated: Option<Translated>,
    /// The translation stays: the first packet has left the node (conntrack confirms it then).
    pub(crate) is_confirmed: bool,
}

/// A translation of a Service's address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Translated {
    pub(crate) node: u8,
    pub(crate) backend: SocketAddr,
    /// The new source, if it was replaced as well.
    pub(crate) source: Option<SocketAddr>,
}

/// A packet at the agent that it reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: Agent,
    pub(crate) packet: Packet,
    pub(crate) src_mac: Mac,
}

/// Why a packet goes no further.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    /// Dropped in silence.
    Dropped,
    /// An ICMP error goes back to its sender.
    Error(IcmpError),
    /// A rule answers by a RST in the name of its destination.
    ForgedReset { node: u8, is_bridged: bool },
    /// It comes back to its sender, whose kernel drops it for its source (`SKB_DROP_REASON_IP_LOCAL_SOURCE`).
    Returned(Arrival),
    /// The client's own kernel refuses connect().
    Refused(Errno),
}

/// An ICMP error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IcmpError {
    pub(crate) by: Router,
    pub(crate) what: Icmp,
    /// The TTL of the packet that it quotes.
    pub(crate) quoted_ttl: u8,
    /// Milliseconds after the packet.
    pub(crate) after_ms: u64,
}

/// The kinds of ICMP error of the simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Icmp {
    TimeExceeded,
    Unreachable(Unreachable),
}

/// The sender of an ICMP error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Router {
    Node(u8),
    /// The load balancer of the client's node, with the Service's address.
    Balancer,
    /// The router of a node's segment.
    TopOfRack(u8),
}

/// Counters of nodes, links and pods since the start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) nodes: BTreeMap<(u8, &'static str), u64>,
    pub(crate) links: BTreeMap<(u8, &'static str), LinkCounters>,
    pub(crate) pods: BTreeMap<(Agent, &'static str), u64>,
}

impl Counts {
    pub(crate) fn node(&mut self, node: u8, name: &'static str) {
        *self.nodes.entry((node, name)).or_default() += 1;
    }

    pub(crate) fn pod(&mut self, pod: Agent, name: &'static str) {
        *self.pods.entry((pod, name)).or_default() += 1;
    }

    pub(crate) fn link(&mut self, node: u8, link: &'static str) -> &mut LinkCounters {
        self.links.entry((node, link)).or_default()
    }
}
