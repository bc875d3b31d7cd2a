//! A captured frame from outside to inside: the link, the tunnels around the innermost packet, and that packet.

use std::net::IpAddr;

use crate::packet::{EthernetAddresses, Ip, Packet, Seq};

pub use dhcp::DhcpMessage;
pub use dns::{Dns, DnsName};
pub use identity::Identity;
pub use parse::parse_layers;
pub use udp::{Application, Udp};

/// DHCP messages.
mod dhcp;
/// DNS queries and answers.
mod dns;
/// What two copies of one packet have in common.
mod identity;
/// From the bytes of a frame to its layers.
mod parse;
/// Headers that carry a whole packet.
mod tunnel;
/// UDP datagrams.
mod udp;

/// The most tunnels of one frame that are opened; what is further inside is left unread.
pub const MAX_TUNNELS: usize = 3;

/// The layers of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layers {
    /// From outside to inside, without gaps.
    tunnels: [Option<Tunnel>; MAX_TUNNELS],
    /// The link header around the innermost packet: that of the wire, or of the frame that a tunnel carries.
    pub link: Link,
    /// The innermost packet.
    pub inner: Inner,
    /// Which fragment the innermost packet is; `None` where it is whole.
    pub fragment: Option<Fragment>,
    /// The packet that an ICMP error quotes, of any protocol.
    pub quoted: Option<QuotedPacket>,
    /// The options of TCP beyond those of a handshake.
    pub tcp_extra: TcpExtra,
    /// An ARP packet for the sender's own address, or an unsolicited neighbour advertisement.
    pub is_announcement: bool,
    /// The total length in the innermost IP header is zero, as in what the kernel hands to a device that segments it.
    pub is_unsegmented: bool,
    /// What two copies of the innermost packet have in common.
    pub identity: Identity,
}

impl Layers {
    /// The tunnels around the innermost packet, from outside to inside.
    pub fn tunnels(&self) -> impl Iterator<Item = &Tunnel> {
        self.tunnels.iter().flatten()
    }

    /// The fragments that the frame is, of tunnels and of the innermost packet.
    pub fn fragments(&self) -> impl Iterator<Item = &Fragment> {
        self.tunnels()
            .filter_map(|tunnel| tunnel.fragment.as_ref())
            .chain(&self.fragment)
    }

    /// The link header of the wire.
    pub fn outer_link(&self) -> &Link {
        self.tunnels()
            .next()
            .map_or(&self.link, |tunnel| &tunnel.link)
    }

    /// The innermost packet, where it is TCP, ICMP, ARP or neighbour discovery.
    pub const fn packet(&self) -> Option<&Packet> {
        match &self.inner {
            Inner::Packet(packet) => Some(packet),
            Inner::Udp(..)
            | Inner::Opaque(..)
            | Inner::LaterFragment(..)
            | Inner::Other(..)
            | Inner::NotIp(_) => None,
        }
    }
}

/// A link header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The Ethernet addresses, if the link has any.
    pub addresses: Option<EthernetAddresses>,
    /// The VLAN ids, from outside to inside (IEEE 802.1Q 9.6; 802.1ad); of more than two the outer ones are kept.
    pub vlans: [Option<u16>; 2],
    /// The number of MPLS labels (RFC 3032).
    pub labels: u8,
}

/// A packet that carries another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The kind of tunnel.
    pub kind: TunnelKind,
    /// The link header around its IP packet.
    pub link: Link,
    /// Its IP header.
    pub ip: Ip,
    /// Source and destination port, where it is a UDP datagram.
    pub ports: Option<(u16, u16)>,
    /// The network identifier of VXLAN and Geneve, the key of GRE, the session of ERSPAN.
    pub key: Option<u32>,
    /// Which fragment its IP packet is; `None` where it is whole.
    pub fragment: Option<Fragment>,
}

/// The kind of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TunnelKind {
    /// RFC 7348.
    Vxlan,
    /// RFC 8926.
    Geneve,
    /// RFC 2784, RFC 2890: an IP packet or an Ethernet frame.
    Gre,
    /// A mirrored frame in GRE (draft-foschiano-erspan).
    Erspan,
    /// An IP packet directly in an IP packet, of either family (RFC 2003, RFC 2473, RFC 4213), or in a datagram of UDP.
    IpInIp,
}

/// What the innermost packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inner {
    /// TCP, ICMP, ARP or neighbour discovery.
    Packet(Packet),
    /// A UDP datagram that is no tunnel.
    Udp(Ip, Udp),
    /// A tunnel whose contents are encrypted.
    Opaque(Ip, Opaque),
    /// A later fragment, of a packet of this protocol; [`Layers::fragment`] says which.
    LaterFragment(Ip, u8),
    /// An IP packet of this protocol, such as SCTP (132).
    Other(Ip, u8),
    /// A frame of this EtherType; for a length in its place (IEEE 802.3), below 1501.
    NotIp(u16),
}

impl Inner {
    /// The IP header; `None` for ARP and for what is not IP. The address of a neighbour discovery is in its message.
    pub const fn ip(&self) -> Option<&Ip> {
        match self {
            Self::Packet(packet) => match &packet.body {
                crate::packet::Body::Tcp(ip, _) | crate::packet::Body::Icmp(ip, _) => Some(ip),
                crate::packet::Body::Resolution(_) => None,
            },
            Self::Udp(ip, _)
            | Self::Opaque(ip, _)
            | Self::LaterFragment(ip, _)
            | Self::Other(ip, _) => Some(ip),
            Self::NotIp(_) => None,
        }
    }
}

/// An encrypted tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opaque {
    /// Which protocol.
    pub kind: OpaqueKind,
    /// Source and destination port, where it is a UDP datagram.
    pub ports: Option<(u16, u16)>,
    /// The receiver's index of WireGuard, the security parameters index of ESP.
    pub key: u32,
    /// Bytes of its payload according to the headers.
    pub payload_len: u32,
}

/// The protocol of an encrypted tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpaqueKind {
    /// A handshake of WireGuard: initiation, response or cookie (types 1 to 3).
    WireGuardHandshake,
    /// Data, or a keep-alive, of WireGuard (type 4).
    WireGuardData,
    /// IPsec (RFC 4303), also in UDP (RFC 3948).
    Esp,
}

/// The place of a fragment in its packet (RFC 791 3.1, RFC 8200 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Source of the packet.
    pub src: IpAddr,
    /// Destination of the packet.
    pub dst: IpAddr,
    /// The protocol of the payload.
    pub protocol: u8,
    /// The identification that all fragments of a packet share.
    pub ident: u32,
    /// Bytes of payload before this fragment.
    pub offset: u32,
    /// Bytes of payload in this fragment.
    pub len: u32,
    /// Whether more fragments follow.
    pub more: bool,
}

/// The packet that an ICMP error quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotedPacket {
    /// Its IP header.
    pub ip: Ip,
    /// Its protocol.
    pub protocol: u8,
    /// Source and destination port, where it is TCP or UDP and they are quoted.
    pub ports: Option<(u16, u16)>,
    /// Its sequence number, where it is TCP and that is quoted.
    pub seq: Option<Seq>,
}

/// The options of TCP beyond those of a handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpExtra {
    /// The first block of a selective acknowledgement: its first sequence number, and the one after its last (RFC 2018 3).
    pub sack: Option<(Seq, Seq)>,
    /// How many blocks the selective acknowledgement has.
    pub sack_blocks: u8,
    /// A Fast Open option: a cookie, or the request for one (RFC 7413 4.1.1).
    pub fast_open: bool,
}

#[cfg(test)]
mod tests;
