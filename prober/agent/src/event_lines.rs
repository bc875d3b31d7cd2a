//! Event lines out: which probes are worth a line, and writing them.

pub(crate) mod tally;
pub(crate) mod writer;
