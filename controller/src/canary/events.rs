//! What is said aloud: Events on transitions, on the check and on the node, and none while nothing changes.

use prober_core::topology::NodeName;

use crate::canary::health::{Ending, Outage, Transition};

/// One Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What it is about.
    pub about: About,
    /// Whether somebody has to do something.
    pub weight: Weight,
    /// Why, as one word.
    pub reason: &'static str,
    /// What was done, as one word.
    pub action: &'static str,
    /// What happened, as a sentence.
    pub note: String,
}

/// What an Event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// The check.
    Check,
    /// A node.
    Node(NodeName),
}

/// Whether somebody has to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// No: it is good to know.
    Normal,
    /// Yes.
    Warning,
}

impl Weight {
    /// The API's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// The Events of a transition: one on the check, and one on the node where there is a single one.
pub fn notices(transition: &Transition) -> Vec<Notice> {
    let (outage, weight, reason, note) = match transition {
        Transition::Opened(outage) => (
            outage,
            Weight::Warning,
            "ConnectivityLost",
            format!("{outage}: {}", extent(outage)),
        ),
        Transition::Changed { before, outage } => (
            outage,
            Weight::Warning,
            "CauseChanged",
            format!("{outage}, before: {before}"),
        ),
        Transition::Closed(outage) => (outage, Weight::Normal, closing(outage), closed(outage)),
    };
    let node = outage.blame.node.clone().map(About::Node);
    [About::Check]
        .into_iter()
        .chain(node)
        .map(|about| Notice {
            about,
            weight,
            reason,
            action: "Probe",
            note: note.clone(),
        })
        .collect()
}

/// How much fails, and what to read next.
fn extent(outage: &Outage) -> String {
    let cause = outage.blame.what.as_str();
    match (outage.paths.len(), &outage.place) {
        (0, _) | (_, None) => "its agent runs and says nothing".to_owned(),
        (1, Some(place)) => format!("1 path fails ({place}); see `prober explain {cause}`"),
        (paths, Some(place)) => {
            format!("{paths} paths fail ({place}); see `prober explain {cause}`")
        }
    }
}

const fn closing(outage: &Outage) -> &'static str {
    match outage.end {
        Some((_, Ending::NoLongerProbed)) => "NoLongerProbed",
        Some((_, Ending::Recovered)) | None => "ConnectivityRestored",
    }
}

fn closed(outage: &Outage) -> String {
    match outage.end {
        Some((at, Ending::Recovered)) => {
            format!(
                "{outage}: works again after {} s",
                at.since(outage.start).as_secs()
            )
        }
        Some((at, Ending::NoLongerProbed)) => format!(
            "{outage}: is not probed any more, {} s after it began; whether it was mended is not known",
            at.since(outage.start).as_secs()
        ),
        None => outage.to_string(),
    }
}
