//! Event lines: the selection of the probes that get one, and their output.

/// Counts of each path, and the probes that are worth a line of their own.
pub(crate) mod tally;

/// The thread that writes lines.
pub(crate) mod writer;
