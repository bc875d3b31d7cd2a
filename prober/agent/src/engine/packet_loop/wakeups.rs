//! When a packet_loop has something to do again, and what can wait to be done together: each look wakes the packets thread, each
//! telling the main task.

use std::time::Duration;

use prober_core::probe::in_flight::pacing::Pace;
use prober_core::time::Timestamp;

use super::{PacketLoop, PlanLaunches, ReadMode};

/// How long results and what was witnessed wait to be events together.
pub(super) const REPORT_DELAY: Duration = Duration::from_millis(250);

/// How long packets that nobody waits for, and probes that only linger, wait for the next launch: from one beat of a quiet
/// plan to the next.
pub(crate) const MAX_BATCH_WAIT: Duration = Duration::from_millis(650);

impl PacketLoop {
    /// How soon the next packets are to be looked at. A plan that has no more to send is waited for; while nothing is
    /// under way the first packet is events.
    pub(crate) fn read_mode(&self) -> ReadMode {
        let is_coalescing = |plan: &PlanLaunches| plan.pace == Pace::WakeupCoalescing;
        let is_waiting_for_launch =
            self.plans.iter().any(is_coalescing) && self.flight.in_flight() > 0;
        if (is_waiting_for_launch || self.traces_due_at.is_some()) && !self.contexts.has_exchanges()
        {
            ReadMode::Batched
        } else {
            ReadMode::Prompt
        }
    }

    /// When there is something to do again.
    pub(crate) fn poll_timeout(&self) -> Option<Timestamp> {
        let launch = self.next_launch();
        // A launch that comes soon wakes for what can wait as well.
        let unless_soon = |at: Timestamp, soon| launch.is_none_or(|launch| launch > at + soon);
        let tolerance = match self.read_mode() {
            ReadMode::Prompt => REPORT_DELAY,
            ReadMode::Batched => MAX_BATCH_WAIT,
        };
        let results = (self.results_due_at).filter(|at| unless_soon(*at, REPORT_DELAY));
        let lingering = (self.flight.poll_timeout()).filter(|at| unless_soon(*at, tolerance));
        let urgent = [launch, self.flight.poll_urgent(), self.traces_due_at];
        let all = urgent.into_iter().chain([results, lingering]);
        all.flatten().min()
    }

    fn next_launch(&self) -> Option<Timestamp> {
        let plans = self.plans.iter();
        plans.filter_map(|plan| plan.pacing.next_at()).min()
    }

    /// How long results that are there now are to wait for others.
    fn results_wait(&self, now: Timestamp) -> Duration {
        let is_launching = || {
            self.next_launch()
                .is_some_and(|at| at <= now + REPORT_DELAY)
        };
        match self.read_mode() {
            // They have waited for this look.
            ReadMode::Batched if !is_launching() => Duration::ZERO,
            ReadMode::Batched | ReadMode::Prompt => REPORT_DELAY,
        }
    }

    /// Whether there are results that have waited long enough, or no others to wait for.
    pub(crate) fn has_due_results(&mut self, now: Timestamp) -> bool {
        if !self.has_results() {
            return false;
        }
        let at = self
            .results_due_at
            .unwrap_or_else(|| now + self.results_wait(now));
        self.results_due_at = Some(at);
        at <= now || (self.plans.is_empty() && self.flight.in_flight() == 0)
    }
}
