//! When the packet loop has something to do, and what can wait to be done together: each read of packets wakes up the
//! packet thread, each report the main task.

use std::time::Duration;

use prober_core::probe::in_flight::pacing::Pace;
use prober_core::time::Timestamp;

use super::{PacketLoop, PlanLaunches, ReadMode};

/// The time that results and server traces wait to be reported together.
pub(super) const REPORT_DELAY: Duration = Duration::from_millis(250);

/// The time that packets which no probe needs to go on, and probes that only linger, wait for the next launch: the longest
/// time between two launches of a plan with coalesced wake-ups.
pub(crate) const MAX_BATCH_WAIT: Duration = Duration::from_millis(650);

impl PacketLoop {
    /// How soon the next packets are to be read. They can wait for the next launch of a plan; where nothing is under way they
    /// are read at once.
    pub(crate) fn read_mode(&self) -> ReadMode {
        let is_coalescing = |plan: &PlanLaunches| plan.pace == Pace::Coalesced;
        let is_waiting_for_launch =
            self.plans.iter().any(is_coalescing) && self.in_flight.in_flight() > 0;
        if (is_waiting_for_launch || self.traces_due_at.is_some()) && !self.contexts.has_exchanges()
        {
            ReadMode::Batched
        } else {
            ReadMode::Prompt
        }
    }

    /// The next time that something is due.
    pub(crate) fn poll_timeout(&self) -> Option<Timestamp> {
        let launch = self.next_launch();
        // A launch that is due soon wakes up for what can wait, too.
        let unless_soon = |at: Timestamp, soon| launch.is_none_or(|launch| launch > at + soon);
        let tolerance = match self.read_mode() {
            ReadMode::Prompt => REPORT_DELAY,
            ReadMode::Batched => MAX_BATCH_WAIT,
        };
        let results = (self.results_due_at).filter(|at| unless_soon(*at, REPORT_DELAY));
        let lingering = (self.in_flight.poll_timeout()).filter(|at| unless_soon(*at, tolerance));
        let urgent = [launch, self.in_flight.poll_urgent(), self.traces_due_at];
        let all = urgent.into_iter().chain([results, lingering]);
        all.flatten().min()
    }

    fn next_launch(&self) -> Option<Timestamp> {
        let plans = self.plans.iter();
        plans.filter_map(|plan| plan.pacing.next_at()).min()
    }

    /// The time that results wait for others.
    fn results_wait(&self, now: Timestamp) -> Duration {
        let is_launching = || {
            self.next_launch()
                .is_some_and(|at| at <= now + REPORT_DELAY)
        };
        match self.read_mode() {
            // They have waited for this wake-up.
            ReadMode::Batched if !is_launching() => Duration::ZERO,
            ReadMode::Batched | ReadMode::Prompt => REPORT_DELAY,
        }
    }

    /// Whether results have waited long enough, or there are no others to wait for.
    pub(crate) fn has_due_results(&mut self, now: Timestamp) -> bool {
        if !self.has_results() {
            return false;
        }
        let at = self
            .results_due_at
            .unwrap_or_else(|| now + self.results_wait(now));
        self.results_due_at = Some(at);
        at <= now || (self.plans.is_empty() && self.in_flight.in_flight() == 0)
    }
}
