//! Packets as meaning: total owned types, parsed from bytes and crafted into bytes.
//!
//! `parse_frame` takes any byte string and gives a `Packet` or a typed error, never a panic;
//! `craft` is its inverse for the TCP segments that a prober sends. Only the modules below this
//! one know `pnet_packet`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::packet::mac::Mac;

pub use bytes::{ChecksumMode, ParseError};
pub use craft::{CraftError, craft};
pub use parse::{ParsedFrame, parse_frame};
pub use rebuild::{RebuiltFrame, rebuild};

/// Packets for property tests.
#[cfg(test)]
pub(crate) mod arbitrary;
/// What the readers of each header share.
mod bytes;
/// Capture files, read and written.
pub mod capture;
/// Segments into bytes.
mod craft;
/// IPv4 or IPv6.
pub mod family;
/// ICMP and `ICMPv6` messages, read.
mod icmp;
/// IP headers, read.
mod ip;
/// An Ethernet address.
pub mod mac;
/// ARP and neighbour discovery, read.
mod neighbour;
/// What one end sees of a probe.
pub mod observation;
/// Frames into packets.
mod parse;
/// Packets back into frames.
mod rebuild;
/// TCP headers and options, read; checksums judged.
mod tcp;
/// Observed packets as text, printed and parsed.
pub mod text;

/// A TCP sequence number; arithmetic wraps (RFC 9293 3.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub u32);

impl Seq {
    /// The number `n` further on.
    #[must_use]
    pub const fn add(self, n: u32) -> Self {
        Self(self.0.wrapping_add(n))
    }

    /// Whether this number lies before `other` in the half of the circle behind it.
    pub const fn is_before(self, other: Self) -> bool {
        other.0.wrapping_sub(self.0).wrapping_sub(1) < 0x7fff_ffff
    }
}

/// The Ethernet header's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EthernetAddresses {
    /// Who put the frame on the wire.
    pub src: Mac,
    /// Whom it is meant for; absent in cooked captures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dst: Option<Mac>,
}

/// What matters of an IPv4 or IPv6 header.
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

    /// Both sets.
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

    /// What a SYN of a Linux client carries: SACK, timestamps, a window scale of 7.
    pub const fn of_linux_syn(mss: u16, timestamp: u32) -> Self {
        Self {
            mss: Some(mss),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some((timestamp, 0)),
        }
    }
}

/// What is known of a checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checksum {
    /// It was computed and fits.
    Valid,
    /// It was computed and does not fit: the receiver's kernel drops the packet.
    Invalid,
    /// It was not judged: the kernel had yet to fill it in, or the capture is cut.
    #[default]
    Unknown,
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
    /// What is known of the checksum.
    #[serde(default)]
    pub checksum: Checksum,
}

/// Why a destination is unreachable, in the words common to ICMP and `ICMPv6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unreachable {
    /// No route to the network (3/0; v6 1/0).
    Network,
    /// The host does not answer (3/1; v6 1/3).
    Host,
    /// Nothing listens, or a REJECT rule says so (3/3; v6 1/4).
    Port,
    /// A filter forbids it (3/9, 3/10, 3/13; v6 1/1, 1/5, 1/6).
    Prohibited,
    /// Any other code.
    Other,
}

/// The kinds of ICMP message that matter to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum IcmpKind {
    /// Destination unreachable.
    Unreachable {
        /// In common words.
        reason: Unreachable,
    },
    /// TTL or hop limit used up on the way.
    TimeExceeded,
    /// Fragmentation needed (3/4) or packet too big (v6 2).
    PacketTooBig {
        /// The largest size that passes, bytes; 0 where the router did not say.
        mtu: u32,
    },
    /// A better next hop exists.
    Redirect {
        /// The better next hop (for v6: the target).
        gateway: IpAddr,
    },
    /// Anything else.
    Other,
}

/// The packet that an ICMP error quotes, as far as it was quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quoted {
    /// Source of the quoted packet.
    pub src: SocketAddr,
    /// Destination of the quoted packet.
    pub dst: SocketAddr,
    /// TTL or hop limit that was left when it was quoted.
    pub hop_limit: u8,
    /// Its TCP sequence number.
    pub seq: Seq,
}

/// An ICMP or `ICMPv6` message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Icmp {
    /// What it says.
    pub kind: IcmpKind,
    /// Type and code as on the wire.
    pub type_code: (u8, u8),
    /// The TCP packet it is about; `None` where it quotes none.
    pub quoted: Option<Quoted>,
}

/// A neighbour resolution: ARP, or neighbour discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolution {
    /// Question or answer.
    pub kind: ResolutionKind,
    /// Who sends it.
    pub sender: IpAddr,
    /// The sender's claimed Ethernet address.
    pub sender_mac: Option<Mac>,
    /// Whose address is asked for or told.
    pub target: IpAddr,
}

/// Question or answer of a neighbour resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResolutionKind {
    /// Who has it?
    Request,
    /// It is at this Ethernet address.
    Reply,
}

/// What a packet is.
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

/// One packet as a prober understands it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    /// The Ethernet addresses, where the link has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<EthernetAddresses>,
    /// What it is.
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

/// A TCP segment to be sent: what [`craft`] turns into bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpSegment {
    /// From where.
    pub src: SocketAddr,
    /// To where; of the same family as `src`.
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

/// How the first header of a captured frame is to be read (the pcap link types).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkType {
    /// Ethernet (1).
    Ethernet,
    /// Linux cooked capture v1 (113).
    LinuxSll,
    /// Linux cooked capture v2 (276).
    LinuxSll2,
    /// Starts with the IP header (101, 228, 229).
    Raw,
}

/// The address that stands for "none known".
pub const UNSPECIFIED: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
