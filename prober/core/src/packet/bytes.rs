//! Helpers that all header parsers share: bytes at an offset, protocol numbers, and parse errors.

/// Whether TCP checksums are verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumMode {
    /// Verified: the bytes are those of the wire.
    Verify,
    /// Not verified: the kernel has not filled the checksum in yet (`TP_STATUS_CSUMNOTREADY`), or has verified it.
    Trust,
}

/// Why a frame does not parse as a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The bytes end within a header.
    #[error("the bytes end within the {0}: capture with a larger snap length")]
    Truncated(&'static str),
    /// A length field contradicts the header that it belongs to.
    #[error("the lengths in the {0} contradict each other: the packet is malformed")]
    Length(&'static str),
    /// An IP header of another version than its frame says.
    #[error("an IP header of version {0} where 4 or 6 was expected")]
    Version(u8),
    /// The frame carries neither IP nor ARP.
    #[error("a frame of EtherType {0:#06x}, which is none of IPv4, IPv6 and ARP")]
    EtherType(u16),
    /// The packet carries neither TCP nor ICMP.
    #[error("an IP packet of protocol {0}, which is none of TCP, ICMP and ICMPv6")]
    Protocol(u8),
    /// A fragment other than the first: it has no TCP header.
    #[error("a later fragment of an IP packet, which has no TCP header")]
    LaterFragment,
    /// ARP for other hardware or protocols, or of another operation.
    #[error("an ARP packet that is neither a request nor a reply for an Ethernet address of IPv4")]
    Arp,
}

/// EtherTypes (IEEE 802 numbers, as listed by IANA).
pub(super) mod ethertype {
    pub(crate) const IPV4: u16 = 0x0800;
    pub(crate) const ARP: u16 = 0x0806;
    pub(crate) const VLAN: u16 = 0x8100;
    pub(crate) const IPV6: u16 = 0x86dd;
    pub(crate) const PROVIDER_VLAN: u16 = 0x88a8;
    pub(crate) const OLD_PROVIDER_VLAN: u16 = 0x9100;
    pub(crate) const MPLS: u16 = 0x8847;
    pub(crate) const MPLS_MULTICAST: u16 = 0x8848;
    pub(crate) const PPP: u16 = 0x880b;
    pub(crate) const PPPOE_SESSION: u16 = 0x8864;
    pub(crate) const PROVIDER_BACKBONE: u16 = 0x88e7;
    /// An Ethernet frame in GRE or Geneve.
    pub(crate) const BRIDGED: u16 = 0x6558;
    /// ERSPAN types I and II in GRE.
    pub(crate) const ERSPAN: u16 = 0x88be;
    /// ERSPAN type III in GRE.
    pub(crate) const ERSPAN_III: u16 = 0x22eb;
}

/// IP protocol numbers.
pub(super) mod protocol {
    pub(crate) const ICMP: u8 = 1;
    pub(crate) const IPV4: u8 = 4;
    pub(crate) const TCP: u8 = 6;
    pub(crate) const UDP: u8 = 17;
    pub(crate) const IPV6: u8 = 41;
    pub(crate) const GRE: u8 = 47;
    pub(crate) const ESP: u8 = 50;
    pub(crate) const ICMPV6: u8 = 58;
}

/// The bytes at an offset; `None` beyond the end.
pub(super) fn at<const N: usize>(bytes: &[u8], place: usize) -> Option<[u8; N]> {
    bytes.get(place..)?.first_chunk().copied()
}

/// The big-endian number at an offset.
pub(super) fn u16_at(bytes: &[u8], place: usize) -> Option<u16> {
    at(bytes, place).map(u16::from_be_bytes)
}

/// The big-endian number at an offset.
pub(super) fn u32_at(bytes: &[u8], place: usize) -> Option<u32> {
    at(bytes, place).map(u32::from_be_bytes)
}
