//! Reading of pcapng files: sections, interfaces, enhanced packets with comments.

use std::borrow::Cow;

use pcap_file::pcapng::blocks::ENHANCED_PACKET_BLOCK;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::blocks::opt_common::CommonOption;
use pcap_file::pcapng::blocks::{
    INTERFACE_DESCRIPTION_BLOCK, PACKET_BLOCK, SECTION_HEADER_BLOCK, SIMPLE_PACKET_BLOCK,
};
use pcap_file::pcapng::{Block, PcapNgParseError, PcapNgParser, PcapNgState};

use super::{Capture, CaptureBuilder, CaptureError, RawRecord};
use crate::packet::observation::Direction;
use crate::time::{Timestamp, nanos};

pub(super) fn read(bytes: &[u8]) -> Result<Capture<'_>, CaptureError> {
    let (mut rest, mut parser) = PcapNgParser::new(bytes).map_err(|error| {
        if is_incomplete(&error) {
            CaptureError::Cut(bytes.len())
        } else {
            CaptureError::Broken(error.to_string())
        }
    })?;
    let mut builder = CaptureBuilder::default();
    // Interfaces are numbered within a section; a file may have several, one after the other.
    let mut first_interface = 0;
    let (mut unstamped, mut broken) = (0_u64, 0_u64);
    while !rest.is_empty() {
        let (after, block) = match parser.next_raw_block(rest) {
            Ok(next) => next,
            Err(error) => {
                builder.note(lost(bytes.len(), rest.len(), &error));
                break;
            }
        };
        rest = after;
        match block.type_ {
            SECTION_HEADER_BLOCK => first_interface = builder.capture.interfaces.len(),
            INTERFACE_DESCRIPTION_BLOCK => add_interface(parser.state(), &mut builder),
            // These blocks have no timestamp.
            SIMPLE_PACKET_BLOCK | PACKET_BLOCK => unstamped += 1,
            ENHANCED_PACKET_BLOCK => match block.try_into_block(parser.state()) {
                Ok(Block::EnhancedPacket(packet)) => add(packet, first_interface, &mut builder),
                Ok(_) | Err(_) => broken += 1,
            },
            _ => {}
        }
    }
    if unstamped > 0 {
        builder.note(format!(
            "{unstamped} packets in blocks without a time of their own or of an obsolete kind: left out"
        ));
    }
    if broken > 0 {
        builder.note(format!("{broken} packet blocks are broken: left out"));
    }
    builder.finish()
}

const fn is_incomplete(error: &PcapNgParseError) -> bool {
    matches!(error, PcapNgParseError::IncompleteBuffer(..))
}

fn lost(all: usize, left: usize, error: &PcapNgParseError) -> String {
    if is_incomplete(error) {
        return format!("the file ends within a block: its last {left} bytes are lost");
    }
    format!(
        "the file is broken at byte {} ({error}): its last {left} bytes are lost",
        all - left
    )
}

fn add_interface(state: &PcapNgState, builder: &mut CaptureBuilder<'_>) {
    if let Some(interface) = state.interfaces().last() {
        let name = interface.options.iter().find_map(|option| {
            if let InterfaceDescriptionOption::IfName(name) = option {
                Some(name.clone().into_owned())
            } else {
                None
            }
        });
        builder.interface(name.unwrap_or_default(), u32::from(interface.linktype));
    }
}

fn add<'a>(
    packet: EnhancedPacketBlock<'a>,
    first_interface: usize,
    builder: &mut CaptureBuilder<'a>,
) {
    let EnhancedPacketBlock {
        interface_id,
        timestamp,
        original_len,
        data: Cow::Borrowed(bytes),
        options,
    } = packet
    else {
        return;
    };
    let (mut direction, mut comment) = (None, None);
    for option in options {
        if let EnhancedPacketOption::Flags(flags) = option {
            direction = direction_of(flags);
        } else if let EnhancedPacketOption::Common(CommonOption::Comment(text)) = option {
            comment.get_or_insert(text);
        }
    }
    builder.record(RawRecord {
        interface: first_interface + interface_id as usize,
        at: Timestamp::from_nanos(nanos(timestamp)),
        direction,
        bytes,
        original_len,
        comment,
    });
}

/// The `epb_flags` word: direction in bits 0 and 1, how it was received in bits 2 to 4.
fn direction_of(flags: u32) -> Option<Direction> {
    const PROMISCUOUS: u32 = 4;
    match (flags & 0b11, flags >> 2 & 0b111) {
        (1, PROMISCUOUS) => Some(Direction::Overheard),
        (1, _) => Some(Direction::Received),
        (2, _) => Some(Direction::Sent),
        _ => None,
    }
}
