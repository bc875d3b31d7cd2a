//! What the agent tells: the lines that are not told as they come.

use std::time::Duration;

use prober_core::plan::LogReading;
use prober_core::probe::event::Event;
use prober_core::time::nanos;
use prober_net::node_facts::read_counters;

use super::{Agent, EAGER, STEADY, UNREAD};
use crate::events::Read;
use crate::plan_progress::Round;

impl Agent {
    pub(super) fn tell_read(&mut self, read: Read) {
        match read {
            Ok(facts) => self.lines.write(&Event::Facts(facts)),
            Err(why) => self.notice(why),
        }
    }

    pub(super) fn finish_rounds(&mut self) {
        let done: Vec<u32> = self
            .rounds
            .iter()
            .filter_map(|(generation, round)| round.is_done().then_some(*generation))
            .collect();
        if !done.is_empty() {
            self.tell_starvation();
        }
        for generation in done {
            if let Some(round) = self.rounds.remove(&generation) {
                let capture = self.capture.take();
                for line in round.finish(generation, read_counters(), capture) {
                    self.lines.write(&line);
                }
            }
        }
    }

    /// Whether there may be something for `tell_tallies` to tell.
    pub(super) fn has_counts(&self) -> bool {
        !self.rounds.is_empty() || !self.starved.is_zero()
    }

    /// How long counts wait to be told together.
    pub(super) fn until_tally(&self) -> Duration {
        match self.log_reading {
            LogReading::Unattended => UNREAD,
            LogReading::Attended if self.rounds.is_empty() || self.taken_at.elapsed() < STEADY => {
                EAGER
            }
            LogReading::Attended => STEADY,
        }
    }

    /// Has somebody read what was told until now.
    pub(super) fn ring(&mut self) {
        if self.bell.ring() {
            self.tell_tallies();
            self.lines.write(&Event::Alert);
        }
    }

    /// Nothing has happened yet that must be known.
    pub(super) async fn still_bell(&mut self) {
        for refused in self.bell.still().await {
            self.notice(refused.to_string());
        }
    }

    pub(super) fn tell_tallies(&mut self) {
        self.tell_starvation();
        let tallies = self.rounds.values_mut().flat_map(Round::tallies);
        for line in tallies.chain(self.capture.take()) {
            self.lines.write(&line);
        }
    }

    fn tell_starvation(&mut self) {
        let late = std::mem::take(&mut self.starved);
        if !late.is_zero() {
            let late_ns = nanos(late);
            self.lines.write(&Event::Starved { late_ns });
        }
    }

    pub(super) fn notice(&mut self, text: String) {
        if self.noticed.len() < 1000 && self.noticed.insert(text.clone()) {
            self.lines.write(&Event::Notice { text });
        }
    }
}
