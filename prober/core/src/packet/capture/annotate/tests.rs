//! Annotated captures that are read back.

use super::*;
use crate::packet::capture::{Advance, CaptureReader};

/// The bytes of a capture: a pcap of raw IP with frames of these lengths, in nanoseconds.
fn original(lengths: &[u32]) -> Vec<u8> {
    let mut out = Vec::new();
    for word in [0xa1b2_3c4d_u32, 0x0002_0004, 0, 0, 262_144, 101] {
        out.extend(word.to_be_bytes());
    }
    for (number, len) in (1..).zip(lengths) {
        for word in [number, 999_999_999, *len, len + 7] {
            out.extend(word.to_be_bytes());
        }
        out.extend((0..*len).map(|byte| (byte % 251) as u8));
    }
    out
}

/// Reads a capture that fits the room of a reader, frame by frame.
fn each(bytes: &[u8], mut take: impl FnMut(&CaptureReader, CapturedFrame<'_>)) {
    let mut reader = CaptureReader::new();
    reader.room()[..bytes.len()].copy_from_slice(bytes);
    reader.filled(bytes.len());
    reader.filled(0);
    while reader.advance().unwrap() == Advance::Frame {
        take(&reader, reader.frame().unwrap());
    }
}

#[test]
fn frames_are_as_they_were_with_comments_and_names() {
    let files = [original(&[0, 1, 2, 3, 40]), original(&[100])];
    let mut written = Vec::new();
    let mut writer = AnnotatedWriter::start(&mut written);
    let mut expected = Vec::new();
    for (file, name) in files.iter().zip(["client's end", "node-2 \u{2192} uplink"]) {
        let mut interface = None;
        each(file, |reader, frame| {
            let interface = *interface.get_or_insert_with(|| {
                writer.interface(name, &reader.interfaces()[0], &mut written)
            });
            let comment = format!("frame {}", frame.number);
            let comments: &[&str] = if frame.number % 2 == 1 {
                &[&comment, "odd"]
            } else {
                &[]
            };
            writer.frame(interface, &frame, comments, &mut written);
            let first = comments.first().map(|comment| (*comment).to_owned());
            expected.push((
                name.to_owned(),
                frame.at,
                frame.bytes.to_vec(),
                frame.original_len,
                first,
            ));
        });
    }
    let mut found = Vec::new();
    each(&written, |reader, frame| {
        let interface = &reader.interfaces()[frame.interface];
        assert_eq!(interface.link_number, 101);
        let comment = frame.comment.as_deref().map(str::to_owned);
        found.push((
            interface.name.clone(),
            frame.at,
            frame.bytes.to_vec(),
            frame.original_len,
            comment,
        ));
    });
    assert_eq!(found, expected);
}

#[test]
fn the_comment_and_the_direction_of_the_original_are_kept() {
    let interface = Interface::new(String::new(), 1, 0);
    for direction in [Direction::Sent, Direction::Received, Direction::Overheard] {
        let frame = CapturedFrame {
            number: 1,
            interface: 0,
            at: crate::time::Timestamp::from_nanos(u64::MAX),
            direction: Some(direction),
            bytes: b"abc",
            original_len: 3,
            comment: Some("of the original".into()),
            layers: None,
        };
        let mut written = Vec::new();
        let mut writer = AnnotatedWriter::start(&mut written);
        let place = writer.interface("eth0", &interface, &mut written);
        writer.frame(place, &frame, &["", "ours"], &mut written);
        each(&written, |_, read| {
            assert_eq!(read.direction, Some(direction));
            assert_eq!(read.comment.as_deref(), Some("of the original"));
            assert_eq!(read.at, frame.at);
        });
        assert!(written.windows(4).any(|place| place == b"ours"));
    }
}

#[test]
fn a_comment_longer_than_an_option_is_cut_between_characters() {
    let long = "\u{e4}".repeat(40_000);
    assert_eq!(text(&long).len(), 65_534);
    assert!(std::str::from_utf8(text(&long)).is_ok());
}
