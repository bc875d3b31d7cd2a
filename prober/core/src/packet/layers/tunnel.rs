//! Headers that carry a whole packet: recognised by their form, since ports are a matter of configuration.

use super::udp::{self, Udp};
use super::{Inner, Layers, Opaque, OpaqueKind, TunnelKind};
use crate::packet::bytes::{ethertype, protocol, u32_at};
use crate::packet::ip::IpPayload;
use crate::packet::link::{self, LinkPayload};

/// GRE, with a frame or a packet.
mod gre;
/// VXLAN, Geneve, and IP in UDP.
mod overlay;
/// WireGuard and ESP in UDP.
mod sealed;

/// A tunnel header, and the frame in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opened<'a> {
    /// The kind of tunnel.
    pub(super) kind: TunnelKind,
    /// Source and destination port, where it is UDP.
    pub(super) ports: Option<(u16, u16)>,
    /// The identifier of the network or session.
    pub(super) key: Option<u32>,
    /// The frame that it carries.
    pub(super) frame: LinkPayload<'a>,
}

impl Opened<'_> {
    /// Whether what is inside leaves no doubt that it is a tunnel: any UDP payload may begin as one.
    pub(super) fn is_certain(&self, inside: &Layers) -> bool {
        match (self.ports, self.kind, &inside.inner) {
            (None, ..) => true,
            // Nothing but its length shows that a datagram is an IP packet.
            (Some(_), TunnelKind::IpInIp, inner) => {
                matches!(inner, Inner::Packet(_) | Inner::Udp(..))
            }
            (Some(_), _, inner) => !matches!(inner, Inner::NotIp(_)),
        }
    }
}

/// The tunnel that an IP packet is, if it is one.
pub(super) fn open<'a>(carrier: &IpPayload<'a>) -> Option<Opened<'a>> {
    match carrier.protocol {
        protocol::IPV4 => packet(TunnelKind::IpInIp, None, ethertype::IPV4, carrier.bytes),
        protocol::IPV6 => packet(TunnelKind::IpInIp, None, ethertype::IPV6, carrier.bytes),
        protocol::GRE => gre::open(carrier.bytes),
        protocol::UDP => {
            let ports = udp::both_ports(u32_at(carrier.bytes, 0)?);
            overlay::open(ports, carrier.bytes.get(udp::HEADER..)?)
        }
        _ => None,
    }
}

/// The encrypted tunnel that a datagram is, if it is one.
pub(super) fn opaque(datagram: &Udp, payload: &[u8]) -> Option<Opaque> {
    sealed::opaque(datagram, payload)
}

/// A packet without a link header of its own.
fn packet(kind: TunnelKind, key: Option<u32>, ether_type: u16, bytes: &[u8]) -> Option<Opened<'_>> {
    Some(Opened {
        kind,
        ports: None,
        key,
        frame: link::bare(ether_type, bytes).ok()?,
    })
}

/// An Ethernet frame.
fn frame(kind: TunnelKind, key: Option<u32>, bytes: &[u8]) -> Option<Opened<'_>> {
    Some(Opened {
        kind,
        ports: None,
        key,
        frame: link::ethernet(bytes).ok()?,
    })
}
