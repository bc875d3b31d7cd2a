//! Input files; the path `-` is standard input.

use std::path::Path;
use std::{fs, io};

use anyhow::Context as _;

pub(crate) use capture::CaptureInput;

/// Capture files, read in pieces.
mod capture;
/// Compressed files.
mod compressed;
/// Standard input that Ctrl-C ends.
mod interruptible;

/// Returns the name of the file for messages: its path, or `standard input`.
pub(crate) fn name(path: &Path) -> String {
    if is_standard_input(path) {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    }
}

/// Reads the whole file, or standard input to its end. The error names the file.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = if is_standard_input(path) {
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::stdin(), &mut bytes).map(|_| bytes)
    } else {
        fs::read(path)
    };
    bytes.with_context(|| format!("cannot read {}", name(path)))
}

fn is_standard_input(path: &Path) -> bool {
    path == Path::new("-")
}
