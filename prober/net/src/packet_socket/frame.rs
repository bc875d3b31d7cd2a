//! One captured frame, as the ring holds it.
use prober_core::packet::mac::Mac;
use prober_core::time::Timestamp;

const ARPHRD_ETHER: u16 = libc::ARPHRD_ETHER;
const ARPHRD_LOOPBACK: u16 = libc::ARPHRD_LOOPBACK;
const ETHERNET_HEADER: usize = 14;

/// What a frame is to this host (`sll_pkttype`, packet(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// This host sent it.
    Outgoing,
    /// It is addressed to this host.
    ToHost,
    /// It is addressed to another host and came by: flooded by a bridge.
    OtherHost,
    /// It is for everybody.
    Broadcast,
    /// It is for a group.
    Multicast,
    /// It went from this host to itself, so it was sent and received at once.
    Loopback,
}

/// What stands before the network header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkType {
    /// An Ethernet header.
    Ethernet,
    /// Nothing, as on tun interfaces.
    Raw,
    /// Another kind of header (`ARPHRD_*`, include/uapi/linux/if_arp.h); [`Frame::packet`] skips it.
    Other(u16),
}

/// Whether the transport checksum is in the frame yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Checksum {
    /// It is to be written by hardware that the packet has not met (`TP_STATUS_CSUMNOTREADY`): what stands there
    /// now is no error. Usual for packets of the kernel's own TCP, also after a veth.
    Partial,
    /// What stands there is what the receiver judges.
    Complete,
}

/// A captured frame; borrowed from the ring.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'ring> {
    /// The kernel's stamp.
    pub at: Timestamp,
    /// What it is to this host.
    pub kind: FrameKind,
    /// The index of the interface that it was seen on.
    pub interface: u32,
    /// What its bytes begin with.
    pub link_type: LinkType,
    /// What the link says that it carries (0x0800 is IPv4).
    pub ethertype: u16,
    /// Whether the transport checksum is final.
    pub checksum: Checksum,
    /// Its length on the wire; longer than `bytes` if the ring had to cut it.
    pub wire_length: u32,
    /// The frame from its link header on.
    pub bytes: &'ring [u8],
    /// Where in `bytes` the network header begins.
    pub network: usize,
    pub(super) hardware: u16,
}

impl<'ring> Frame<'ring> {
    /// The frame from its network header on.
    pub fn packet(&self) -> &'ring [u8] {
        self.bytes.get(self.network..).unwrap_or_default()
    }

    /// Who put it on the wire.
    pub fn source(&self) -> Option<Mac> {
        self.ethernet(6)
    }

    /// Whom it is for.
    pub fn destination(&self) -> Option<Mac> {
        self.ethernet(0)
    }

    fn ethernet(&self, at: usize) -> Option<Mac> {
        match self.link_type {
            LinkType::Ethernet => Mac::from_slice(self.bytes.get(at..at + 6)?),
            LinkType::Raw | LinkType::Other(_) => None,
        }
    }

    /// The kernel shows a packet on the loopback interface when it leaves and again when it arrives, a moment later.
    pub(super) fn is_loopback_duplicate(&self) -> bool {
        self.hardware == ARPHRD_LOOPBACK && self.kind != FrameKind::Loopback
    }
}

impl LinkType {
    /// From the kind of device and the length of the link header.
    pub(super) fn of(hardware: u16, header: usize) -> Self {
        match (hardware, header) {
            (ARPHRD_ETHER | ARPHRD_LOOPBACK, ETHERNET_HEADER..) => Self::Ethernet,
            (_, 0) => Self::Raw,
            (other, _) => Self::Other(other),
        }
    }
}

impl FrameKind {
    /// From `sll_pkttype` and the kind of device. On loopback the outgoing sight is the one that is kept.
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
