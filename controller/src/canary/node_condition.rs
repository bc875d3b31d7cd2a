//! What a node is told about itself: a condition of the prober's own, which a cluster can turn into a taint.
//!
//! Its words change only when what is judged does, so that an API server hears of it on transitions and no more often.

use k8s_openapi::api::core::v1::{Node, NodeCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use prober_core::topology::NodeName;

use crate::canary::health::{Judgement, Outage, What};

/// Its type.
pub const SERVICE_CONNECTIVITY: &str = "prober.dev/ServiceConnectivity";

/// The condition of a node that was looked at. `Unknown` where its agents are silent: nobody can say.
pub fn condition(judgement: &Judgement, node: &NodeName, now: Time) -> NodeCondition {
    let mut touching = judgement
        .open()
        .iter()
        .filter(|outage| outage.touches(node));
    let (status, reason, message) = match touching.next() {
        None => (
            "True",
            "NoFailure".to_owned(),
            "no failure is confirmed on this node".to_owned(),
        ),
        Some(outage) => {
            let status = match outage.blame.what {
                What::Cause(_) => "False",
                What::AgentSilent => "Unknown",
            };
            let word = outage.blame.what.as_str();
            (status, camel(word), message(outage, touching.count()))
        }
    };
    NodeCondition {
        type_: SERVICE_CONNECTIVITY.to_owned(),
        status: status.to_owned(),
        reason: Some(reason),
        message: Some(message),
        last_heartbeat_time: None,
        last_transition_time: Some(now),
    }
}

/// What a node was told.
pub fn of(node: &Node) -> Option<&NodeCondition> {
    let mut conditions = node.status.as_ref()?.conditions.iter().flatten();
    conditions.find(|condition| condition.type_ == SERVICE_CONNECTIVITY)
}

/// A condition that says what `before` said since then; `None` if nothing has changed.
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
    let word = outage.blame.what.as_str();
    let more = match more {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let next = match outage.blame.what {
        What::Cause(_) => format!("see `prober explain {word}`"),
        What::AgentSilent => "its agent runs and says nothing".to_owned(),
    };
    format!("{outage}{more}: {next}")
}

/// The API's way to write one word made of several.
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
    use prober_core::topology::Route;

    use super::*;
    use crate::canary::health::Rule;
    use crate::canary::round_result::{Finding, Look, NodePath, Seen, Voice};

    fn at(seconds: i64) -> Time {
        Time(Instant::from_second(seconds).unwrap())
    }

    /// What is judged after two looks at a node's path to itself, and at whether its agent speaks.
    fn judged(seen: Seen, voice: Voice, confidence: Confidence) -> Judgement {
        let node = NodeName::new("node-1");
        let path = NodePath {
            client: node.clone(),
            server: Some(node.clone()),
            route: Route::ClusterIp,
            family: Family::Ipv4,
        };
        let finding = Finding {
            cause: CauseName(Some(Cause::BridgeNetfilterOff)),
            confidence,
            node: Some(node.clone()),
            paths: [path.clone()].into(),
        };
        let look = Look {
            paths: [(path, seen)].into(),
            findings: Vec::from_iter((seen == Seen::Failing).then_some(finding)),
            voices: [(node, voice)].into(),
        };
        let mut judgement = Judgement::new(Rule::new(2, 3));
        for second in [1, 2] {
            judgement.see(&look, Timestamp::from_nanos(second * 1_000_000_000));
        }
        judgement
    }

    fn told(judgement: &Judgement, node: &str) -> String {
        let told = condition(judgement, &NodeName::new(node), at(0));
        let word = |text: Option<String>| text.unwrap_or_default();
        format!(
            "{} {}: {}",
            told.status,
            word(told.reason),
            word(told.message)
        )
    }

    #[test]
    fn a_node_is_told_what_is_judged_of_it_and_how_sure_that_is() {
        let failing = judged(Seen::Failing, Voice::Heard, Confidence::Proven);
        assert_eq!(
            told(&failing, "node-1"),
            "False BridgeNetfilterOff: node-1: bridge-netfilter-off (proven): see `prober explain bridge-netfilter-off`"
        );
        let healthy = "True NoFailure: no failure is confirmed on this node";
        assert_eq!(told(&failing, "node-2"), healthy);
        let fine = judged(Seen::Healthy, Voice::Heard, Confidence::Proven);
        assert_eq!(told(&fine, "node-1"), healthy);
        let silent = judged(Seen::Healthy, Voice::Silent, Confidence::Proven);
        assert_eq!(
            told(&silent, "node-1"),
            "Unknown AgentSilent: node-1: agent-silent (proven): its agent runs and says nothing"
        );
    }

    #[test]
    fn what_has_not_changed_is_not_told_and_its_time_holds_while_its_status_does() {
        let node = NodeName::new("node-1");
        let of = |confidence, second| {
            condition(
                &judged(Seen::Failing, Voice::Heard, confidence),
                &node,
                at(second),
            )
        };
        let first = changed(None, of(Confidence::Consistent, 1)).unwrap();
        assert_eq!(changed(Some(&first), of(Confidence::Consistent, 2)), None);
        let proven = changed(Some(&first), of(Confidence::Proven, 3)).unwrap();
        assert_eq!(proven.last_transition_time, Some(at(1)));
        let fine = judged(Seen::Healthy, Voice::Heard, Confidence::Proven);
        let mended = changed(Some(&proven), condition(&fine, &node, at(4))).unwrap();
        assert_eq!(mended.last_transition_time, Some(at(4)));
    }
}
