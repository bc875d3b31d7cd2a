//! The effect of every event in every state: one exhaustive match. The work of its arms is in `actions`.
//!
//! The file is longer than others since the compiler detects a missing case only if all are in one match.

use super::Run;
use super::actions::{ALERT_READING, READING};
use super::cycle::{CycleSpec, Round};
use super::state::{Probing, State, Unattended};
use crate::node_facts::NodeFacts;
use crate::report::Completion;
use crate::topology::{AgentId, NodeName};

/// The inputs of a run. The context already has the contents of reports of agents and the platform.
pub(super) enum Event<'a> {
    /// The run begins.
    Start,
    /// An agent runs.
    AgentReady,
    /// An agent could not be started, or ended too early.
    AgentFailed { agent: &'a AgentId, reason: String },
    /// The test Services lead to their endpoints.
    Published,
    /// An agent has accepted its plan for a round.
    PlanAccepted(Round),
    /// An agent has finished a round.
    RoundFinished { agent: &'a AgentId },
    /// The host of a node has reported the node's facts.
    Facts {
        node: &'a NodeName,
        facts: Box<NodeFacts>,
    },
    /// An agent with an unread log has something to report.
    Alert,
    /// An agent has reported the reason of its alert.
    AlertReported,
    /// A node is about to leave, or has left.
    NodeWithdrawn(&'a NodeName),
    /// The next cycle is to begin.
    CycleStarted(&'a CycleSpec),
    /// The timer of the state has expired.
    Timeout,
    /// The deadline of a round has passed.
    Overdue,
    /// The platform cannot continue, or the time of the run is over.
    Failed(String),
    /// The user ends the run.
    Interrupted,
    /// Everything is removed.
    Removed,
}

impl Run {
    /// The transition of an event.
    #[expect(
        clippy::too_many_lines,
        clippy::match_same_arms,
        reason = "the whole table in one place, a case an arm, so that the compiler sees a case that is missing"
    )]
    pub(super) fn apply(&mut self, event: Event<'_>) {
        use Event as E;
        use State as S;
        let context = &mut self.context;
        self.state = match (std::mem::take(&mut self.state), event) {
            (S::NotStarted, E::Start) => context.start(),

            (S::ReadingFacts(reading), E::AgentReady) => context.keep_reading(reading),
            (S::ReadingFacts(reading), E::AgentFailed { agent, reason }) => {
                context.fail_while_reading(reading, agent, reason)
            }
            (S::ReadingFacts(reading), E::Facts { node, facts }) => {
                context.node(node).before = Some(*facts);
                context.end_reading_of(reading, node)
            }
            // A host agent that has finished without facts reports none.
            (S::ReadingFacts(reading), E::RoundFinished { agent })
                if context.spec.is_host(agent) =>
            {
                context.end_reading_of(reading, &agent.node)
            }
            (S::ReadingFacts(reading), E::Timeout) => context.give_up_reading(reading),

            (S::Placing(waiting), E::AgentReady) => context.publish_if_placed(waiting),
            (S::Placing(waiting), E::AgentFailed { agent, reason }) => {
                match context.fail(agent, reason).fatal {
                    Some(reason) => context.remove(Completion::CouldNotRun { reason }),
                    None => context.publish_if_placed(waiting),
                }
            }
            (state @ S::Placing(_), E::Timeout) => self.give_up_starting(state),

            (S::Publishing(waiting), E::AgentReady | E::Published) => {
                context.await_listeners(waiting)
            }
            (S::Publishing(waiting), E::AgentFailed { agent, reason }) => {
                match context.fail(agent, reason).fatal {
                    Some(reason) => context.remove(Completion::CouldNotRun { reason }),
                    None => context.await_listeners(waiting),
                }
            }
            (S::Publishing(waiting), E::RoundFinished { .. }) => context.probe_if_ready(waiting),
            (S::Publishing(waiting), E::Timeout) if context.awaits_only_listeners() => {
                context.probe_without_listeners(waiting)
            }
            (state @ S::Publishing(_), E::Timeout) if !context.agents.starting.is_empty() => {
                self.give_up_starting(state)
            }
            (S::Publishing(_), E::Timeout) => context.give_up_publishing(),
            (state @ (S::Placing(_) | S::Publishing(_)), E::Facts { node, facts }) => {
                context.node(node).before = Some(*facts);
                state
            }

            (S::Probing(Probing::Starting(starting)), E::AgentReady) => {
                context.run_if_started(starting)
            }
            (S::Probing(probing), E::AgentFailed { agent, reason }) => {
                context.fail_while_probing(probing, agent, reason)
            }
            (S::Probing(Probing::Running { deadlines, .. }), E::PlanAccepted(Round::Initial)) => {
                context.postpone_follow_up(deadlines)
            }
            (S::Probing(probing), E::RoundFinished { .. }) => {
                context.follow_up_if_finished(probing)
            }
            (state @ S::Probing(_), E::Facts { node, facts }) => {
                context.node(node).during = Some(*facts);
                state
            }
            (state @ S::Probing(Probing::Starting(_)), E::Timeout) => self.give_up_starting(state),
            (S::Probing(probing @ Probing::Running { .. }), E::Timeout) => {
                context.follow_up(probing)
            }
            (S::Probing(probing), E::Overdue) => {
                context.agents.stop_waiting();
                context.follow_up(probing)
            }

            (S::Unattended(unattended), E::AgentFailed { agent, reason }) => {
                context.fail_while_unattended(unattended, agent, reason)
            }
            (S::Unattended(unattended), E::RoundFinished { .. }) => {
                context.linger_if_finished(S::Unattended(unattended))
            }
            (S::Unattended(unattended), E::Alert) => context.cut_short(unattended, ALERT_READING),
            (S::Unattended(Unattended::CutShort { until, deadlines }), E::AlertReported) => {
                S::Unattended(Unattended::CutShort {
                    until: until.min(context.now + READING),
                    deadlines,
                })
            }
            (S::Unattended(unattended), E::NodeWithdrawn(node)) => {
                context.withdraw(node);
                context.cut_short(unattended, READING)
            }
            (S::Unattended(Unattended::Probing { .. }), E::Timeout) => context.read_to_the_end(),
            (S::Unattended(Unattended::CutShort { .. }), E::Timeout) => {
                context.mark_reported();
                context.finish_cycle()
            }

            (S::FollowUp(deadlines), E::AgentFailed { agent, reason }) => {
                match context.fail(agent, reason).fatal_at_start() {
                    Some(reason) => context.remove(Completion::CouldNotRun { reason }),
                    None => context.linger_if_finished(S::FollowUp(deadlines)),
                }
            }
            (S::FollowUp(deadlines), E::RoundFinished { .. }) => {
                context.end_follow_up_if_needless();
                context.linger_if_finished(S::FollowUp(deadlines))
            }
            (state @ S::FollowUp(_), E::Facts { node, facts }) => {
                let known = context.node(node);
                let reading = if known.during.is_some() {
                    &mut known.after
                } else {
                    &mut known.during
                };
                *reading = Some(*facts);
                state
            }
            (S::Unattended(_) | S::FollowUp(_), E::Overdue) => {
                context.agents.stop_waiting();
                context.linger()
            }

            (S::Lingering { .. }, E::Timeout) => context.complete(),
            (S::Idle { next_path }, E::CycleStarted(spec)) => context.start_cycle(spec, next_path),
            (state @ (S::Lingering { .. } | S::Idle { .. }), E::AgentFailed { agent, reason }) => {
                match context.fail(agent, reason).fatal_at_start() {
                    Some(reason) => context.remove(Completion::CouldNotRun { reason }),
                    None => state,
                }
            }
            (
                state @ (S::Lingering { .. } | S::Removing { .. } | S::Ended { .. }),
                E::Facts { node, facts },
            ) => {
                context.node(node).after = Some(*facts);
                state
            }
            // Facts of a cycle that has ended, or of one that reads facts only after a failure.
            (state @ (S::Unattended(_) | S::Idle { .. }), E::Facts { node, .. }) => {
                context.node(node);
                state
            }

            (
                state @ (S::NotStarted
                | S::ReadingFacts(_)
                | S::Placing(_)
                | S::Publishing(_)
                | S::Probing(_)
                | S::FollowUp(_)
                | S::Lingering { .. }
                | S::Idle { .. }),
                E::NodeWithdrawn(node),
            ) => {
                context.withdraw(node);
                state
            }
            (
                S::NotStarted
                | S::ReadingFacts(_)
                | S::Placing(_)
                | S::Publishing(_)
                | S::Probing(_)
                | S::Unattended(_)
                | S::FollowUp(_)
                | S::Lingering { .. }
                | S::Idle { .. },
                E::Failed(reason),
            ) => context.remove(Completion::CouldNotRun { reason }),
            (
                S::NotStarted
                | S::ReadingFacts(_)
                | S::Placing(_)
                | S::Publishing(_)
                | S::Probing(_)
                | S::Unattended(_)
                | S::FollowUp(_)
                | S::Lingering { .. }
                | S::Idle { .. },
                E::Interrupted,
            ) => context.remove(Completion::Interrupted),

            (state @ S::Removing { .. }, E::Failed(reason)) => {
                context.notes.push(reason);
                state
            }
            (S::Removing { completion, .. }, E::Removed | E::Timeout) => S::Ended { completion },

            (
                state @ S::NotStarted,
                E::AgentReady
                | E::AgentFailed { .. }
                | E::Published
                | E::PlanAccepted(_)
                | E::RoundFinished { .. }
                | E::Facts { .. }
                | E::Alert
                | E::AlertReported
                | E::CycleStarted(_)
                | E::Timeout
                | E::Overdue
                | E::Removed,
            )
            | (
                state @ S::ReadingFacts(_),
                E::Start
                | E::Published
                | E::PlanAccepted(_)
                | E::RoundFinished { .. }
                | E::Alert
                | E::AlertReported
                | E::CycleStarted(_)
                | E::Overdue
                | E::Removed,
            )
            | (
                state @ S::Placing(_),
                E::Start
                | E::Published
                | E::PlanAccepted(_)
                | E::RoundFinished { .. }
                | E::Alert
                | E::AlertReported
                | E::CycleStarted(_)
                | E::Overdue
                | E::Removed,
            )
            | (
                state @ S::Publishing(_),
                E::Start
                | E::PlanAccepted(_)
                | E::Alert
                | E::AlertReported
                | E::CycleStarted(_)
                | E::Overdue
                | E::Removed,
            )
            | (
                state @ S::Probing(_),
                E::Start
                | E::AgentReady
                | E::Published
                | E::PlanAccepted(_)
                | E::Alert
                | E::AlertReported
                | E::CycleStarted(_)
                | E::Removed,
            )
            | (
                state @ S::Unattended(_),
                E::Start
                | E::AgentReady
                | E::Published
                | E::PlanAccepted(_)
                | E::AlertReported
                | E::CycleStarted(_)
                | E::Timeout
                | E::Removed,
            )
            | (
                state @ S::FollowUp(_),
                E::Start
                | E::AgentReady
                | E::Published
                | E::PlanAccepted(_)
                | E::Alert
                | E::AlertReported
                | E::CycleStarted(_)
                | E::Timeout
                | E::Removed,
            )
            | (
                state @ S::Lingering { .. },
                E::Start
                | E::AgentReady
                | E::Published
                | E::PlanAccepted(_)
                | E::RoundFinished { .. }
                | E::Alert
                | E::AlertReported
                | E::CycleStarted(_)
                | E::Overdue
                | E::Removed,
            )
            | (
                state @ S::Idle { .. },
                E::Start
                | E::AgentReady
                | E::Published
                | E::PlanAccepted(_)
                | E::RoundFinished { .. }
                | E::Alert
                | E::AlertReported
                | E::Timeout
                | E::Overdue
                | E::Removed,
            )
            | (
                state @ S::Removing { .. },
                E::Start
                | E::AgentReady
                | E::AgentFailed { .. }
                | E::Published
                | E::PlanAccepted(_)
                | E::RoundFinished { .. }
                | E::Alert
                | E::AlertReported
                | E::NodeWithdrawn(_)
                | E::CycleStarted(_)
                | E::Overdue
                | E::Interrupted,
            )
            | (
                state @ S::Ended { .. },
                E::Start
                | E::AgentReady
                | E::AgentFailed { .. }
                | E::Published
                | E::PlanAccepted(_)
                | E::RoundFinished { .. }
                | E::Alert
                | E::AlertReported
                | E::NodeWithdrawn(_)
                | E::CycleStarted(_)
                | E::Timeout
                | E::Overdue
                | E::Failed(_)
                | E::Interrupted
                | E::Removed,
            ) => state,
        };
    }

    /// Fails every agent that is still being started.
    fn give_up_starting(&mut self, state: State) -> State {
        self.state = state;
        let timeout = self.context.spec.startup_timeout.as_secs_f64();
        let reason = format!("not ready after {timeout} s");
        for agent in self.context.agents.starting.clone() {
            let reason = reason.clone();
            self.apply(Event::AgentFailed {
                agent: &agent,
                reason,
            });
        }
        std::mem::take(&mut self.state)
    }
}
