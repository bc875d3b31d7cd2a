//! Captures that are compressed and cut, read in pieces.

use std::io::{Cursor, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

/// A pcap file of raw IP with `count` packets, each a SYN.
fn pcap(count: u32) -> Vec<u8> {
    let mut syn = vec![
        0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ];
    syn.extend([
        0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0,
    ]);
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4, 0x0002_0004, 0, 0, 65_535, 101] {
        file.extend(u32::to_be_bytes(word));
    }
    for number in 0..count {
        for word in [number, 0, 40, 40] {
            file.extend(word.to_be_bytes());
        }
        file.extend(&syn);
    }
    file
}

/// The frames of a file, and its notes.
fn frames(bytes: Vec<u8>) -> (u64, Vec<String>) {
    let mut input = CaptureInput::of("a.pcap".to_owned(), Box::new(Cursor::new(bytes))).unwrap();
    let mut count = 0;
    while input.advance().unwrap() {
        count += 1;
        assert!(input.frame().unwrap().layers.unwrap().packet().is_some());
    }
    let mut notes = input.reader().summary().notes();
    notes.extend(input.compression_note().map(str::to_owned));
    (count, notes)
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_file_many_times_the_size_of_the_buffer_is_read_in_pieces() {
    let file = pcap(100_000);
    assert_eq!(frames(file.clone()), (100_000, Vec::new()));
    assert_eq!(frames(gzip(&file)), (100_000, Vec::new()));
    let mut input = CaptureInput::of("a".to_owned(), Box::new(Cursor::new(file))).unwrap();
    while input.advance().unwrap() {}
    assert!(input.reader.room().len() <= 1024 * 1024);
}

#[test]
fn a_compressed_file_that_is_cut_gives_its_packets_and_a_note() {
    let file = gzip(&pcap(10_000));
    let (count, notes) = frames(file[..file.len() / 2].to_vec());
    assert!((1_000..10_000).contains(&count), "{count}");
    assert!(
        notes
            .iter()
            .any(|note| note.starts_with("the gzip data of a.pcap ends or is damaged after")),
        "{notes:?}"
    );
}

#[test]
fn a_file_that_is_no_capture_is_named() {
    let error = CaptureInput::of(
        "notes.txt".to_owned(),
        Box::new(Cursor::new(b"hello".to_vec())),
    )
    .unwrap()
    .advance()
    .unwrap_err();
    assert_eq!(error.to_string(), "cannot read notes.txt");
}

#[test]
fn what_was_read_of_a_file_is_counted_as_it_is_on_the_disk() {
    let mut bytes = Vec::new();
    let mut gzip = GzEncoder::new(&mut bytes, Compression::default());
    gzip.write_all(&pcap(1_000)).unwrap();
    gzip.finish().unwrap();
    let size = u64::try_from(bytes.len()).unwrap();
    let path = std::env::temp_dir().join(format!("prober-counted-{}.pcap.gz", std::process::id()));
    fs::write(&path, &bytes).unwrap();
    let mut input = CaptureInput::open(&path).unwrap();
    while input.advance().unwrap() {}
    assert_eq!(input.size(), Some(size));
    assert_eq!(input.bytes_read(), size);
    fs::remove_file(&path).unwrap();
}
