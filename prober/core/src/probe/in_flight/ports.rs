//! Which probe a local port belongs to, and which port the next probe takes.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

/// Every port of one family.
const PORTS: usize = 1 << 16;

/// How many free ports are looked at for one that leads nowhere else yet.
const LOOKED_AT: usize = 64;

/// The ports of both families: the kernel picks those of its own connections outside the range.
///
/// A port that has asked one target is not given to another as long as there is a choice: behind
/// Services both may lead to the same pod, and where conntrack still waits for the answer of the first
/// connection, the SYNs of the second never arrive (seen on Linux 6.18 with bridge-netfilter off).
#[derive(Debug)]
pub(super) struct Ports {
    range: RangeInclusive<u16>,
    ipv4: Table,
    ipv6: Table,
}

/// The ports of one family.
#[derive(Debug)]
struct Table {
    /// By port, one more than the probe's slot; 0 where there is none.
    owner: Vec<u32>,
    /// The target that each port of the range has asked last.
    asked: Vec<Option<SocketAddr>>,
    /// Where the search for the next port begins, as an offset into the range: a port rests as long as possible.
    next: usize,
}

impl Table {
    fn new(range: &RangeInclusive<u16>) -> Self {
        Self {
            owner: vec![0; PORTS],
            asked: vec![None; range.len()],
            next: 0,
        }
    }

    fn find(&self, port: u16) -> Option<u32> {
        self.owner.get(usize::from(port)).copied()?.checked_sub(1)
    }

    /// The next free port, one that has asked no other target if such a one is near.
    fn take(&mut self, range: &RangeInclusive<u16>, target: SocketAddr) -> Option<u16> {
        let places = range.clone().enumerate();
        let rest = places.clone().take(self.next);
        let mut free = places
            .skip(self.next)
            .chain(rest)
            .filter(|&(_, port)| self.find(port).is_none());
        let first = free.next()?;
        let suits = |&(at, _): &(usize, u16)| {
            let asked = self.asked.get(at).copied().flatten();
            asked.is_none_or(|asked| asked == target)
        };
        let (at, port) = if suits(&first) {
            first
        } else {
            free.take(LOOKED_AT).find(suits).unwrap_or(first)
        };
        self.next = (at + 1) % self.asked.len();
        if let Some(asked) = self.asked.get_mut(at) {
            *asked = Some(target);
        }
        Some(port)
    }
}

impl Ports {
    /// A table in which nothing is taken.
    pub(super) fn new(range: RangeInclusive<u16>) -> Self {
        Self {
            ipv4: Table::new(&range),
            ipv6: Table::new(&range),
            range,
        }
    }

    /// The next free port of the range to ask `target` from; it is taken when it is assigned.
    pub(super) fn take(&mut self, target: SocketAddr) -> Option<u16> {
        let table = match target {
            SocketAddr::V4(_) => &mut self.ipv4,
            SocketAddr::V6(_) => &mut self.ipv6,
        };
        table.take(&self.range, target)
    }

    /// The slot that the port of `end` belongs to.
    pub(super) fn find(&self, end: SocketAddr) -> Option<u32> {
        let table = match end {
            SocketAddr::V4(_) => &self.ipv4,
            SocketAddr::V6(_) => &self.ipv6,
        };
        table.find(end.port())
    }

    /// Gives the port of `end` to a slot.
    pub(super) fn assign(&mut self, end: SocketAddr, slot: u32) {
        self.own(end, slot + 1);
    }

    /// Frees the port of `end`.
    pub(super) fn release(&mut self, end: SocketAddr) {
        self.own(end, 0);
    }

    fn own(&mut self, end: SocketAddr, owner: u32) {
        let table = match end {
            SocketAddr::V4(_) => &mut self.ipv4,
            SocketAddr::V6(_) => &mut self.ipv6,
        };
        if let Some(place) = table.owner.get_mut(usize::from(end.port())) {
            *place = owner;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 96, 0, 1], port))
    }

    #[test]
    fn a_port_asks_one_target_as_long_as_there_is_a_choice() {
        let mut ports = Ports::new(63000..=63005);
        let mut taken = |port| ports.take(target(port));
        assert_eq!(
            [taken(1), taken(2), taken(1)],
            [Some(63000), Some(63001), Some(63002)]
        );
        assert_eq!(
            [taken(1), taken(2), taken(1)],
            [Some(63003), Some(63004), Some(63005)]
        );
        // All have asked somebody: each goes on with its own.
        assert_eq!(
            [taken(2), taken(2), taken(1)],
            [Some(63001), Some(63004), Some(63005)]
        );
        // Who has none takes what has rested longest.
        assert_eq!(taken(3), Some(63000));
    }

    #[test]
    fn families_have_ports_of_their_own_and_what_is_taken_is_not_free() {
        let ipv6 = SocketAddr::from(([0; 16], 1));
        let mut ports = Ports::new(63000..=63000);
        let end = SocketAddr::from(([10, 0, 0, 1], 63000));
        ports.assign(end, 7);
        assert_eq!(ports.take(target(1)), None);
        assert_eq!(ports.take(ipv6), Some(63000));
        ports.release(end);
        assert_eq!(ports.take(target(1)), Some(63000));
    }
}
