//! Compressed bytes of several members and frames, whole and cut.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::*;

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn zstandard(content: &[u8]) -> Vec<u8> {
    compress_to_vec(content, CompressionLevel::Fastest)
}

fn content() -> Vec<u8> {
    (0..300_000_u32)
        .flat_map(|n| (n / 7).to_le_bytes())
        .collect()
}

fn plain(bytes: Vec<u8>) -> (Vec<u8>, io::Result<usize>) {
    let mut read = Vec::new();
    let mut plain = Plain::of(Box::new(Cursor::new(bytes))).unwrap();
    let end = plain.read_to_end(&mut read);
    (read, end)
}

#[test]
fn plain_bytes_are_read_as_they_are() {
    for bytes in [&b""[..], b"a", b"abc", b"abcdefgh"] {
        assert_eq!(plain(bytes.to_vec()).0, bytes);
    }
}

#[test]
fn several_members_of_gzip_and_frames_of_zstandard_are_one_file() {
    let content = content();
    let (first, second) = content.split_at(content.len() / 3);
    let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"xyz"].concat();
    for bytes in [
        gzip(&content),
        [gzip(first), gzip(second)].concat(),
        zstandard(&content),
        [zstandard(first), skipped, zstandard(second)].concat(),
    ] {
        let (read, end) = plain(bytes);
        assert_eq!(end.unwrap(), content.len());
        assert_eq!(read, content);
    }
}

#[test]
fn compressed_bytes_that_are_cut_give_what_came_before_and_an_error() {
    let content: Vec<u8> = content().into_iter().take(20_000).collect();
    for whole in [gzip(&content), zstandard(&content)] {
        for end in 5..whole.len() {
            let (read, result) = plain(whole[..end].to_vec());
            assert!(result.is_err(), "cut at {end} of {}", whole.len());
            assert_eq!(read, content[..read.len()], "cut at {end}");
        }
    }
}
