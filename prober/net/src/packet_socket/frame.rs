//! One captured frame in the ring.
use prober_core::packet::mac::Mac;
use prober_core::time::Timestamp;

const ARPHRD_ETHER: u16 = libc::ARPHRD_ETHER;
const ARPHRD_LOOPBACK: u16 = libc::ARPHRD_LOOPBACK;
const ETHERNET_HEADER: usize = 14;

/// The direction and the addressee of a frame (`sll_pkttype`, packet(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// This host sent it.
    Outgoing,
    /// It is addressed to this host.
    ToHost,
    /// It is addressed to another host, and a bridge flooded it to this one.
    OtherHost,
    /// It is addressed to all hosts of the link.
    Broadcast,
    /// It is addressed to a multicast group.
    Multicast,
    /// It is from this host to itself: sent and received at once.
    Loopback,
}

/// The header before the network header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkHeader {
    /// An Ethernet header.
    Ethernet,
    /// None, as on tun interfaces.
    None,
    /// Another kind of header (`ARPHRD_*`, include/uapi/linux/if_arp.h); [`Frame::packet`] skips it.
    Other(u16),
}

/// Whether the transport checksum is in the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChecksumStatus {
    /// Not yet: hardware is to write it (`TP_STATUS_CSUMNOTREADY`), so the bytes of the field are no error. Usual for
    /// packets of the kernel's own TCP, also behind a veth.
    Partial,
    /// It is, and the receiver verifies it.
    Complete,
}

/// A captured frame; borrowed from the ring.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'ring> {
    /// The kernel's timestamp.
    pub at: Timestamp,
    /// Its direction and addressee.
    pub kind: FrameKind,
    /// The index of the interface that it was captured on.
    pub interface: u32,
    /// The header that its bytes begin with.
    pub link_header: LinkHeader,
    /// The protocol of the network header (0x0800 is IPv4).
    pub ethertype: u16,
    /// Whether the transport checksum is complete.
    pub checksum: ChecksumStatus,
    /// Its length on the wire, bytes; longer than `bytes` if it was cut.
    pub wire_length: u32,
    /// The bytes of the frame from its link header on.
    pub bytes: &'ring [u8],
    /// The offset of the network header in `bytes`.
    pub network: usize,
    pub(super) hardware: u16,
}

impl<'ring> Frame<'ring> {
    /// The bytes of the frame from its network header on.
    pub fn packet(&self) -> &'ring [u8] {
        self.bytes.get(self.network..).unwrap_or_default()
    }

    /// The source of its Ethernet header.
    pub fn source(&self) -> Option<Mac> {
        self.ethernet(6)
    }

    /// The destination of its Ethernet header.
    pub fn destination(&self) -> Option<Mac> {
        self.ethernet(0)
    }

    fn ethernet(&self, at: usize) -> Option<Mac> {
        match self.link_header {
            LinkHeader::Ethernet => Mac::from_slice(self.bytes.get(at..at + 6)?),
            LinkHeader::None | LinkHeader::Other(_) => None,
        }
    }

    /// Whether this is the second copy of a packet on the loopback interface, which the kernel captures when it leaves and when
    /// it arrives.
    pub(super) fn is_loopback_duplicate(&self) -> bool {
        self.hardware == ARPHRD_LOOPBACK && self.kind != FrameKind::Loopback
    }
}

impl LinkHeader {
    /// By the kind of device and the length of the link header.
    pub(super) fn of(hardware: u16, header: usize) -> Self {
        match (hardware, header) {
            (ARPHRD_ETHER | ARPHRD_LOOPBACK, ETHERNET_HEADER..) => Self::Ethernet,
            (_, 0) => Self::None,
            (other, _) => Self::Other(other),
        }
    }
}

impl FrameKind {
    /// By `sll_pkttype` and the kind of device. On loopback the outgoing copy is kept.
    pub(super) fn of(packet_type: u8, hardware: u16) -> Self {
        match (packet_type, hardware) {
            (libc::PACKET_OUTGOING, ARPHRD_LOOPBACK) => Self::Loopback,
            (libc::PACKET_OUTGOING, _) => Self::Outgoing,
            (libc::PACKET_HOST, _) => Self::ToHost,
            (libc::PACKET_BROADCAST, _) => Self::Broadcast,
            (libc::PACKET_MULTICAST, _) => Self::Multicast,
            (_, _) => Self::OtherHost,
        }
    }
}
