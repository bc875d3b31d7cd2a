//! Packets as owned types, parsed from bytes and crafted into bytes.
//!
//! `parse_frame` turns any byte string into a `Packet` or a typed error, and never panics. `craft` is its inverse for the
//! TCP segments that prober sends. Only the submodules use `pnet_packet`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::packet::mac::Mac;

pub use bytes::{ChecksumMode, ParseError};
pub use craft::{CraftError, craft};
pub use link::LinkType;
pub use parse::{ParsedFrame, parse_frame};
pub use rebuild::{RebuiltFrame, rebuild};

/// Packets for property tests.
#[cfg(test)]
pub(crate) mod arbitrary;
/// Helpers that all header parsers share.
mod bytes;
/// Reading and writing of capture files.
pub mod capture;
/// TCP segments as bytes.
mod craft;
/// IPv4 or IPv6.
pub mod family;
/// Packets in fragments.
pub mod fragments;
/// Parsing of ICMP and `ICMPv6` messages.
mod icmp;
/// Parsing of IP headers.
mod ip;
/// The layers of a captured frame: link, tunnels, innermost packet.
pub mod layers;
/// Parsing of link headers.
mod link;
/// An Ethernet address.
pub mod mac;
/// Parsing of ARP and neighbour discovery.
mod neighbour;
/// A packet as one end observes it.
pub mod observation;
/// Parsing of frames.
mod parse;
/// Frames rebuilt from packets.
mod rebuild;
/// Parsing of TCP headers and options; checksum verification.
mod tcp;
/// Packets as text, formatted and parsed.
pub mod text;

/// A TCP sequence number; arithmetic wraps (RFC 9293 3.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub u32);

impl Seq {
    /// The number `n` after this one.
    #[must_use]
    pub const fn add(self, n: u32) -> Self {
        Self(self.0.wrapping_add(n))
    }

    /// Whether this number is before `other`, by less than half of the number space.
    pub const fn is_before(self, other: Self) -> bool {
        other.0.wrapping_sub(self.0).wrapping_sub(1) < 0x7fff_ffff
    }
}

/// The Ethernet header's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EthernetAddresses {
    /// The sender of the frame.
    pub src: Mac,
    /// The receiver of the frame; absent in cooked captures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dst: Option<Mac>,
}

/// The relevant fields of an IPv4 or IPv6 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ip {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// IPv4 identification; 0 for IPv6.
    pub ident: u16,
}

/// TCP flags as on the wire (RFC 9293 3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// FIN.
    pub const FIN: Self = Self(0x01);
    /// SYN.
    pub const SYN: Self = Self(0x02);
    /// RST.
    pub const RST: Self = Self(0x04);
    /// PSH.
    pub const PSH: Self = Self(0x08);
    /// ACK.
    pub const ACK: Self = Self(0x10);
    /// SYN and ACK.
    pub const SYN_ACK: Self = Self(0x12);

    /// The union of both sets.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all flags of `other` are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// SYN without ACK: the first packet of a handshake.
    pub const fn is_syn(self) -> bool {
        self.0 & 0x17 == 0x02
    }

    /// SYN with ACK: the second packet of a handshake.
    pub const fn is_syn_ack(self) -> bool {
        self.0 & 0x17 == 0x12
    }
}

/// The options that a handshake carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpOptions {
    /// Maximum segment size, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mss: Option<u16>,
    /// Window scale, as a shift.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_scale: Option<u8>,
    /// Selective acknowledgements are permitted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sack_permitted: bool,
    /// Timestamp value and echo reply (RFC 7323 3.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamps: Option<(u32, u32)>,
}

impl TcpOptions {
    /// The largest segment that fits a frame of 1500 bytes over IPv4 without options.
    pub const ETHERNET_MSS: u16 = 1460;

    /// The options of a SYN of a Linux client: MSS, SACK, timestamps, a window scale of 7.
    pub const fn of_linux_syn(mss: u16, timestamp: u32) -> Self {
        Self {
            mss: Some(mss),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some((timestamp, 0)),
        }
    }
}

/// The result of a checksum verification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checksum {
    /// The checksum is right.
    Valid,
    /// The checksum is wrong: the receiver's kernel drops the packet.
    Invalid,
    /// Not verified: the kernel has not filled it in yet, or the capture is cut.
    #[default]
    Unknown,
}

impl Checksum {
    /// Whether it was not verified.
    pub const fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }
}

/// A TCP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tcp {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: Seq,
    /// Acknowledgement number; meaningless without the ACK flag.
    pub ack: Seq,
    /// Flags.
    pub flags: TcpFlags,
    /// Receive window, unscaled.
    pub window: u16,
    /// Options of the handshake.
    #[serde(default)]
    pub options: TcpOptions,
    /// Bytes of payload according to the headers, whether captured or not.
    pub payload_len: u32,
    /// Whether the checksum is right.
    #[serde(default)]
    pub checksum: Checksum,
}

/// Why a destination is unreachable; common to ICMP and `ICMPv6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unreachable {
    /// No route to the network (3/0; v6 1/0).
    Network,
    /// The host does not answer (3/1; v6 1/3).
    Host,
    /// Nothing listens, or a REJECT rule refuses the packet (3/3; v6 1/4).
    Port,
    /// A filter forbids it (3/9, 3/10, 3/13; v6 1/1, 1/5, 1/6).
    Prohibited,
    /// Any other code.
    Other,
}

/// The kinds of ICMP message that are relevant to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum IcmpKind {
    /// Destination unreachable.
    Unreachable {
        /// Why it is unreachable.
        reason: Unreachable,
    },
    /// The TTL or hop limit is used up.
    TimeExceeded,
    /// Fragmentation needed (3/4) or packet too big (v6 2).
    PacketTooBig {
        /// The MTU of the next hop, bytes; 0 where the router does not report it.
        mtu: u32,
    },
    /// A better next hop exists.
    Redirect {
        /// The better next hop (for v6: the target).
        gateway: IpAddr,
    },
    /// Any other message.
    Other,
}

/// The part of a packet that an ICMP error quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quoted {
    /// Source of the quoted packet.
    pub src: SocketAddr,
    /// Destination of the quoted packet.
    pub dst: SocketAddr,
    /// TTL or hop limit at the router that quotes it.
    pub hop_limit: u8,
    /// Its TCP sequence number.
    pub seq: Seq,
    /// Whether its TCP checksum is right: verified where the error quotes the whole packet, as Linux does of a SYN
    /// (RFC 1812 4.3.2.3).
    #[serde(default, skip_serializing_if = "Checksum::is_unknown")]
    pub checksum: Checksum,
}

/// An ICMP or `ICMPv6` message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Icmp {
    /// The kind of message.
    pub kind: IcmpKind,
    /// Type and code as on the wire.
    pub type_code: (u8, u8),
    /// The TCP packet that it quotes, if any.
    pub quoted: Option<Quoted>,
}

/// A neighbour resolution: ARP, or neighbour discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolution {
    /// Request or reply.
    pub kind: ResolutionKind,
    /// The IP address of the sender.
    pub sender: IpAddr,
    /// The sender's claimed Ethernet address.
    pub sender_mac: Option<Mac>,
    /// The IP address that is resolved.
    pub target: IpAddr,
}

/// Request or reply of a neighbour resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResolutionKind {
    /// A request for the Ethernet address of the target.
    Request,
    /// The Ethernet address of the target.
    Reply,
}

/// The contents of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    /// A TCP segment.
    Tcp(Ip, Tcp),
    /// An ICMP or `ICMPv6` message.
    Icmp(Ip, Icmp),
    /// ARP or neighbour discovery.
    Resolution(Resolution),
}

/// One parsed packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    /// The Ethernet addresses, if the link has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<EthernetAddresses>,
    /// The contents.
    pub body: Body,
}

impl Packet {
    /// The IP and TCP headers of a TCP segment.
    pub const fn tcp(&self) -> Option<(&Ip, &Tcp)> {
        match &self.body {
            Body::Tcp(ip, tcp) => Some((ip, tcp)),
            Body::Icmp(..) | Body::Resolution(_) => None,
        }
    }

    /// The IP header and message of an ICMP packet.
    pub const fn icmp(&self) -> Option<(&Ip, &Icmp)> {
        match &self.body {
            Body::Icmp(ip, icmp) => Some((ip, icmp)),
            Body::Tcp(..) | Body::Resolution(_) => None,
        }
    }

    /// Source address and port of a TCP segment.
    pub const fn tcp_src(&self) -> Option<SocketAddr> {
        match &self.body {
            Body::Tcp(ip, tcp) => Some(SocketAddr::new(ip.src, tcp.src_port)),
            Body::Icmp(..) | Body::Resolution(_) => None,
        }
    }

    /// Destination address and port of a TCP segment.
    pub const fn tcp_dst(&self) -> Option<SocketAddr> {
        match &self.body {
            Body::Tcp(ip, tcp) => Some(SocketAddr::new(ip.dst, tcp.dst_port)),
            Body::Icmp(..) | Body::Resolution(_) => None,
        }
    }
}

/// A TCP segment to send: the input of [`craft`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpSegment {
    /// Source address and port.
    pub src: SocketAddr,
    /// Destination address and port; of the same family as `src`.
    pub dst: SocketAddr,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// IPv4 identification.
    pub ident: u16,
    /// Sequence number.
    pub seq: Seq,
    /// Acknowledgement number.
    pub ack: Seq,
    /// Flags.
    pub flags: TcpFlags,
    /// Receive window, unscaled.
    pub window: u16,
    /// Options.
    pub options: TcpOptions,
    /// Payload.
    pub payload: Vec<u8>,
}

/// The address for "unknown".
pub const UNSPECIFIED: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
