//! Queueing disciplines and filters of interfaces (tc(8)).

use serde::{Deserialize, Serialize};

/// A queueing discipline that limits, delays or filters the packets of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Qdisc {
    /// The interface.
    pub dev: String,
    /// Its kind: `fq_codel`, `tbf`, `netem`, `clsact`.
    pub kind: String,
    /// The packets that it dropped since its creation (`struct gnet_stats_queue`).
    pub dropped: u32,
}

/// The direction in which a filter sees packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TcDirection {
    /// Packets that the interface receives, before netfilter.
    Ingress,
    /// Packets that the interface sends, after netfilter.
    Egress,
}

/// A filter of an interface's `ingress` or `clsact` discipline. Programs that are attached by TCX (Linux 6.6) are not
/// listed by rtnetlink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcFilter {
    /// The interface.
    pub dev: String,
    /// The direction.
    pub direction: TcDirection,
    /// Its kind: `bpf`, `u32`, `flower`, `matchall`.
    pub kind: String,
    /// Filters are tried in this order, lowest first.
    pub priority: u16,
    /// A `bpf` filter: the name of its program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// A `bpf` filter: the id of its program, as `bpftool prog` lists it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program_id: Option<u32>,
}
