//! The host that a capture was taken on, and where it is on the way of a connection.
//!
//! A file may have the direction of each packet. Otherwise the capturing host is the one whose address is on most packets;
//! of two such hosts, the one whose packets were not forwarded yet, or else the one that sent the first SYN.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::attempt::{Attempt, Leg, SERVER};
use super::neighbours::Neighbours;
use super::seen::Seen;
use crate::packet::EthernetAddresses;
use crate::packet::mac::Mac;
use crate::packet::observation::Direction;

/// The most addresses that are counted.
const MAX_ADDRESSES: usize = 10_000;

/// The position of an observer of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Position {
    /// On the host that sent the SYN.
    Client,
    /// On a node or a router that forwards it.
    InTransit,
    /// On the host that received the SYN.
    Server,
}

/// The hosts of one observer's packets.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosts {
    macs: BTreeMap<Mac, AddressCount>,
    ips: BTreeMap<IpAddr, AddressCount>,
    packets: usize,
}

/// Packets of one address.
#[derive(Clone, Copy, Debug, Default)]
struct AddressCount {
    packets: u64,
    forwarded: u64,
    first_syn: Option<usize>,
}

/// The host that captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CapturingHost {
    Mac(Mac),
    Ip(IpAddr),
    Unknown,
}

impl Hosts {
    /// Counts a packet.
    pub(super) fn take(&mut self, seen: &Seen) {
        let Some((ip, tcp)) = seen.tcp() else {
            return;
        };
        self.packets += 1;
        let is_fresh = undiminished(ip.hop_limit);
        let syn = tcp.flags.is_syn().then_some(self.packets);
        if let Some((src, dst)) = seen.packet.link.and_then(unicast) {
            count(&mut self.macs, src, dst, is_fresh, syn);
        } else {
            count(&mut self.ips, ip.src, ip.dst, is_fresh, syn);
        }
    }

    /// The host whose address is on the most packets.
    pub(super) fn capturing(&self) -> CapturingHost {
        let mac = most_frequent(&self.macs).map(CapturingHost::Mac);
        mac.or_else(|| most_frequent(&self.ips).map(CapturingHost::Ip))
            .unwrap_or(CapturingHost::Unknown)
    }
}

impl CapturingHost {
    /// The position of the observer of an attempt.
    pub(super) fn position(self, attempt: &Attempt, neighbours: &Neighbours) -> Position {
        if attempt.legs.iter().any(|leg| leg.tunnel.is_some()) {
            return Position::InTransit;
        }
        if attempt.legs.len() > 1 || attempt.legs.iter().any(|leg| leg.is_forwarded) {
            let first = attempt.first_leg();
            // The client's end may overhear its own SYN on its way to another port of a bridge.
            let is_own = match self {
                Self::Mac(mac) => first.link.is_some_and(|link| link.src == mac),
                Self::Ip(_) | Self::Unknown => false,
            };
            return if is_own && first.direction.is_none_or(|way| way == Direction::Sent) {
                Position::Client
            } else {
                Position::InTransit
            };
        }
        let leg = attempt.first_leg();
        match leg.direction {
            Some(Direction::Sent) => return Position::Client,
            Some(Direction::Received) => return Position::Server,
            Some(Direction::Overheard) => return Position::InTransit,
            None => {}
        }
        if self.is_client(&leg, attempt) {
            Position::Client
        } else if self.is_server(&leg, attempt, neighbours) {
            Position::Server
        } else {
            Position::InTransit
        }
    }

    /// Whether the client's own host captured: a router's SYN has lost a hop.
    fn is_client(self, leg: &Leg, attempt: &Attempt) -> bool {
        let is_fresh = leg.hop_limit == 0 || undiminished(leg.hop_limit);
        is_fresh
            && match self {
                Self::Mac(mac) => leg
                    .link
                    .and_then(unicast)
                    .is_some_and(|(src, _)| src == mac),
                Self::Ip(local) => leg.client.ip() == local,
                Self::Unknown => attempt.syn_count > 0,
            }
    }

    /// Whether the server's own host captured. Of a silent one only its answers to neighbours show that it is the server, and
    /// no router on the way.
    fn is_server(self, leg: &Leg, attempt: &Attempt, neighbours: &Neighbours) -> bool {
        let has_spoken = !attempt.answers.is_empty()
            || attempt.resets.iter().any(|reset| !reset.by_client)
            || attempt
                .ways
                .get(SERVER)
                .is_some_and(|way| way.last.is_some());
        let has_answered = |mac: Mac| {
            (neighbours.of(leg.target.ip()))
                .is_some_and(|found| found.answered_by.iter().any(|(other, _)| *other == mac))
        };
        match self {
            Self::Mac(mac) => {
                let is_receiver = leg
                    .link
                    .and_then(unicast)
                    .is_some_and(|(_, dst)| dst == mac);
                is_receiver && (has_spoken || has_answered(mac))
            }
            Self::Ip(local) => leg.target.ip() == local && has_spoken,
            Self::Unknown => false,
        }
    }
}

/// Whether no router has decremented this hop limit: an initial value of common systems.
pub(super) const fn undiminished(hop_limit: u8) -> bool {
    matches!(hop_limit, 64 | 128 | 255)
}

/// The two addresses of a unicast frame; loopback has none.
fn unicast(link: EthernetAddresses) -> Option<(Mac, Mac)> {
    let dst = link.dst?;
    let group = dst.0.first().is_some_and(|first| first & 1 == 1);
    (!group && link.src != Mac::LOOPBACK).then_some((link.src, dst))
}

fn count<K: Ord + Copy>(
    seen: &mut BTreeMap<K, AddressCount>,
    src: K,
    dst: K,
    is_fresh: bool,
    syn: Option<usize>,
) {
    let has_room = seen.len() < MAX_ADDRESSES;
    if has_room || seen.contains_key(&src) {
        let sender = seen.entry(src).or_default();
        sender.packets += 1;
        sender.forwarded += u64::from(!is_fresh);
        if sender.first_syn.is_none() {
            sender.first_syn = syn;
        }
    }
    if src != dst && (has_room || seen.contains_key(&dst)) {
        seen.entry(dst).or_default().packets += 1;
    }
}

fn most_frequent<K: Ord + Copy>(seen: &BTreeMap<K, AddressCount>) -> Option<K> {
    let key = |seen: &AddressCount| {
        (
            u64::MAX - seen.packets,
            seen.forwarded,
            seen.first_syn.unwrap_or(usize::MAX),
        )
    };
    (seen.iter().min_by_key(|(_, seen)| key(seen))).map(|(address, _)| *address)
}
