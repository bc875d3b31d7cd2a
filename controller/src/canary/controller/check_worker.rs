//! One check, for as long as it is there: its agents, its rounds, and what is made of them.
//!
//! ```text
//! nodes, spec -> candidates -> schedule -> pairs -> stand -> cycle -> report -> look -> judgement -> events, status
//! ```
//!
//! Agents stand for one epoch. When it is over, or a node has joined, or other nodes wait for their turn, those of the next are
//! placed beside them, and take over when they have probed once: nobody is without eyes meanwhile.

/// When and where agents are placed.
mod placement;
/// What it tells.
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

use super::World;
use super::observer::Round;
use super::sweep::sweep;
use crate::canary::controller::agent_set::{Cycle, Stand, Told, until};
use crate::canary::controller::event_queue::Announcements;
use crate::canary::controller::node_watch::Nodes;
use crate::canary::crd::{ConnectivityCheck, ConnectivityCheckStatus};
use crate::canary::eligible_nodes::candidates;
use crate::canary::generation::MAX_NODES;
use crate::canary::health::{Judgement, Outage};
use crate::canary::restored_outages::recall;
use crate::canary::round_result::{Look, NodePath};
use crate::canary::schedule::{Ended, Schedule};
use crate::canary::status::Readiness;
use crate::clock::{steady, wall};

/// The pause after agents could not be placed; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// Everything of one check.
struct Patrol {
    world: Arc<World>,
    check: Arc<ConnectivityCheck>,
    nodes: Nodes,
    schedule: Schedule,
    judgement: Judgement,
    readiness: Readiness,
    /// What was told last.
    told: Option<ConnectivityCheckStatus>,
    untold: Announcements,
    /// Not before this is it tried again to tell something.
    untold_until: Option<Timestamp>,
    /// What nodes were told last.
    marked: BTreeMap<NodeName, NodeCondition>,
    /// The agents that probe.
    stand: Option<Stand>,
    /// Whether they wait for the next round.
    is_idle: bool,
    /// Whether they are to be replaced as soon as may be: the spec has changed, or some have failed.
    is_worn: bool,
    /// The agents that take over from them.
    coming: Option<Stand>,
    /// Not before this are agents placed.
    not_before: Timestamp,
    pause: Duration,
    leaving: JoinSet<()>,
    ear: mpsc::UnboundedSender<(String, Told)>,
}

/// Keeps a check until it is gone, or the controller ends: then all of its agents are removed.
pub(super) async fn patrol(
    world: Arc<World>,
    mut checks: watch::Receiver<Arc<ConnectivityCheck>>,
    mut nodes: watch::Receiver<Nodes>,
) {
    let check = checks.borrow_and_update().clone();
    // What an earlier controller placed for it is nobody's now.
    sweep(&world.connection, &check.name_any()).await;
    let (ear, mut heard) = mpsc::unbounded_channel();
    let mut patrol = Patrol::new(world, check, nodes.borrow_and_update().clone(), ear);
    patrol.see_nodes();
    loop {
        patrol.place_if_needed().await;
        patrol.tell().await;
        tokio::select! {
            changed = checks.changed() => match changed {
                Ok(()) => {
                    let check = checks.borrow_and_update().clone();
                    patrol.respec(check);
                }
                Err(_) => break,
            },
            Ok(()) = nodes.changed() => {
                patrol.nodes = nodes.borrow_and_update().clone();
                patrol.see_nodes();
            }
            Some((run, told)) = heard.recv() => patrol.hear(&run, told),
            () = until(patrol.next_at()) => patrol.probe_if_due(),
        }
    }
    patrol.end().await;
}

impl Patrol {
    fn new(
        world: Arc<World>,
        check: Arc<ConnectivityCheck>,
        nodes: Nodes,
        ear: mpsc::UnboundedSender<(String, Told)>,
    ) -> Self {
        let spec = &check.spec;
        let memory = check.status.as_ref().map(recall).unwrap_or_default();
        let mut schedule = Schedule::new(
            spec.budget(MAX_NODES),
            spec.interval.duration(),
            world.nonce(),
        );
        schedule.watch(memory.open.iter().filter_map(Outage::example));
        Self {
            schedule,
            judgement: Judgement::resume(spec.confirm.into(), memory.open, memory.ended),
            readiness: Readiness::Starting,
            told: check.status.clone(),
            marked: BTreeMap::new(),
            untold: Announcements::default(),
            untold_until: None,
            world,
            check,
            nodes,
            stand: None,
            is_idle: false,
            is_worn: false,
            coming: None,
            not_before: steady(),
            pause: FIRST_PAUSE,
            leaving: JoinSet::new(),
            ear,
        }
    }

    /// Takes a changed spec; a changed status is our own.
    fn respec(&mut self, check: Arc<ConnectivityCheck>) {
        let is_same = check.spec == self.check.spec;
        self.check = check;
        if is_same {
            return;
        }
        let spec = &self.check.spec;
        (self.schedule).respec(spec.budget(MAX_NODES), spec.interval.duration());
        self.judgement.respec(spec.confirm.into());
        self.not_before = steady();
        if spec.paused {
            self.readiness = Readiness::Paused;
            self.leave_nodes();
            for stand in self.stand.take().into_iter().chain(self.coming.take()) {
                self.leaving.spawn(stand.end());
            }
        } else {
            if self.readiness == Readiness::Paused {
                self.readiness = Readiness::Starting;
            }
            self.is_worn = true;
        }
        self.see_nodes();
    }

    fn see_nodes(&mut self) {
        let before: BTreeSet<NodeName> = self.schedule.nodes().iter().cloned().collect();
        let nodes = self.nodes.values().map(AsRef::as_ref);
        (self.schedule).see(&candidates(nodes, &self.check.spec), steady());
        let now: BTreeSet<NodeName> = self.schedule.nodes().iter().cloned().collect();
        for left in before.difference(&now) {
            (self.world.observer).gone(&self.check.name_any(), left);
            for stand in self.stand.iter_mut().chain(&mut self.coming) {
                stand.withdraw(left);
            }
            let transitions = self.judgement.forget(left, wall());
            self.report(&transitions);
        }
    }

    /// When there is something to do that nobody tells.
    fn next_at(&self) -> Option<Timestamp> {
        let round = self.schedule.next_at().filter(|_| self.is_idle);
        let placing = Some(self.not_before).filter(|_| self.is_placing_needed());
        let all = [round, placing, self.expiry(), self.untold_until];
        all.into_iter().flatten().min()
    }

    fn probe_if_due(&mut self) {
        let now = steady();
        let is_due = self.schedule.next_at().is_some_and(|at| at <= now);
        if !self.is_idle || !is_due {
            return;
        }
        let Some(mut stand) = self.stand.take() else {
            return;
        };
        let probing = if self.coming.is_some() || !self.has_agents(&stand) {
            let mut pairs = stand.asked.clone();
            self.schedule.repeat(&mut pairs, &stand.nodes, now);
            CycleSpec::Attended(pairs)
        } else if self.check.spec.asks_by_bells() {
            self.schedule.begin_turns(now)
        } else {
            CycleSpec::Attended(self.schedule.begin(now))
        };
        self.is_idle = false;
        stand.again(probing);
        self.stand = Some(stand);
    }

    fn hear(&mut self, run: &str, told: Told) {
        let is_of = |stand: &Option<Stand>| stand.as_ref().is_some_and(|stand| stand.run == run);
        let is_coming = is_of(&self.coming);
        if !is_coming && !is_of(&self.stand) {
            // It is leaving.
            return;
        }
        match told {
            Told::Cycle(cycle) => {
                if is_coming {
                    let old = std::mem::replace(&mut self.stand, self.coming.take());
                    self.leaving.extend(old.map(Stand::end));
                    self.pause = FIRST_PAUSE;
                    let seated = self.stand.as_ref().map(|stand| &stand.nodes);
                    self.judgement.look_at(seated.unwrap_or(&BTreeSet::new()));
                }
                self.is_idle = true;
                self.judge(*cycle);
            }
            Told::Ended(why) => {
                if is_coming {
                    self.coming = None;
                } else {
                    self.stand = None;
                    self.is_idle = false;
                }
                self.back_off(why);
            }
        }
        while self.leaving.try_join_next().is_some() {}
    }

    fn judge(&mut self, mut cycle: Cycle) {
        self.readiness = Readiness::Probing;
        // Who has left while it was probed is not told of again; who is back has no agents yet.
        let known = (self.stand.as_ref()).map_or_else(BTreeSet::new, |stand| stand.nodes.clone());
        cycle.keep(&known);
        let mut look = Look::of(&cycle.report);
        look.keep(&known);
        let Cycle { matrix, report } = &cycle;
        let failed = matrix
            .agents
            .iter()
            .filter(|(_, known)| known.failed.is_some());
        let missed: Vec<&str> = failed.map(|(agent, _)| agent.pod.as_str()).collect();
        if !missed.is_empty() && !self.is_worn {
            tracing::warn!(
                check = self.check.name_any(),
                ?missed,
                "agents have failed and are replaced"
            );
            self.is_worn = true;
            self.rest();
        }
        let ended = self.schedule.end_rounds(look.is_calm(), steady());
        if let Some(stand) = &self.stand {
            let measured = look.measured();
            let asked = match ended {
                Ended::Whole => &stand.asked,
                // Whoever had no turn keeps what it had.
                Ended::CutShort => &measured,
            };
            self.schedule.cover(asked, &measured);
        }
        let transitions = self.judgement.see(&look, wall());
        let suspects: Vec<NodePair> = self.judgement.suspected().map(NodePath::pair).collect();
        self.schedule.suspect(suspects, steady());
        self.schedule
            .watch(self.judgement.open().iter().filter_map(Outage::example));
        self.world.observer.observe(&Round {
            check: &self.check.name_any(),
            matrix,
            report,
            judgement: &self.judgement,
            transitions: &transitions,
            coverage: self.schedule.coverage(),
        });
        self.report(&transitions);
    }

    /// Removes all agents. Where the check has gone, nothing is told of its nodes any more; where the controller ends, its last
    /// figures are still to be sent.
    async fn end(mut self) {
        if !*self.world.stop.borrow() {
            self.leave_nodes();
            self.schedule.see(&[], steady());
            if let Err(error) = self.unmark_nodes().await {
                tracing::warn!(%error, "conditions of nodes stay behind");
            }
        }
        for stand in self.stand.take().into_iter().chain(self.coming.take()) {
            self.leaving.spawn(stand.end());
        }
        while self.leaving.join_next().await.is_some() {}
    }
}
