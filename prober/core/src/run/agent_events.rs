//! The lines of agents: the event of each for the run, besides the evidence that it adds.

use super::Run;
use super::state::State;
use super::transition::Event as RunEvent;
use crate::probe::event::Event;
use crate::topology::AgentId;

impl Run {
    pub(super) fn handle_line(&mut self, agent: &AgentId, mut event: Event) {
        let context = &mut self.context;
        let is_host = context.spec.is_host(agent);
        // Host agents capture no packets by design.
        if is_host && let Event::Hello(hello) = &mut event {
            hello.limits.clear();
        }
        let mut finished = None;
        match &event {
            Event::PlanAccepted { generation } => {
                if let Some(round) = context.cycle.round(*generation) {
                    context.agents.accept(agent, round);
                    self.apply(RunEvent::PlanAccepted(round));
                }
            }
            Event::PlanRefused { reason, .. } => {
                finished = Some(self.state.round());
                let reason = format!("agent {agent} refused its plan: {reason}");
                context.shortfall.get_or_insert(reason);
            }
            Event::Done { generation, .. } => finished = context.cycle.round(*generation),
            Event::Alert => self.apply(RunEvent::AlertReported),
            Event::Hello(_)
            | Event::Probe(_)
            | Event::StandingFailure(_)
            | Event::Tally(_)
            | Event::ServerTrace { .. }
            | Event::TtlProbe(_)
            | Event::Reached { .. }
            | Event::Counters { .. }
            | Event::Capture { .. }
            | Event::Starved { .. }
            | Event::Facts(_)
            | Event::Notice { .. } => {}
        }
        // An agent that is being removed leaves other agents' probes without an answer. If it reports
        // starvation only now, it was stopped before, and not short of processor time.
        let is_late = matches!(self.state, State::Removing { .. });
        let is_outcome = matches!(
            event,
            Event::Probe(_) | Event::Tally(_) | Event::Starved { .. }
        );
        // The counters of a host agent's namespace are the node's, not its own.
        let is_foreign = is_host && matches!(event, Event::Counters { .. });
        if let Event::Facts(facts) = event {
            let node = &agent.node;
            self.apply(RunEvent::Facts { node, facts });
        } else if !(is_late && is_outcome || is_foreign) {
            let is_answered =
                matches!(&event, Event::Probe(probe) if probe.answered_at().is_some());
            self.context.collection.take(agent, event);
            if is_answered && matches!(self.state, State::FollowUp(_)) {
                self.context.end_follow_up_if_opened();
                self.apply(RunEvent::RoundFinished { agent });
            }
        }
        if let Some(round) = finished.filter(|_| !is_late) {
            let has_others = self.context.agents.finish(agent, round);
            if let Some(known) = self.context.collection.matrix.agents.get_mut(agent) {
                known.has_reported = !has_others;
            }
            self.apply(RunEvent::RoundFinished { agent });
        }
    }
}
