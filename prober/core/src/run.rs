//! A whole run as a state machine: platform events in, platform commands out, a result at the end.
//!
//! A platform is where agents run: the lab, or a Kubernetes cluster. It executes `PlatformCommand`s and reports
//! `PlatformEvent`s, over two channels; `Run` has neither threads nor clocks.
//!
//! ```text
//! ReadingFacts -> Placing -> Publishing -> Probing -> FollowUp -> Lingering -> Removing -> Ended
//!      |             |           |          ^ |          |            |           ^
//!      |             |           |          | +----------+--> Idle <--+           |
//!      |             |           |          +- next cycle -+  | ^ |               |
//!      |             |           |               Unattended <-+ | |               |
//!      |             |           |                    +---------+ |               |
//!      +-------------+-----------+------------+-------------------+---------------+
//!                    interrupted, failed, overdue; a healthy run needs no follow-up
//! ```
//!
//! Agents that only probe are placed last, with their first probes: a plan takes long to reach an agent that has just
//! started. On peers they may start while the facts of the nodes under test are read, if the ranges of pods are known.
//!
//! A repeated run does not end when everything is measured: it is idle until its next cycle starts, or until it is interrupted.
//!
//! `transition` has the table of states and events, `actions` the work of its transitions, `state` the data of each state,
//! and `context` the data that all states share.

mod actions;
mod agent_events;
mod agents;
mod collection;
mod comparison;
mod context;
mod cycle;
mod endpoint_slices;
mod follow_up;
mod paths;
mod platform;
mod probe_plans;
mod readiness;
mod server_traces;
mod spec;
mod state;
mod transition;

use std::collections::BTreeSet;

use crate::evidence::Matrix;
use crate::plan::pairing::NodePair;
use crate::report::Completion;
use crate::time::Timestamp;
use crate::topology::NodeName;
use context::Context;
use cycle::Purpose;
use state::{State, Timers};
use transition::Event;

pub use cycle::CycleSpec;
pub use endpoint_slices::{EndpointSlices, SliceEndpoint};
pub use platform::{Endpoints, Placement, PlatformCommand, PlatformEvent, Published, Rules};
pub use spec::{MAX_SLOTS, MissingFamilies, NodePods, PodNames, PodRanges, RunSpec};
pub use state::Phase;

/// The results of a run, or of one cycle of it.
#[derive(Clone, Debug)]
pub struct RunResult {
    /// The evidence.
    pub matrix: Matrix,
    /// Whether everything that was to be measured is.
    pub completion: Completion,
    /// Notes for people, one sentence each.
    pub notes: Vec<String>,
}

/// A run; see the picture above.
#[derive(Debug)]
pub struct Run {
    context: Context,
    state: State,
}

impl Run {
    /// A run that has not started, and that ends when everything is measured.
    pub fn new(spec: RunSpec) -> Self {
        let pairs = spec.pairs();
        Self::of(spec, Purpose::Once, pairs)
    }

    /// A run that has not started, probes these pairs of nodes first, and is idle when they are measured: see
    /// [`Run::start_cycle`]. It has agents on all nodes that its spec pairs, probed or not.
    pub fn repeated(spec: RunSpec, pairs: BTreeSet<NodePair>) -> Self {
        Self::of(spec, Purpose::Repeated, pairs)
    }

    fn of(spec: RunSpec, purpose: Purpose, pairs: BTreeSet<NodePair>) -> Self {
        Self {
            context: Context::new(spec, purpose, pairs),
            state: State::NotStarted,
        }
    }

    /// Starts the run.
    pub fn start(&mut self, now: Timestamp) {
        self.context.now = now;
        self.apply(Event::Start);
    }

    /// Its current phase.
    pub const fn phase(&self) -> Phase {
        self.state.phase()
    }

    /// The number of probes with an outcome, and the total as far as it is known beforehand.
    pub fn progress(&self) -> (u64, u64) {
        let paths = self.context.collection.matrix.planned_paths();
        let paths: Vec<_> = paths.map(|(_, path)| path).collect();
        let done = paths.iter().map(|path| path.total().outcomes.total()).sum();
        let spec = &self.context.spec;
        let all = paths
            .iter()
            .map(|path| spec.probes_of(path.path.access_path))
            .sum();
        (done, all)
    }

    /// The next command for the platform.
    pub fn poll_command(&mut self) -> Option<PlatformCommand> {
        self.context.commands.pop_front()
    }

    /// When to call [`Self::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let (state, round) = self.timers();
        let timers = state.into_iter().chain(round);
        timers.chain(self.ends_by()).min()
    }

    /// The time limit of the run, until its objects are being removed.
    const fn ends_by(&self) -> Option<Timestamp> {
        match self.phase() {
            Phase::ReadingFacts
            | Phase::Placing
            | Phase::Publishing
            | Phase::Probing
            | Phase::Unattended
            | Phase::FollowUp
            | Phase::Lingering
            | Phase::Idle => self.context.ends_by,
            Phase::Removing | Phase::Ended => None,
        }
    }

    /// The time of the state's timer, and the deadline of its round.
    fn timers(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        let Timers { state, round } = self.state.timers();
        (
            state,
            round.map(|round| self.context.agents.deadline(round)),
        )
    }

    /// Handles the passing of time: at most one expired timer.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.context.now = now;
        if self.ends_by().is_some_and(|at| at <= now) {
            let limit = self.context.spec.time_limit.unwrap_or_default();
            let reason = format!(
                "its time limit of {} s is over (--timeout)",
                limit.as_secs_f64()
            );
            self.apply(Event::Failed(reason));
            return;
        }
        let (state, round) = self.timers();
        let has_expired = |timer: Option<Timestamp>| timer.is_some_and(|at| at <= now);
        let is_overdue_first = round.is_some_and(|round| state.is_none_or(|state| round < state));
        if is_overdue_first && has_expired(round) {
            self.apply(Event::Overdue);
        } else if !is_overdue_first && has_expired(state) {
            self.apply(Event::Timeout);
        }
    }

    /// Handles an event of the platform.
    pub fn handle(&mut self, event: PlatformEvent, now: Timestamp) {
        let context = &mut self.context;
        context.now = now;
        match event {
            PlatformEvent::AgentReady { agent, addresses } => {
                context.ready(&agent, addresses);
                context.forget_foreign_paths(&agent);
                self.apply(Event::AgentReady);
            }
            PlatformEvent::AgentFailed { agent, reason } => {
                let agent = &agent;
                self.apply(Event::AgentFailed { agent, reason });
            }
            PlatformEvent::Published(published) => {
                context.published = Some(published);
                self.apply(Event::Published);
            }
            PlatformEvent::AgentLine { agent, event } => self.handle_line(&agent, event),
            PlatformEvent::Alert { agent: _ } => self.apply(Event::Alert),
            PlatformEvent::Note(text) => context.notes.push(text),
            PlatformEvent::Failed(reason) => self.apply(Event::Failed(reason)),
            PlatformEvent::Removed => self.apply(Event::Removed),
            PlatformEvent::Interrupted => self.apply(Event::Interrupted),
        }
    }

    /// Starts the next cycle of a repeated run, on its present agents. Pairs of nodes without agents have no result. Does
    /// nothing unless the run is idle, or when generations have run out after a thousand million cycles: a run is replaced long
    /// before.
    pub fn start_cycle(&mut self, spec: &CycleSpec, now: Timestamp) {
        self.context.now = now;
        self.apply(Event::CycleStarted(spec));
    }

    /// The result of a cycle, once it has ended; each is returned once.
    pub fn take_cycle_result(&mut self) -> Option<RunResult> {
        self.context.cycle_result.take()
    }

    /// Takes a node's servers out of the balanced port: the node is about to leave, or has left. A cycle whose agents' logs are
    /// not read ends.
    pub fn withdraw(&mut self, node: &NodeName, now: Timestamp) {
        self.context.now = now;
        self.apply(Event::NodeWithdrawn(node));
    }

    /// The result of the run; before its end, of the measurements so far.
    pub fn finish(self) -> RunResult {
        RunResult {
            matrix: self.context.collection.join(),
            completion: self.state.into_completion(),
            notes: self.context.notes,
        }
    }
}

#[cfg(test)]
mod tests;
