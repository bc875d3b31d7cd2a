//! The tables of the nodes' connection tracking: what the packets of a run leave in them, and what a reading has of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use prober_core::evidence::Matrix;
use prober_core::node_facts::conntrack::ConntrackSelection;
use prober_core::node_facts::{ConntrackReading, ConntrackRequest};
use prober_core::packet::TcpFlags;
use prober_core::packet::family::Family;
use prober_core::topology::NodeName;

use super::address::{client, gateway_ip, node_ip, node_name, server, tunnel_ip};
use super::cluster::Cluster;
use super::packet::Packet;

/// When the tables are read, milliseconds since the start of the run: after the second look at failing paths.
const READ_MS: u64 = 25_000;

/// Source and destination of a packet.
type Tuple = (SocketAddr, SocketAddr);

/// The table of each node.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    nodes: BTreeMap<u8, Vec<Entry>>,
}

/// A connection that has passed netfilter of a node.
#[derive(Debug)]
struct Entry {
    /// The addresses of its first packet as it came.
    original: Tuple,
    /// The addresses that an answer has when it comes.
    reply: Tuple,
    state: State,
    /// Whether an answer came.
    is_replied: bool,
    /// When its last packet came, milliseconds since the start of the run.
    seen_ms: u64,
}

/// The states of a connection that a run does not close by FINs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    SynSent,
    SynRecv,
    Established,
    Close,
}

impl State {
    /// The word of the kernel, and the seconds until an entry without another packet is gone
    /// (`nf_conntrack_tcp_timeout_*`).
    const fn definition(self) -> (&'static str, u64) {
        match self {
            Self::SynSent => ("SYN_SENT", 120),
            Self::SynRecv => ("SYN_RECV", 60),
            Self::Established => ("ESTABLISHED", 432_000),
            Self::Close => ("CLOSE", 10),
        }
    }
}

impl Tables {
    /// PREROUTING and OUTPUT (`nf_conntrack_in`): the packet changes the entry of its connection, if there is one.
    pub(crate) fn see(&mut self, node: u8, packet: Packet, ms: u64, sees_replies: bool) {
        let table = self.nodes.entry(node).or_default();
        let tuple = (packet.src, packet.dst);
        // The newest one: the kernel never has two with a tuple in common.
        let found = table
            .iter()
            .rposition(|entry| entry.original == tuple || entry.reply == tuple);
        let Some(at) = found else {
            return;
        };
        let entry = &mut table[at];
        let is_reply = entry.original != tuple;
        if is_reply && !sees_replies {
            return;
        }
        // A RST as the only answer ends the entry at once (`nf_conntrack_tcp_packet`).
        if packet.flags.has(TcpFlags::RST) && !entry.is_replied {
            table.remove(at);
            return;
        }
        entry.seen_ms = ms;
        entry.is_replied |= is_reply;
        entry.state = match entry.state {
            _ if packet.flags.has(TcpFlags::RST) => State::Close,
            State::SynSent if packet.flags.is_syn_ack() && is_reply => State::SynRecv,
            State::SynRecv if !packet.flags.has(TcpFlags::SYN) && !is_reply => State::Established,
            State::Close if packet.is_new() => State::SynSent,
            same @ (State::SynSent | State::SynRecv | State::Established | State::Close) => same,
        };
    }

    /// POSTROUTING (`nf_confirm`): the first packet of a connection leaves an entry, with the addresses that it came with
    /// and those that it leaves with.
    pub(crate) fn confirm(&mut self, node: u8, came: Packet, leaves: Packet, ms: u64) {
        let table = self.nodes.entry(node).or_default();
        let original = (came.src, came.dst);
        if came.is_new() && !table.iter().any(|entry| entry.original == original) {
            table.push(Entry {
                original,
                reply: (leaves.dst, leaves.src),
                state: State::SynSent,
                is_replied: false,
                seen_ms: ms,
            });
        }
    }

    /// The requested entries of a node, at the end of the run.
    pub(crate) fn reading(&self, node: u8, request: &ConntrackRequest) -> ConntrackReading {
        let mut selection = ConntrackSelection::new(request);
        let of_clients = |entry: &&Entry| request.clients.contains(&entry.original.0.ip());
        let table = self.nodes.get(&node).into_iter().flatten();
        for line in table.filter(of_clients).filter_map(Entry::line) {
            selection.add(&line);
        }
        selection.finish(true)
    }
}

impl Entry {
    /// Its line in `/proc/net/nf_conntrack`, unless it has ended.
    fn line(&self) -> Option<String> {
        let (word, timeout) = self.state.definition();
        let left = (self.seen_ms / 1000 + timeout).checked_sub(READ_MS / 1000)?;
        let family = match Family::of(self.original.0.ip()) {
            Family::Ipv4 => "ipv4 2",
            Family::Ipv6 => "ipv6 10",
        };
        let tuple = |(from, to): Tuple| {
            format!(
                "src={} dst={} sport={} dport={}",
                from.ip(),
                to.ip(),
                from.port(),
                to.port()
            )
        };
        let unreplied = if self.is_replied { "" } else { "[UNREPLIED] " };
        let assured = if self.state == State::Established {
            "[ASSURED] "
        } else {
            ""
        };
        let (original, reply) = (tuple(self.original), tuple(self.reply));
        Some(format!(
            "{family} tcp 6 {left} {word} {original} {unreplied}{reply} {assured}mark=0 use=2"
        ))
    }
}

/// The connections that are requested of each node: those of the failing paths, and of the comparisons, that it is at an end of.
pub(crate) fn requests(cluster: &Cluster, matrix: &Matrix) -> BTreeMap<NodeName, ConntrackRequest> {
    let of_run = (matrix.paths.iter())
        .filter(|(id, path)| !path.is_clean() || matrix.comparisons.contains_key(id))
        .map(|(_, path)| path);
    let only_balanced = of_run.clone().all(|path| path.path.server.is_none());
    let mut requests: BTreeMap<NodeName, ConntrackRequest> = BTreeMap::new();
    for path in of_run {
        let servers = path.backends.iter().filter_map(|end| end.agent.as_ref());
        let servers = servers.filter(|_| only_balanced || path.path.server.is_some());
        for agent in std::iter::once(&path.path.client).chain(servers) {
            let request = requests.entry(agent.node.clone()).or_default();
            let client = &path.path.client.node;
            request
                .clients
                .extend(sources(cluster, client, path.path.family));
            request.targets.insert(path.target);
            let backends = path.backends.iter().map(|backend| backend.address);
            request.targets.extend(backends);
        }
    }
    requests
}

/// The sources that packets of a node's clients may have: those of its pods, and its own, which replace them.
fn sources(cluster: &Cluster, node: &NodeName, family: Family) -> Vec<IpAddr> {
    let is_its = |number: &u8| node_name(*number) == *node;
    let node = cluster.numbers().find(is_its).unwrap();
    vec![
        cluster.ip(client(node), family),
        cluster.ip(server(node), family),
        node_ip(cluster.profile, node, family),
        gateway_ip(cluster.profile, node, family),
        tunnel_ip(node, family),
    ]
}
