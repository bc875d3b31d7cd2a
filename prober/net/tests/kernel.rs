//! The sockets against a real kernel: network namespaces that this process makes and that end with its threads.
//!
//! They need root, or a user namespace where this process is root. Where that is missing they fail, unless
//! `PROBER_SKIP_PRIVILEGED=1` is set by hand.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test without its environment fails"
)]
#![expect(
    clippy::print_stdout,
    reason = "a skipped test says so, and child processes report by it"
)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "packets made here are short"
)]

#[path = "kernel/capture.rs"]
mod capture;
#[path = "kernel/drop_capabilities.rs"]
mod drop_capabilities;
#[path = "kernel/engine.rs"]
mod engine;
#[path = "kernel/facts.rs"]
mod facts;
#[path = "kernel/filter.rs"]
mod filter;
#[path = "kernel/namespace.rs"]
mod namespace;
#[path = "kernel/packets.rs"]
mod packets;
#[path = "kernel/resolve.rs"]
mod resolve;
#[path = "kernel/rst_suppression.rs"]
mod rst_suppression;
#[path = "kernel/send.rs"]
mod send;
