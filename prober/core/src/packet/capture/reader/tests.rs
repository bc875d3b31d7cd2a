//! Files of both formats in pieces of any size, cut and damaged at any place.

use proptest::prelude::*;

use super::*;
use crate::packet::LinkType;
use crate::packet::observation::Direction;

/// A frame of raw IP: a SYN with this sequence number.
fn syn(seq: u8) -> Vec<u8> {
    let mut packet = vec![
        0x45, 0, 0, 40, 0, seq, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ];
    packet.extend([
        0x9c, 0x40, 0, 80, 0, 0, 0, seq, 0, 0, 0, 0, 0x50, 2, 1, 1, 0, 0, 0, 0,
    ]);
    packet
}

/// The byte order of a file that a test writes.
type Word = fn(u32) -> [u8; 4];

fn pcap(magic: u32, link: u32, frames: &[Vec<u8>], word: Word) -> Vec<u8> {
    let mut out = Vec::new();
    for field in [magic, 0x0002_0004, 0, 0, 65_535, link] {
        out.extend(word(field));
    }
    for (number, frame) in (1..).zip(frames) {
        let len = u32::try_from(frame.len()).unwrap();
        for field in [number, 5, len, len] {
            out.extend(word(field));
        }
        if magic == 0xa1b2_cd34 {
            // Interface 3, IPv4, outgoing.
            out.extend([0, 0, 0, 3, 8, 0, 4, 0]);
        }
        out.extend(frame);
    }
    out
}

fn block(kind: u32, body: &[u8], word: Word) -> Vec<u8> {
    let padding = vec![0; (4 - body.len() % 4) % 4];
    let len = u32::try_from(12 + body.len() + padding.len()).unwrap();
    [&word(kind)[..], &word(len), body, &padding, &word(len)].concat()
}

fn half(number: u16, word: Word) -> [u8; 2] {
    if word(1) == [0, 0, 0, 1] {
        number.to_be_bytes()
    } else {
        number.to_le_bytes()
    }
}

fn section(word: Word) -> Vec<u8> {
    let version = [half(1, word), half(0, word)].concat();
    block(
        0x0a0d_0d0a,
        &[&word(0x1a2b_3c4d)[..], &version, &[0xff; 8]].concat(),
        word,
    )
}

fn interface(link: u16, options: &[(u16, &[u8])], word: Word) -> Vec<u8> {
    let mut body = [&half(link, word)[..], &[0; 2], &word(65_535)].concat();
    for (code, value) in options {
        let len = u16::try_from(value.len()).unwrap();
        body.extend(half(*code, word));
        body.extend(half(len, word));
        body.extend(*value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    block(1, &body, word)
}

fn packet(interface: u32, ticks: u64, frame: &[u8], word: Word) -> Vec<u8> {
    let len = u32::try_from(frame.len()).unwrap();
    let (high, low) = ((ticks >> 32) as u32, (ticks & 0xffff_ffff) as u32);
    let words = [interface, high, low, len, len].map(word).concat();
    block(6, &[&words[..], frame].concat(), word)
}

/// Reads a file in pieces of this size.
fn read(bytes: &[u8], piece: usize) -> (Vec<String>, Result<CaptureReader, CaptureError>) {
    let mut reader = CaptureReader::new();
    let mut rest = bytes;
    let mut frames = Vec::new();
    loop {
        match reader.advance() {
            Err(error) => return (frames, Err(error)),
            Ok(Advance::End) => return (frames, Ok(reader)),
            Ok(Advance::Frame) => frames.push(format!("{:?}", reader.frame().unwrap())),
            Ok(Advance::NeedsBytes) => {
                let room = reader.room();
                let count = piece.min(rest.len()).min(room.len());
                room[..count].copy_from_slice(&rest[..count]);
                rest = &rest[count..];
                reader.filled(count);
            }
        }
    }
}

fn summary(bytes: &[u8]) -> CaptureSummary {
    read(bytes, usize::MAX).1.unwrap().summary().clone()
}

/// What a test wants of each frame.
fn each<T>(bytes: &[u8], take: impl Fn(CapturedFrame<'_>) -> T) -> Vec<T> {
    let mut reader = CaptureReader::new();
    let room = reader.room();
    room[..bytes.len()].copy_from_slice(bytes);
    reader.filled(bytes.len());
    reader.filled(0);
    let mut found = Vec::new();
    while reader.advance().unwrap() == Advance::Frame {
        found.push(take(reader.frame().unwrap()));
    }
    found
}

/// A file with everything that pcapng has: two sections of different byte order, three interfaces, packets of each kind of
/// block, and blocks that are not read.
fn everything() -> Vec<u8> {
    let (little, big): (Word, Word) = (u32::to_le_bytes, u32::to_be_bytes);
    let simple = [&little(40)[..], &syn(3)].concat();
    let old = [
        &[0, 0, 0, 7][..],
        &[0, 0, 0, 0, 0, 0, 0, 9],
        &big(40),
        &big(40),
        &syn(5),
    ]
    .concat();
    [
        section(little),
        interface(101, &[(2, b"eth0")], little),
        interface(1, &[(2, b"usb0"), (9, &[9])], little),
        packet(0, 1_000_000, &syn(1), little),
        block(5, &[7; 40], little),
        packet(0, 2_000_000, &syn(2), little),
        block(3, &simple, little),
        section(big),
        interface(101, &[(9, &[3]), (14, &[0, 0, 0, 0, 0, 0, 0, 9])], big),
        packet(0, 1_500, &syn(4), big),
        block(2, &old, big),
        block(0x0bad, &[], big),
    ]
    .concat()
}

#[test]
fn a_file_reads_the_same_in_pieces_of_any_size() {
    let frames: Vec<_> = (0..20).map(syn).collect();
    for file in [
        everything(),
        pcap(0xa1b2_c3d4, 101, &frames, u32::to_be_bytes),
    ] {
        let (whole, end) = read(&file, usize::MAX);
        assert!(whole.len() >= 5);
        assert_eq!(end.unwrap().summary().ending, Ending::Whole);
        for piece in [1, 2, 3, 7, 64, 100] {
            assert_eq!(read(&file, piece).0, whole, "in pieces of {piece}");
        }
    }
}

#[test]
fn every_block_with_a_packet_is_read_in_every_section() {
    let file = everything();
    let found = each(&file, |frame| {
        (frame.number, frame.interface, frame.at.as_nanos())
    });
    let second = 1_000_000_000;
    assert_eq!(
        found,
        [
            (1, 0, second),
            (2, 0, 2 * second),
            // Without a time of its own.
            (3, 0, 2 * second),
            (4, 2, 10 * second + second / 2),
            (5, 2, 9 * second + 9_000_000),
        ]
    );
    let reader = read(&file, usize::MAX).1.unwrap();
    let names: Vec<_> = reader
        .interfaces()
        .iter()
        .map(|found| found.name.as_str())
        .collect();
    assert_eq!(names, ["eth0", "usb0", ""]);
    assert_eq!(
        reader.summary().notes(),
        ["1 packet: without a time of their own: taken as that of the packet before"]
    );
}

#[test]
fn the_clock_of_an_interface_has_any_resolution() {
    let second = 1_000_000_000;
    for (resolution, ticks, nanos) in [
        (0, 3, 3 * second),
        (3, 3_001, 3 * second + 1_000_000),
        (9, 3_000_000_007, 3 * second + 7),
        (12, 3_000_000_007_999, 3 * second + 7),
        (127, u64::MAX, 0),
        (0x8a, 3 * 1024 + 512, 3 * second + second / 2),
        (0xff, u64::MAX, 0),
        (0, u64::MAX, u64::MAX),
    ] {
        let word = u32::to_le_bytes;
        let file = [
            section(word),
            interface(101, &[(9, &[resolution])], word),
            packet(0, ticks, &syn(1), word),
        ]
        .concat();
        assert_eq!(
            each(&file, |frame| frame.at.as_nanos()),
            [nanos],
            "{resolution}"
        );
    }
}

#[test]
fn the_modified_header_of_pcap_has_the_direction() {
    for word in [u32::to_be_bytes, u32::to_le_bytes] {
        let file = pcap(0xa1b2_cd34, 101, &[syn(1), syn(2)], word);
        let found = each(&file, |frame| (frame.direction, frame.layers.is_some()));
        assert_eq!(found, [(Some(Direction::Sent), true); 2]);
    }
}

#[test]
fn another_link_type_beside_one_that_is_read_is_a_note() {
    let word = u32::to_le_bytes;
    let file = [
        section(word),
        interface(105, &[], word),
        interface(101, &[], word),
        packet(0, 1, &[1, 2, 3], word),
        packet(1, 2, &syn(1), word),
        packet(9, 3, &syn(1), word),
    ]
    .concat();
    let read_layers = each(&file, |frame| frame.layers.is_some());
    assert_eq!(read_layers, [false, true, false]);
    assert_eq!(
        summary(&file).notes(),
        ["2 packets: on interfaces of another link type: left out"]
    );
}

#[test]
fn a_damaged_record_ends_the_file_at_its_place() {
    let frames = [syn(1), syn(2), syn(3)];
    let mut file = pcap(0xa1b2_c3d4, 101, &frames, u32::to_le_bytes);
    let third = 24 + 2 * 56;
    file[third + 8..third + 12].copy_from_slice(&(2_u32 << 30).to_le_bytes());
    let summary = summary(&file);
    assert_eq!(summary.frames, 2);
    assert_eq!(
        summary.ending,
        Ending::Damaged {
            offset: third as u64,
            reason: "a packet of 2147483648 captured bytes".to_owned()
        }
    );
    for (place, value) in [(4, 13_u32), (4, 8), (4, 1 << 30), (32, 1 << 20), (0x44, 0)] {
        let word = u32::to_le_bytes;
        let start = [section(word), interface(101, &[], word)].concat();
        let mut last = packet(0, 1, &syn(1), word);
        let place: usize = if place == 32 { 20 } else { place };
        last[place..place + 4].copy_from_slice(&value.to_le_bytes());
        let file = [start.clone(), packet(0, 0, &syn(0), word), last].concat();
        let found = self::summary(&file);
        let offset = (start.len() + 72) as u64;
        assert_eq!(found.frames, 1, "{place} {value}");
        assert!(
            matches!(found.ending, Ending::Damaged { offset: at, .. } if at == offset),
            "{place} {value}: {found:?}"
        );
    }
}

#[test]
fn a_file_that_is_cut_anywhere_gives_what_was_whole_and_the_place() {
    let frames: Vec<_> = (0..3).map(syn).collect();
    for file in [
        everything(),
        pcap(0xa1b2_3c4d, 101, &frames, u32::to_be_bytes),
    ] {
        let (whole, _) = read(&file, usize::MAX);
        for end in 0..file.len() {
            let (found, result) = read(&file[..end], usize::MAX);
            assert_eq!(found, whole[..found.len()]);
            match result {
                Ok(reader) => match reader.summary().ending {
                    Ending::Whole => {}
                    Ending::Cut { offset, lost } => assert_eq!(offset + lost, end as u64),
                    Ending::Damaged { .. } => panic!("cut at {end}"),
                },
                Err(error) => assert!(end < 24 && found.is_empty(), "{error} at {end}"),
            }
        }
    }
}

#[test]
fn a_record_larger_than_the_room_is_read_and_a_larger_block_is_skipped() {
    let word = u32::to_le_bytes;
    let large: Vec<u8> = [syn(1), vec![0; 250_000]].concat();
    let file = [
        section(word),
        interface(101, &[], word),
        block(0x0bad, &vec![1; 5_000_000], word),
        packet(0, 1, &large, word),
        packet(0, 2, &large, word),
    ]
    .concat();
    let (found, result) = read(&file, 1000);
    assert_eq!(found.len(), 2);
    let mut reader = result.unwrap();
    assert_eq!(reader.summary().ending, Ending::Whole);
    assert!(reader.room().len() < 1_000_000);
    let cut = summary(&file[..1_000_000]);
    let Ending::Cut { offset, lost } = cut.ending else {
        panic!("{cut:?}");
    };
    assert_eq!((offset, offset + lost), (48, 1_000_000));
}

#[test]
fn packets_in_fragments_are_counted() {
    let part = |ident: u8, flags: [u8; 2]| {
        let mut packet = syn(ident);
        packet[6..8].copy_from_slice(&flags);
        packet[2..4].copy_from_slice(&[0, 36]);
        packet[9] = 17;
        packet.truncate(36);
        packet
    };
    let frames = [part(1, [0x20, 0]), part(2, [0x20, 0]), part(1, [0, 2])];
    let file = pcap(0xa1b2_c3d4, 101, &frames, u32::to_le_bytes);
    let reader = read(&file, usize::MAX).1.unwrap();
    assert_eq!(
        (reader.fragments().whole(), reader.fragments().incomplete()),
        (1, 1)
    );
}

#[test]
fn only_interfaces_that_are_not_read_are_an_error() {
    let word = u32::to_le_bytes;
    let file = [
        section(word),
        interface(105, &[], word),
        packet(0, 1, &[1], word),
    ]
    .concat();
    assert_eq!(read(&file, 5).1.unwrap_err(), CaptureError::LinkType(105));
    assert!(read(&section(word), 5).1.is_ok());
}

proptest! {
    #[test]
    fn a_damaged_file_reads_the_same_in_pieces_or_fails_the_same(
        classic in any::<bool>(),
        flips in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        piece in 1..90_usize,
    ) {
        let frames: Vec<_> = (0..6).map(syn).collect();
        let mut file = if classic {
            pcap(0xa1b2_c3d4, 101, &frames, u32::to_le_bytes)
        } else {
            everything()
        };
        for flip in flips {
            let bit = flip.index(file.len() * 8);
            file[bit / 8] ^= 1 << (bit % 8);
        }
        let (whole, end) = read(&file, usize::MAX);
        let (in_pieces, end_in_pieces) = read(&file, piece);
        prop_assert_eq!(whole, in_pieces);
        match (end, end_in_pieces) {
            (Ok(one), Ok(other)) => {
                let (one, other) = (one.summary(), other.summary());
                prop_assert_eq!(&one.ending, &other.ending);
                prop_assert_eq!(one.notes(), other.notes());
            }
            (Err(one), Err(CaptureError::NotACapture(_))) => {
                prop_assert!(matches!(one, CaptureError::NotACapture(_)));
            }
            (one, other) => prop_assert_eq!(one.err(), other.err()),
        }
    }
}

#[test]
fn the_link_type_of_every_interface_is_known_by_its_number() {
    for (number, link) in [
        (0, LinkType::Null),
        (108, LinkType::Null),
        (9, LinkType::Ppp),
        (50, LinkType::Ppp),
        (51, LinkType::Pppoe),
        (14, LinkType::Raw),
    ] {
        let file = pcap(0xa1b2_c3d4, number, &[], u32::to_le_bytes);
        let reader = read(&file, usize::MAX).1.unwrap();
        assert_eq!(reader.interfaces()[0].link, Some(link));
        assert_eq!(reader.interfaces()[0].link_number, number);
    }
}
