//! What an earlier controller knew of outages, read back from the status that it told.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use prober_core::diagnosis::Confidence;
use prober_core::report::CauseName;
use prober_core::time::Timestamp;
use prober_core::topology::NodeName;

use crate::canary::crd::ConnectivityCheckStatus;
use crate::canary::health::{Blame, Ending, Outage, What};

/// What was remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Outages that lasted.
    pub open: Vec<Outage>,
    /// Outages that had ended, the newest first.
    pub ended: Vec<Outage>,
}

/// What a status remembers. Its causes that this program does not know are left out: a newer one has told them.
pub fn recall(status: &ConnectivityCheckStatus) -> Memory {
    let open = status.failing.iter().filter_map(|failing| {
        let confidence = match failing.confidence.as_str() {
            "proven" => Confidence::Proven,
            _ => Confidence::Consistent,
        };
        outage(
            &failing.cause,
            failing.node.as_deref(),
            confidence,
            &failing.since,
        )
    });
    let ended = status.outages.iter().filter_map(|told| {
        let end = told.end.as_ref()?;
        let confidence = Confidence::Consistent;
        let mut outage = outage(&told.cause, told.node.as_deref(), confidence, &told.start)?;
        outage.end = Some((timestamp(end), Ending::Recovered));
        Some(outage)
    });
    Memory {
        open: open.collect(),
        ended: ended.collect(),
    }
}

fn outage(cause: &str, node: Option<&str>, confidence: Confidence, start: &Time) -> Option<Outage> {
    let what = if cause == What::AgentSilent.as_str() {
        What::AgentSilent
    } else {
        What::Cause(CauseName::try_from(cause.to_owned()).ok()?)
    };
    let blame = Blame {
        what,
        confidence,
        node: node.map(NodeName::new),
    };
    Some(Outage::new(blame, timestamp(start)))
}

fn timestamp(time: &Time) -> Timestamp {
    Timestamp::from_nanos(u64::try_from(time.0.as_nanosecond()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_told_is_what_is_remembered() {
        let status = serde_json::from_value(json!({
            "failing": [
                {"node": "node-1", "cause": "bridge-netfilter-off", "confidence": "proven", "paths": 3, "place": "within node-1",
                 "since": "2026-11-24T10:00:00Z"},
                {"node": "node-2", "cause": "agent-silent", "confidence": "proven", "paths": 0, "place": "", "since": "2026-11-24T10:00:00Z"},
                {"cause": "of-next-year", "confidence": "proven", "paths": 3, "place": "", "since": "2026-11-24T10:00:00Z"}
            ],
            "outages": [
                {"start": "2026-11-24T10:00:00Z", "cause": "bridge-netfilter-off", "node": "node-1"},
                {"start": "2026-11-24T09:00:00Z", "end": "2026-11-24T09:05:00Z", "cause": "unknown"}
            ]
        }));
        let memory = recall(&status.unwrap());
        let words: Vec<String> = memory.open.iter().map(ToString::to_string).collect();
        assert_eq!(
            words,
            [
                "node-1: bridge-netfilter-off (proven)",
                "node-2: agent-silent (proven)"
            ]
        );
        let [ended] = &memory.ended[..] else {
            panic!("{memory:?}")
        };
        let (end, _) = ended.end.unwrap();
        assert_eq!(end.since(ended.start).as_secs(), 300);
    }
}
