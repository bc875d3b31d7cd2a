//! The captures again as one pcapng file: the original frames, a name for each place, and comments on what failed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use prober_core::packet::capture::AnnotatedWriter;
use prober_core::replay::Replay;

use crate::input::{CaptureInput, name};

/// Bytes that are gathered before they are written.
const CHUNK: usize = 1024 * 1024;

/// Writes the frames of all files to `path`.
///
/// Fails if a file cannot be read again, or if `path` cannot be written.
pub(super) fn write(path: &Path, files: &[PathBuf], found: &Replay) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let mut out = BufWriter::new(File::create(path).with_context(cannot)?);
    let mut bytes = Vec::new();
    let mut writer = AnnotatedWriter::start(&mut bytes);
    for (file, source) in files.iter().enumerate() {
        let comments = comments(found, file);
        let mut interfaces = Vec::new();
        let mut input = CaptureInput::open(source)?;
        while input.advance()? {
            let Some(frame) = input.frame() else { continue };
            let known = input.reader().interfaces();
            while let Some(interface) = known.get(interfaces.len()) {
                let title = title(found, file, interfaces.len(), source, &interface.name);
                interfaces.push(writer.interface(&title, interface, &mut bytes));
            }
            if let Some(interface) = interfaces.get(frame.interface) {
                let own = comments.get(&frame.number);
                let own: Vec<&str> = own.into_iter().flatten().copied().collect();
                writer.frame(*interface, &frame, &own, &mut bytes);
            }
            if bytes.len() >= CHUNK {
                out.write_all(&bytes).with_context(cannot)?;
                bytes.clear();
            }
        }
    }
    out.write_all(&bytes).with_context(cannot)?;
    out.flush().with_context(cannot)
}

/// The comments on the frames of a file.
fn comments(found: &Replay, file: usize) -> BTreeMap<u64, Vec<&str>> {
    let mut comments: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for comment in found.comments.iter().filter(|comment| comment.file == file) {
        let of_frame = comments.entry(comment.frame).or_default();
        of_frame.push(&comment.comment);
    }
    comments
}

/// The name of an interface: its file, its own name, and where it was captured.
fn title(found: &Replay, file: usize, number: usize, source: &Path, interface: &str) -> String {
    let place = (found.vantages.iter())
        .find(|vantage| (vantage.file, vantage.interface) == (file, number))
        .map(|vantage| format!(" ({})", vantage.place));
    let space = if interface.is_empty() { "" } else { " " };
    format!(
        "{}{space}{interface}{}",
        name(source),
        place.unwrap_or_default()
    )
}
