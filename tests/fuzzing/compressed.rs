//! Arbitrary bytes where a compressed capture is expected.

#[path = "../../prober/src/input/compressed.rs"]
mod input;

use std::io::{Cursor, Read as _};

use super::CaseResult;

/// The most bytes of content that are read: a few bytes may hold gigabytes.
const MOST: u64 = 4 * 1024 * 1024;

/// A file: it is read as it is, or decompressed, or rejected where it is damaged.
///
/// # Panics
///
/// Where bytes that are not compressed change.
pub fn compressed(data: &[u8]) -> CaseResult {
    let Ok(plain) = input::Plain::of(Box::new(Cursor::new(data.to_vec()))) else {
        return CaseResult::Rejected;
    };
    let is_compressed = plain.compression.is_some();
    let mut read = Vec::new();
    let end = plain.take(MOST).read_to_end(&mut read);
    if !is_compressed {
        let most = usize::try_from(MOST).unwrap_or(usize::MAX).min(data.len());
        assert_eq!(
            Some(read.as_slice()),
            data.get(..most),
            "bytes that are not compressed change"
        );
    }
    match end {
        Ok(_) => CaseResult::Accepted,
        Err(_) => CaseResult::Rejected,
    }
}
