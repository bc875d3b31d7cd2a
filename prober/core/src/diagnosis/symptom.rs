//! Symptoms: how one probe failed, and groups of equal failures that a cause has to explain.

/// From probes to groups.
mod failure_group;

use std::net::SocketAddr;

use crate::evidence::{Evidence, PathEvidence, Source};
use crate::packet::family::Family;
use crate::packet::observation::Direction;
use crate::packet::{Checksum, Unreachable};
use crate::probe::outcome::{Errno, Exchange, Outcome, ProbeResult};
use crate::topology::{AccessPath, AgentId, NodeName, PathId};

pub(crate) use failure_group::groups;

/// How one probe failed, as its client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Symptom {
    /// A SYN+ACK from an address that was not probed.
    SynAckFromWrongSource,
    /// A RST from an address that was not probed, and no answer from the target.
    ResetFromWrongSource,
    /// A RST from the target.
    Reset,
    /// An ICMP unreachable, or the errno that connect() makes of one.
    Unreachable(Unreachable),
    /// The client's own kernel refused connect() and sent no packet.
    RefusedLocally(Errno),
    /// No answer at all.
    Silent,
    /// Some probes of the same kind on the same path were lost or late, and others were not.
    Lossy,
    /// The handshake was completed, and no data arrived.
    NoData,
    /// The banner arrived, large packets did not.
    Stalled,
    /// The handshake was completed, then the connection was reset.
    Broken,
    /// The pod that answered is not the one in the API.
    WrongBackend,
}

impl Symptom {
    /// Whether a router reported that the destination is unreachable.
    pub(crate) const fn is_unroutable(self) -> bool {
        matches!(
            self,
            Self::Unreachable(Unreachable::Network | Unreachable::Host | Unreachable::Prohibited)
        )
    }

    /// Whether a RST answered, from the target or from another address.
    pub(crate) const fn is_reset(self) -> bool {
        matches!(self, Self::Reset | Self::ResetFromWrongSource)
    }

    /// Why it is unreachable, if an ICMP error has the reason.
    pub(crate) const fn unreachable(self) -> Option<Unreachable> {
        match self {
            Self::Unreachable(reason) => Some(reason),
            Self::SynAckFromWrongSource
            | Self::ResetFromWrongSource
            | Self::Reset
            | Self::RefusedLocally(_)
            | Self::Silent
            | Self::Lossy
            | Self::NoData
            | Self::Stalled
            | Self::Broken
            | Self::WrongBackend => None,
        }
    }

    /// The errno of connect(), if the client's own kernel refused it.
    pub(crate) const fn refused_locally(self) -> Option<Errno> {
        match self {
            Self::RefusedLocally(errno) => Some(errno),
            Self::SynAckFromWrongSource
            | Self::ResetFromWrongSource
            | Self::Reset
            | Self::Unreachable(_)
            | Self::Silent
            | Self::Lossy
            | Self::NoData
            | Self::Stalled
            | Self::Broken
            | Self::WrongBackend => None,
        }
    }

    /// The predicate of a sentence such as "3 probes on 2 paths ...".
    pub(crate) fn predicate(self) -> String {
        let words = match self {
            Self::SynAckFromWrongSource => {
                "were answered by SYN+ACK from an address that was not probed"
            }
            Self::ResetFromWrongSource => {
                "were answered by RST from an address that was not probed"
            }
            Self::Reset => "were refused by RST",
            Self::Unreachable(Unreachable::Network) => "were answered by ICMP network unreachable",
            Self::Unreachable(Unreachable::Host) => "were answered by ICMP host unreachable",
            Self::Unreachable(Unreachable::Port) => "were answered by ICMP port unreachable",
            Self::Unreachable(Unreachable::Prohibited) => {
                "were answered by ICMP administratively prohibited"
            }
            Self::Unreachable(Unreachable::Other) => "were answered by an ICMP unreachable",
            Self::Silent => "received no answer at all",
            Self::Lossy => "were lost or late while others on the same path succeeded",
            Self::NoData => "completed the handshake and then received nothing",
            Self::Stalled => "received the banner, but large packets did not arrive",
            Self::Broken => "were reset after the handshake",
            Self::WrongBackend => "were answered by another pod than the API names",
            Self::RefusedLocally(errno) => return format!("never left: {}", errno.sentence()),
        };
        words.to_owned()
    }
}

/// What the server's end observed of a failing group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ServerEnd {
    /// Not known: no capture, no report, or packets lost by the capture itself.
    Unknown,
    /// No packet arrived, and its capture ran.
    Nothing,
    /// SYNs arrived, nothing left.
    SynOnly,
    /// SYNs arrived and SYN+ACKs left.
    SynAck,
    /// SYNs arrived, SYN+ACKs left, and RSTs came back.
    SynAckReset,
    /// SYNs arrived and RSTs left.
    ResetSent,
    /// The handshake was completed: the third packet arrived.
    Completed,
}

/// Probes of one path, to one server as far as that is known, with the same symptom.
#[derive(Clone, Debug)]
pub(crate) struct FailureGroup {
    /// Its index among the groups of the matrix.
    pub(crate) index: usize,
    pub(crate) path: PathId,
    pub(crate) client: AgentId,
    /// The server that was reached, or that was expected to answer.
    pub(crate) server: Option<AgentId>,
    pub(crate) access_path: AccessPath,
    pub(crate) family: Family,
    pub(crate) symptom: Symptom,
    /// Their indices in the path's `probes`.
    pub(crate) probes: Vec<usize>,
    pub(crate) server_end: ServerEnd,
}

impl FailureGroup {
    /// Client and server are known to be on one node.
    pub(crate) fn is_same_node(&self) -> bool {
        self.server
            .as_ref()
            .is_some_and(|server| server.node == self.client.node)
    }

    /// Client and server are known to be on two nodes.
    pub(crate) fn is_cross_node(&self) -> bool {
        self.server
            .as_ref()
            .is_some_and(|server| server.node != self.client.node)
    }

    /// One end is on a node.
    pub(crate) fn involves(&self, node: &NodeName) -> bool {
        self.client.node == *node
            || (self.server.as_ref()).is_some_and(|server| server.node == *node)
    }

    /// No packet of it is known to have arrived at the server's end.
    pub(crate) const fn is_unseen(&self) -> bool {
        matches!(self.server_end, ServerEnd::Nothing | ServerEnd::Unknown)
    }

    /// Whether the kernel of a client in its node's own network found no route: connect() returned `ENETUNREACH` and sent
    /// nothing.
    pub(crate) fn is_unrouted(&self) -> bool {
        self.access_path == AccessPath::HostNetwork
            && self.symptom == Symptom::RefusedLocally(Errno::Enetunreach)
    }

    /// The first probe, as a sample.
    pub(crate) fn first(&self) -> Option<(PathId, usize)> {
        self.probes.first().map(|&at| (self.path, at))
    }
}

/// The new destination of the own SYN: connect() translated it, or a translated copy of it was observed.
pub(crate) fn translated_destination(probe: &ProbeResult) -> Option<SocketAddr> {
    let copied = || {
        probe.observations.iter().find_map(|seen| {
            let (_, tcp) = seen.packet.tcp()?;
            let copy = seen.direction != Direction::Sent
                && tcp.flags.is_syn()
                && Some(tcp.seq) == probe.isn;
            let to = seen.packet.tcp_dst()?;
            (copy && to != probe.dst && to.ip() != probe.src.ip()).then_some(to)
        })
    };
    probe.translated_in_connect().or_else(copied)
}

/// The first TCP answer from an address that was not probed, and whether it is a RST.
pub(crate) fn wrong_source(probe: &ProbeResult) -> Option<(SocketAddr, Symptom)> {
    let peer = probe.peer();
    probe.observations.iter().find_map(|seen| {
        let (_, tcp) = seen.packet.tcp()?;
        let from = seen.packet.tcp_src()?;
        let is_to_client = seen.packet.tcp_dst()? == probe.src;
        // The client's kernel drops what has a wrong checksum (net/ipv4/tcp_ipv4.c).
        let is_dropped = tcp.checksum == Checksum::Invalid;
        if seen.direction != Direction::Received || !is_to_client || from == peer || is_dropped {
            return None;
        }
        if tcp.flags.is_syn_ack() {
            Some((from, Symptom::SynAckFromWrongSource))
        } else if tcp.flags.has(crate::packet::TcpFlags::RST) {
            Some((from, Symptom::ResetFromWrongSource))
        } else {
            None
        }
    })
}

/// The symptom of one probe of a client that was late for its own timers by up to `starved_ns`; `None` where it is healthy.
pub(crate) fn symptom(
    source: Source,
    evidence: &PathEvidence,
    evidence_of_probe: &Evidence,
    starved_ns: u64,
) -> Option<Symptom> {
    let probe = &evidence_of_probe.client;
    match probe.outcome {
        Outcome::Established { connect_ns, .. } => {
            let exchange = if source == Source::Run {
                exchange_symptom(evidence, evidence_of_probe)
            } else {
                None
            };
            // A connect() of nearly a second is late, even where the SYNs were not counted. Without packets the client measured
            // the time, and it may have been late itself.
            let own = if probe.isn.is_none() { starved_ns } else { 0 };
            let late = probe.syns > 1 || connect_ns.saturating_sub(own) >= 900_000_000;
            exchange.or(late.then_some(Symptom::Lossy))
        }
        Outcome::Reset { .. } => Some(Symptom::Reset),
        // The client's own kernel: its neighbour solicitations had no answer.
        Outcome::Unreachable { by, .. } if by == Some(probe.src.ip()) => Some(Symptom::Silent),
        Outcome::Unreachable { reason, .. } => Some(Symptom::Unreachable(reason)),
        Outcome::RefusedLocally { errno } => Some(Symptom::RefusedLocally(errno)),
        Outcome::Mismatched { .. } => {
            Some(wrong_source(probe).map_or(Symptom::SynAckFromWrongSource, |(_, symptom)| symptom))
        }
        Outcome::Timeout => {
            Some(wrong_source(probe).map_or(Symptom::Silent, |(_, symptom)| symptom))
        }
    }
}

fn exchange_symptom(evidence: &PathEvidence, evidence_of_probe: &Evidence) -> Option<Symptom> {
    match &evidence_of_probe.client.exchange {
        Exchange::NotTried => None,
        Exchange::NoBanner => Some(Symptom::NoData),
        Exchange::InvalidBanner => Some(Symptom::WrongBackend),
        Exchange::Reset => Some(Symptom::Broken),
        Exchange::BannerReceived { banner, .. } if evidence.is_of_another(banner) => {
            Some(Symptom::WrongBackend)
        }
        Exchange::BannerReceived { .. } => {
            evidence_of_probe.is_stalled().then_some(Symptom::Stalled)
        }
    }
}
