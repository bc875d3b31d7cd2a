//! DNS queries and answers: id, response code and the name in question (RFC 1035 4).

use std::fmt;

use crate::packet::bytes::u16_at;

/// The header of a DNS message, and its first question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dns {
    /// The id that joins query and answer.
    pub id: u16,
    /// Whether it is an answer.
    pub is_answer: bool,
    /// The response code of an answer: 0 no error, 2 the server failed, 3 no such name, 5 refused.
    pub response_code: u8,
    /// The answer is cut: the client repeats the query over TCP.
    pub is_cut: bool,
    /// The number of answer records.
    pub answers: u16,
    /// The name of the first question.
    pub name: DnsName,
    /// The type of the first question: 1 A, 28 AAAA, 33 SRV; 0 where there is no question.
    pub query_type: u16,
}

/// A domain name as printable ASCII, bounded: other bytes are `?`, and a longer name ends with `...`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DnsName {
    bytes: [u8; Self::MAX],
    len: u8,
}

impl DnsName {
    /// The most bytes of a name that are kept.
    pub const MAX: usize = 127;

    /// The name, without the dot at its end; empty for the root.
    pub fn as_str(&self) -> &str {
        let kept = self.bytes.get(..usize::from(self.len)).unwrap_or_default();
        // Only printable ASCII is stored.
        std::str::from_utf8(kept).unwrap_or_default()
    }
}

impl Default for DnsName {
    fn default() -> Self {
        Self {
            bytes: [0; Self::MAX],
            len: 0,
        }
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl Dns {
    /// Parses a message; `None` where it is cut before the name of its first question, or none of DNS.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        const ANSWER: u16 = 0x8000;
        const CUT: u16 = 0x0200;
        let flags = u16_at(bytes, 2)?;
        let mut name = DnsName::default();
        let mut query_type = 0;
        if u16_at(bytes, 4)? > 0 {
            let after = name.read(bytes, 12)?;
            query_type = u16_at(bytes, after).unwrap_or_default();
        }
        Some(Self {
            id: u16_at(bytes, 0)?,
            is_answer: flags & ANSWER != 0,
            response_code: flags.to_be_bytes()[1] & 0xf,
            is_cut: flags & CUT != 0,
            answers: u16_at(bytes, 6)?,
            name,
            query_type,
        })
    }
}

impl DnsName {
    /// Reads the labels from `place` on; returns the place after them. The name of a first question is not compressed: a
    /// pointer ends it (RFC 1035 4.1.4).
    fn read(&mut self, bytes: &[u8], mut place: usize) -> Option<usize> {
        loop {
            let len = usize::from(*bytes.get(place)?);
            match len {
                0 => return Some(place + 1),
                1..=63 => {
                    let label = bytes.get(place + 1..place + 1 + len)?;
                    if self.len > 0 {
                        self.push(b'.');
                    }
                    for byte in label {
                        self.push(if byte.is_ascii_graphic() { *byte } else { b'?' });
                    }
                    place += 1 + len;
                }
                192.. => return Some(place + 2),
                // Reserved forms.
                _ => return None,
            }
        }
    }

    /// Adds a printable character, or marks the end of what is kept.
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(usize::from(self.len)) {
            *place = byte;
            self.len += 1;
        } else if let Some((_, end)) = self.bytes.split_last_chunk_mut::<3>() {
            *end = *b"...";
        }
    }
}
