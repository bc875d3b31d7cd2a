//! Files that gzip or Zstandard compressed, recognised by their first bytes, as plain bytes.

use std::io::{self, BufReader, Chain, Cursor, ErrorKind, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// RFC 1952 2.3.1.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// RFC 8878 3.1.1.
const ZSTANDARD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Whether a Zstandard file begins with a frame without data, as pzstd writes it (RFC 8878 3.1.2).
fn is_skippable(start: &[u8]) -> bool {
    matches!(*start, [0x50..=0x5f, 0x2a, 0x4d, 0x18])
}

/// The bytes of a file as they were before it was compressed.
pub(crate) struct Plain {
    source: Box<dyn Read>,
    /// The format of the compressed data.
    pub(crate) compression: Option<&'static str>,
}

type Source = BufReader<Chain<Cursor<Vec<u8>>, Box<dyn Read>>>;

impl Plain {
    /// Reads the first bytes of `source`, and decompresses it where they are those of gzip or Zstandard.
    ///
    /// Fails if the source cannot be read.
    pub(crate) fn of(mut source: Box<dyn Read>) -> io::Result<Self> {
        let mut start = Vec::new();
        source.by_ref().take(4).read_to_end(&mut start)?;
        let compression = if start.starts_with(&GZIP) {
            Some("gzip")
        } else if start == ZSTANDARD || is_skippable(&start) {
            Some("Zstandard")
        } else {
            None
        };
        let source = Cursor::new(start).chain(source);
        let source: Box<dyn Read> = match compression {
            Some("gzip") => Box::new(MultiGzDecoder::new(BufReader::new(source))),
            Some(_) => Box::new(Zstandard::new(BufReader::new(source))),
            None => Box::new(source),
        };
        Ok(Self {
            source,
            compression,
        })
    }
}

impl Read for Plain {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.source.read(into)
    }
}

/// All frames of a Zstandard file, one after the other, as `pzstd` and `cat` make them.
struct Zstandard {
    source: Source,
    decoder: FrameDecoder,
    is_started: bool,
}

impl Zstandard {
    fn new(source: Source) -> Self {
        Self {
            source,
            decoder: FrameDecoder::new(),
            is_started: false,
        }
    }

    /// Begins the next frame; `false` at the end of the file. Skips frames without data.
    fn begin(&mut self) -> io::Result<bool> {
        loop {
            if io::BufRead::fill_buf(&mut self.source)?.is_empty() {
                return Ok(false);
            }
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let mut skipped = self.source.by_ref().take(u64::from(length));
                    io::copy(&mut skipped, &mut io::sink())?;
                }
                Err(error) => return Err(io::Error::new(ErrorKind::InvalidData, error)),
            }
        }
    }
}

impl Read for Zstandard {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.is_started {
                let count = self.decoder.read(into)?;
                if count > 0 || into.is_empty() {
                    return Ok(count);
                }
            }
            if !self.is_started || self.decoder.is_finished() {
                self.is_started = self.begin()?;
                if !self.is_started {
                    return Ok(0);
                }
            } else {
                self.decoder
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
            [zstandard(first), skipped.clone(), zstandard(second)].concat(),
            [skipped, zstandard(&content)].concat(),
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
}
