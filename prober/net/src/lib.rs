//! Linux sockets for prober: rings, raw senders, muted ports, node facts, privileges.
//!
//! The only crate with unsafe code. Each module is one thing that the kernel is asked for; what is seen and sent is
//! plain bytes, what they mean is the core's business.

/// What a capture lets through, as a program for the kernel and as a predicate.
pub mod filter;
/// A captured frame as an observation.
pub mod observe;
/// Captures: packets of both directions with the kernel's stamps.
pub mod packet_socket;
/// What this thread may do, and how it gives that up.
pub mod privilege;
/// Complete IP packets, sent in batches.
pub mod send;
/// What the kernel knows of one of its TCP connections.
pub mod tcp_info;

/// Node facts, read from /proc and rtnetlink.
pub mod node_facts;
/// The raw engine: crafted segments out, a capture in.
pub mod raw_engine;
/// The route that the kernel takes to a destination.
pub mod route_lookup;
/// Keeps the kernel from answering RST on ports that crafted segments use.
pub mod rst_suppression;
mod rtnetlink;
mod socket_option;
