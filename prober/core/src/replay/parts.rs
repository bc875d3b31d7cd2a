//! The packets of an attempt that say how it goes: SYNs, answers, RSTs and errors.

use std::net::{IpAddr, SocketAddr};

use super::seen::Tunnelled;
use crate::packet::observation::Direction;
use crate::packet::{EthernetAddresses, IcmpKind, Seq};
use crate::time::Timestamp;

/// A pair of addresses of an attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leg {
    /// The client.
    pub(super) client: SocketAddr,
    /// The destination of the SYN.
    pub(super) target: SocketAddr,
    /// The hop limit of its first SYN; 0 where there is none.
    pub(super) hop_limit: u8,
    /// The Ethernet addresses of its first SYN.
    pub(super) link: Option<EthernetAddresses>,
    /// Whether the observer sent or received that SYN.
    pub(super) direction: Option<Direction>,
    /// Whether copies of that SYN went on through the observer.
    pub(super) is_forwarded: bool,
    /// The tunnel that a copy of it was captured in.
    pub(super) tunnel: Option<Tunnelled>,
}

/// A SYN.
#[derive(Clone, Copy, Debug)]
pub(super) struct Syn {
    pub(super) at: Timestamp,
    pub(super) ident: u16,
    pub(super) len: u32,
    /// The value of its timestamp option.
    pub(super) stamp: Option<u32>,
}

/// A SYN+ACK.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) from: SocketAddr,
    pub(super) seq: Seq,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    /// How often it was sent.
    pub(super) count: u32,
    /// Whether the client acknowledged it.
    pub(super) is_acked: bool,
    /// Whether its checksum is wrong.
    pub(super) is_damaged: bool,
    /// The echoed timestamp.
    pub(super) echo: Option<u32>,
    pub(super) link: Option<EthernetAddresses>,
}

/// A RST.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reset {
    pub(super) at: Timestamp,
    pub(super) by_client: bool,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    /// With ACK: an application, or the answer to a SYN. Without: a host that knows no such connection.
    pub(super) has_ack: bool,
    pub(super) seq: Seq,
    /// Whether it acknowledges the SYN.
    pub(super) is_acceptable: bool,
    pub(super) hop_limit: u8,
    pub(super) link: Option<EthernetAddresses>,
}

/// An ICMP error.
#[derive(Clone, Copy, Debug)]
pub(super) struct IcmpError {
    pub(super) at: Timestamp,
    pub(super) by: IpAddr,
    pub(super) kind: IcmpKind,
    pub(super) type_code: (u8, u8),
    /// Whether the observer sent it.
    pub(super) is_own: bool,
}

impl Leg {
    /// No addresses.
    pub(super) const UNKNOWN: Self = Self {
        client: SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0),
        target: SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0),
        hop_limit: 0,
        link: None,
        direction: None,
        is_forwarded: false,
        tunnel: None,
    };
}
