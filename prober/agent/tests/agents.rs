//! Agents as processes, in network namespaces of their own: what they write, and what they survive.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on fails, and searches for one event of many"
)]

#[path = "agents/container.rs"]
mod container;
#[path = "agents/fixture.rs"]
mod fixture;
#[path = "agents/image.rs"]
mod image;
#[path = "agents/kernel_probes.rs"]
mod kernel_probes;
#[path = "agents/packet_probes.rs"]
mod packet_probes;
#[path = "agents/plans.rs"]
mod plans;
#[path = "agents/refusals.rs"]
mod refusals;
#[path = "agents/responding.rs"]
mod responding;
#[path = "agents/standing.rs"]
mod standing;
