//! Parsing of ARP and neighbour discovery: requests and replies with the Ethernet addresses that they claim.

use std::net::{IpAddr, Ipv6Addr};

use pnet_packet::arp::ArpPacket;

use super::bytes::at;
use super::{ParseError, Resolution, ResolutionKind};
use crate::packet::mac::Mac;

/// `ICMPv6` types of neighbour solicitation and advertisement (RFC 4861 4.3, 4.4).
pub(super) const SOLICITATION: u8 = 135;
pub(super) const ADVERTISEMENT: u8 = 136;
/// The options with a link-layer address (RFC 4861 4.6.1).
pub(super) const SOURCE_LINK_ADDRESS: u8 = 1;
pub(super) const TARGET_LINK_ADDRESS: u8 = 2;

/// Parses an ARP packet for Ethernet and IPv4 (RFC 826). The target of a reply is its sender.
pub(super) fn parse_arp(bytes: &[u8]) -> Result<Resolution, ParseError> {
    const ETHERNET: u16 = 1;
    const IPV4: u16 = 0x0800;
    let arp = ArpPacket::new(bytes).ok_or(ParseError::Truncated("ARP packet"))?;
    let hardware = (arp.get_hardware_type().0, arp.get_hw_addr_len());
    let network = (arp.get_protocol_type().0, arp.get_proto_addr_len());
    if hardware != (ETHERNET, 6) || network != (IPV4, 4) {
        return Err(ParseError::Arp);
    }
    let sender = IpAddr::V4(arp.get_sender_proto_addr());
    let (kind, target) = match arp.get_operation().0 {
        1 => (
            ResolutionKind::Request,
            IpAddr::V4(arp.get_target_proto_addr()),
        ),
        2 => (ResolutionKind::Reply, sender),
        _ => return Err(ParseError::Arp),
    };
    let mac = arp.get_sender_hw_addr();
    Ok(Resolution {
        kind,
        sender,
        sender_mac: Some(Mac([mac.0, mac.1, mac.2, mac.3, mac.4, mac.5])),
        target,
    })
}

/// Whether an ARP packet of Ethernet and IPv4 announces its sender: the target's address is its own (RFC 5227 3).
pub(super) fn is_arp_announcement(bytes: &[u8]) -> bool {
    let sender: Option<[u8; 4]> = at(bytes, 14);
    sender.is_some() && sender == at(bytes, 24)
}

/// Parses a neighbour solicitation or advertisement; `None` for any other `ICMPv6` message.
pub(super) fn parse_discovery(
    sender: IpAddr,
    bytes: &[u8],
) -> Result<Option<Resolution>, ParseError> {
    let (kind, option) = match bytes.first() {
        Some(&SOLICITATION) => (ResolutionKind::Request, SOURCE_LINK_ADDRESS),
        Some(&ADVERTISEMENT) => (ResolutionKind::Reply, TARGET_LINK_ADDRESS),
        _ => return Ok(None),
    };
    let cut = ParseError::Truncated("neighbour discovery message");
    let (target, options) = bytes
        .get(8..)
        .and_then(|rest| rest.split_first_chunk::<16>())
        .ok_or(cut)?;
    Ok(Some(Resolution {
        kind,
        sender,
        sender_mac: link_address(options, option),
        target: IpAddr::V6(Ipv6Addr::from(*target)),
    }))
}

/// Options are type, length in units of eight bytes, value; a length of zero ends the list.
fn link_address(mut options: &[u8], wanted: u8) -> Option<Mac> {
    while let &[kind, units, ref value @ ..] = options {
        if kind == wanted && units == 1 {
            return value.get(..6).and_then(Mac::from_slice);
        }
        let length = usize::from(units) * 8;
        options = options.get(length..).filter(|_| length > 0)?;
    }
    None
}
