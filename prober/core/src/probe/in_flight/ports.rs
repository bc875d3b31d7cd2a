//! The probe of each local port, and the choice of the next source port.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

/// Every port of one family.
const PORTS: usize = 1 << 16;

/// Maximum number of free ports that are searched for one without another target.
const SEARCHED: usize = 64;

/// The ports of both families. The kernel chooses the ports of its own connections outside the range.
///
/// A port that probed one target is not used for another one while there is a choice: two Services may lead to the same
/// pod, and while conntrack waits for the answer of the first connection, the SYNs of the second never arrive (observed
/// on Linux 6.18 with bridge-netfilter off).
#[derive(Debug)]
pub(super) struct Ports {
    range: RangeInclusive<u16>,
    ipv4: FamilyPorts,
    ipv6: FamilyPorts,
}

/// The ports of one family.
#[derive(Debug)]
struct FamilyPorts {
    /// By port: the slot of its probe plus one; 0 for a free port.
    owner: Vec<u32>,
    /// The last target of each port of the range.
    last_target: Vec<Option<SocketAddr>>,
    /// Offset in the range where the next search begins: a port stays unused as long as possible.
    next: usize,
}

impl FamilyPorts {
    fn new(range: &RangeInclusive<u16>) -> Self {
        Self {
            owner: vec![0; PORTS],
            last_target: vec![None; range.len()],
            next: 0,
        }
    }

    fn find(&self, port: u16) -> Option<u32> {
        self.owner.get(usize::from(port)).copied()?.checked_sub(1)
    }

    /// The next free port; preferably one without another target, within a limited search.
    fn take(&mut self, range: &RangeInclusive<u16>, target: SocketAddr) -> Option<u16> {
        let places = range.clone().enumerate();
        let rest = places.clone().take(self.next);
        let mut free = places
            .skip(self.next)
            .chain(rest)
            .filter(|&(_, port)| self.find(port).is_none());
        let first = free.next()?;
        let suits = |&(at, _): &(usize, u16)| {
            let last_target = self.last_target.get(at).copied().flatten();
            last_target.is_none_or(|last_target| last_target == target)
        };
        let (at, port) = if suits(&first) {
            first
        } else {
            free.take(SEARCHED).find(suits).unwrap_or(first)
        };
        self.next = (at + 1) % self.last_target.len();
        if let Some(last_target) = self.last_target.get_mut(at) {
            *last_target = Some(target);
        }
        Some(port)
    }
}

impl Ports {
    /// All ports free.
    pub(super) fn new(range: RangeInclusive<u16>) -> Self {
        Self {
            ipv4: FamilyPorts::new(&range),
            ipv6: FamilyPorts::new(&range),
            range,
        }
    }

    /// The next free port of the range for a probe of `target`. It stays free until `assign`.
    pub(super) fn take(&mut self, target: SocketAddr) -> Option<u16> {
        let table = match target {
            SocketAddr::V4(_) => &mut self.ipv4,
            SocketAddr::V6(_) => &mut self.ipv6,
        };
        table.take(&self.range, target)
    }

    /// The slot of the port of `end`.
    pub(super) fn find(&self, end: SocketAddr) -> Option<u32> {
        let table = match end {
            SocketAddr::V4(_) => &self.ipv4,
            SocketAddr::V6(_) => &self.ipv6,
        };
        table.find(end.port())
    }

    /// Assigns the port of `end` to a slot.
    pub(super) fn assign(&mut self, end: SocketAddr, slot: u32) {
        self.set_owner(end, slot + 1);
    }

    /// Frees the port of `end`.
    pub(super) fn release(&mut self, end: SocketAddr) {
        self.set_owner(end, 0);
    }

    fn set_owner(&mut self, end: SocketAddr, owner: u32) {
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
    fn a_port_probes_one_target_while_there_is_a_choice() {
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
        // Every port has a target: each keeps its own.
        assert_eq!(
            [taken(2), taken(2), taken(1)],
            [Some(63001), Some(63004), Some(63005)]
        );
        // A new target uses the port that was unused for longest.
        assert_eq!(taken(3), Some(63000));
    }

    #[test]
    fn families_have_separate_ports_and_an_assigned_port_is_not_free() {
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
