//! The lines that the main task writes at intervals, on an alert, or at the end of a plan.

use std::time::Duration;

use prober_core::plan::LogReading;
use prober_core::probe::event::Event;
use prober_core::time::nanos;
use prober_net::node_facts::read_counters;

use super::{MainTask, TALLY_INTERVAL, TALLY_INTERVAL_UNATTENDED, TALLY_INTERVAL_YOUNG};
use crate::engine::events::FactsResult;
use crate::plan::progress::PlanProgress;

impl MainTask {
    pub(super) fn report_facts(&mut self, read: FactsResult) {
        match read {
            Ok(facts) => self.writer.write(&Event::Facts(facts)),
            Err(why) => self.notice(why),
        }
    }

    pub(super) fn finish_plans(&mut self) {
        let done: Vec<u32> = self
            .plans
            .iter()
            .filter_map(|(number, progress)| progress.is_done().then_some(*number))
            .collect();
        if !done.is_empty() {
            self.write_starvation();
        }
        for number in done {
            if let Some(progress) = self.plans.remove(&number) {
                let capture = self.capture.take();
                for line in progress.finish(read_counters(), capture) {
                    self.writer.write(&line);
                }
            }
        }
    }

    /// Whether `write_tallies` may have something to write.
    pub(super) fn has_counts(&self) -> bool {
        !self.plans.is_empty() || !self.max_lateness.is_zero()
    }

    /// The time from one tally of each path to the next.
    pub(super) fn tally_interval(&self) -> Duration {
        match self.log_reading {
            LogReading::Unattended => TALLY_INTERVAL_UNATTENDED,
            LogReading::Attended
                if self.plans.is_empty() || self.accepted_at.elapsed() < TALLY_INTERVAL =>
            {
                TALLY_INTERVAL_YOUNG
            }
            LogReading::Attended => TALLY_INTERVAL,
        }
    }

    /// Requests that the log is read: closes the readiness gate, and writes the tallies and an alert.
    pub(super) fn alert(&mut self) {
        if self.readiness_gate.close() {
            self.write_tallies();
            self.writer.write(&Event::Alert);
        }
    }

    /// Opens the readiness gate; a port that cannot be bound is reported by a notice.
    pub(super) async fn open_readiness_gate(&mut self) {
        for refused in self.readiness_gate.open().await {
            self.notice(refused.to_string());
        }
    }

    pub(super) fn write_tallies(&mut self) {
        self.write_starvation();
        let tallies = self.plans.values_mut().flat_map(PlanProgress::tallies);
        for line in tallies.chain(self.capture.take()) {
            self.writer.write(&line);
        }
    }

    fn write_starvation(&mut self) {
        let late = std::mem::take(&mut self.max_lateness);
        if !late.is_zero() {
            let late_ns = nanos(late);
            self.writer.write(&Event::Starved { late_ns });
        }
    }

    pub(super) fn notice(&mut self, text: String) {
        let text = shortened(text);
        if self.noticed.len() < 1000 && self.noticed.insert(text.clone()) {
            self.writer.write(&Event::Notice { text });
        }
    }
}

/// A text of bounded length: it may quote a plan.
pub(super) fn shortened(mut text: String) -> String {
    const MAX_CHARS: usize = 2_000;
    if let Some((at, _)) = text.char_indices().nth(MAX_CHARS) {
        text.truncate(at);
    }
    text
}
