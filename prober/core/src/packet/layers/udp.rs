//! UDP datagrams (RFC 768), with what DNS and DHCP say in them.

use super::{DhcpMessage, Dns};
use crate::packet::bytes::{ChecksumMode, ParseError, protocol, u16_at, u32_at};
use crate::packet::ip::IpPayload;
use crate::packet::{Checksum, tcp};

/// The length of the header, bytes.
pub(super) const HEADER: usize = 8;

/// A UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Bytes of payload according to the headers, whether captured or not.
    pub payload_len: u32,
    /// Whether the checksum is right; unknown where there is none.
    pub checksum: Checksum,
    /// What it carries.
    pub application: Option<Application>,
}

/// What a datagram carries, where that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Application {
    /// A query or an answer of DNS.
    Dns(Dns),
    /// A message of DHCP or DHCPv6.
    Dhcp(DhcpMessage),
}

/// Parses a datagram; returns its header and the captured part of its payload.
pub(super) fn parse<'a>(
    carrier: &IpPayload<'a>,
    sums: ChecksumMode,
) -> Result<(Udp, &'a [u8]), ParseError> {
    let cut = ParseError::Truncated("UDP header");
    let (src_port, dst_port) = both_ports(u32_at(carrier.bytes, 0).ok_or(cut)?);
    let stated = u16_at(carrier.bytes, 4).ok_or(cut)?;
    let checksum = u16_at(carrier.bytes, 6).ok_or(cut)?;
    // Zero stands for more than the field can say (RFC 2675 4), as in what a device segments.
    let len = match usize::from(stated) {
        0 => carrier.len,
        1..HEADER => return Err(ParseError::Length("UDP header")),
        stated => stated,
    };
    let udp = Udp {
        src_port,
        dst_port,
        payload_len: u32::try_from(len - HEADER).unwrap_or(u32::MAX),
        checksum: match checksum {
            // None (RFC 768).
            0 => Checksum::Unknown,
            // The first fragment, or padding within the IP packet.
            _ if len != carrier.len => Checksum::Unknown,
            stated => tcp::verify_checksum(carrier, stated, protocol::UDP, sums),
        },
        application: None,
    };
    let end = len.min(carrier.bytes.len());
    Ok((udp, carrier.bytes.get(HEADER..end).unwrap_or_default()))
}

impl Udp {
    /// With what its payload says on the ports of DNS and DHCP.
    pub(super) fn with_application(self, payload: &[u8]) -> Self {
        let ports = (self.src_port, self.dst_port);
        let application = match ports {
            // RFC 1035 4.2.1, and multicast DNS (RFC 6762).
            (53 | 5353, _) | (_, 53 | 5353) => Dns::parse(payload).map(Application::Dns),
            (67 | 68, 67 | 68) => DhcpMessage::parse_v4(payload).map(Application::Dhcp),
            (546 | 547, _) | (_, 546 | 547) => {
                DhcpMessage::parse_v6(payload, self.src_port).map(Application::Dhcp)
            }
            _ => None,
        };
        Self {
            application,
            ..self
        }
    }
}

/// Source and destination port in the first word of a header.
pub(super) const fn both_ports(word: u32) -> (u16, u16) {
    let [a, b, c, d] = word.to_be_bytes();
    (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
}
