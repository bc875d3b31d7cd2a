//! The condition `prober.dev/ServiceConnectivity` of a node, from which a cluster can derive a taint.
//!
//! Its reason and message change only on transitions, so it is written only then.

use k8s_openapi::api::core::v1::{Node, NodeCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use prober_core::topology::NodeName;

use super::check_state::CheckState;
use super::node_state::NodeState;
use crate::canary::health::{FailureKind, Outage};

/// The type of the condition.
pub const SERVICE_CONNECTIVITY: &str = "prober.dev/ServiceConnectivity";

/// The condition of a selected node: `Unknown` where nothing is measured, or its agents are silent; `None` while it is not
/// known, because its agents start or its alert is being examined.
pub fn condition(check: &CheckState, node: &NodeName, now: Time) -> Option<NodeCondition> {
    let open = check.health().open().iter();
    let mut touching = open.filter(|outage| outage.involves(node));
    let (status, reason, message) = match (touching.next(), check.nodes().get(node)?) {
        (Some(outage), _) => {
            let status = match outage.explanation.kind {
                FailureKind::Cause(_) => "False",
                FailureKind::AgentSilent => "Unknown",
            };
            let word = outage.explanation.kind.as_str();
            (status, camel(word), message(outage, touching.count()))
        }
        (None, NodeState::Working) => (
            "True",
            "NoFailure".to_owned(),
            "no failure is confirmed on this node".to_owned(),
        ),
        (None, NodeState::NotMeasured(why)) => (
            "Unknown",
            "NotMeasured".to_owned(),
            format!("nothing is measured on this node: {why}"),
        ),
        (None, NodeState::Alerting(_) | NodeState::Starting) => return None,
    };
    Some(NodeCondition {
        type_: SERVICE_CONNECTIVITY.to_owned(),
        status: status.to_owned(),
        reason: Some(reason),
        message: Some(message),
        last_heartbeat_time: None,
        last_transition_time: Some(now),
    })
}

/// The condition that a Node object has.
pub fn of(node: &Node) -> Option<&NodeCondition> {
    let mut conditions = node.status.as_ref()?.conditions.iter().flatten();
    conditions.find(|condition| condition.type_ == SERVICE_CONNECTIVITY)
}

/// `now` with the transition time of `before` if the status is the same; `None` if nothing has changed.
pub fn changed(before: Option<&NodeCondition>, mut now: NodeCondition) -> Option<NodeCondition> {
    let Some(before) = before else {
        return Some(now);
    };
    let words = |of: &NodeCondition| (of.reason.clone(), of.message.clone());
    if before.status != now.status {
        return Some(now);
    }
    now.last_transition_time
        .clone_from(&before.last_transition_time);
    (words(before) != words(&now)).then_some(now)
}

fn message(outage: &Outage, more: usize) -> String {
    let word = outage.explanation.kind.as_str();
    let more = match more {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let next = match outage.explanation.kind {
        FailureKind::Cause(_) => format!("see `prober explain {word}`"),
        FailureKind::AgentSilent => "its agent runs and does not report".to_owned(),
    };
    format!("{outage}{more}: {next}")
}

/// A slug in CamelCase, as the API writes reasons.
fn camel(word: &str) -> String {
    let parts = word.split('-').map(|part| {
        let mut letters = part.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp as Instant;
    use prober_core::diagnosis::Confidence;
    use prober_core::diagnosis::catalogue::Cause;
    use prober_core::packet::family::Family;
    use prober_core::report::CauseName;
    use prober_core::time::Timestamp;
    use prober_core::topology::AccessPath;

    use super::*;
    use crate::canary::health::ConfirmationRule;
    use crate::canary::round_result::{Finding, Liveness, NodePath, PathState, RoundResult};

    fn at(seconds: i64) -> Time {
        Time(Instant::from_second(seconds).unwrap())
    }

    /// The health after two results of a node's path to itself and of the liveness of its agent.
    fn health_after(seen: PathState, liveness: Liveness, confidence: Confidence) -> HealthTracker {
        let node = NodeName::new("node-1");
        let path = NodePath {
            client: node.clone(),
            server: Some(node.clone()),
            access_path: AccessPath::ClusterIp,
            family: Family::Ipv4,
        };
        let finding = Finding {
            cause: CauseName(Some(Cause::BridgeNetfilterOff)),
            confidence,
            node: Some(node.clone()),
            paths: [path.clone()].into(),
        };
        let result = RoundResult {
            paths: [(path, seen)].into(),
            findings: Vec::from_iter((seen == PathState::Failing).then_some(finding)),
            liveness: [(node, liveness)].into(),
        };
        let mut health = HealthTracker::new(ConfirmationRule::new(2, 3));
        for second in [1, 2] {
            health.update(&result, Timestamp::from_nanos(second * 1_000_000_000));
        }
        health
    }

    fn described(health: &HealthTracker, node: &str) -> String {
        let condition = condition(health, &NodeName::new(node), at(0));
        let word = |text: Option<String>| text.unwrap_or_default();
        format!(
            "{} {}: {}",
            condition.status,
            word(condition.reason),
            word(condition.message)
        )
    }

    #[test]
    fn the_condition_states_cause_and_confidence() {
        let failing = health_after(PathState::Failing, Liveness::Reporting, Confidence::Proven);
        assert_eq!(
            described(&failing, "node-1"),
            "False BridgeNetfilterOff: node-1: bridge-netfilter-off (proven): see `prober explain bridge-netfilter-off`"
        );
        let healthy = "True NoFailure: no failure is confirmed on this node";
        assert_eq!(described(&failing, "node-2"), healthy);
        let fine = health_after(PathState::Healthy, Liveness::Reporting, Confidence::Proven);
        assert_eq!(described(&fine, "node-1"), healthy);
        let silent = health_after(PathState::Healthy, Liveness::Silent, Confidence::Proven);
        assert_eq!(
            described(&silent, "node-1"),
            "Unknown AgentSilent: node-1: agent-silent (proven): its agent runs and does not report"
        );
    }

    #[test]
    fn an_unchanged_condition_is_not_written_and_keeps_its_transition_time() {
        let node = NodeName::new("node-1");
        let of = |confidence, second| {
            condition(
                &health_after(PathState::Failing, Liveness::Reporting, confidence),
                &node,
                at(second),
            )
        };
        let first = changed(None, of(Confidence::Consistent, 1)).unwrap();
        assert_eq!(changed(Some(&first), of(Confidence::Consistent, 2)), None);
        let proven = changed(Some(&first), of(Confidence::Proven, 3)).unwrap();
        assert_eq!(proven.last_transition_time, Some(at(1)));
        let fine = health_after(PathState::Healthy, Liveness::Reporting, Confidence::Proven);
        let recovered = changed(Some(&proven), condition(&fine, &node, at(4))).unwrap();
        assert_eq!(recovered.last_transition_time, Some(at(4)));
    }
}
