//! From evidence to causes: `diagnose` tests the model of each cause on the whole matrix, never on one path alone, and returns
//! what is proven, what is only consistent, and what would decide.

/// Whether bridged packets pass netfilter.
mod bridge_filter;
mod case;
/// The causes that can be named.
pub mod catalogue;
/// The causes as models.
mod causes;
mod endpoint;
mod hypothesis;
mod knock_on;
/// Where packets may be dropped.
mod location;
mod merge;
/// What a model of a cause is.
mod model;
mod node_routes;
/// The sender of an ICMP error.
mod origin;
/// The page of each cause.
pub mod page;
mod remedy;
mod sample;
/// Faults that placing the pods of a run has repaired.
pub mod self_healed;
mod solver;
mod symptom;
mod unknown;

pub use sample::{End, unexpected_packet, unexpected_packets};

use serde::{Deserialize, Serialize};

use crate::evidence::Matrix;
use crate::packet::family::Family;
use crate::probe::tier::Tier;
use crate::topology::{AgentId, NodeName, PathId};
use catalogue::Cause;

/// How sure a diagnosis is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// Nothing else of the catalogue gives this evidence.
    Proven,
    /// Other causes give the same evidence; [`Diagnosis::would_decide`] lists the observations that decide between them.
    Consistent,
}

/// The stretch of a path where something is broken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum PathSegment {
    /// In a pod.
    Pod {
        /// The agent in that pod.
        pod: AgentId,
    },
    /// On a node, between its pods and its uplink.
    Node {
        /// The node.
        node: NodeName,
    },
    /// Between two nodes, in this direction.
    Between {
        /// The node that sends.
        from: NodeName,
        /// The node that should receive.
        to: NodeName,
    },
    /// The objects of the Service in the API.
    Service,
    /// The NetworkPolicies of the agents' namespace in the API.
    Namespace,
    /// The evidence does not locate it.
    Unknown,
}

/// A cause, named or unknown, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnosis {
    /// The cause; `None` is `unknown`.
    pub cause: Option<Cause>,
    /// The node of the fault; `None` where the evidence does not show it.
    pub node: Option<NodeName>,
    /// The stretch of the path where the fault is.
    pub segment: PathSegment,
    /// The affected family; `None` for both.
    pub family: Option<Family>,
    /// How sure it is.
    pub confidence: Confidence,
    /// The best tier of evidence that supports it.
    pub tier: Tier,
    /// The paths that it explains.
    pub paths: Vec<PathId>,
    /// The observations that support it, one sentence each, strongest first.
    pub evidence: Vec<String>,
    /// The causes that were ruled out, and by which observations.
    pub excluded: Vec<Exclusion>,
    /// Observations that would decide between the remaining causes; empty where none remains.
    pub would_decide: Vec<String>,
    /// The steps of the remedy.
    pub remedy: Vec<Remedy>,
    /// The probe that shows it best: its path, and its index among that path's probes.
    pub sample: Option<(PathId, usize)>,
}

/// A cause that the evidence rules out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exclusion {
    /// The cause.
    pub cause: Cause,
    /// What rules it out, as a sentence.
    pub because: String,
}

/// One step of a remedy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remedy {
    /// Its effect, and when to choose it.
    pub summary: String,
    /// Commands that can be pasted; may be empty.
    pub commands: Vec<String>,
}

/// Names the faults: the causes that explain every failing path of the matrix, the surest
/// first, and `unknown` for the failures that no cause explains. A healthy matrix has none.
pub fn diagnose(matrix: &Matrix) -> Vec<Diagnosis> {
    solver::solve(case::Case::new(matrix))
}
