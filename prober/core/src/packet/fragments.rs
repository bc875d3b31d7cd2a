//! Packets that arrive in fragments: which of them are whole, and which miss a part.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::packet::layers::Fragment;
use crate::time::Timestamp;

/// How long a receiver waits for the rest of a packet, at most (net.ipv4.ipfrag_time, net.ipv6.ip6frag_time: 30 and 60 s).
const WAIT: Duration = Duration::from_mins(1);

/// The most packets that are known at a time.
const MOST: usize = 4096;

/// The most parts of a packet that are kept apart.
const MOST_PARTS: usize = 64;

/// Packets in fragments. Its memory is bounded: the packets that are longest in it give way.
#[derive(Clone, Debug, Default)]
pub struct Fragments {
    packets: BTreeMap<PacketId, Parts>,
    /// The same packets in the order of their first fragment.
    by_age: BTreeSet<(Timestamp, PacketId)>,
    whole: u64,
    incomplete: u64,
}

/// What all fragments of a packet have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId {
    /// Source.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// The protocol of its payload.
    pub protocol: u8,
    /// Its identification.
    pub ident: u32,
}

/// The parts of a packet that were seen.
#[derive(Clone, Debug)]
struct Parts {
    since: Timestamp,
    /// Start and end of each part, in order, none touching the next.
    seen: Vec<(u32, u32)>,
    /// The length of the payload, once the last fragment was seen.
    len: Option<u32>,
}

impl PacketId {
    /// The packet that a fragment belongs to.
    pub const fn of(fragment: &Fragment) -> Self {
        Self {
            src: fragment.src,
            dst: fragment.dst,
            protocol: fragment.protocol,
            ident: fragment.ident,
        }
    }
}

impl Fragments {
    /// Takes a fragment that was captured at this time. Returns whether it makes its packet whole.
    ///
    /// A copy of a fragment of a packet that is whole already changes nothing.
    pub fn add(&mut self, fragment: &Fragment, at: Timestamp) -> bool {
        while let Some((since, _)) = self.by_age.first()
            && at.since(*since) > WAIT
        {
            self.drop_oldest();
        }
        let id = PacketId::of(fragment);
        let by_age = &mut self.by_age;
        let parts = self.packets.entry(id).or_insert_with(|| {
            by_age.insert((at, id));
            Parts {
                since: at,
                seen: Vec::new(),
                len: None,
            }
        });
        let was_whole = parts.is_whole();
        parts.add(fragment);
        let is_whole = parts.is_whole();
        if self.packets.len() > MOST {
            self.drop_oldest();
        }
        is_whole && !was_whole
    }

    /// How many packets had all of their fragments.
    pub fn whole(&self) -> u64 {
        let known = self.packets.values().filter(|parts| parts.is_whole());
        self.whole + known.count() as u64
    }

    /// How many packets did not have all of their fragments, with those that are still awaited.
    pub fn incomplete(&self) -> u64 {
        self.incomplete + self.awaited().count() as u64
    }

    /// The packets whose fragments are still awaited, and the time of their first one.
    pub fn awaited(&self) -> impl Iterator<Item = (&PacketId, Timestamp)> {
        let awaited = self.packets.iter().filter(|(_, parts)| !parts.is_whole());
        awaited.map(|(id, parts)| (id, parts.since))
    }

    fn drop_oldest(&mut self) {
        if let Some((_, id)) = self.by_age.pop_first()
            && let Some(parts) = self.packets.remove(&id)
        {
            if parts.is_whole() {
                self.whole += 1;
            } else {
                self.incomplete += 1;
            }
        }
    }
}

impl Parts {
    fn add(&mut self, fragment: &Fragment) {
        let end = fragment.offset.saturating_add(fragment.len);
        if !fragment.more {
            self.len = Some(end);
        }
        if self.seen.len() < MOST_PARTS {
            self.seen.push((fragment.offset, end));
        }
        self.seen.sort_unstable();
        self.seen.dedup_by(|next, kept| {
            let touches = next.0 <= kept.1;
            if touches {
                kept.1 = kept.1.max(next.1);
            }
            touches
        });
    }

    fn is_whole(&self) -> bool {
        matches!((self.seen.as_slice(), self.len), (&[(0, end)], Some(len)) if end >= len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(ident: u32, offset: u32, more: bool) -> Fragment {
        Fragment {
            src: "10.0.0.1".parse().unwrap(),
            dst: "10.0.0.2".parse().unwrap(),
            protocol: 17,
            ident,
            offset,
            len: 1480,
            more,
        }
    }

    fn seconds(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_packet_is_whole_with_its_last_missing_fragment_in_any_order() {
        let parts = [(0, true), (1480, true), (2960, false)];
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1]] {
            let mut fragments = Fragments::default();
            let added: Vec<bool> = order
                .iter()
                .map(|part| {
                    let (offset, more) = parts[*part];
                    fragments.add(&fragment(7, offset, more), seconds(0))
                })
                .collect();
            assert_eq!(added, [false, false, true]);
            assert_eq!((fragments.whole(), fragments.incomplete()), (1, 0));
        }
    }

    #[test]
    fn a_fragment_that_is_seen_twice_does_not_replace_another() {
        let mut fragments = Fragments::default();
        assert!(!fragments.add(&fragment(7, 0, true), seconds(0)));
        assert!(!fragments.add(&fragment(7, 0, true), seconds(0)));
        assert!(!fragments.add(&fragment(8, 1480, false), seconds(0)));
        assert_eq!(fragments.incomplete(), 2);
        assert_eq!(fragments.awaited().count(), 2);
    }

    #[test]
    fn copies_of_the_fragments_of_a_packet_are_no_other_packet() {
        let mut fragments = Fragments::default();
        let added = [(0, true), (0, true), (1480, false), (1480, false)]
            .map(|(offset, more)| fragments.add(&fragment(7, offset, more), seconds(0)));
        assert_eq!(added, [false, false, true, false]);
        assert_eq!((fragments.whole(), fragments.incomplete()), (1, 0));
    }

    #[test]
    fn what_is_awaited_too_long_or_too_often_is_incomplete() {
        let mut fragments = Fragments::default();
        fragments.add(&fragment(1, 0, true), seconds(0));
        assert!(!fragments.add(&fragment(1, 1480, false), seconds(61)));
        assert_eq!(
            (fragments.incomplete(), fragments.awaited().count()),
            (2, 1)
        );
        for ident in 2..20_002 {
            fragments.add(&fragment(ident, 0, true), seconds(62));
        }
        assert!(fragments.awaited().count() <= MOST);
        assert_eq!(fragments.incomplete(), 20_002);
    }
}
