//! Arbitrary capture files in pieces, arbitrary frames down to their innermost packet, and arbitrary datagrams.

use prober_core::packet::capture::{
    Advance, AnnotatedInterface, AnnotatedWriter, CaptureError, CaptureReader, CapturedFrame,
    Ending,
};
use prober_core::packet::layers::{Application, Inner, Layers, MAX_TUNNELS, parse_layers};
use prober_core::packet::{ChecksumMode, LinkType, ParseError, parse_frame};

use prober_core::time::Timestamp;

use super::CaseResult;

/// An arbitrary capture file: the first byte is the size of the pieces in which it is read. It is rejected, or its frames
/// are the same in pieces and at once, and the same again when they are written with comments.
///
/// # Panics
///
/// Where the size of the pieces changes what is read, or where a frame is changed by writing and reading it.
pub fn capture(data: &[u8]) -> CaseResult {
    let Some((piece, file)) = data.split_first() else {
        return CaseResult::Rejected;
    };
    let (mut whole, mut in_pieces) = (Vec::new(), Vec::new());
    let mut written = Vec::new();
    let mut writer = AnnotatedWriter::start(&mut written);
    let mut interfaces: Vec<AnnotatedInterface> = Vec::new();
    let end = read(file, usize::MAX, |reader, frame| {
        assert!(
            frame.bytes.len() <= file.len(),
            "a frame longer than its file"
        );
        whole.push(summary(reader, &frame));
        for interface in reader.interfaces().iter().skip(interfaces.len()) {
            interfaces.push(writer.interface(&interface.name, interface, &mut written));
        }
        if let Some(interface) = interfaces.get(frame.interface) {
            writer.frame(*interface, &frame, &["fuzzed"], &mut written);
        }
    });
    let end_in_pieces = read(file, usize::from(*piece) + 1, |reader, frame| {
        in_pieces.push(summary(reader, &frame));
    });
    assert_eq!(whole, in_pieces, "in pieces of {piece}");
    assert_eq!(end.is_ok(), end_in_pieces.is_ok());
    if end.is_err() {
        return CaseResult::Rejected;
    }
    let mut again = Vec::new();
    match read(&written, usize::MAX, |reader, frame| {
        again.push(summary(reader, &frame));
    }) {
        Ok(reader) => assert_eq!(reader.summary().ending, Ending::Whole),
        Err(CaptureError::LinkType(_)) => {}
        Err(error) => panic!("read what was written: {error}"),
    }
    // A file may describe an interface after its packets, or never.
    let mut expected = whole;
    expected.retain(|frame| frame.is_described);
    for (before, after) in expected.iter().zip(&again) {
        assert_eq!((before.at, &before.bytes), (after.at, &after.bytes));
        assert_eq!(before.original_len, after.original_len);
    }
    assert_eq!(expected.len(), again.len());
    CaseResult::Accepted
}

/// What must not change of a frame.
#[derive(Debug, PartialEq, Eq)]
struct Summary {
    number: u64,
    at: Timestamp,
    bytes: Vec<u8>,
    original_len: u32,
    layers: Option<Layers>,
    is_described: bool,
}

fn summary(reader: &CaptureReader, frame: &CapturedFrame<'_>) -> Summary {
    Summary {
        number: frame.number,
        at: frame.at,
        bytes: frame.bytes.to_vec(),
        original_len: frame.original_len,
        layers: frame.layers.copied(),
        is_described: frame.interface < reader.interfaces().len(),
    }
}

/// Reads a file in pieces of this size.
fn read(
    mut file: &[u8],
    piece: usize,
    mut each: impl FnMut(&CaptureReader, CapturedFrame<'_>),
) -> Result<CaptureReader, CaptureError> {
    let mut reader = CaptureReader::new();
    loop {
        match reader.advance()? {
            Advance::End => return Ok(reader),
            Advance::Frame => {
                let Some(frame) = reader.frame() else {
                    panic!("a frame that is none");
                };
                each(&reader, frame);
            }
            Advance::NeedsBytes => {
                let room = reader.room();
                let count = piece.min(file.len()).min(room.len());
                let (now, later) = file.split_at(count);
                if let Some(room) = room.get_mut(..count) {
                    room.copy_from_slice(now);
                }
                file = later;
                reader.filled(count);
            }
        }
    }
}

/// A frame: the first byte is the link type, the others are the frame. It is rejected, or its layers are the same whether
/// checksums are verified or not, and its packet is that of the frame where no tunnel carries it.
///
/// # Panics
///
/// Where layers contradict each other, or the packet of the frame.
pub fn layers(data: &[u8]) -> CaseResult {
    let Some((link, frame)) = data.split_first() else {
        return CaseResult::Rejected;
    };
    let link = match link {
        0 => LinkType::Ethernet,
        1 => LinkType::LinuxSll,
        2 => LinkType::LinuxSll2,
        3 => LinkType::Raw,
        4 => LinkType::Null,
        5 => LinkType::Ppp,
        _ => LinkType::Pppoe,
    };
    let parsed = parse_frame(link, frame, ChecksumMode::Verify);
    let layers = match parse_layers(link, frame, ChecksumMode::Verify) {
        Ok(layers) => layers,
        Err(error) => {
            let trusted = parse_layers(link, frame, ChecksumMode::Trust);
            assert_eq!(trusted, Err(error), "checksums decide what is a packet");
            assert!(
                parsed.is_err(),
                "layers fail where the packet does not: {error}"
            );
            return CaseResult::Rejected;
        }
    };
    check(&layers);
    match parsed {
        Ok(parsed) => {
            assert_eq!(layers.packet(), Some(&parsed.packet));
            assert_eq!(layers.tunnels().count(), 0);
        }
        Err(
            ParseError::Protocol(_)
            | ParseError::EtherType(_)
            | ParseError::LaterFragment
            | ParseError::Arp,
        ) => {}
        Err(
            error @ (ParseError::Truncated(_) | ParseError::Length(_) | ParseError::Version(_)),
        ) => {
            panic!("{error}: {layers:?}");
        }
    }
    CaseResult::Accepted
}

/// A payload of UDP: the first byte names its ports. It is accepted where it is an application or a tunnel.
///
/// # Panics
///
/// Where a name is not printable, or layers contradict each other.
pub fn datagram(data: &[u8]) -> CaseResult {
    const PORTS: [(u16, u16); 8] = [
        (40_000, 53),
        (53, 40_000),
        (68, 67),
        (546, 547),
        (1, 4789),
        (1, 6081),
        (4500, 4500),
        (5353, 5353),
    ];
    let Some((which, payload)) = data.split_first() else {
        return CaseResult::Rejected;
    };
    let Some((src, dst)) = PORTS.get(usize::from(which % 8)).copied() else {
        return CaseResult::Rejected;
    };
    let Ok(len) = u16::try_from(payload.len() + 28) else {
        return CaseResult::Rejected;
    };
    let mut packet = vec![0x45, 0];
    packet.extend(len.to_be_bytes());
    packet.extend([0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    for field in [src, dst, len - 20, 0] {
        packet.extend(field.to_be_bytes());
    }
    packet.extend(payload);
    let layers = match parse_layers(LinkType::Raw, &packet, ChecksumMode::Verify) {
        Ok(layers) => layers,
        Err(error) => panic!("{error}: a datagram whose headers are right"),
    };
    check(&layers);
    match layers.inner {
        Inner::Udp(_, udp) if udp.application.is_none() && layers.tunnels().next().is_none() => {
            CaseResult::Rejected
        }
        Inner::Udp(..)
        | Inner::Packet(_)
        | Inner::Opaque(..)
        | Inner::LaterFragment(..)
        | Inner::Other(..)
        | Inner::NotIp(_) => CaseResult::Accepted,
    }
}

/// What holds of the layers of any frame.
fn check(layers: &Layers) {
    assert!(layers.tunnels().count() <= MAX_TUNNELS);
    assert!(
        layers
            .fragments()
            .all(|fragment| fragment.more || fragment.offset > 0)
    );
    if let Some(tunnel) = layers.tunnels().next() {
        assert_eq!(layers.outer_link(), &tunnel.link);
    }
    if let Inner::Udp(_, udp) = layers.inner
        && let Some(Application::Dns(dns)) = udp.application
    {
        let name = dns.name.as_str();
        assert!(name.bytes().all(|byte| byte.is_ascii_graphic()), "{name:?}");
    }
}
