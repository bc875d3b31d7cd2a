//! The outages of an earlier controller, read from the status that it wrote.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use prober_core::diagnosis::Confidence;
use prober_core::report::CauseName;
use prober_core::topology::NodeName;

use crate::canary::crd::ConnectivityCheckStatus;
use crate::canary::health::{EndReason, Explanation, FailureKind, Outage};
use crate::kubernetes::api_time::timestamp;

/// The outages in a status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoredOutages {
    /// Outages that last.
    pub open: Vec<Outage>,
    /// Outages that have ended, the newest first.
    pub ended: Vec<Outage>,
}

/// Reads the outages of a status. Causes that this version does not know are left out: a newer version has written
/// them.
pub fn restore(status: &ConnectivityCheckStatus) -> RestoredOutages {
    let open = status.failing.iter().filter_map(|failing| {
        let confidence = match failing.confidence.as_str() {
            "proven" => Confidence::Proven,
            _ => Confidence::Consistent,
        };
        let mut restored = outage(
            &failing.cause,
            failing.node.as_deref(),
            confidence,
            &failing.since,
        )?;
        restored.recorded_nodes = failing.nodes.iter().map(NodeName::new).collect();
        Some(restored)
    });
    let ended = status.outages.iter().filter_map(|outage| {
        let end = outage.end.as_ref()?;
        let confidence = Confidence::Consistent;
        let mut restored = self::outage(
            &outage.cause,
            outage.node.as_deref(),
            confidence,
            &outage.start,
        )?;
        restored.end = Some((timestamp(end), EndReason::Recovered));
        Some(restored)
    });
    RestoredOutages {
        open: open.collect(),
        ended: ended.collect(),
    }
}

fn outage(cause: &str, node: Option<&str>, confidence: Confidence, start: &Time) -> Option<Outage> {
    let kind = if cause == FailureKind::AgentSilent.as_str() {
        FailureKind::AgentSilent
    } else {
        FailureKind::Cause(CauseName::try_from(cause.to_owned()).ok()?)
    };
    let explanation = Explanation {
        kind,
        confidence,
        node: node.map(NodeName::new),
    };
    Some(Outage::new(explanation, timestamp(start)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_outages_of_a_status_are_restored() {
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
        let restored = restore(&status.unwrap());
        let words: Vec<String> = restored.open.iter().map(ToString::to_string).collect();
        assert_eq!(
            words,
            [
                "node-1: bridge-netfilter-off (proven)",
                "node-2: agent-silent (proven)"
            ]
        );
        let [ended] = &restored.ended[..] else {
            panic!("{restored:?}")
        };
        let (end, _) = ended.end.unwrap();
        assert_eq!(end.since(ended.start).as_secs(), 300);
    }
}
