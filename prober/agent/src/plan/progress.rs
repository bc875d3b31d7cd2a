//! The progress of one plan: how many of its probes have no outcome yet, and the tallies so far.

use prober_core::node_facts::Counters;
use prober_core::plan::{NodeFactsReading, Plan};
use prober_core::probe::event::Event;
use prober_core::probe::outcome::ProbeResult;

use crate::event_lines::tally::Tallies;

/// The progress of one plan.
#[derive(Debug)]
pub(crate) struct PlanProgress {
    generation: u32,
    /// The most probes that it sends in a second.
    rate: u64,
    /// Probes without an outcome, plus the second reading of the node facts, if the plan has one.
    outstanding: u64,
    /// The counters of the namespace at the start of the plan.
    before: Counters,
    tallies: Tallies,
}

impl PlanProgress {
    /// Starts a plan; `before` are the counters at this moment.
    pub(crate) fn new(plan: &Plan, before: Counters) -> Self {
        let probes: u64 = plan.probes.iter().map(|probe| u64::from(probe.count)).sum();
        let is_read_later = matches!(plan.facts, NodeFactsReading::Twice { .. });
        Self {
            generation: plan.generation,
            rate: plan.most_probes_a_second(),
            outstanding: probes + u64::from(is_read_later),
            before,
            tallies: Tallies::default(),
        }
    }

    /// Counts the outcome of a probe, and returns its line if it is worth one.
    pub(crate) fn handle_result(&mut self, result: ProbeResult) -> Option<Event> {
        self.outstanding = self.outstanding.saturating_sub(1);
        self.tallies.count(result)
    }

    /// Counts `probes` that end without an outcome (TTL probes, probes that were not sent), or the second reading of the facts.
    pub(crate) const fn end_without_result(&mut self, probes: u64) {
        self.outstanding = self.outstanding.saturating_sub(probes);
    }

    /// The most probes that the plan sends in a second.
    pub(crate) const fn rate(&self) -> u64 {
        self.rate
    }

    /// Whether every probe has its outcome.
    pub(crate) const fn is_done(&self) -> bool {
        self.outstanding == 0
    }

    /// Takes the tallies since the last call.
    pub(crate) fn tallies(&mut self) -> Vec<Event> {
        self.tallies.take()
    }

    /// The last lines of a plan that is done. `after` are the counters at this moment, `capture` says how many packets the
    /// capture lost.
    pub(crate) fn finish(mut self, after: Counters, capture: Option<Event>) -> Vec<Event> {
        let mut events = self.tallies();
        events.push(Event::Counters {
            generation: self.generation,
            before: self.before,
            after,
        });
        events.extend(capture);
        events.push(Event::Done {
            generation: self.generation,
        });
        events
    }
}
