//! The addresses and ports that an agent may probe.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use ipnet::IpNet;

/// The addresses and ports that an agent may probe. What the agent is started with is fixed: no plan can add to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedTargets {
    /// An address is within one prefix of each of these lists.
    prefixes: Vec<Vec<IpNet>>,
    /// `None`: any port.
    ports: Option<PortRanges>,
    /// Whether an address that leads to no other host is refused within any prefix.
    is_routable_only: bool,
}

/// No address at all.
impl Default for AllowedTargets {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl AllowedTargets {
    /// Only addresses within these prefixes, on any port.
    pub fn new(prefixes: Vec<IpNet>) -> Self {
        Self {
            prefixes: vec![prefixes],
            ports: None,
            is_routable_only: false,
        }
    }

    /// Any address and port; meant to be restricted by [`AllowedTargets::within`] and [`AllowedTargets::on_ports`].
    pub const fn any() -> Self {
        Self {
            prefixes: Vec::new(),
            ports: None,
            is_routable_only: false,
        }
    }

    /// Of these targets those within one of these prefixes, too, which a plan names: never loopback, link-local (such as a
    /// cloud's metadata service) or multicast addresses.
    #[must_use]
    pub fn within(mut self, prefixes: Vec<IpNet>) -> Self {
        self.prefixes.push(prefixes);
        self.is_routable_only = true;
        self
    }

    /// Of these targets those on these ports.
    #[must_use]
    pub fn on_ports(mut self, ports: PortRanges) -> Self {
        self.ports = Some(ports);
        self
    }

    /// Whether an address may be probed.
    pub fn contains(&self, address: IpAddr) -> bool {
        let mut lists = self.prefixes.iter();
        (!self.is_routable_only || is_routable(address))
            && lists.all(|list| list.iter().any(|prefix| prefix.contains(&address)))
    }

    /// Whether an address and port may be probed.
    pub fn permits(&self, target: SocketAddr) -> bool {
        let is_port_allowed =
            (self.ports.as_ref()).is_none_or(|ports| ports.contains(target.port()));
        is_port_allowed && self.contains(target.ip())
    }
}

/// Whether an address may lead to another host through a router.
const fn is_routable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let is_local = v4.is_loopback() || v4.is_link_local() || v4.is_unspecified();
            !is_local && !v4.is_multicast() && !v4.is_broadcast()
        }
        // An IPv4-mapped address would lead to an IPv4 host past the checks of its prefix.
        IpAddr::V6(v6) => {
            let is_local = v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified();
            !is_local && !v6.is_multicast() && v6.to_ipv4_mapped().is_none()
        }
    }
}

/// Ranges of ports, such as `8080-8081,9000-9100`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRanges(Vec<RangeInclusive<u16>>);

/// A text that is no list of port ranges.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no range of ports such as 8080 or 9000-9100; separate several by commas")]
pub struct PortRangesError(String);

impl PortRanges {
    /// Whether a port is in one of the ranges.
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|range| range.contains(&port))
    }
}

impl FromStr for PortRanges {
    type Err = PortRangesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let range: RangeInclusive<u16> = first.parse().ok()?..=last.parse().ok()?;
            (!range.is_empty() && *range.start() > 0).then_some(range)
        };
        let ranges: Result<Vec<_>, _> = text
            .split(',')
            .map(|part| range(part.trim()).ok_or_else(|| PortRangesError(part.to_owned())))
            .collect();
        Ok(Self(ranges?))
    }
}

impl fmt::Display for PortRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, range) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            if range.start() == range.end() {
                write!(f, "{comma}{}", range.start())?;
            } else {
                write!(f, "{comma}{}-{}", range.start(), range.end())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixes(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn permits(allowed: &AllowedTargets, target: &str) -> bool {
        allowed.permits(target.parse().unwrap())
    }

    #[test]
    fn a_target_is_within_one_prefix_of_every_list_and_on_a_port_of_the_ranges() {
        let allowed = AllowedTargets::new(prefixes(&["10.0.0.0/8", "fd00::/8"]))
            .within(prefixes(&["10.1.0.0/16", "fd00::/64", "192.0.2.0/24"]))
            .on_ports("8080-8081,9000".parse().unwrap());
        for (target, expected) in [
            ("10.1.0.7:8080", true),
            ("10.1.0.7:8081", true),
            ("[fd00::7]:9000", true),
            ("10.1.0.7:8082", false),
            ("10.2.0.7:8080", false),
            ("192.0.2.7:8080", false),
        ] {
            assert_eq!(permits(&allowed, target), expected, "{target}");
        }
        assert!(!permits(&AllowedTargets::default(), "10.1.0.7:8080"));
        assert!(!permits(
            &AllowedTargets::any().within(Vec::new()),
            "10.1.0.7:8080"
        ));
    }

    #[test]
    fn ranges_of_ports_parse_and_format() {
        let ranges: PortRanges = "8080-8081, 9000,30000-32767".parse().unwrap();
        assert_eq!(ranges.to_string(), "8080-8081,9000,30000-32767");
        assert!(ranges.contains(9000) && !ranges.contains(9001));
        for bad in ["", "0-7", "9-8", "x", "1,", "65536", "-5"] {
            assert!(bad.parse::<PortRanges>().is_err(), "{bad}");
        }
    }
}
