//! Files that gzip or Zstandard compressed, recognised by their first bytes, as plain bytes.

use std::io::{self, BufReader, Chain, Cursor, ErrorKind, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// RFC 1952 2.3.1.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// RFC 8878 3.1.1.
const ZSTANDARD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The bytes of a file as they were before it was compressed.
pub(super) struct Plain {
    source: Box<dyn Read>,
    /// The format of the compressed data.
    pub(super) compression: Option<&'static str>,
}

type Source = BufReader<Chain<Cursor<Vec<u8>>, Box<dyn Read>>>;

impl Plain {
    /// Reads the first bytes of `source`, and decompresses it where they are those of gzip or Zstandard.
    ///
    /// Fails if the source cannot be read.
    pub(super) fn of(mut source: Box<dyn Read>) -> io::Result<Self> {
        let mut start = Vec::new();
        source.by_ref().take(4).read_to_end(&mut start)?;
        let compression = if start.starts_with(&GZIP) {
            Some("gzip")
        } else if start.starts_with(&ZSTANDARD) {
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
mod tests;
