//! The addresses and the MTU of this end of all probes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use prober_core::node_facts::NodeFacts;

/// The MTU where the kernel reports none, bytes: every IPv6 link has it (RFC 8200, section 5).
const MIN_MTU: u16 = 1280;

/// The addresses and the MTU of this end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalAddresses {
    /// All addresses that other hosts can reach, grouped by interface.
    pub(crate) addresses: Vec<IpAddr>,
    /// The IPv4 source of crafted probes.
    pub(crate) v4: Option<Ipv4Addr>,
    /// The IPv6 source of crafted probes.
    pub(crate) v6: Option<Ipv6Addr>,
    /// The smallest MTU of the interfaces with these addresses, bytes.
    pub(crate) mtu: u16,
}

impl LocalAddresses {
    /// Takes the addresses from the facts of a network namespace.
    pub(crate) fn of(facts: &NodeFacts) -> Self {
        let all = facts.addresses.as_deref().unwrap_or_default();
        let reachable = || all.iter().filter(|entry| is_reachable(entry.prefix.addr()));
        let addresses: Vec<IpAddr> = reachable().map(|entry| entry.prefix.addr()).collect();
        let links = facts.links.as_deref().unwrap_or_default();
        let mtu = links
            .iter()
            .filter(|link| reachable().any(|entry| entry.dev == link.name))
            .filter_map(|link| u16::try_from(link.mtu?).ok())
            .min();
        Self {
            v4: addresses.iter().find_map(|address| match address {
                IpAddr::V4(v4) => Some(*v4),
                IpAddr::V6(_) => None,
            }),
            v6: addresses.iter().find_map(|address| match address {
                IpAddr::V4(_) => None,
                IpAddr::V6(v6) => Some(*v6),
            }),
            addresses,
            mtu: mtu.unwrap_or(MIN_MTU),
        }
    }

    /// One address of each family, as a banner carries them.
    pub(crate) fn one_of_each_family(&self) -> Vec<IpAddr> {
        let (v4, v6) = (self.v4.map(IpAddr::V4), self.v6.map(IpAddr::V6));
        v4.into_iter().chain(v6).collect()
    }
}

/// Whether other hosts can reach an address: it is neither loopback nor link-local.
const fn is_reachable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    }
}
