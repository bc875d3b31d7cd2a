//! A canary: probing that never ends, and what is made of it. Pure: time and chance are arguments, and nothing here
//! knows a client; what Kubernetes is asked and told is decided here and done elsewhere.
//!
//! ```text
//! nodes -> schedule -> pairs of the next round -> (agents) -> report -> look -> judgement -> transitions -> events
//!                                                                                  \-> status
//! ```

/// Which nodes a check means.
pub mod candidates;
/// What a node is told about itself.
pub mod condition;
/// What is placed, for how long, to do what.
pub mod epoch;
/// What is said aloud.
pub mod events;
/// What is failing, over time.
pub mod judgement;
/// One round as judgement sees it.
pub mod look;
/// What an earlier controller knew.
pub mod memory;
/// When which pairs are probed.
pub mod schedule;
/// What is told back.
pub mod status;
