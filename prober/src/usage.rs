//! Usage errors: arguments that are valid one by one, but not together.

use std::fmt;

/// A usage error that clap cannot find. A hint at `--help` is shown after it.
#[derive(Debug)]
pub(crate) struct UsageError(String);

/// Creates a usage error with this sentence, which has no full stop.
pub(crate) fn error(sentence: impl Into<String>) -> anyhow::Error {
    UsageError(sentence.into()).into()
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}
