//! The condition `prober.dev/ServiceConnectivity` of a node, from which a cluster can derive a taint.
//!
//! Its reason and message change only on transitions, so it is written only then.

use k8s_openapi::api::core::v1::NodeCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use prober_core::topology::NodeName;

use super::check_state::CheckState;
use super::inventory::SERVICE_CONNECTIVITY;
use super::node_state::NodeState;
use crate::canary::health::{FailureKind, Outage};

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
    use std::collections::BTreeMap;
    use std::time::Duration;

    use k8s_openapi::jiff::Timestamp as Instant;
    use prober_core::diagnosis::Confidence;
    use prober_core::diagnosis::catalogue::Cause;
    use prober_core::packet::family::Family;
    use prober_core::report::CauseName;
    use prober_core::topology::AccessPath;
    use serde_json::json;

    use super::super::test_cluster::{Cluster, node_name};
    use super::*;
    use crate::canary::round_result::{Finding, Liveness, NodePath, PathState, RoundResult};

    fn at(seconds: i64) -> Time {
        Time(Instant::from_second(seconds).unwrap())
    }

    /// A check after two examinations of the first node, three minutes apart.
    fn check_after(seen: PathState, liveness: Liveness, confidence: Confidence) -> CheckState {
        let mut cluster = Cluster::of(2);
        let check = serde_json::from_value(json!({
            "apiVersion": "prober.dev/v1beta1", "kind": "ConnectivityCheck", "metadata": {"name": "default"}, "spec": {}
        }));
        let mut check = CheckState::new(&check.unwrap());
        let node = node_name(0);
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
            ..RoundResult::default()
        };
        for _ in 0..2 {
            let now = cluster.moment();
            check.observe("default", &cluster.inventory, &mut BTreeMap::new(), now);
            check.end_examination(result.clone(), now);
            cluster.pass(Duration::from_mins(3));
        }
        check
    }

    fn described(check: &CheckState, number: usize) -> String {
        let Some(condition) = condition(check, &node_name(number), at(0)) else {
            return "none".to_owned();
        };
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
        let failing = check_after(PathState::Failing, Liveness::Reporting, Confidence::Proven);
        assert_eq!(
            described(&failing, 0),
            "False BridgeNetfilterOff: node-00000: bridge-netfilter-off (proven): see `prober explain bridge-netfilter-off`"
        );
        let healthy = "True NoFailure: no failure is confirmed on this node";
        assert_eq!(described(&failing, 1), healthy);
        let fine = check_after(PathState::Healthy, Liveness::Reporting, Confidence::Proven);
        assert_eq!(described(&fine, 0), healthy);
        let silent = check_after(PathState::Healthy, Liveness::Silent, Confidence::Proven);
        assert_eq!(
            described(&silent, 0),
            "Unknown AgentSilent: node-00000: agent-silent (proven): its agent runs and does not report"
        );
        assert_eq!(described(&fine, 2), "none", "it is no node of the check");
    }

    /// Row P3.
    #[test]
    fn the_condition_of_a_node_where_nothing_is_measured_is_unknown() {
        let mut check = check_after(PathState::Healthy, Liveness::Reporting, Confidence::Proven);
        let mut cluster = Cluster::of(2);
        cluster.set_node_ready(0, false);
        cluster.set_works(1, false);
        cluster.pass(Duration::from_mins(3));
        let now = cluster.moment();
        check.observe("default", &cluster.inventory, &mut BTreeMap::new(), now);
        assert_eq!(
            described(&check, 0),
            "Unknown NotMeasured: nothing is measured on this node: it is not Ready: Kubelet stopped posting node status"
        );
        assert_eq!(
            described(&check, 1),
            "none",
            "it alerts, and is not examined yet"
        );
    }

    #[test]
    fn an_unchanged_condition_is_not_written_and_keeps_its_transition_time() {
        let node = node_name(0);
        let of = |confidence, second| {
            let check = check_after(PathState::Failing, Liveness::Reporting, confidence);
            condition(&check, &node, at(second)).unwrap()
        };
        let first = changed(None, of(Confidence::Consistent, 1)).unwrap();
        assert_eq!(changed(Some(&first), of(Confidence::Consistent, 2)), None);
        let proven = changed(Some(&first), of(Confidence::Proven, 3)).unwrap();
        assert_eq!(proven.last_transition_time, Some(at(1)));
        let fine = check_after(PathState::Healthy, Liveness::Reporting, Confidence::Proven);
        let now = condition(&fine, &node, at(4)).unwrap();
        let recovered = changed(Some(&proven), now).unwrap();
        assert_eq!(recovered.last_transition_time, Some(at(4)));
    }
}
