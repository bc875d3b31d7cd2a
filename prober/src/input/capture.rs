//! Capture files, read in pieces: plain or compressed, from a path or from standard input.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

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
}

impl CaptureInput {
    /// Opens a file, or standard input until its end or Ctrl-C. The error names the file.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let source: Box<dyn Read> = if is_standard_input(path) {
            Box::new(interruptible::standard_input()?)
        } else {
            let file = File::open(path);
            Box::new(file.with_context(|| format!("cannot read {}", name(path)))?)
        };
        Self::of(name(path), source)
    }

    /// A capture of this name in the bytes of `source`.
    fn of(name: String, source: Box<dyn Read>) -> anyhow::Result<Self> {
        Ok(Self {
            source: Plain::of(source).with_context(|| format!("cannot read {name}"))?,
            name,
            reader: CaptureReader::new(),
            compression_note: None,
        })
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
