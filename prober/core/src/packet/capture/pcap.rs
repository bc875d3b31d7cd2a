//! Reading of classic pcap files: one link type, micro- or nanoseconds.

use std::borrow::Cow;

use pcap_file::pcap::{PcapParser, PcapTsResolution, RawPcapPacket};

use super::{Capture, CaptureBuilder, CaptureError, RawRecord};
use crate::time::Timestamp;

pub(super) fn read(bytes: &[u8]) -> Result<Capture<'_>, CaptureError> {
    let (mut rest, parser) = PcapParser::new(bytes).map_err(|_| CaptureError::Cut(bytes.len()))?;
    let header = parser.header();
    let mut builder = CaptureBuilder::default();
    let interface = builder.interface(String::new(), u32::from(header.datalink));
    while !rest.is_empty() {
        // The only possible error is a length beyond the end of the file.
        let Ok((after, packet)) = parser.next_raw_packet(rest) else {
            builder.note(format!(
                "the file ends within a packet: its last {} bytes are lost",
                rest.len()
            ));
            break;
        };
        rest = after;
        let RawPcapPacket {
            ts_sec,
            ts_frac,
            orig_len,
            data: Cow::Borrowed(data),
            ..
        } = packet
        else {
            continue;
        };
        let fraction = match header.ts_resolution {
            PcapTsResolution::MicroSecond => u64::from(ts_frac) * 1_000,
            PcapTsResolution::NanoSecond => u64::from(ts_frac),
        };
        builder.record(RawRecord {
            interface,
            at: Timestamp::from_nanos(u64::from(ts_sec) * 1_000_000_000 + fraction),
            direction: None,
            bytes: data,
            original_len: orig_len,
            comment: None,
        });
    }
    builder.finish()
}
