//! The samples of the states of a check's nodes.

use std::sync::Arc;

use super::sample::{AgentState, OpenOutage, Sample};
use crate::canary::controller::observer::CheckStates;
use crate::canary::health::Outage;
use crate::canary::node_state::NodeState;

/// All samples of the states.
pub(super) fn samples(states: &CheckStates<'_>) -> impl Iterator<Item = Sample> {
    let check: Arc<str> = states.check.into();
    let state = states.state;
    let counts = state.counts();
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let coverage = Sample::Coverage {
        check: Arc::clone(&check),
        nodes: number(counts.measured()),
        total: number(counts.total()),
    };
    let agents = {
        let check = Arc::clone(&check);
        AgentState::ALL
            .into_iter()
            .map(move |state| Sample::Agents {
                check: Arc::clone(&check),
                state,
                count: number(match state {
                    AgentState::Working => counts.working,
                    AgentState::Alerting => counts.alerting,
                    AgentState::Starting => counts.starting,
                    AgentState::NotMeasured => counts.not_measured,
                }),
            })
    };
    let outages = Sample::Outages {
        check: Arc::clone(&check),
        open: state.health().open().iter().map(open_outage).collect(),
    };
    let not_measured = Sample::NotMeasured {
        check: Arc::clone(&check),
        nodes: (state.nodes().iter())
            .filter_map(|(node, state)| Some((node.clone(), reason(state)?)))
            .collect(),
    };
    let nodes = state.nodes().keys().map(move |node| Sample::Node {
        check: Arc::clone(&check),
        node: node.clone(),
        healthy: state.is_healthy(node),
    });
    [coverage, outages, not_measured]
        .into_iter()
        .chain(agents)
        .chain(nodes)
}

fn open_outage(outage: &Outage) -> OpenOutage {
    let explanation = &outage.explanation;
    OpenOutage {
        node: explanation.node.clone(),
        cause: explanation.kind.as_str(),
        confidence: explanation.sureness(),
    }
}

/// Why nothing is measured on a node where the check wants it.
fn reason(state: &NodeState) -> Option<&'static str> {
    match state {
        NodeState::NotMeasured(why) if why.is_a_fault() => Some(why.as_str()),
        NodeState::NotMeasured(_)
        | NodeState::Working
        | NodeState::Alerting(_)
        | NodeState::Starting => None,
    }
}

#[cfg(test)]
mod tests;
