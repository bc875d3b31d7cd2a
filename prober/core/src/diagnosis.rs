//! From evidence to causes: `diagnose` runs the rules over the whole matrix, never over one
//! path alone, and returns what is proven, what is only consistent, and what would decide.

mod case;
/// The causes that can be named.
pub mod catalogue;
mod drop_point;
mod endpoint;
mod filtering;
mod hypothesis;
mod loss;
mod node_routes;
mod overlay;
/// The page of each cause.
pub mod page;
mod remedy;
mod sample;
/// What placing the pods of a run has repaired.
pub mod self_healed;
mod solver;
mod symptom;
mod translation;
mod unknown;

pub use sample::{End, odd_packet, odd_packets};

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
    /// Other causes would give the same evidence; [`Diagnosis::would_decide`] lists what would decide.
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
    /// In what the API says of the Service.
    Service,
    /// In what the API says of the agents' namespace.
    Namespace,
    /// The evidence does not locate it.
    Unknown,
}

/// A cause, named or unknown, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnosis {
    /// The cause; `None` is `unknown`.
    pub cause: Option<Cause>,
    /// The node where it is; `None` where the evidence does not say.
    pub node: Option<NodeName>,
    /// The stretch of the way where it is.
    pub segment: PathSegment,
    /// The family that suffers; `None` for both.
    pub family: Option<Family>,
    /// How sure it is.
    pub confidence: Confidence,
    /// The best tier of evidence that it rests on.
    pub tier: Tier,
    /// The paths that it explains.
    pub paths: Vec<PathId>,
    /// What was seen, one sentence each, strongest first.
    pub evidence: Vec<String>,
    /// What was ruled out, and by what.
    pub excluded: Vec<Exclusion>,
    /// Observations that would decide between what is left; empty where nothing is left open.
    pub would_decide: Vec<String>,
    /// What to do.
    pub remedy: Vec<Remedy>,
    /// The probe that shows it best: its path and its place among that path's probes.
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
    /// What it does, and when it is the one to take.
    pub summary: String,
    /// Commands that can be pasted; may be empty.
    pub commands: Vec<String>,
}

/// Names what is broken: the causes that explain every failing path of the matrix, the surest
/// first, and `unknown` for what none explains. A healthy matrix gives none.
pub fn diagnose(matrix: &Matrix) -> Vec<Diagnosis> {
    let rules: [fn(&case::Case<'_>) -> Vec<hypothesis::Hypothesis>; 5] = [
        translation::hypotheses,
        filtering::hypotheses,
        overlay::hypotheses,
        endpoint::hypotheses,
        loss::hypotheses,
    ];
    solver::solve(case::Case::new(matrix), &rules)
}
