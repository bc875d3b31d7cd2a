//! The pure floor of prober: packets, evidence, diagnosis; no I/O, no clock, no unsafe.
#![forbid(unsafe_code)]

/// What a node says of itself.
pub mod facts;
/// IPv4 or IPv6.
pub mod family;
/// An Ethernet address.
pub mod mac;
