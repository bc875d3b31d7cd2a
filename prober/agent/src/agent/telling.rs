//! What the agent tells: the lines that are not told as they come.

use prober_core::event::Event;
use prober_core::time::nanos;
use prober_net::facts::read_counters;

use super::Agent;
use crate::reading::Read;
use crate::round::Round;

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
