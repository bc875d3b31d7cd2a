//! When a desk has something to do again, and what can wait to be done together: each look wakes the packets thread, each
//! telling the main task.

use std::time::Duration;

use prober_core::probe::in_flight::pacing::Pace;
use prober_core::time::Timestamp;

use super::{Attention, Desk, Round};

/// How long results and what was witnessed wait to be told together.
pub(super) const GATHER: Duration = Duration::from_millis(250);

/// How long packets that nobody waits for, and probes that only linger, wait for the next launch: from one beat of a quiet
/// plan to the next.
pub(crate) const PATIENCE: Duration = Duration::from_millis(650);

impl Desk {
    /// How soon the next packets are to be looked at. A plan that has no more to send is waited for; while nothing is
    /// under way the first packet is news.
    pub(crate) fn attention(&self) -> Attention {
        let is_patient = |round: &Round| round.pace == Pace::WakeupCoalescing;
        let more_is_due = self.rounds.iter().any(is_patient) && self.flight.in_flight() > 0;
        if (more_is_due || self.tell_at.is_some()) && !self.owners.wait_for_answers() {
            Attention::Later
        } else {
            Attention::Prompt
        }
    }

    /// When there is something to do again.
    pub(crate) fn poll_timeout(&self) -> Option<Timestamp> {
        let launch = self.next_launch();
        // A launch that comes soon wakes for what can wait as well.
        let unless_soon = |at: Timestamp, soon| launch.is_none_or(|launch| launch > at + soon);
        let patience = match self.attention() {
            Attention::Prompt => GATHER,
            Attention::Later => PATIENCE,
        };
        let results = (self.results_at).filter(|at| unless_soon(*at, GATHER));
        let lingering = (self.flight.poll_timeout()).filter(|at| unless_soon(*at, patience));
        let urgent = [launch, self.flight.poll_urgent(), self.tell_at];
        let all = urgent.into_iter().chain([results, lingering]);
        all.flatten().min()
    }

    fn next_launch(&self) -> Option<Timestamp> {
        let rounds = self.rounds.iter();
        rounds.filter_map(|round| round.pacing.next_at()).min()
    }

    /// How long results that are there now are to wait for others.
    fn results_wait(&self, now: Timestamp) -> Duration {
        let is_launching = || self.next_launch().is_some_and(|at| at <= now + GATHER);
        match self.attention() {
            // They have waited for this look.
            Attention::Later if !is_launching() => Duration::ZERO,
            Attention::Later | Attention::Prompt => GATHER,
        }
    }

    /// Whether there are results that have waited long enough, or no others to wait for.
    pub(crate) fn has_due_results(&mut self, now: Timestamp) -> bool {
        if !self.has_results() {
            return false;
        }
        let at = self
            .results_at
            .unwrap_or_else(|| now + self.results_wait(now));
        self.results_at = Some(at);
        at <= now || (self.rounds.is_empty() && self.flight.in_flight() == 0)
    }
}
