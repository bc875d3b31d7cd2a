//! The Kubernetes Events of a transition, on the check and on the node; none while nothing changes.

use prober_core::topology::NodeName;

use crate::canary::health::{EndReason, Outage, Transition};

/// One Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckEvent {
    /// The object that it regards.
    pub regarding: Regarding,
    /// Its type.
    pub event_type: EventType,
    /// The reason, in CamelCase.
    pub reason: &'static str,
    /// The action, in CamelCase.
    pub action: &'static str,
    /// The note: one sentence.
    pub note: String,
}

/// The object that an Event regards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Regarding {
    /// The check.
    Check,
    /// A node.
    Node(NodeName),
}

/// The type of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// Nothing needs to be done.
    Normal,
    /// A failure that needs attention.
    Warning,
}

impl EventType {
    /// The name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// The Events of a transition: one on the check, and one on the node where a single node is affected.
pub fn events_of(transition: &Transition) -> Vec<CheckEvent> {
    let (outage, event_type, reason, note) = match transition {
        Transition::Opened(outage) => (
            outage,
            EventType::Warning,
            "ConnectivityLost",
            format!("{outage}: {}", extent(outage)),
        ),
        Transition::Changed { before, outage } => (
            outage,
            EventType::Warning,
            "CauseChanged",
            format!("{outage}, before: {before}"),
        ),
        Transition::Closed(outage) => (outage, EventType::Normal, closing(outage), closed(outage)),
    };
    let node = outage.explanation.node.clone().map(Regarding::Node);
    [Regarding::Check]
        .into_iter()
        .chain(node)
        .map(|regarding| CheckEvent {
            regarding,
            event_type,
            reason,
            action: "Probe",
            note: note.clone(),
        })
        .collect()
}

/// How many paths fail, and what to read next.
fn extent(outage: &Outage) -> String {
    let cause = outage.explanation.kind.as_str();
    match (outage.paths.len(), &outage.place) {
        (0, _) | (_, None) => "its agent runs and does not report".to_owned(),
        (1, Some(place)) => format!("1 path fails ({place}); see `prober explain {cause}`"),
        (paths, Some(place)) => {
            format!("{paths} paths fail ({place}); see `prober explain {cause}`")
        }
    }
}

const fn closing(outage: &Outage) -> &'static str {
    match outage.end {
        Some((_, EndReason::NoLongerProbed)) => "NoLongerProbed",
        Some((_, EndReason::Recovered)) | None => "ConnectivityRestored",
    }
}

fn closed(outage: &Outage) -> String {
    match outage.end {
        Some((at, EndReason::Recovered)) => {
            format!(
                "{outage}: works again after {} s",
                at.since(outage.start).as_secs()
            )
        }
        Some((at, EndReason::NoLongerProbed)) => format!(
            "{outage}: is not probed any more, {} s after it began; whether it has recovered is not known",
            at.since(outage.start).as_secs()
        ),
        None => outage.to_string(),
    }
}
