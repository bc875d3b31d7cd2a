//! The position of an observer: at the client's end of a flow, at its server's, or in transit.
//!
//! A file may have the direction of each packet. Otherwise the capturing host is the one whose address is on most packets;
//! of two such hosts, the one whose packets were not forwarded yet, or else the one that sent the first SYN.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::packet::EthernetAddresses;
use crate::packet::capture::CapturedPacket;
use crate::packet::mac::Mac;
use crate::packet::observation::Direction;

/// The position of an observer of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ObserverPosition {
    /// On the host that sent the SYN.
    Client,
    /// On a node or a router that forwards it.
    InTransit,
    /// On the host that received the SYN.
    Server,
}

/// The host that a capture was taken on, as its packets show.
#[derive(Clone, Copy, Debug)]
pub(super) enum CapturingHost {
    Mac(Mac),
    Ip(IpAddr),
    Unknown,
}

impl CapturingHost {
    /// The address that is on the most packets.
    pub(super) fn of(packets: &[&CapturedPacket<'_>]) -> Self {
        let tcp = || {
            packets
                .iter()
                .filter_map(|seen| seen.packet.tcp().map(|tcp| (seen, tcp)))
        };
        let macs = tcp().filter_map(|(seen, (ip, tcp))| {
            let (src, dst) = unicast(seen.packet.link?)?;
            Some((src, dst, undiminished(ip.hop_limit), tcp.flags.is_syn()))
        });
        let ips = tcp().map(|(_, (ip, tcp))| {
            (
                ip.src,
                ip.dst,
                undiminished(ip.hop_limit),
                tcp.flags.is_syn(),
            )
        });
        most_frequent(macs)
            .map(Self::Mac)
            .or_else(|| most_frequent(ips).map(Self::Ip))
            .unwrap_or(Self::Unknown)
    }

    /// The position of the observer of this SYN.
    pub(super) fn position(self, syn: &CapturedPacket<'_>) -> ObserverPosition {
        match syn.direction {
            Some(Direction::Sent) => return ObserverPosition::Client,
            Some(Direction::Received) => return ObserverPosition::Server,
            Some(Direction::Overheard) => return ObserverPosition::InTransit,
            None => {}
        }
        let Some((ip, _)) = syn.packet.tcp() else {
            return ObserverPosition::InTransit;
        };
        let (is_src, is_dst) = match self {
            Self::Mac(mac) => {
                let ends = syn.packet.link.and_then(unicast);
                (
                    ends.is_some_and(|(src, _)| src == mac),
                    ends.is_some_and(|(_, dst)| dst == mac),
                )
            }
            Self::Ip(local) => (ip.src == local, ip.dst == local),
            Self::Unknown => (undiminished(ip.hop_limit), false),
        };
        match (is_src, is_dst) {
            (true, _) => ObserverPosition::Client,
            (false, true) => ObserverPosition::Server,
            (false, false) => ObserverPosition::InTransit,
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

/// Packets of one address.
#[derive(Clone, Copy, Debug, Default)]
struct AddressCount {
    packets: u64,
    forwarded: u64,
    first_syn: Option<usize>,
}

fn most_frequent<K: Ord + Copy>(packets: impl Iterator<Item = (K, K, bool, bool)>) -> Option<K> {
    let mut seen: BTreeMap<K, AddressCount> = BTreeMap::new();
    for (place, (src, dst, fresh, syn)) in packets.enumerate() {
        let sender = seen.entry(src).or_default();
        sender.packets += 1;
        sender.forwarded += u64::from(!fresh);
        if syn {
            sender.first_syn.get_or_insert(place);
        }
        if src != dst {
            seen.entry(dst).or_default().packets += 1;
        }
    }
    seen.into_iter()
        .min_by_key(|(_, seen)| {
            (
                u64::MAX - seen.packets,
                seen.forwarded,
                seen.first_syn.unwrap_or(usize::MAX),
            )
        })
        .map(|(key, _)| key)
}
