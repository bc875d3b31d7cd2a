//! What the tests of all crates share.

/// What is fuzzed: one function for each target.
pub mod fuzzing;
