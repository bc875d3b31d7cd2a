//! Arguments that each are valid and make no sense together.

use std::fmt;

/// Why a command line makes no sense: what clap cannot know. A hint at `--help` follows it.
#[derive(Debug)]
pub(crate) struct UsageError(String);

/// A usage error with this sentence.
pub(crate) fn error(sentence: impl Into<String>) -> anyhow::Error {
    UsageError(sentence.into()).into()
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}
