//! DHCP messages: their type and transaction (RFC 2131, RFC 8415).

use crate::packet::bytes::{at, u32_at};

/// A message of DHCP or DHCPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DhcpMessage {
    /// The transaction that joins request and reply.
    pub transaction: u32,
    /// Whether a client sent it.
    pub is_request: bool,
    /// The message type: of DHCP 1 discover, 2 offer, 3 request, 4 decline, 5 ack, 6 nak, 7 release, 8 inform
    /// (RFC 2132 9.6), of DHCPv6 as in RFC 8415 7.3; `None` for BOOTP.
    pub message_type: Option<u8>,
}

impl DhcpMessage {
    /// Parses a message of DHCP or BOOTP.
    pub(super) fn parse_v4(bytes: &[u8]) -> Option<Self> {
        const COOKIE: [u8; 4] = [99, 130, 83, 99];
        const OPTIONS: usize = 240;
        let is_request = match *bytes.first()? {
            1 => true,
            2 => false,
            _ => return None,
        };
        let options = bytes
            .get(OPTIONS..)
            .filter(|_| at(bytes, OPTIONS - 4) == Some(COOKIE));
        Some(Self {
            transaction: u32_at(bytes, 4)?,
            is_request,
            message_type: options.and_then(message_type),
        })
    }

    /// Parses a message of DHCPv6: a type and a transaction of three bytes. A client sends from port 546.
    pub(super) fn parse_v6(bytes: &[u8], src_port: u16) -> Option<Self> {
        const CLIENT: u16 = 546;
        let word = u32_at(bytes, 0)?;
        let [kind, ..] = word.to_be_bytes();
        Some(Self {
            transaction: word & 0x00ff_ffff,
            is_request: src_port == CLIENT,
            message_type: Some(kind),
        })
    }
}

/// The option with the message type: code, length, value; 0 pads, 255 ends (RFC 2132 2, 9.6).
fn message_type(mut options: &[u8]) -> Option<u8> {
    const MESSAGE_TYPE: u8 = 53;
    loop {
        match *options {
            [0, ref rest @ ..] => options = rest,
            [MESSAGE_TYPE, 1, value, ..] => return Some(value),
            [] | [255, ..] | [_] => return None,
            [_, len, ref rest @ ..] => options = rest.get(usize::from(len)..)?,
        }
    }
}
