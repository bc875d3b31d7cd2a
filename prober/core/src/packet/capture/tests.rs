//! Capture files of every format, complete and cut, written and read.

use proptest::prelude::*;

use super::*;
use crate::packet::observation::Observation;
use crate::packet::rebuild;
use crate::packet::text::parse_packet_text;

const INCIDENT: &str = "
    0.000 > 10.0.0.1:41000 > 10.96.0.9:80 [S] seq 0x10000000 win 64240 ttl 64 smac 02:00:00:00:00:01 dmac 02:00:00:00:00:fe
    0.041123 < 10.0.0.2:80 > 10.0.0.1:41000 [S.] seq 0x20000000 ack 0x10000001 win 65160 ttl 64 smac 02:00:00:00:00:02 dmac 02:00:00:00:00:01
    0.052 > 10.0.0.1:41000 > 10.0.0.2:80 [R] seq 0x10000001 win 0 ttl 64 smac 02:00:00:00:00:01 dmac 02:00:00:00:00:02
    1.000 ~ ARP who-has 10.0.0.3 tell 10.0.0.1 at 02:00:00:00:00:01 smac 02:00:00:00:00:01 dmac ff:ff:ff:ff:ff:ff
    2.000 < ICMP time exceeded from 10.0.0.254 to 10.0.0.1, quotes 10.0.0.1:41000 > 10.96.0.9:80 seq 0x10000000 ttl 1 smac 02:00:00:00:00:fe dmac 02:00:00:00:00:01
";

fn view<'a>(name: &str, observations: &'a [Observation]) -> InterfacePackets<'a> {
    InterfacePackets {
        interface: name.to_owned(),
        packets: observations
            .iter()
            .map(|observation| CommentedPacket {
                observation,
                comment: "seen".into(),
            })
            .collect(),
    }
}

fn written() -> (Vec<Observation>, Vec<u8>) {
    let observations = parse_packet_text(INCIDENT).unwrap();
    let bytes = write_pcapng(&[view("node-1/client eth0", &observations)]).unwrap();
    (observations, bytes)
}

fn observations(capture: &Capture<'_>) -> Vec<Observation> {
    capture
        .packets
        .iter()
        .map(|captured| {
            let mut packet = captured.packet;
            if let crate::packet::Body::Tcp(_, tcp) = &mut packet.body {
                tcp.checksum = crate::packet::Checksum::Unknown;
            }
            Observation {
                at: captured.at,
                direction: captured.direction.unwrap(),
                packet,
            }
        })
        .collect()
}

#[test]
fn a_written_capture_reads_back_with_directions_and_names() {
    let (wrote, bytes) = written();
    let capture = read(&bytes).unwrap();
    assert_eq!(observations(&capture), wrote);
    assert_eq!(capture.interfaces[0].name, "node-1/client eth0");
    assert_eq!(capture.interfaces[0].link, Some(LinkType::Ethernet));
    let comment = Some("seen".into());
    assert!(
        capture
            .packets
            .iter()
            .all(|packet| packet.comment == comment)
    );
    assert!(capture.notes.is_empty(), "{:?}", capture.notes);
}

#[test]
fn two_ends_are_two_interfaces_and_merge_by_time() {
    let observations = parse_packet_text(INCIDENT).unwrap();
    let (left, right) = observations.split_at(2);
    let bytes = write_pcapng(&[view("right", right), view("left", left)]).unwrap();
    let capture = read(&bytes).unwrap();
    let order: Vec<_> = capture.packets.iter().map(|seen| seen.interface).collect();
    assert_eq!(order, [1, 1, 0, 0, 0]);
}

#[test]
fn packets_with_only_a_source_address_are_written_cooked() {
    let observations = parse_packet_text(
        "0 > 10.0.0.1:1 > 10.0.0.2:2 [S] seq 5 smac 02:00:00:00:00:01
         1 ~ 10.0.0.3:1 > 10.0.0.2:2 [S] seq 5",
    )
    .unwrap();
    let bytes = write_pcapng(&[view("any", &observations)]).unwrap();
    let capture = read(&bytes).unwrap();
    assert_eq!(capture.interfaces[0].link, Some(LinkType::LinuxSll));
    let directions: Vec<_> = capture.packets.iter().map(|seen| seen.direction).collect();
    assert_eq!(
        directions,
        [Some(Direction::Sent), Some(Direction::Overheard)]
    );
}

fn len(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap()
}

/// A classic file by hand (IETF draft-ietf-opsawg-pcap 4 and 5).
fn classic(
    magic: u32,
    link: u32,
    packets: &[(u32, u32, Vec<u8>, u32)],
    word: impl Fn(u32) -> [u8; 4],
) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(word(magic));
    // Version 2.4 as two half words.
    let version = word(0x0002_0004);
    if version == 0x0002_0004_u32.to_be_bytes() {
        out.extend(version);
    } else {
        out.extend([2, 0, 4, 0]);
    }
    for field in [0, 0, 262_144, link] {
        out.extend(word(field));
    }
    for (seconds, fraction, bytes, original) in packets {
        for field in [*seconds, *fraction, len(bytes), *original] {
            out.extend(word(field));
        }
        out.extend(bytes);
    }
    out
}

fn frames(link: LinkType) -> Vec<Vec<u8>> {
    parse_packet_text(INCIDENT)
        .unwrap()
        .iter()
        .filter_map(|seen| rebuild(&seen.packet, link).ok())
        .map(|frame| frame.bytes)
        .collect()
}

#[test]
fn classic_files_of_either_endianness_and_resolution_read_the_same() {
    let packets: Vec<_> = frames(LinkType::Ethernet)
        .into_iter()
        .map(|bytes| (100, 5_000, bytes.clone(), len(&bytes)))
        .collect();
    for (magic, at) in [
        (0xa1b2_c3d4, 100_005_000_000),
        (0xa1b2_3c4d, 100_000_005_000),
    ] {
        let big = classic(magic, 1, &packets, u32::to_be_bytes);
        let little = classic(magic, 1, &packets, u32::to_le_bytes);
        for bytes in [big, little] {
            let capture = read(&bytes).unwrap();
            assert_eq!(capture.packets.len(), 5);
            assert_eq!(capture.packets[0].at, Timestamp::from_nanos(at));
            assert_eq!(capture.packets[0].direction, None);
        }
    }
}

#[test]
fn every_supported_link_type_is_read() {
    for (number, link) in [
        (1, LinkType::Ethernet),
        (113, LinkType::LinuxSll),
        (276, LinkType::LinuxSll2),
        (101, LinkType::Raw),
        (228, LinkType::Raw),
    ] {
        let packets: Vec<_> = frames(link)
            .into_iter()
            .map(|bytes| (1, 0, bytes.clone(), len(&bytes)))
            .collect();
        let bytes = classic(0xa1b2_c3d4, number, &packets, u32::to_le_bytes);
        let capture = read(&bytes).unwrap();
        assert_eq!(capture.packets.len(), packets.len(), "link type {number}");
    }
}

#[test]
fn another_link_type_is_refused_by_its_number() {
    let bytes = classic(0xa1b2_c3d4, 105, &[], u32::to_le_bytes);
    assert_eq!(read(&bytes).unwrap_err(), CaptureError::LinkType(105));
}

#[test]
fn a_packet_cut_by_the_snap_length_keeps_its_headers() {
    let frame = frames(LinkType::Ethernet).remove(0);
    let packets = [
        (1, 0, frame[..54].to_vec(), 1500),
        (2, 0, frame[..40].to_vec(), 1500),
    ];
    let bytes = classic(0xa1b2_c3d4, 1, &packets, u32::to_le_bytes);
    let capture = read(&bytes).unwrap();
    assert_eq!(capture.packets.len(), 1);
    assert_eq!(capture.packets[0].original_len, 1500);
    assert_eq!(
        capture.notes,
        ["1 packet: cut within their headers: capture with 'tcpdump -s 128' or more"]
    );
}

#[test]
fn complete_packets_of_a_cut_file_are_kept_and_the_rest_is_noted() {
    let (_, bytes) = written();
    let whole = read(&bytes).unwrap().packets.len();
    // A block starts with its type and its length: a cut between two leaves no trace.
    let mut between = Vec::new();
    let mut start = 0;
    while start < bytes.len() {
        between.push(start);
        start += u32::from_le_bytes(bytes[start + 4..start + 8].try_into().unwrap()) as usize;
    }
    for end in 4..bytes.len() {
        match read(&bytes[..end]) {
            Ok(capture) => {
                assert!(capture.packets.len() <= whole);
                assert!(
                    !capture.notes.is_empty() || between.contains(&end),
                    "cut at {end}"
                );
            }
            Err(error) => assert_eq!(error, CaptureError::Cut(end)),
        }
    }
    let cut = read(&bytes[..bytes.len() - 5]).unwrap();
    assert_eq!(cut.packets.len(), whole - 1);
    assert!(
        cut.notes[0].contains("ends within a packet"),
        "{:?}",
        cut.notes
    );
}

#[test]
fn other_file_formats_are_named() {
    for (bytes, stated) in [
        (&b"\x1f\x8b\x08\0\0\0"[..], "gzip"),
        (
            b"12:00:00.1 IP 10.0.0.1.1 > 10.0.0.2.2: Flags [S]\n",
            "text",
        ),
        (b"{\"schema\":1}", "JSON"),
        (b"\x7fELF\x02", "a program"),
        (b"\0\x01\x02\x03\x04", "unknown kind"),
        (b"ab", "text"),
    ] {
        let error = read(bytes).unwrap_err().to_string();
        assert!(error.contains(stated), "{error}");
    }
    assert_eq!(read(b"").unwrap_err(), CaptureError::Empty);
    assert_eq!(
        read(&0xa1b2_c3d4_u32.to_be_bytes()).unwrap_err(),
        CaptureError::Cut(4)
    );
}

proptest! {
    #[test]
    fn a_file_with_flipped_bits_reads_or_fails(
        flips in prop::collection::vec(any::<prop::sample::Index>(), 1..6),
        classic_file in any::<bool>(),
    ) {
        let mut bytes = if classic_file {
            let packets: Vec<_> = frames(LinkType::Ethernet)
                .into_iter()
                .map(|bytes| (1, 0, bytes, 60))
                .collect();
            classic(0xa1b2_c3d4, 1, &packets, u32::to_le_bytes)
        } else {
            written().1
        };
        for flip in flips {
            let bit = flip.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        if let Ok(capture) = read(&bytes) {
            prop_assert!(capture.packets.len() <= 5);
        }
    }

    #[test]
    fn any_bytes_after_a_magic_number_read_or_fail(
        which in 0..3_usize,
        rest in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let start: &[u8] = [
            &b"\x0a\x0d\x0d\x0a\x1c\0\0\0\x4d\x3c\x2b\x1a\x01\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\x1c\0\0\0"[..],
            b"\xd4\xc3\xb2\xa1\x02\0\x04\0\0\0\0\0\0\0\0\0\xff\xff\0\0\x01\0\0\0",
            b"\x0a\x0d\x0d\x0a",
        ][which];
        let bytes = [start, &rest].concat();
        if let Ok(capture) = read(&bytes) {
            prop_assert!(capture.packets.len() * 16 <= bytes.len());
        }
    }
}
