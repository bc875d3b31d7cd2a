//! What ARP and neighbour discovery say at one observer: which addresses are requested, and which Ethernet addresses answered.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::seen::Seen;
use crate::packet::mac::Mac;
use crate::packet::{Resolution, ResolutionKind};
use crate::time::Timestamp;

/// The most addresses that are remembered.
const MAX_ADDRESSES: usize = 20_000;

/// The most resolutions that are kept for the report.
const MAX_KEPT: usize = 4_096;

/// Equal resolutions within this time are kept once.
const REPEATED_WITHIN: Duration = Duration::from_millis(900);

/// The neighbours of one observer.
#[derive(Clone, Debug, Default)]
pub(super) struct Neighbours {
    addresses: BTreeMap<IpAddr, Neighbour>,
    /// Resolutions, equal ones in short order once.
    kept: Vec<Seen>,
    /// The addresses that each Ethernet address claims.
    claims: BTreeMap<Mac, Vec<IpAddr>>,
    recent: BTreeMap<(bool, IpAddr, IpAddr, Option<Mac>), Timestamp>,
}

/// One address.
#[derive(Clone, Debug, Default)]
pub(super) struct Neighbour {
    /// How often it was requested for.
    pub(super) requested: u32,
    /// How often it was requested for since its last answer, or a packet of it.
    pub(super) unanswered: u32,
    /// The Ethernet addresses that answered for it, with the time of the last answer of each.
    pub(super) answered_by: Vec<(Mac, Timestamp)>,
    /// The shortest time between answers of two of them.
    pub(super) contested: Option<Duration>,
}

impl Neighbours {
    /// Adds a resolution.
    pub(super) fn take(&mut self, seen: &Seen, resolution: &Resolution) {
        let is_request = resolution.kind == ResolutionKind::Request;
        let key = (
            is_request,
            resolution.sender,
            resolution.target,
            resolution.sender_mac,
        );
        let is_repeated = (self.recent.get(&key))
            .is_some_and(|earlier| seen.at.since(*earlier) < REPEATED_WITHIN);
        if !is_repeated {
            if self.kept.len() < MAX_KEPT {
                self.kept.push(*seen);
            }
            if self.recent.len() >= MAX_ADDRESSES {
                self.recent.clear();
            }
            self.recent.insert(key, seen.at);
        }
        self.claim(resolution);
        if self.addresses.len() >= MAX_ADDRESSES && !self.addresses.contains_key(&resolution.target)
        {
            return;
        }
        let neighbour = self.addresses.entry(resolution.target).or_default();
        match (resolution.kind, resolution.sender_mac) {
            (ResolutionKind::Request, _) => {
                neighbour.requested += u32::from(!is_repeated);
                neighbour.unanswered += u32::from(!is_repeated);
            }
            (ResolutionKind::Reply, Some(mac)) => {
                neighbour.unanswered = 0;
                neighbour.answer(seen.at, mac);
            }
            (ResolutionKind::Reply, None) => neighbour.unanswered = 0,
        }
    }

    fn claim(&mut self, resolution: &Resolution) {
        let Some(mac) = resolution.sender_mac else {
            return;
        };
        let has_room = self.claims.len() < MAX_ADDRESSES;
        if !has_room && !self.claims.contains_key(&mac) {
            return;
        }
        let claimed = self.claims.entry(mac).or_default();
        if claimed.len() < 8 && !claimed.contains(&resolution.sender) {
            claimed.push(resolution.sender);
        }
    }

    /// Another address of the same network that has the same Ethernet address.
    pub(super) fn twin(&self, address: IpAddr) -> Option<IpAddr> {
        let claimed = self
            .claims
            .values()
            .find(|claimed| claimed.contains(&address))?;
        let is_near = |other: &&IpAddr| match (address, **other) {
            (IpAddr::V4(one), IpAddr::V4(other)) => {
                one != other && one.octets().first_chunk::<3>() == other.octets().first_chunk::<3>()
            }
            (IpAddr::V4(_) | IpAddr::V6(_), _) => false,
        };
        claimed.iter().find(is_near).copied()
    }

    /// The addresses that were requested at least `times` since their last answer, and how often.
    pub(super) fn unanswered(&self, times: u32) -> impl Iterator<Item = (IpAddr, u32)> {
        (self.addresses.iter())
            .map(|(address, neighbour)| (*address, neighbour.unanswered))
            .filter(move |(_, requests)| *requests >= times)
    }

    /// What is known of an address.
    pub(super) fn of(&self, address: IpAddr) -> Option<&Neighbour> {
        self.addresses.get(&address)
    }

    /// The resolutions from one time to another.
    pub(super) fn between(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = &Seen> {
        let start = self.kept.partition_point(|seen| seen.at < from);
        let rest = self.kept.get(start..).unwrap_or_default();
        rest.iter().take_while(move |seen| seen.at <= to)
    }
}

impl Neighbour {
    fn answer(&mut self, at: Timestamp, mac: Mac) {
        let others = self.answered_by.iter().filter(|(other, _)| *other != mac);
        let nearest = others.map(|(_, then)| at.since(*then)).min();
        if let Some(gap) = nearest {
            self.contested = Some(self.contested.map_or(gap, |known| known.min(gap)));
        }
        if let Some((_, last)) = (self.answered_by.iter_mut()).find(|(known, _)| *known == mac) {
            *last = at;
        } else if self.answered_by.len() < 4 {
            self.answered_by.push((mac, at));
        }
    }
}
