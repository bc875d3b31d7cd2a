//! The interfaces of the Linux kernel that prober uses: packet sockets, raw sockets, node facts, and giving up privileges.
//!
//! The modules follow a packet. The [`raw_engine`] sends crafted segments by a raw socket and receives by a
//! [`packet_socket`], which captures the packets of both directions. [`rst_suppression`] keeps the kernel from
//! answering RST to segments of connections that it does not know, and [`route_lookup`] returns the source address and
//! the interface that the kernel uses for a destination. [`tcp_info`] reads the kernel's statistics of its own
//! connections, for tiers without packets, and [`node_facts`] reads the settings and counters of a node. When all
//! sockets are open, [`drop_capabilities`] gives up every privilege of the process; [`missing_capability`] is the error
//! of a socket that needed one.
//!
//! This is the only crate with unsafe code. Packets are plain bytes here; `prober-core` parses and crafts them.

/// The raw engine: sends crafted segments and captures the answers.
pub mod raw_engine;

/// Packet sockets: capture of both directions with the kernel's timestamps.
pub mod packet_socket;

/// Keeps the kernel from answering RST on ports that crafted segments use.
pub mod rst_suppression;

/// The route that the kernel takes to a destination.
pub mod route_lookup;

/// What the kernel knows of one of its TCP connections.
pub mod tcp_info;

/// Node facts, read from /proc and rtnetlink.
pub mod node_facts;

/// Gives up every capability of this thread, and proves it.
pub mod drop_capabilities;

/// The error of a system call that lacks a capability.
pub mod missing_capability;

mod netlink;
mod socket_option;
