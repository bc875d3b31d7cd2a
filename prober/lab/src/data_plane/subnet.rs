//! The subnets of the nodes' uplinks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use prober_core::packet::family::Family;

use crate::topology::Node;

/// A subnet of the nodes' uplinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    v4: Ipv4Addr,
    v4_length: u8,
    v6: Ipv6Addr,
    v6_length: u8,
}

/// The subnet of the nodes of most data planes.
pub(super) const NODES: Subnet = Subnet {
    v4: Ipv4Addr::new(172, 20, 0, 0),
    v4_length: 24,
    v6: Ipv6Addr::new(0xfd00, 0x172, 0, 0, 0, 0, 0, 0),
    v6_length: 64,
};

/// The subnet of every third node where there are two.
pub(super) const OTHER_NODES: Subnet = Subnet {
    v4: Ipv4Addr::new(172, 20, 1, 0),
    v4_length: 24,
    v6: Ipv6Addr::new(0xfd00, 0x172, 0, 1, 0, 0, 0, 0),
    v6_length: 64,
};

/// The subnet that nodes and pods share: it contains the pods' addresses of every data plane.
pub(super) const NODES_AND_PODS: Subnet = Subnet {
    v4: Ipv4Addr::new(100, 96, 0, 0),
    v4_length: 16,
    v6: Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0),
    v6_length: 32,
};

impl Subnet {
    /// Returns the subnet of a node that has one of its own, behind its top-of-rack router.
    pub(super) fn of_rack(node: Node) -> Self {
        let number = node.number();
        Self {
            v4: Ipv4Addr::new(172, 20, number, 0),
            v4_length: 24,
            v6: Ipv6Addr::new(0xfd00, 0x172, 0, number.into(), 0, 0, 0, 0),
            v6_length: 64,
        }
    }

    /// Returns the host's address of this number.
    pub fn host(self, family: Family, number: u8) -> IpAddr {
        match family {
            Family::Ipv4 => Ipv4Addr::from_bits(self.v4.to_bits() | u32::from(number)).into(),
            Family::Ipv6 => Ipv6Addr::from_bits(self.v6.to_bits() | u128::from(number)).into(),
        }
    }

    /// Returns the router's address.
    pub fn router(self, family: Family) -> IpAddr {
        self.host(family, 1)
    }

    /// Returns the length of the prefix, in bits.
    pub fn length(self, family: Family) -> u8 {
        match family {
            Family::Ipv4 => self.v4_length,
            Family::Ipv6 => self.v6_length,
        }
    }

    /// Returns the subnet in CIDR notation.
    pub fn cidr(self, family: Family) -> String {
        format!("{}/{}", self.host(family, 0), self.length(family))
    }
}
