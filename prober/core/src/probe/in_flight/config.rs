//! What a flight is told, and why it refuses a probe.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use crate::packet::family::Family;

/// What a flight needs to know.
#[derive(Clone, Debug)]
pub struct InFlightConfig {
    /// The secret of its sequence numbers; from the kernel's random numbers.
    pub key: [u8; 16],
    /// The source ports of crafted probes: nothing else in this namespace may use them, and full
    /// handshakes and ladders need the kernel kept silent on them.
    pub ports: RangeInclusive<u16>,
    /// The own IPv4 address, if any.
    pub v4: Option<Ipv4Addr>,
    /// The own IPv6 address, if any.
    pub v6: Option<Ipv6Addr>,
    /// The MTU of the interface, bytes.
    pub mtu: u16,
}

/// Why a probe was not launched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    /// Every port of the range is in flight.
    #[error(
        "a probe of {target} finds no free source port: all {ports} are in flight; launch it again when one has finished"
    )]
    NoPort {
        /// Whom it was to ask.
        target: SocketAddr,
        /// How many there are.
        ports: usize,
    },
    /// There is no own address of the target's family.
    #[error("{target} cannot be asked: this agent has no {family} address; is the pod dual-stack?")]
    NoAddress {
        /// Whom it was to ask.
        target: SocketAddr,
        /// The family that is missing.
        family: Family,
    },
    /// The kernel is to connect; see `InFlight::watch`.
    #[error(
        "a probe of {target} by the kernel's connect() is not launched here: connect, and let the flight watch"
    )]
    NotCrafted {
        /// Whom it was to ask.
        target: SocketAddr,
    },
}
