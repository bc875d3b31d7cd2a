//! Which probe a local port belongs to, and which port the next probe takes.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

/// Every port of one family.
const PORTS: usize = 1 << 16;

/// A table over all ports of both families, indexed by port: the kernel picks those of its own
/// connections outside the range.
#[derive(Debug)]
pub(super) struct Ports {
    /// One more than the probe's slot; 0 where there is none. IPv4 first, then IPv6.
    owner: Vec<u32>,
    range: RangeInclusive<u16>,
    /// Where the search for the next free port begins: a port rests as long as possible.
    next: u16,
}

impl Ports {
    /// A table in which nothing is taken.
    pub(super) fn new(range: RangeInclusive<u16>) -> Self {
        Self {
            owner: vec![0; 2 * PORTS],
            next: *range.start(),
            range,
        }
    }

    /// The next free port of the range for `ip`'s family; it is taken when it is assigned.
    pub(super) fn take(&mut self, ip: IpAddr) -> Option<u16> {
        for _ in self.range.clone() {
            let port = self.next;
            self.next = if port < *self.range.end() {
                port + 1
            } else {
                *self.range.start()
            };
            if self.find(SocketAddr::new(ip, port)).is_none() {
                return Some(port);
            }
        }
        None
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
