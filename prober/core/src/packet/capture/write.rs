//! Writing of pcapng files, with comments that Wireshark shows.

use std::borrow::Cow;
use std::time::Duration;

use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption, InterfaceTsResolution,
};
use pcap_file::pcapng::blocks::opt_common::CommonOption;
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::pcapng::{PcapNgWriteError, PcapNgWriter};
use pcap_file::{DataLink, Endianness};

use super::annotate::flags_of;
use crate::packet::observation::{Direction, Observation};
use crate::packet::{CraftError, LinkType, rebuild};

/// The packets of one observer.
#[derive(Clone, Debug)]
pub struct InterfacePackets<'a> {
    /// The name of the interface, which names the observer, such as `node-1/node-1-client eth0`.
    pub interface: String,
    /// Its packets, in order.
    pub packets: Vec<CommentedPacket<'a>>,
}

/// A packet with a comment.
#[derive(Clone, Debug)]
pub struct CommentedPacket<'a> {
    /// The packet.
    pub observation: &'a Observation,
    /// A comment; empty for none.
    pub comment: Cow<'a, str>,
}

/// Why a capture cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A packet that does not fit a frame.
    #[error("cannot write a packet of {interface}: {source}")]
    Packet {
        /// The observer.
        interface: String,
        /// The reason.
        source: CraftError,
    },
    /// The format does not support it.
    #[error("cannot write the capture: {0}")]
    Format(#[from] PcapNgWriteError),
}

/// Writes a pcapng file with one interface per observer, packets in the order of their timestamps.
///
/// The frames are rebuilt from the observed packets: original headers, no payload.
pub fn write_pcapng(views: &[InterfacePackets<'_>]) -> Result<Vec<u8>, WriteError> {
    let section = SectionHeaderBlock {
        endianness: Endianness::Little,
        major_version: 1,
        minor_version: 0,
        section_length: -1,
        options: vec![SectionHeaderOption::UserApplication("prober".into())],
    };
    let mut writer = PcapNgWriter::with_section_header(Vec::new(), section)?;
    let links: Vec<LinkType> = views.iter().map(link_of).collect();
    for (view, link) in views.iter().zip(&links) {
        let mut interface = InterfaceDescriptionBlock::new(data_link(*link), 0);
        interface.options = vec![
            InterfaceDescriptionOption::IfName(view.interface.as_str().into()),
            InterfaceDescriptionOption::IfTsResol(InterfaceTsResolution::NANO),
        ];
        writer.write_pcapng_block(interface)?;
    }
    let mut packets: Vec<_> = views
        .iter()
        .zip(&links)
        .enumerate()
        .flat_map(|(number, (view, link))| {
            view.packets
                .iter()
                .map(move |packet| (number, view, *link, packet))
        })
        .collect();
    packets.sort_by_key(|(.., packet)| packet.observation.at);
    for (number, view, link, packet) in packets {
        writer.write_pcapng_block(block(number, view, link, packet)?)?;
    }
    Ok(writer.into_inner())
}

/// The link type that keeps most link addresses of these packets.
fn link_of(view: &InterfacePackets<'_>) -> LinkType {
    let mut links = view
        .packets
        .iter()
        .map(|packet| LinkType::of(&packet.observation.packet));
    let first = links.next().unwrap_or(LinkType::Ethernet);
    if links.all(|link| link == first) {
        first
    } else {
        LinkType::LinuxSll
    }
}

const fn data_link(link: LinkType) -> DataLink {
    match link {
        LinkType::Ethernet => DataLink::ETHERNET,
        LinkType::LinuxSll => DataLink::LINUX_SLL,
        LinkType::LinuxSll2 => DataLink::LINUX_SLL2,
        LinkType::Raw => DataLink::RAW,
        LinkType::Null => DataLink::LOOP,
        LinkType::Ppp => DataLink::PPP,
        LinkType::Pppoe => DataLink::PPP_ETHER,
    }
}

fn block<'a>(
    number: usize,
    view: &InterfacePackets<'_>,
    link: LinkType,
    CommentedPacket {
        observation,
        comment,
    }: &'a CommentedPacket<'_>,
) -> Result<EnhancedPacketBlock<'a>, WriteError> {
    let mut frame = rebuild(&observation.packet, link).map_err(|source| WriteError::Packet {
        interface: view.interface.clone(),
        source,
    })?;
    // The packet type of a cooked header (linux/if_packet.h).
    let packet_type = match observation.direction {
        Direction::Received => 0,
        Direction::Sent => 4,
        Direction::Overheard => 3,
    };
    if link == LinkType::LinuxSll
        && let Some(place) = frame.bytes.get_mut(1)
    {
        *place = packet_type;
    }
    let mut options = vec![EnhancedPacketOption::Flags(flags_of(observation.direction))];
    if !comment.is_empty() {
        let comment = CommonOption::Comment(Cow::Borrowed(comment.as_ref()));
        options.push(EnhancedPacketOption::Common(comment));
    }
    Ok(EnhancedPacketBlock {
        interface_id: u32::try_from(number).unwrap_or(u32::MAX),
        timestamp: Duration::from_nanos(observation.at.as_nanos()),
        original_len: frame.original_len,
        data: frame.bytes.into(),
        options,
    })
}
