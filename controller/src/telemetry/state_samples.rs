//! The samples of the states of a check's nodes.

use std::sync::Arc;

use super::sample::{AgentState, Sample};
use crate::canary::controller::observer::CheckStates;

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
    let nodes = state.nodes().keys().map(move |node| Sample::Node {
        check: Arc::clone(&check),
        node: node.clone(),
        healthy: state.is_healthy(node),
    });
    std::iter::once(coverage).chain(agents).chain(nodes)
}
