//! The state machine of a standing agent: its plan and rounds. Results, alerts and the gate are in `results`.
//!
//! It has no clock and no sockets. The caller passes the time in, calls `StandingAgent::handle_timeout` when
//! `StandingAgent::poll_timeout` is due, and takes what is to be done from `StandingAgent::poll_output`.

mod results;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use super::draw::{all_paths, paths_of_round, seed_of};
use super::metrics::{StandingGauges, StandingMetrics};
use super::schedule::{RateLimit, times_of_round};
use super::track::Track;
use super::{OwnServer, StandingPath, StandingRole};
use crate::plan::standing::{MAX_STANDING_RATE, StandingPlan};
use crate::plan::{AllowedTargets, Method, ProbePlan};
use crate::probe::event::Event;
use crate::random::Random;
use crate::time::{Timestamp, nanos};
use crate::topology::{AgentId, PathId};

/// Bytes that a connection has echoed: several packets of most MTUs.
const ECHO_BYTES: u32 = 8_192;

/// The pause before a path that failed is probed again, at least; else a tenth of the interval.
const MIN_REPEAT_PAUSE: Duration = Duration::from_millis(200);

/// Lines about failures that are written at once.
const MAX_LINES: u32 = 60;
/// One more line may be written after each such time: with their packets, some megabytes a day at most.
const LINE_PAUSE: Duration = Duration::from_mins(1);

/// How long an open gate is closed by a plan to probe, if the first round does not take longer: a readiness probe of each second
/// sees it, and the controller learns by the change of the pod's condition that the agent has the plan.
const CLOSED_BY_PLAN: Duration = Duration::from_secs(3);

/// The state of the readiness gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// The agent's own paths work, or it has none.
    Open,
    /// A path alerts, or not all of the first round have worked.
    Closed,
}

/// What the caller is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum StandingOutput {
    /// Send this one probe now.
    Probe(ProbePlan),
    /// Write this line.
    Line(Event),
    /// Open or close the readiness gate.
    Gate(Gate),
}

/// Whether crafted packets can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crafting {
    /// They can: each path is probed by a connection and by a crafted SYN.
    Possible,
    /// They cannot: each path is probed by a connection alone.
    Impossible,
}

/// A standing agent.
#[derive(Debug)]
pub struct StandingAgent {
    agent: AgentId,
    role: StandingRole,
    crafting: Crafting,
    /// The targets that the agent was started for.
    started_for: AllowedTargets,
    plan: Option<StandingPlan>,
    /// Whether there is a plan that was refused, and no other.
    is_refused: bool,
    plan_changed: Timestamp,
    /// The paths that the last change of the plan added.
    added: BTreeSet<StandingPath>,
    own_server: Option<OwnServer>,
    round: u64,
    next_round: Timestamp,
    /// When the last round ended: every probe of it had its result.
    last_round: Option<Timestamp>,
    /// Probes without a result.
    outstanding: u32,
    /// The paths that are due, in order.
    due: BTreeSet<(Timestamp, PathId)>,
    next_id: u32,
    ids: BTreeMap<StandingPath, PathId>,
    tracks: BTreeMap<PathId, Track>,
    /// The paths of the first round, until each of them has worked.
    first_round: Option<BTreeSet<PathId>>,
    /// The last time that the agent got too little processor time: from and until.
    starved: (Timestamp, Timestamp),
    gate: Gate,
    /// The gate stays closed until then, whatever is measured.
    closed_until: Option<Timestamp>,
    probe_limit: RateLimit,
    /// The probes that are due wait until then, since too many were sent.
    blocked_until: Timestamp,
    line_limit: RateLimit,
    /// Lines that were not written, since too many were.
    unwritten: u64,
    random: Random,
    metrics: StandingMetrics,
    outputs: VecDeque<StandingOutput>,
}

impl StandingAgent {
    /// An agent without a plan that starts now; its gate is closed until it is given a plan, or none.
    pub fn new(
        agent: AgentId,
        role: StandingRole,
        crafting: Crafting,
        started_for: AllowedTargets,
        now: Timestamp,
    ) -> Self {
        Self {
            metrics: StandingMetrics::new(agent.node.clone(), now),
            random: Random::new(seed_of(&agent.node) ^ now.as_nanos()),
            agent,
            role,
            crafting,
            started_for,
            plan: None,
            is_refused: false,
            plan_changed: now,
            added: BTreeSet::new(),
            own_server: None,
            round: 0,
            next_round: now,
            last_round: None,
            outstanding: 0,
            due: BTreeSet::new(),
            next_id: 0,
            ids: BTreeMap::new(),
            tracks: BTreeMap::new(),
            first_round: Some(BTreeSet::new()),
            starved: Default::default(),
            gate: Gate::Closed,
            closed_until: None,
            probe_limit: RateLimit::new(
                2 * MAX_STANDING_RATE,
                Duration::from_secs(1)
                    .checked_div(MAX_STANDING_RATE)
                    .unwrap_or_default(),
            ),
            blocked_until: now,
            line_limit: RateLimit::new(MAX_LINES, LINE_PAUSE),
            unwritten: 0,
            outputs: VecDeque::new(),
        }
    }

    /// The plan in force.
    pub const fn plan(&self) -> Option<&StandingPlan> {
        self.plan.as_ref()
    }

    /// What the agent may probe: the targets that it was started for, as the plan restricts them. Nothing without a plan.
    pub fn allowed_targets(&self) -> AllowedTargets {
        match &self.plan {
            Some(plan) => plan.allowed_targets(&self.started_for),
            None => self.started_for.clone().within(Vec::new()),
        }
    }

    /// Takes a plan that [`StandingPlan::parse`] has accepted, or that there is none.
    pub fn set_plan(&mut self, plan: Option<StandingPlan>, now: Timestamp) {
        self.is_refused = false;
        if plan.is_some() && plan == self.plan {
            return;
        }
        let before = std::mem::replace(&mut self.plan, plan);
        self.plan_changed = now;
        let known: BTreeSet<_> = before.iter().flat_map(|plan| self.paths_of(plan)).collect();
        let paths: BTreeSet<_> = self.active_plan().map_or_else(BTreeSet::new, |plan| {
            self.paths_of(plan).into_iter().collect()
        });
        let since = |plan: &Option<StandingPlan>| plan.as_ref().and_then(|plan| plan.probing_since);
        let is_first = known.is_empty() || since(&before) != since(&self.plan);
        self.added = if is_first {
            BTreeSet::new()
        } else {
            paths.difference(&known).cloned().collect()
        };
        self.forget_other_paths();
        if is_first && self.active_plan().is_some() {
            // Nothing was measured while there was no plan, or a paused one.
            self.first_round = Some(BTreeSet::new());
            for track in self.tracks.values_mut() {
                track.is_measured = false;
            }
            if self.gate == Gate::Open {
                self.closed_until = Some(now + CLOSED_BY_PLAN);
            }
        }
        match self.active_plan().map(StandingPlan::interval) {
            // The first round is whole only by one plan.
            Some(_) if is_first || self.first_round.is_some() => {
                self.round = 0;
                self.next_round = now;
                self.due.clear();
            }
            Some(interval) => self.next_round = self.next_round.min(now + interval),
            None => {}
        }
        self.update_gate();
    }

    /// There is a plan that [`StandingPlan::parse`] has refused: the last one stays in force. Without one nothing is measured,
    /// and the gate stays closed.
    pub fn refuse_plan(&mut self) {
        self.is_refused = self.plan.is_none();
        self.update_gate();
    }

    /// When `StandingAgent::handle_timeout` is to be called next.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.active_plan()?;
        let due = self
            .due
            .first()
            .map(|(at, _)| (*at).max(self.blocked_until));
        due.into_iter()
            .chain([self.next_round])
            .chain(self.closed_until)
            .min()
    }

    /// Takes what is to be done.
    pub fn poll_output(&mut self) -> Option<StandingOutput> {
        self.outputs.pop_front()
    }

    /// Begins the round that is due, and sends the probes that are due.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        if self.active_plan().is_none() {
            return;
        }
        if self.closed_until.is_some_and(|until| until <= now) {
            self.closed_until = None;
            self.update_gate();
        }
        if now >= self.next_round {
            self.begin_round(now);
        }
        while let Some(&(at, path)) = self.due.first() {
            if at > now {
                break;
            }
            let probes = self.probes(path);
            let count = u32::try_from(probes.len()).unwrap_or(u32::MAX);
            if !self.probe_limit.take(count, now) {
                self.blocked_until = now + self.probe_limit.every();
                break;
            }
            self.due.pop_first();
            if let Some(track) = self.tracks.get_mut(&path) {
                track.is_repeating = false;
            }
            self.outstanding = self.outstanding.saturating_add(count);
            self.outputs
                .extend(probes.into_iter().map(StandingOutput::Probe));
        }
    }

    /// Appends the metrics in Prometheus' text format. `clock` is the time since the Unix epoch at `now`, which the agent's own
    /// time may differ from: a clock may be set.
    ///
    /// # Errors
    ///
    /// None: writing to a string does not fail.
    pub fn render_metrics(
        &self,
        now: Timestamp,
        clock: Timestamp,
        out: &mut String,
    ) -> fmt::Result {
        let since_epoch = |at: Timestamp| {
            let ago = nanos(now.since(at));
            Timestamp::from_nanos(clock.as_nanos().saturating_sub(ago))
        };
        let gauges = StandingGauges {
            last_round: self.last_round.map(since_epoch),
            generation: self.plan.as_ref().map(|plan| plan.generation),
            alerting: self
                .tracks
                .values()
                .filter(|track| track.is_alerting())
                .count(),
        };
        self.metrics.render(gauges, out)
    }

    /// The plan, unless it is paused.
    fn active_plan(&self) -> Option<&StandingPlan> {
        self.plan.as_ref().filter(|plan| !plan.paused)
    }

    /// Every path of a plan that this agent may probe.
    fn paths_of(&self, plan: &StandingPlan) -> Vec<StandingPath> {
        if plan.paused {
            return Vec::new();
        }
        all_paths(plan, &self.agent, self.role, self.own_server.as_ref())
    }

    /// Forgets the results and probes of paths that the plan does not have.
    fn forget_other_paths(&mut self) {
        let paths: BTreeSet<StandingPath> = (self.active_plan())
            .map_or_else(BTreeSet::new, |plan| {
                self.paths_of(plan).into_iter().collect()
            });
        self.ids.retain(|path, _| paths.contains(path));
        self.tracks.retain(|_, track| paths.contains(&track.path));
        let tracks = &self.tracks;
        self.due.retain(|(_, path)| tracks.contains_key(path));
        if let Some(first) = &mut self.first_round {
            first.retain(|path| tracks.contains_key(path));
        }
    }

    fn begin_round(&mut self, now: Timestamp) {
        let Some(plan) = self.active_plan() else {
            return;
        };
        let (interval, round) = (plan.interval(), self.round);
        let own_server = self.own_server.as_ref();
        let mut groups = paths_of_round(plan, &self.agent, self.role, own_server, round);
        let drawn: BTreeSet<StandingPath> = groups.iter().flatten().cloned().collect();
        let suspects = self.tracks.values().filter(|track| track.is_suspect());
        let suspects = suspects.map(|track| &track.path);
        groups.extend(
            suspects
                .filter(|path| !drawn.contains(path))
                .map(|path| vec![path.clone()]),
        );
        let times = times_of_round(groups.len(), now, interval, round == 0, &mut self.random);
        // What is due and was blocked is drawn again, if it is still of interest.
        self.due.clear();
        for (group, at) in groups.into_iter().zip(times) {
            for path in group {
                let id = self.track(path);
                self.due.insert((at, id));
                if let Some(first) = self.first_round.as_mut().filter(|_| round == 0) {
                    first.insert(id);
                }
            }
        }
        for track in self.tracks.values_mut() {
            track.is_repeating = false;
        }
        self.outstanding = 0;
        self.round += 1;
        let next = self.next_round + interval;
        self.next_round = if next > now { next } else { now + interval };
        // A round without paths is whole.
        self.update_gate();
    }

    /// The number of a path's track, which is new if it has none.
    fn track(&mut self, path: StandingPath) -> PathId {
        if let Some(id) = self.ids.get(&path) {
            return *id;
        }
        let id = PathId(self.next_id);
        // A number is used again after four thousand million others.
        self.next_id = self.next_id.wrapping_add(1);
        self.ids.insert(path.clone(), id);
        self.tracks.insert(id, Track::new(path));
        id
    }

    /// The probes of a path: a connection with banner and echo, and a crafted SYN.
    fn probes(&self, path: PathId) -> Vec<ProbePlan> {
        let (Some(plan), Some(track)) = (&self.plan, self.tracks.get(&path)) else {
            return Vec::new();
        };
        let connect = Method::Connect {
            echo_bytes: ECHO_BYTES,
        };
        let crafted = match self.crafting {
            Crafting::Possible => Some(Method::Syn),
            Crafting::Impossible => None,
        };
        let methods = std::iter::once(connect).chain(crafted);
        methods
            .map(|method| ProbePlan {
                path,
                method,
                target: track.path.target,
                count: 1,
                start_ms: 0,
                interval_ms: 0,
                deadline_ms: plan.deadline_ms,
            })
            .collect()
    }
}
