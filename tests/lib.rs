//! What the tests of the whole house share.

/// What is fuzzed: one function for each target.
pub mod fuzzing;
