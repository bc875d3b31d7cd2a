//! One check, for as long as it is there: its agents, its rounds, and what is made of them.
//!
//! ```text
//! nodes, spec -> candidates -> schedule -> pairs -> stand -> cycle -> report -> look -> judgement -> events, status
//! ```
//!
//! Agents stand for one epoch. When it is over, or a node has joined, those of the next are placed beside them, and take
//! over when they have probed once: nobody is without eyes meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt as _;
use prober_core::pairing::NodePair;
use prober_core::time::Timestamp;
use prober_core::topology::NodeName;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::World;
use super::announcing::Announcements;
use super::nodes::Nodes;
use super::observer::Round;
use super::stand::{Cycle, Stand, Told, until};
use super::sweep::sweep;
use crate::canary::candidates::candidates;
use crate::canary::epoch::{Ask, MAX_NODES};
use crate::canary::judgement::{Judgement, Transition};
use crate::canary::look::{Look, NodePath};
use crate::canary::memory::recall;
use crate::canary::schedule::Schedule;
use crate::canary::status::{Circumstances, Readiness, status};
use crate::clock::{steady, wall};
use crate::crd::{ConnectivityCheck, ConnectivityCheckStatus};
use crate::manifest::CheckRef;
use crate::preflight::posture;

/// The pause after agents could not be placed; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

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
    /// Whether that is all there is to tell.
    is_told: bool,
    untold: Announcements,
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
        patrol.announce().await;
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
        Self {
            schedule: Schedule::new(spec.budget(), spec.interval.duration(), world.nonce()),
            judgement: Judgement::resume(spec.confirm.into(), memory.open, memory.ended),
            readiness: Readiness::Starting,
            told: check.status.clone(),
            is_told: true,
            untold: Announcements::default(),
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
        (self.schedule).respec(spec.budget(), spec.interval.duration());
        self.judgement.respec(spec.confirm.into());
        self.not_before = steady();
        if spec.paused {
            self.readiness = Readiness::Paused;
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
            let transitions = self.judgement.forget(left, wall());
            self.report(&transitions);
        }
    }

    /// When there is something to do that nobody tells.
    fn next_at(&self) -> Option<Timestamp> {
        let round = self.schedule.next_at().filter(|_| self.is_idle);
        let placing = Some(self.not_before).filter(|_| self.is_placing_needed());
        [round, placing, self.expiry()].into_iter().flatten().min()
    }

    /// When the epoch of the agents that stand is over.
    fn expiry(&self) -> Option<Timestamp> {
        let stand = self.stand.as_ref().filter(|_| self.coming.is_none())?;
        let at = stand.since + self.check.spec.agent_lifetime.duration();
        Some(at.max(self.not_before))
    }

    fn is_placing_needed(&self) -> bool {
        if self.check.spec.paused || self.coming.is_some() || self.schedule.nodes().is_empty() {
            return false;
        }
        let Some(stand) = &self.stand else {
            return true;
        };
        let is_over = self.expiry().is_some_and(|at| at <= steady());
        let mut seated = self.schedule.nodes().iter().take(MAX_NODES);
        is_over || self.is_worn || seated.any(|node| !stand.nodes.contains(node))
    }

    /// Places the agents of the next epoch.
    async fn place_if_needed(&mut self) {
        if !self.is_placing_needed() || steady() < self.not_before {
            return;
        }
        let world = Arc::clone(&self.world);
        let check = Arc::clone(&self.check);
        let ask = Ask {
            check: CheckRef {
                name: check.name_any(),
                uid: check.uid().unwrap_or_default(),
            },
            spec: &check.spec,
            namespace: &world.connection.namespace,
            image: &world.image,
        };
        let posture = match posture(&world.connection, &ask.wish(), &ask.shapes()).await {
            Ok(posture) => posture,
            Err(error) => {
                self.back_off(error.to_string());
                return;
            }
        };
        let seated = self.schedule.nodes().iter();
        let nodes = seated
            .filter_map(|node| self.nodes.get(node))
            .map(AsRef::as_ref);
        let (spec, setting) = ask.epoch(&posture, nodes, world.nonce());
        tracing::info!(
            check = ask.check.name,
            run = spec.run,
            nodes = spec.nodes.len(),
            "placing agents"
        );
        let pairs = self.schedule.begin(steady());
        self.is_worn = false;
        self.coming = Some(Stand::begin(
            world.connection.clone(),
            setting,
            spec,
            pairs,
            self.ear.clone(),
        ));
    }

    /// Nothing is placed for a while.
    fn back_off(&mut self, why: String) {
        tracing::warn!(
            check = self.check.name_any(),
            why,
            "agents could not be placed"
        );
        self.not_before = steady() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        if self.stand.is_none() {
            self.readiness = Readiness::Stuck(why);
        }
    }

    fn probe_if_due(&mut self) {
        let now = steady();
        let is_due = self.schedule.next_at().is_some_and(|at| at <= now);
        let Some(stand) = self.stand.as_ref().filter(|_| self.is_idle && is_due) else {
            return;
        };
        let pairs = if self.coming.is_some() {
            self.schedule.repeat(now)
        } else {
            self.schedule.begin(now)
        };
        self.is_idle = false;
        stand.again(pairs);
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
                }
                self.is_idle = true;
                self.judge(&cycle);
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

    fn judge(&mut self, cycle: &Cycle) {
        let Cycle { matrix, report } = cycle;
        self.readiness = Readiness::Probing;
        let failed = report.agents.iter().filter(|agent| agent.failed.is_some());
        let seated: BTreeSet<&NodeName> = self.schedule.nodes().iter().collect();
        let missed: Vec<&str> = failed
            .filter(|agent| seated.contains(&agent.node))
            .map(|agent| agent.pod.as_str())
            .collect();
        if !missed.is_empty() && !self.is_worn {
            tracing::warn!(
                check = self.check.name_any(),
                ?missed,
                "agents have failed and are replaced"
            );
            self.is_worn = true;
            self.not_before = steady() + self.pause;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
        let transitions = self.judgement.see(&Look::of(report), wall());
        let suspects: Vec<NodePair> = self.judgement.suspected().map(NodePath::pair).collect();
        self.schedule.suspect(suspects, steady());
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

    /// Has said aloud what has changed.
    fn report(&mut self, transitions: &[Transition]) {
        (self.untold).take(&self.world, &self.check.name_any(), transitions);
    }

    /// Says it, once the status does.
    async fn announce(&mut self) {
        if self.is_told {
            let (check, nodes) = (&self.check, &self.nodes);
            self.untold.tell(&self.world, check, nodes).await;
        }
    }

    /// Writes the status, if it says something else than before. What an earlier controller told holds until this one knows
    /// better.
    async fn tell(&mut self) {
        if self.readiness == Readiness::Starting && self.told.is_some() {
            self.is_told = false;
            return;
        }
        let before = self.told.as_ref().map(|told| told.conditions.as_slice());
        let circumstances = Circumstances {
            generation: self.check.metadata.generation,
            readiness: &self.readiness,
            before: before.unwrap_or_default(),
            now: wall(),
        };
        let status = status(&self.judgement, &self.schedule, circumstances);
        self.is_told = self.told.as_ref() == Some(&status);
        if self.is_told {
            return;
        }
        match self.world.teller.status(&self.check, &status).await {
            Ok(()) => {
                self.told = Some(status);
                self.is_told = true;
            }
            // The next round tells it.
            Err(error) => tracing::warn!(%error, "the status is out of date"),
        }
    }

    async fn end(mut self) {
        for stand in self.stand.take().into_iter().chain(self.coming.take()) {
            self.leaving.spawn(stand.end());
        }
        while self.leaving.join_next().await.is_some() {}
    }
}
