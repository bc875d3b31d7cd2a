//! Capture files, read in pieces: plain or compressed, from a path or from standard input.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::rc::Rc;

use anyhow::Context as _;
use prober_core::packet::capture::{Advance, CaptureReader, CapturedFrame};

use super::compressed::Plain;
use super::{interruptible, is_standard_input, name};

/// A capture file, and the place in it. Its memory is that of one record.
pub(crate) struct CaptureInput {
    name: String,
    source: Plain,
    reader: CaptureReader,
    /// Why the compressed data ends before its end.
    compression_note: Option<String>,
    /// Bytes of the file, compressed or not.
    size: Option<u64>,
    bytes_read: Rc<Cell<u64>>,
}

/// A source, and the number of bytes that were read of it.
struct Counted {
    source: Box<dyn Read>,
    count: Rc<Cell<u64>>,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(into)?;
        let more = u64::try_from(count).unwrap_or(u64::MAX);
        self.count.set(self.count.get().saturating_add(more));
        Ok(count)
    }
}

impl CaptureInput {
    /// Opens a file, or standard input until its end or Ctrl-C. The error names the file.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        if is_standard_input(path) {
            return Self::of(name(path), Box::new(interruptible::standard_input()?));
        }
        let file = File::open(path).with_context(|| format!("cannot read {}", name(path)))?;
        // A pipe has no size.
        let size = (file.metadata().ok()).filter(fs::Metadata::is_file);
        let mut input = Self::of(name(path), Box::new(file))?;
        input.size = size.map(|metadata| metadata.len());
        Ok(input)
    }

    /// A capture of this name in the bytes of `source`.
    fn of(name: String, source: Box<dyn Read>) -> anyhow::Result<Self> {
        let bytes_read = Rc::new(Cell::new(0));
        let source = Box::new(Counted {
            source,
            count: Rc::clone(&bytes_read),
        });
        Ok(Self {
            source: Plain::of(source).with_context(|| format!("cannot read {name}"))?,
            name,
            reader: CaptureReader::new(),
            compression_note: None,
            size: None,
            bytes_read,
        })
    }

    /// Its name, as in messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The size of the file in bytes; `None` for a stream.
    pub(crate) const fn size(&self) -> Option<u64> {
        self.size
    }

    /// How many bytes of the file were read, compressed or not.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes_read.get()
    }

    /// Steps to the next frame; `false` at the end of the file.
    ///
    /// Fails if the file cannot be read, or is no capture. A file that is cut or damaged ends there: see its summary, and
    /// [`Self::compression_note`].
    pub(crate) fn advance(&mut self) -> anyhow::Result<bool> {
        loop {
            let advance = self.reader.advance();
            match advance.with_context(|| format!("cannot read {}", self.name))? {
                Advance::Frame => return Ok(true),
                Advance::End => return Ok(false),
                Advance::NeedsBytes => self.fill()?,
            }
        }
    }

    /// The frame to which the reader advanced.
    pub(crate) fn frame(&self) -> Option<CapturedFrame<'_>> {
        self.reader.frame()
    }

    /// The reader, for its interfaces.
    pub(crate) const fn reader(&self) -> &CaptureReader {
        &self.reader
    }

    /// Why the compressed data ends before its end, as a sentence.
    pub(crate) fn compression_note(&self) -> Option<&str> {
        self.compression_note.as_deref()
    }

    /// Gives the reader the next bytes. What no longer decompresses is the end of the file.
    fn fill(&mut self) -> anyhow::Result<()> {
        let count = loop {
            match (
                self.source.read(self.reader.room()),
                self.source.compression,
            ) {
                (Ok(count), _) => break count,
                (Err(error), _) if error.kind() == ErrorKind::Interrupted => {}
                (Err(error), Some(compression)) => {
                    self.compression_note = Some(format!(
                        "the {compression} data of {} ends or is damaged after {} bytes of its content ({error}): copy it again, or compress it again",
                        self.name,
                        self.reader.summary().bytes
                    ));
                    break 0;
                }
                (Err(error), None) => {
                    return Err(error).with_context(|| format!("cannot read {}", self.name));
                }
            }
        };
        self.reader.filled(count);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
