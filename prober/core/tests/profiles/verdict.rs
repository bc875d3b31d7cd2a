//! Whether a diagnosis of a simulated fault is right.

use prober_core::diagnosis::catalogue::Cause;
use prober_core::diagnosis::{Confidence, Diagnosis, PathSegment};
use prober_core::evidence::{Matrix, PathEvidence};

use super::address::node_name;
use super::fault::{Fault, Place};
use super::profile::Profile;

/// A judgement of all diagnoses of one matrix; the later, the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// No path fails, and nothing is named.
    NoSymptom,
    /// The right cause at the right place.
    Right,
    /// Not proven: the right cause at the right place, or another one that lists the right one as its rival.
    Consistent,
    /// `unknown`, at the right place or without one.
    Unknown,
    Wrong,
}

impl Verdict {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::NoSymptom => "no symptom",
            Self::Right => "right",
            Self::Consistent => "consistent",
            Self::Unknown => "unknown",
            Self::Wrong => "WRONG",
        }
    }
}

/// The verdict on the diagnoses of a matrix with these faults.
pub(crate) fn verdict(
    profile: &Profile,
    faults: &[Fault],
    matrix: &Matrix,
    found: &[Diagnosis],
) -> Verdict {
    if found.is_empty() {
        let is_clean = matrix.paths.values().all(PathEvidence::is_clean);
        return if is_clean {
            Verdict::NoSymptom
        } else {
            Verdict::Wrong
        };
    }
    // Without a node's facts the parts of its data plane are not known.
    let mut agents = matrix.agents.keys();
    let has_facts = agents.all(|agent| matrix.nodes.contains_key(&agent.node));
    let of_one = |diagnosis: &Diagnosis| {
        let is_claimed = has_facts || diagnosis.confidence == Confidence::Proven;
        let mut causes = diagnosis.cause.into_iter().filter(|_| is_claimed);
        if causes.any(|cause| !is_possible(profile, cause)) {
            return Verdict::Wrong;
        }
        let by_fault = faults.iter().map(|&fault| of_fault(fault, diagnosis));
        by_fault.min().unwrap_or(Verdict::Wrong)
    };
    found.iter().map(of_one).max().unwrap_or(Verdict::Wrong)
}

/// The first sentence of these diagnoses that names something that the profile does not have.
pub(crate) fn untrue_sentence(profile: &Profile, found: &[Diagnosis]) -> Option<String> {
    found
        .iter()
        .find_map(|diagnosis| untrue_in(profile, diagnosis))
}

/// Whether a profile has the parts that a cause is about.
fn is_possible(profile: &Profile, cause: Cause) -> bool {
    match cause.slug() {
        "overlay-blocked" | "stale-overlay-neighbour" => profile.vxlan().is_some(),
        "bridge-netfilter-off" | "hairpin-off" => profile.is_bridged(),
        "forward-drop" | "ip-forward-off" | "conntrack-full" | "rp-filter" | "reject-reset" => {
            profile.uses_netfilter()
        }
        _ => true,
    }
}

fn of_fault(fault: Fault, diagnosis: &Diagnosis) -> Verdict {
    let is_here = is_place(fault.place, diagnosis);
    let Some(cause) = diagnosis.cause else {
        let has_place = diagnosis.node.is_some() || diagnosis.segment != PathSegment::Unknown;
        return if is_here || !has_place {
            Verdict::Unknown
        } else {
            Verdict::Wrong
        };
    };
    let causes = fault.kind.causes();
    let is_right = causes.contains(&cause.slug());
    let is_listed = || {
        let rivals = &diagnosis.would_decide;
        causes
            .iter()
            .any(|slug| rivals.iter().any(|rival| rival.contains(slug)))
    };
    match diagnosis.confidence {
        Confidence::Proven if is_right && is_here => Verdict::Right,
        Confidence::Consistent if is_right && is_here => Verdict::Consistent,
        // The right cause is among the rivals, or the catalogue has none for it.
        Confidence::Consistent if is_here && (causes.is_empty() || is_listed()) => {
            Verdict::Consistent
        }
        Confidence::Proven | Confidence::Consistent => Verdict::Wrong,
    }
}

/// Whether a diagnosis is at a fault's place: there, or at a part of it.
fn is_place(place: Place, diagnosis: &Diagnosis) -> bool {
    let node = |number| node_name(number);
    match (place, &diagnosis.segment) {
        (Place::Namespace, PathSegment::Namespace) | (Place::Service(_), PathSegment::Service) => {
            true
        }
        (Place::Node(number), PathSegment::Node { node: found }) => *found == node(number),
        (Place::Node(number), PathSegment::Pod { pod }) => pod.node == node(number),
        (Place::Node(number), PathSegment::Between { from, to }) => {
            *from == node(number) || *to == node(number)
        }
        (Place::Pod(pod), PathSegment::Pod { pod: found }) => *found == pod.id(),
        (Place::Pod(pod), PathSegment::Node { node: found }) => *found == node(pod.node),
        // From the pods of one node to those of the other.
        (Place::Pod(pod), PathSegment::Between { from, to }) => {
            *from == node(pod.node) || *to == node(pod.node)
        }
        (
            Place::Pair(from, to),
            PathSegment::Between {
                from: sender,
                to: receiver,
            },
        ) => *sender == node(from) && *receiver == node(to),
        // A route, a neighbour entry: on the sending node.
        (Place::Pair(from, _), PathSegment::Node { node: found }) => *found == node(from),
        (Place::Pair(from, to), PathSegment::Unknown) => diagnosis
            .node
            .as_ref()
            .is_some_and(|found| *found == node(from) || *found == node(to)),
        (Place::Node(number), PathSegment::Unknown) => diagnosis.node == Some(node(number)),
        (Place::Pod(pod), PathSegment::Unknown) => diagnosis.node == Some(node(pod.node)),
        (Place::Service(slot), PathSegment::Unknown) => diagnosis.node == Some(node(slot)),
        (Place::Service(slot), PathSegment::Pod { pod }) => pod.node == node(slot),
        (
            Place::Namespace | Place::Service(_) | Place::Node(_) | Place::Pod(_) | Place::Pair(..),
            PathSegment::Namespace
            | PathSegment::Service
            | PathSegment::Node { .. }
            | PathSegment::Pod { .. }
            | PathSegment::Between { .. }
            | PathSegment::Unknown,
        ) => false,
    }
}

/// A sentence or command of a diagnosis that names something that the profile does not have.
fn untrue_in(profile: &Profile, diagnosis: &Diagnosis) -> Option<String> {
    let mut absent = Vec::new();
    if !profile.is_bridged() {
        absent.extend(["cni0", "bridge port", "hairpin mode"]);
    }
    match profile.vxlan() {
        None => absent.extend(["8472", "flannel", "tunnel", "VXLAN", "overlay"]),
        Some(("flannel.1", _)) => {}
        Some(_) => absent.push("flannel"),
    }
    if !profile.uses_netfilter() {
        absent.extend(["kube-proxy"]);
    }
    let remedies = diagnosis
        .remedy
        .iter()
        .flat_map(|step| std::iter::once(&step.summary).chain(&step.commands));
    diagnosis
        .evidence
        .iter()
        .chain(remedies)
        .find(|sentence| absent.iter().any(|word| sentence.contains(word)))
        .cloned()
}

/// The proven ones of these diagnoses.
pub(crate) fn proven(mut found: Vec<Diagnosis>) -> Vec<Diagnosis> {
    found.retain(|one| one.cause.is_some() && one.confidence == Confidence::Proven);
    found
}

/// The diagnoses in short.
pub(crate) fn described(found: &[Diagnosis]) -> Vec<String> {
    found.iter().map(describe).collect()
}

fn describe(diagnosis: &Diagnosis) -> String {
    let cause = diagnosis.cause.map_or("unknown", |cause| cause.slug());
    let place = match &diagnosis.segment {
        PathSegment::Pod { pod } => pod.pod.clone(),
        PathSegment::Node { node } => node.to_string(),
        PathSegment::Between { from, to } => format!("{from}>{to}"),
        PathSegment::Service => "service".to_owned(),
        PathSegment::Namespace => "namespace".to_owned(),
        PathSegment::Unknown => diagnosis
            .node
            .as_ref()
            .map_or_else(|| "-".to_owned(), |node| format!("{node}?")),
    };
    let sure = match diagnosis.confidence {
        Confidence::Proven => "p",
        Confidence::Consistent => "c",
    };
    format!("{cause}@{place} {sure}")
}
