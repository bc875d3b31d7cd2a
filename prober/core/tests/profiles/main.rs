//! No diagnosis is wrong on any data plane: a small simulator makes the evidence of every fault on every profile.
//!
//! A `Profile` is a data plane, a `Fault` changes one of its settings, a `Walk` takes packets through the stages of the
//! kernels, and a `run` of probes gives a `Matrix`, from which the verdicts follow.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a world that was not built so is a defect of the test"
)]

mod address;
mod begun;
mod change;
mod cluster;
mod conntrack;
mod entries;
mod evidence;
mod exchange;
mod facts;
mod fault;
mod healed;
mod healthy;
mod identifiability;
mod indistinguishable;
mod known_wrong;
mod metamorphic;
mod mixed;
mod observe;
mod packet;
mod pairs;
mod probe;
mod profile;
mod progress;
mod refusal;
mod rows;
mod run;
mod stack;
mod transport;
mod ttl_probe;
mod unread_policies;
mod verdict;
mod walk;
