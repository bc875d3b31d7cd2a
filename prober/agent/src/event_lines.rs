//! Event lines out: which probes are worth a line, and writing them.

/// Counts of each path, and the probes that are worth a line of their own.
pub(crate) mod tally;

/// The thread that writes lines.
pub(crate) mod writer;
