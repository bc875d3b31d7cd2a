//! The recent results of one path: whether enough of them failed for an alert, and whether it has recovered.

use std::collections::VecDeque;
use std::time::Duration;

use super::StandingPath;
use super::outcome::StandingOutcome;
use crate::plan::standing::ConfirmRule;
use crate::probe::event::StandingFailure;
use crate::probe::outcome::{EngineKind, ProbeResult};
use crate::time::Timestamp;

/// For so long another server may answer than the plan says: kubelets show a changed `ConfigMap` up to two minutes late, and
/// not all nodes at the same time.
pub const CHANGE_PATIENCE: Duration = Duration::from_mins(3);

/// What a result counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// The path works.
    Healthy,
    /// The path failed.
    Failed,
    /// Neither: the result says nothing about the path.
    Neither,
}

/// A result that counts.
#[derive(Debug)]
struct Entry {
    engine: EngineKind,
    started: Timestamp,
    ended: Timestamp,
    outcome: StandingOutcome,
    /// A failed result, until it is written or the path has recovered.
    failed: Option<Box<ProbeResult>>,
    is_failure: bool,
}

/// What a result changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Enough results failed: the path alerts now.
    Alerts,
    /// The path worked long enough: it does not alert any more.
    Recovered,
    /// Nothing.
    None,
}

/// A path and its recent results.
#[derive(Debug)]
pub(super) struct Track {
    /// The path.
    pub(super) path: StandingPath,
    recent: VecDeque<Entry>,
    is_alerting: bool,
    /// Since when another server answers.
    other_since: Option<Timestamp>,
    /// Whether it has been probed again soon, and has no result of that yet.
    pub(super) is_repeating: bool,
    /// Whether any result counted since the start, as healthy or as of another server.
    pub(super) is_measured: bool,
}

impl Track {
    /// A path without results.
    pub(super) const fn new(path: StandingPath) -> Self {
        Self {
            path,
            recent: VecDeque::new(),
            is_alerting: false,
            other_since: None,
            is_repeating: false,
            is_measured: false,
        }
    }

    /// Whether enough results failed, and it has not recovered since.
    pub(super) const fn is_alerting(&self) -> bool {
        self.is_alerting
    }

    /// Whether the last result failed, or was that of another server: the path is probed in every round until it works.
    pub(super) fn is_suspect(&self) -> bool {
        self.is_alerting || self.other_since.is_some() || self.last_failed()
    }

    /// Whether the last result of an engine that counts failed.
    pub(super) fn last_failed(&self) -> bool {
        let engines = [EngineKind::Kernel, EngineKind::Raw];
        engines.into_iter().any(|engine| {
            let last = self.latest(Some(engine)).next();
            last.is_some_and(|entry| entry.is_failure)
        })
    }

    /// Whether another server answers, and for less than a change of the plan may take.
    pub(super) fn has_moved(&self, plan_changed: Timestamp, now: Timestamp) -> bool {
        self.other_since
            .is_some_and(|since| now.since(since.max(plan_changed)) < CHANGE_PATIENCE)
    }

    /// Counts the answer of a server, which is the one that is expected or another. Returns whether another one has answered
    /// for too long.
    pub(super) fn update_server(
        &mut self,
        outcome: StandingOutcome,
        has_banner: bool,
        plan_changed: Timestamp,
        now: Timestamp,
    ) -> bool {
        if outcome == StandingOutcome::OtherServer {
            self.other_since.get_or_insert(now);
            return !self.has_moved(plan_changed, now);
        }
        if has_banner {
            self.other_since = None;
        }
        false
    }

    /// Counts a result that ended now. The results of both engines count together, and those of each alone: where a handshake
    /// works and the connection does not go on, only connections of the kernel fail.
    pub(super) fn count(
        &mut self,
        result: Box<ProbeResult>,
        outcome: StandingOutcome,
        counted: Counted,
        rule: ConfirmRule,
        (started, ended): (Timestamp, Timestamp),
    ) -> Change {
        let is_failure = match counted {
            Counted::Healthy => false,
            Counted::Failed => true,
            Counted::Neither => return Change::None,
        };
        self.recent.push_back(Entry {
            engine: result.engine,
            started,
            ended,
            outcome,
            failed: (is_failure && !self.is_alerting).then_some(result),
            is_failure,
        });
        while self.recent.len() > 2 * usize::from(rule.of) {
            self.recent.pop_front();
        }
        self.update_alert(rule)
    }

    fn update_alert(&mut self, rule: ConfirmRule) -> Change {
        if !self.is_alerting {
            self.is_alerting = self.has_failed(rule);
            return if self.is_alerting {
                Change::Alerts
            } else {
                Change::None
            };
        }
        if !self.has_recovered(rule) {
            return Change::None;
        }
        self.is_alerting = false;
        self.recent.retain(|entry| !entry.is_failure);
        Change::Recovered
    }

    /// The results of one engine, or of both together, latest first.
    fn latest(&self, engine: Option<EngineKind>) -> impl Iterator<Item = &Entry> {
        let recent = self.recent.iter().rev();
        recent.filter(move |entry| engine.is_none_or(|engine| entry.engine == engine))
    }

    /// Whether enough of the last results failed, of both engines together or of one.
    fn has_failed(&self, rule: ConfirmRule) -> bool {
        [None, Some(EngineKind::Kernel), Some(EngineKind::Raw)]
            .into_iter()
            .any(|engine| {
                let last = self.latest(engine).take(rule.of.into());
                last.filter(|entry| entry.is_failure).count() >= rule.failures.into()
            })
    }

    /// Whether as many results in a row are healthy as failures raise an alert, and the last one of each engine.
    fn has_recovered(&self, rule: ConfirmRule) -> bool {
        let needed = usize::from(rule.failures);
        let healthy = self.latest(None).take_while(|entry| !entry.is_failure);
        healthy.take(needed).count() == needed && !self.last_failed()
    }

    /// Takes the results that failed and were not taken yet.
    pub(super) fn take_failures(&mut self, generation: u64) -> Vec<StandingFailure> {
        let path = &self.path;
        let recent = self.recent.iter_mut();
        recent
            .filter_map(|entry| {
                Some(StandingFailure {
                    access_path: path.access_path,
                    server: path.server.clone(),
                    generation,
                    stale: entry.outcome == StandingOutcome::OtherServer,
                    result: *entry.failed.take()?,
                })
            })
            .collect()
    }

    /// The client got no processor time from `from` to `until`: what was not answered then says nothing. The path does not
    /// alert any more if it did because of that.
    pub(super) fn forget_unanswered(
        &mut self,
        from: Timestamp,
        until: Timestamp,
        rule: ConfirmRule,
    ) {
        let before = self.recent.len();
        self.recent.retain(|entry| {
            let is_within = entry.started <= until && entry.ended >= from;
            !(entry.is_failure && is_within && is_excused_by_starvation(entry.outcome))
        });
        let has_forgotten = self.recent.len() < before;
        if has_forgotten && !self.has_failed(rule) {
            self.is_alerting = false;
        }
    }
}

/// Whether a client without processor time may be the reason of a failure.
pub(super) const fn is_excused_by_starvation(outcome: StandingOutcome) -> bool {
    match outcome {
        StandingOutcome::Late
        | StandingOutcome::Timeout
        | StandingOutcome::NoBanner
        | StandingOutcome::Stalled => true,
        StandingOutcome::Established
        | StandingOutcome::OtherServer
        | StandingOutcome::Reset
        | StandingOutcome::Unreachable
        | StandingOutcome::RefusedLocally
        | StandingOutcome::Mismatched
        | StandingOutcome::InvalidBanner => false,
    }
}
