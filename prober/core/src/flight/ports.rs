//! Which probe a local port belongs to, and which port the next probe takes.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

/// Every port of one family.
const PORTS: usize = 1 << 16;

/// How many free ports are looked at for one that leads nowhere else yet.
const LOOKED_AT: usize = 64;

/// A table over all ports of both families, indexed by port: the kernel picks those of its own
/// connections outside the range.
///
/// A port that has asked one target is not given to another as long as there is a choice: behind a
/// Service both may lead to the same pod, and conntrack drops what would be a second connection
/// between the same two ends (nf_conntrack_core.c `__nf_conntrack_confirm`).
#[derive(Debug)]
pub(super) struct Ports {
    /// One more than the probe's slot; 0 where there is none. IPv4 first, then IPv6.
    owner: Vec<u32>,
    range: RangeInclusive<u16>,
    ipv4: Turn,
    ipv6: Turn,
}

/// The ports of a range in one family, one after the other.
#[derive(Debug)]
struct Turn {
    /// Where the search for the next port begins: a port rests as long as possible.
    next: usize,
    /// A mark of the target that each port has asked last; 0 where it has asked none.
    asked: Vec<u32>,
}

impl Turn {
    fn new(ports: usize) -> Self {
        Self {
            next: 0,
            asked: vec![0; ports],
        }
    }

    /// The next free port, one of those that have asked no other target if it is near: as an offset into the range.
    fn take(&mut self, target: SocketAddr, is_free: impl Fn(usize) -> bool) -> Option<usize> {
        let mark = mark(target);
        let all = self.asked.len();
        let mut free = (self.next..all)
            .chain(0..self.next)
            .filter(|&at| is_free(at));
        let first = free.next()?;
        let suits = |at: &usize| {
            let asked = self.asked.get(*at).copied();
            asked.is_some_and(|asked| asked == 0 || asked == mark)
        };
        let chosen = if suits(&first) {
            first
        } else {
            free.take(LOOKED_AT).find(suits).unwrap_or(first)
        };
        self.next = (chosen + 1) % all;
        if let Some(asked) = self.asked.get_mut(chosen) {
            *asked = mark;
        }
        Some(chosen)
    }
}

/// What tells a target from others; never 0.
fn mark(target: SocketAddr) -> u32 {
    let ip = match target.ip() {
        IpAddr::V4(ip) => u32::from(ip),
        IpAddr::V6(ip) => ip.segments().into_iter().fold(0, |sum: u32, part| {
            sum.wrapping_mul(65_599).wrapping_add(u32::from(part))
        }),
    };
    ip.wrapping_mul(65_599)
        .wrapping_add(u32::from(target.port()))
        .max(1)
}

impl Ports {
    /// A table in which nothing is taken.
    pub(super) fn new(range: RangeInclusive<u16>) -> Self {
        let ports = range.len();
        Self {
            owner: vec![0; 2 * PORTS],
            range,
            ipv4: Turn::new(ports),
            ipv6: Turn::new(ports),
        }
    }

    /// The next free port of the range to ask `target` from; it is taken when it is assigned.
    pub(super) fn take(&mut self, ip: IpAddr, target: SocketAddr) -> Option<u16> {
        let Self {
            owner,
            range,
            ipv4,
            ipv6,
        } = self;
        let port = |at: usize| u16::try_from(at).ok()?.checked_add(*range.start());
        let is_free = |at: usize| {
            let taken = port(at).and_then(|port| owner.get(index(SocketAddr::new(ip, port))));
            taken.is_some_and(|owner| *owner == 0)
        };
        let turn = match ip {
            IpAddr::V4(_) => ipv4,
            IpAddr::V6(_) => ipv6,
        };
        turn.take(target, is_free).and_then(port)
    }

    /// The slot that the port of `end` belongs to.
    pub(super) fn find(&self, end: SocketAddr) -> Option<u32> {
        self.owner.get(index(end)).copied()?.checked_sub(1)
    }

    /// Gives the port of `end` to a slot.
    pub(super) fn assign(&mut self, end: SocketAddr, slot: u32) {
        if let Some(owner) = self.owner.get_mut(index(end)) {
            *owner = slot + 1;
        }
    }

    /// Frees the port of `end`.
    pub(super) fn release(&mut self, end: SocketAddr) {
        if let Some(owner) = self.owner.get_mut(index(end)) {
            *owner = 0;
        }
    }
}

fn index(end: SocketAddr) -> usize {
    let family = match end {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(_) => PORTS,
    };
    family + usize::from(end.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 96, 0, 1], port))
    }

    #[test]
    fn a_port_asks_one_target_as_long_as_there_is_a_choice() {
        let ip = IpAddr::from([10, 0, 0, 1]);
        let mut ports = Ports::new(63000..=63005);
        let mut taken = |port| ports.take(ip, target(port));
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
        let (ipv4, ipv6) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([0; 16]));
        let mut ports = Ports::new(63000..=63000);
        let end = |ip| SocketAddr::new(ip, 63000);
        ports.assign(end(ipv4), 7);
        assert_eq!(ports.take(ipv4, target(1)), None);
        assert_eq!(ports.take(ipv6, target(1)), Some(63000));
        ports.release(end(ipv4));
        assert_eq!(ports.take(ipv4, target(1)), Some(63000));
    }
}
