//! The worker of one check: it places the check's agents, schedules their rounds, evaluates the results, and reports them.
//!
//! ```text
//! nodes, spec -> selected nodes -> schedule -> pairs -> agent set -> report -> round result -> health -> Events, status
//! ```
//!
//! An agent set lives for the check's `agentLifetime`, or until a node joins or other nodes are next in the rotation. Its
//! successor is placed beside it and takes over after its first round, so probing never pauses.

/// When and where agents are placed.
mod placement;
/// Status, Events and node conditions.
mod reporting;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::NodeCondition;
use kube::ResourceExt as _;
use prober_core::plan::pairing::NodePair;
use prober_core::run::CycleSpec;
use prober_core::time::Timestamp;
use prober_core::topology::NodeName;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::Context;
use super::leftovers::delete_agents;
use super::observer::CheckRound;
use crate::backoff::Backoff;
use crate::canary::agent_set_template::MAX_NODES;
use crate::canary::controller::agent_set::{AgentSet, AgentSetEvent, RoundReport, until};
use crate::canary::controller::event_queue::EventQueue;
use crate::canary::controller::node_watch::Nodes;
use crate::canary::crd::{ConnectivityCheck, ConnectivityCheckStatus};
use crate::canary::eligible_nodes::selected_nodes;
use crate::canary::health::{HealthTracker, Outage};
use crate::canary::restored_outages::restore;
use crate::canary::round_result::{NodePath, RoundResult};
use crate::canary::schedule::{RoundsEnd, Schedule};
use crate::canary::status::CheckPhase;
use crate::clock::{steady, wall};

/// The pause after the first failed placement; each further failure doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// The longest pause between failed placements.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// The state of a check's worker.
struct CheckWorker {
    context: Arc<Context>,
    check: Arc<ConnectivityCheck>,
    nodes: Nodes,
    schedule: Schedule,
    health: HealthTracker,
    phase: CheckPhase,
    /// The status that was written last.
    written_status: Option<ConnectivityCheckStatus>,
    event_queue: EventQueue,
    /// When writing is tried again after a failure.
    report_not_before: Option<Timestamp>,
    /// The conditions that were written last.
    written_conditions: BTreeMap<NodeName, NodeCondition>,
    /// The agents that probe.
    active: Option<AgentSet>,
    /// Whether they wait for the next round.
    is_idle: bool,
    /// Whether they must be replaced: the spec has changed, or some have failed.
    must_replace: bool,
    /// The agents that replace them once they have probed.
    successor: Option<AgentSet>,
    /// When agents may be placed again.
    placement_not_before: Timestamp,
    placement_backoff: Backoff,
    terminating: JoinSet<()>,
    agent_set_events: mpsc::UnboundedSender<(String, AgentSetEvent)>,
}

/// Runs until the check is deleted or the controller stops, then removes the check's agents.
pub(super) async fn run(
    context: Arc<Context>,
    mut checks: watch::Receiver<Arc<ConnectivityCheck>>,
    mut nodes: watch::Receiver<Nodes>,
) {
    let check = checks.borrow_and_update().clone();
    // The agents of an earlier controller have no owner any more.
    delete_agents(&context.connection, &check.name_any()).await;
    let (agent_set_events, mut event_receiver) = mpsc::unbounded_channel();
    let mut worker = CheckWorker::new(
        context,
        check,
        nodes.borrow_and_update().clone(),
        agent_set_events,
    );
    worker.update_nodes();
    loop {
        worker.place_if_needed().await;
        worker.write_reports().await;
        tokio::select! {
            changed = checks.changed() => match changed {
                Ok(()) => {
                    let check = checks.borrow_and_update().clone();
                    worker.update_check(check);
                }
                Err(_) => break,
            },
            Ok(()) = nodes.changed() => {
                worker.nodes = nodes.borrow_and_update().clone();
                worker.update_nodes();
            }
            Some((run, event)) = event_receiver.recv() => worker.handle_event(&run, event),
            () = until(worker.next_at()) => worker.probe_if_due(),
        }
    }
    worker.shut_down().await;
}

impl CheckWorker {
    fn new(
        context: Arc<Context>,
        check: Arc<ConnectivityCheck>,
        nodes: Nodes,
        agent_set_events: mpsc::UnboundedSender<(String, AgentSetEvent)>,
    ) -> Self {
        let spec = &check.spec;
        let restored = check.status.as_ref().map(restore).unwrap_or_default();
        let mut schedule = Schedule::new(
            spec.budget(MAX_NODES),
            spec.interval.duration(),
            context.nonce(),
        );
        schedule.set_watched(restored.open.iter().filter_map(Outage::example_pair));
        Self {
            schedule,
            health: HealthTracker::resume(spec.confirm.into(), restored.open, restored.ended),
            phase: CheckPhase::Starting,
            written_status: check.status.clone(),
            written_conditions: BTreeMap::new(),
            event_queue: EventQueue::default(),
            report_not_before: None,
            context,
            check,
            nodes,
            active: None,
            is_idle: false,
            must_replace: false,
            successor: None,
            placement_not_before: steady(),
            placement_backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            terminating: JoinSet::new(),
            agent_set_events,
        }
    }

    /// Applies a changed spec. A changed status is the worker's own write.
    fn update_check(&mut self, check: Arc<ConnectivityCheck>) {
        let is_same = check.spec == self.check.spec;
        self.check = check;
        if is_same {
            return;
        }
        let spec = &self.check.spec;
        (self.schedule).set_budget(spec.budget(MAX_NODES), spec.interval.duration());
        self.health.set_rule(spec.confirm.into());
        self.placement_not_before = steady();
        if spec.paused {
            self.phase = CheckPhase::Paused;
            self.stop_observing_nodes();
            for agent_set in self.active.take().into_iter().chain(self.successor.take()) {
                self.terminating.spawn(agent_set.terminate());
            }
        } else {
            if self.phase == CheckPhase::Paused {
                self.phase = CheckPhase::Starting;
            }
            self.must_replace = true;
        }
        self.update_nodes();
    }

    fn update_nodes(&mut self) {
        let before: BTreeSet<NodeName> = self.schedule.nodes().iter().cloned().collect();
        let nodes = self.nodes.values().map(AsRef::as_ref);
        (self.schedule).set_nodes(&selected_nodes(nodes, &self.check.spec), steady());
        let now: BTreeSet<NodeName> = self.schedule.nodes().iter().cloned().collect();
        for left in before.difference(&now) {
            (self.context.observer).node_removed(&self.check.name_any(), left);
            for agent_set in self.active.iter_mut().chain(&mut self.successor) {
                agent_set.remove_node(left);
            }
            let transitions = self.health.remove_node(left, wall());
            self.queue_events(&transitions);
        }
    }

    /// When the next timer expires.
    fn next_at(&self) -> Option<Timestamp> {
        let round = self.schedule.next_at().filter(|_| self.is_idle);
        let placing = Some(self.placement_not_before).filter(|_| self.needs_placement());
        let all = [round, placing, self.expires_at(), self.report_not_before];
        all.into_iter().flatten().min()
    }

    fn probe_if_due(&mut self) {
        let now = steady();
        let is_due = self.schedule.next_at().is_some_and(|at| at <= now);
        if !self.is_idle || !is_due {
            return;
        }
        let Some(mut agent_set) = self.active.take() else {
            return;
        };
        let probing = if self.successor.is_some() || !self.covers_assigned_nodes(&agent_set) {
            let mut pairs = agent_set.requested.clone();
            self.schedule
                .repeat_round(&mut pairs, &agent_set.nodes, now);
            CycleSpec::Attended(pairs)
        } else if self.check.spec.can_alert() {
            self.schedule.begin_rounds(now)
        } else {
            CycleSpec::Attended(self.schedule.begin_round(now))
        };
        self.is_idle = false;
        agent_set.probe(probing);
        self.active = Some(agent_set);
    }

    fn handle_event(&mut self, run: &str, event: AgentSetEvent) {
        let is_of = |agent_set: &Option<AgentSet>| {
            agent_set
                .as_ref()
                .is_some_and(|agent_set| agent_set.run == run)
        };
        let is_successor = is_of(&self.successor);
        if !is_successor && !is_of(&self.active) {
            // It is terminating.
            return;
        }
        match event {
            AgentSetEvent::Round(report) => {
                if is_successor {
                    let old = std::mem::replace(&mut self.active, self.successor.take());
                    self.terminating.extend(old.map(AgentSet::terminate));
                    self.placement_backoff.reset();
                    let nodes = self.active.as_ref().map(|agent_set| &agent_set.nodes);
                    self.health.retain_nodes(nodes.unwrap_or(&BTreeSet::new()));
                }
                self.is_idle = true;
                self.evaluate(*report);
            }
            AgentSetEvent::Ended(why) => {
                if is_successor {
                    self.successor = None;
                } else {
                    self.active = None;
                    self.is_idle = false;
                }
                self.placement_failed(why);
            }
        }
        while self.terminating.try_join_next().is_some() {}
    }

    fn evaluate(&mut self, mut round: RoundReport) {
        self.phase = CheckPhase::Probing;
        // A node that left during the round is not reported again; one that has returned has no agents yet.
        let known =
            (self.active.as_ref()).map_or_else(BTreeSet::new, |agent_set| agent_set.nodes.clone());
        round.retain_nodes(&known);
        let mut result = RoundResult::from_report(&round.report);
        result.retain_nodes(&known);
        let RoundReport { matrix, report } = &round;
        let failed = matrix
            .agents
            .iter()
            .filter(|(_, known)| known.failed.is_some());
        let failed_agents: Vec<&str> = failed.map(|(agent, _)| agent.pod.as_str()).collect();
        if !failed_agents.is_empty() && !self.must_replace {
            tracing::warn!(
                check = self.check.name_any(),
                ?failed_agents,
                "agents have failed and are replaced"
            );
            self.must_replace = true;
            self.extend_backoff();
        }
        let ended = self.schedule.end_rounds(result.is_healthy(), steady());
        if let Some(agent_set) = &self.active {
            let measured = result.measured_pairs();
            let requested = match ended {
                RoundsEnd::Complete => &agent_set.requested,
                // Pairs that were not probed keep their last result.
                RoundsEnd::CutShort => &measured,
            };
            self.schedule.record_results(requested, &measured);
        }
        let transitions = self.health.update(&result, wall());
        let suspects: Vec<NodePair> = self.health.suspected().map(NodePath::pair).collect();
        self.schedule.suspect(suspects, steady());
        self.schedule
            .set_watched(self.health.open().iter().filter_map(Outage::example_pair));
        self.context.observer.observe(&CheckRound {
            check: &self.check.name_any(),
            matrix,
            report,
            health: &self.health,
            transitions: &transitions,
            coverage: self.schedule.coverage(),
        });
        self.queue_events(&transitions);
    }

    /// Removes all agents. If the check is deleted, its nodes are removed from telemetry; if the controller stops, the
    /// last metrics are still sent.
    async fn shut_down(mut self) {
        if !*self.context.stop.borrow() {
            self.stop_observing_nodes();
            self.schedule.set_nodes(&[], steady());
            if let Err(error) = self.clear_node_conditions().await {
                tracing::warn!(%error, "conditions of nodes were not cleared");
            }
        }
        for agent_set in self.active.take().into_iter().chain(self.successor.take()) {
            self.terminating.spawn(agent_set.terminate());
        }
        while self.terminating.join_next().await.is_some() {}
    }
}
