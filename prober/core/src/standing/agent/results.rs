//! Results of standing probes: what counts, when a path alerts, and when the gate opens and closes.

use std::net::IpAddr;
use std::time::Duration;

use super::{Gate, MIN_REPEAT_PAUSE, StandingAgent, StandingOutput};
use crate::plan::standing::StandingPlan;
use crate::probe::event::Event;
use crate::probe::outcome::ProbeResult;
use crate::standing::outcome::StandingOutcome;
use crate::standing::track::{Change, Counted, Track, is_excused_by_starvation};
use crate::standing::{OwnServer, StandingPath};
use crate::time::{Timestamp, nanos};
use crate::topology::{AccessPath, AgentId, PathId};

/// An agent that wakes up so late was starved of processor time.
const STARVED: Duration = Duration::from_millis(250);

/// For so long after a change of the plan the failure of a path that it added is none: its Service may not be programmed yet.
const ADDED_PATIENCE: Duration = Duration::from_secs(10);

impl StandingAgent {
    /// Handles the result of a probe that started `age` ago. The times within the result are of another clock, which may be set.
    pub fn handle_result(&mut self, result: Box<ProbeResult>, age: Duration, now: Timestamp) {
        self.end_probe(now);
        let started = Timestamp::from_nanos(now.as_nanos().saturating_sub(nanos(age)));
        let (id, banner) = (result.path, result.exchange.banner().cloned());
        let (Some(plan), Some(track)) = (&self.plan, self.tracks.get_mut(&id)) else {
            // Of a path that the plan does not have any more.
            return;
        };
        let (rule, nonce, generation) = (plan.confirm, plan.nonce, plan.generation);
        let outcome = StandingOutcome::of(&result, &track.path, &self.agent, nonce);
        self.metrics.count(&track.path, outcome, &result, started);
        let has_banner = banner.is_some();
        let is_stale = track.update_server(outcome, has_banner, self.plan_changed, now);
        let path = track.path.clone();
        let counted = self.counted(&path, outcome, is_stale, started, now);
        let Some(track) = self.tracks.get_mut(&id) else {
            return;
        };
        track.is_measured |= match outcome {
            StandingOutcome::Established | StandingOutcome::OtherServer => true,
            StandingOutcome::Late
            | StandingOutcome::Reset
            | StandingOutcome::Timeout
            | StandingOutcome::Unreachable
            | StandingOutcome::RefusedLocally
            | StandingOutcome::Mismatched
            | StandingOutcome::NoBanner
            | StandingOutcome::Stalled
            | StandingOutcome::InvalidBanner => false,
        };
        let change = track.count(result, outcome, counted, rule, (started, now));
        let is_healthy = outcome == StandingOutcome::Established;
        // A failure is to be confirmed soon, and so is a recovery.
        let repeats = if track.is_alerting() {
            is_healthy
        } else {
            !is_healthy && outcome != StandingOutcome::OtherServer
        };
        match change {
            Change::Alerts => {
                let failures = track.take_failures(generation);
                let failures = failures.into_iter();
                let lines = failures.map(|failure| Event::StandingFailure(Box::new(failure)));
                self.write_alert(lines.collect(), now);
            }
            Change::Recovered | Change::None => {}
        }
        if repeats {
            self.repeat_soon(id, now);
        }
        if let Some(banner) = banner
            && is_healthy
            && path.access_path == AccessPath::ClusterIpLocal
        {
            let agent = AgentId {
                node: banner.node,
                pod: banner.pod,
            };
            self.learn_own_server(agent, &banner.addresses, now);
        }
        self.update_gate();
    }

    /// Probes that were not sent, or have no result; that says nothing about the network.
    pub fn handle_unsent(&mut self, probes: u64, now: Timestamp) {
        for _ in 0..probes.min(self.outstanding.into()) {
            self.end_probe(now);
        }
    }

    /// The agent woke up so much later than it was to: what was unanswered meanwhile says nothing.
    pub fn handle_lateness(&mut self, late: Duration, now: Timestamp) {
        if late < STARVED {
            return;
        }
        let from = Timestamp::from_nanos(now.as_nanos().saturating_sub(nanos(late)));
        let (before, until) = self.starved;
        self.starved = if from <= until {
            (before.min(from), now)
        } else {
            (from, now)
        };
        let (from, until) = self.starved;
        if let Some(rule) = self.plan.as_ref().map(|plan| plan.confirm) {
            for track in self.tracks.values_mut() {
                track.forget_unanswered(from, until, rule);
            }
        }
        self.update_gate();
    }

    fn end_probe(&mut self, now: Timestamp) {
        if self.outstanding > 0 {
            self.outstanding -= 1;
            if self.outstanding == 0 && self.due.is_empty() {
                self.last_round = Some(now);
            }
        }
    }

    fn counted(
        &self,
        path: &StandingPath,
        outcome: StandingOutcome,
        is_stale: bool,
        started: Timestamp,
        now: Timestamp,
    ) -> Counted {
        if outcome == StandingOutcome::Established {
            return Counted::Healthy;
        }
        if outcome == StandingOutcome::OtherServer {
            return if is_stale {
                Counted::Failed
            } else {
                Counted::Neither
            };
        }
        let (from, until) = self.starved;
        let is_starved = started <= until && now >= from && is_excused_by_starvation(outcome);
        let since_change = now.since(self.plan_changed);
        let is_new = since_change < ADDED_PATIENCE && self.added.contains(path);
        if is_starved || is_new || self.has_moved(path, now) {
            Counted::Neither
        } else {
            Counted::Failed
        }
    }

    /// Whether the server of this path has lost its slot: another one answers there, and the plan of this node is old.
    fn has_moved(&self, path: &StandingPath, now: Timestamp) -> bool {
        let is_of_server = |track: &&Track| {
            path.server.is_some() && track.path.server == path.server && track.path != *path
        };
        let mut others = self.tracks.values().filter(is_of_server);
        others.any(|track| track.has_moved(self.plan_changed, now))
    }

    fn repeat_soon(&mut self, path: PathId, now: Timestamp) {
        let interval = self.plan.as_ref().map(StandingPlan::interval);
        let (Some(interval), Some(track)) = (interval, self.tracks.get_mut(&path)) else {
            return;
        };
        if !std::mem::replace(&mut track.is_repeating, true) {
            let pause = (interval / 10).max(MIN_REPEAT_PAUSE);
            self.due.insert((now + pause, path));
        }
    }

    /// Takes the identity and the addresses of the own node's server from its banner, of the addresses only those that may be
    /// probed; and probes its pod at once, if it is new.
    fn learn_own_server(&mut self, agent: AgentId, addresses: &[IpAddr], now: Timestamp) {
        let allowed = self.allowed_targets();
        let believed = addresses.iter().take(2).copied();
        let addresses: Vec<_> = believed
            .filter(|address| allowed.contains(*address))
            .collect();
        let own = (!addresses.is_empty()).then_some(OwnServer { agent, addresses });
        if own == self.own_server {
            return;
        }
        self.own_server = own;
        self.forget_other_paths();
        let Some(plan) = self.active_plan() else {
            return;
        };
        let own = self.own_server.as_ref();
        let of_round = super::paths_of_round(plan, &self.agent, self.role, own, self.round);
        let is_own = |path: &StandingPath| {
            path.access_path == AccessPath::PodIp
                && path.server.as_ref() == own.map(|own| &own.agent)
        };
        let paths: Vec<_> = of_round.into_iter().flatten().filter(is_own).collect();
        for path in paths {
            let id = self.track(path);
            self.due.insert((now, id));
            if let Some(first) = &mut self.first_round {
                first.insert(id);
            }
        }
    }

    /// Writes the failures of a path and the alert, if not too many lines were written lately.
    fn write_alert(&mut self, failures: Vec<Event>, now: Timestamp) {
        let more = 1 + usize::from(self.unwritten > 0);
        let lines = u32::try_from(failures.len() + more).unwrap_or(u32::MAX);
        if !self.line_limit.take(lines, now) {
            self.unwritten += u64::from(lines);
            return;
        }
        let unwritten = std::mem::take(&mut self.unwritten);
        let notice = (unwritten > 0).then(|| Event::Notice {
            text: format!(
                "{unwritten} lines about failed standing probes and alerts were not written, since there were too many; /metrics counts them"
            ),
        });
        let all = notice.into_iter().chain(failures).chain([Event::Alert]);
        self.outputs.extend(all.map(StandingOutput::Line));
    }

    /// Opens the gate where nothing alerts and the first round has worked; closes it else.
    pub(super) fn update_gate(&mut self) {
        let is_measuring = self.active_plan().is_some();
        if is_measuring
            && self.round > 0
            && self.closed_until.is_none()
            && self.is_first_round_healthy()
        {
            self.first_round = None;
        }
        let is_alerting = || self.tracks.values().any(Track::is_alerting);
        let is_open = if is_measuring {
            self.first_round.is_none() && !is_alerting()
        } else {
            !self.is_refused
        };
        let gate = if is_open { Gate::Open } else { Gate::Closed };
        if std::mem::replace(&mut self.gate, gate) != gate {
            self.outputs.push_back(StandingOutput::Gate(gate));
        }
    }

    fn is_first_round_healthy(&self) -> bool {
        self.first_round.as_ref().is_some_and(|first| {
            let mut tracks = first.iter().filter_map(|path| self.tracks.get(path));
            tracks.all(|track| track.is_measured && !track.last_failed())
        })
    }
}
