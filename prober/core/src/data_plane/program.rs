//! BPF programs that forward packets of pods past netfilter.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::plugin::CILIUM_HOST;
use crate::node_facts::{Link, NodeFacts};

/// How a node shows that BPF programs forward packets of its pods past netfilter. Displays as a clause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Program {
    /// It has the device of Cilium, whose programs at TCX (Linux 6.6) are not listed without privileges.
    Cilium,
    /// A veth that is no port of a bridge has a filter of kind `bpf`.
    Filter {
        /// The veth.
        dev: String,
        /// The name of the program.
        program: Option<String>,
    },
}

impl Program {
    /// Whether packets that a route sends to this link may leave the node by another one, to which the programs redirect them.
    pub(super) fn redirects_at(&self, link: &Link) -> bool {
        match self {
            // The uplink of a node may be a veth as well: that of a node in a container.
            Self::Cilium => is_own_device(link),
            Self::Filter { .. } => link.kind.as_deref() == Some("veth"),
        }
    }

    /// The name of what loads the programs, where it is known; otherwise what they are.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Cilium => "Cilium",
            Self::Filter { .. } => "BPF programs at the pods' links",
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cilium => write!(f, "{CILIUM_HOST} is a device of Cilium"),
            Self::Filter { dev, program } => {
                let program = program.as_deref().unwrap_or("without a name");
                write!(f, "{dev} has the BPF filter {program}")
            }
        }
    }
}

/// Whether a link is a device behind which programs deliver packets: a route to it shows neither a pod's link nor a neighbour.
pub(super) fn is_own_device(link: &Link) -> bool {
    link.name == CILIUM_HOST
}

/// The programs that a node's facts show: by a device of Cilium, or filters of kind `bpf` at links that are no uplinks of
/// hardware.
pub(super) fn of(facts: &NodeFacts) -> Option<Program> {
    if facts.link(CILIUM_HOST).found().is_some() {
        return Some(Program::Cilium);
    }
    let is_veth = |dev: &str| {
        let link = facts.link(dev).found();
        link.is_some_and(|link| link.kind.as_deref() == Some("veth") && link.master.is_none())
    };
    let mut filters = facts.tc_filters.iter().flatten();
    let filter = filters.find(|filter| filter.kind == "bpf" && is_veth(&filter.dev))?;
    Some(Program::Filter {
        dev: filter.dev.clone(),
        program: filter.program.clone(),
    })
}
