//! A cycle that nobody reads until it is over or somebody rings: while all is well it costs the fleet one reading.

use std::collections::BTreeSet;
use std::time::Duration;

use super::rounds::DELIVERY;
use super::{Phase, PlatformCommand, Round, Run, RunTimer};
use crate::plan::pairing::NodePair;
use crate::time::Timestamp;

/// How long it takes to read what everybody has written, mostly.
const READING: Duration = Duration::from_millis(300);

/// How long it may take to read what somebody who rings has to tell: one that was stopped has nothing.
const RINGER: Duration = Duration::from_secs(2);

impl Run {
    /// Starts a look that takes its turns, and reads nobody.
    pub(super) fn look_unread(
        &mut self,
        turns: &[BTreeSet<NodePair>],
        each: Duration,
        now: Timestamp,
    ) {
        let probes = self
            .spec
            .look_in_turns(&self.collection.matrix.paths, turns, each);
        self.send_round(Round::Initial, probes, Vec::new(), &BTreeSet::new());
        self.commands.push_back(PlatformCommand::PauseLogs);
        let turns = u32::try_from(turns.len()).unwrap_or(u32::MAX);
        let over = now + each.saturating_mul(turns);
        self.enter(Phase::Watching, Some((over, RunTimer::Turns)));
    }

    /// All had their turn: what they wrote is read, to its end.
    pub(super) fn read_again(&mut self, now: Timestamp) {
        self.commands.push_back(PlatformCommand::ResumeLogs);
        // A connection that stalls after its handshake uses the deadline twice.
        let overdue = now + DELIVERY + 2 * self.spec.deadline;
        self.overdue = Some(overdue);
        self.untaken = Some(overdue);
        self.timer = None;
    }

    /// Somebody rings: what it tells by then ends the cycle.
    pub(super) fn handle_ring(&mut self, now: Timestamp) {
        self.cut_short(RINGER, now);
    }

    /// Somebody has gone who is probed, which the cycle was not begun for.
    pub(super) fn go_without(&mut self, now: Timestamp) {
        self.cut_short(READING, now);
    }

    /// What can be read within `patience` is all that there will be of this cycle, if nobody was read in it.
    fn cut_short(&mut self, patience: Duration, now: Timestamp) {
        let is_rung = matches!(self.timer, Some((_, RunTimer::TtlStep)));
        if self.phase == Phase::Watching && !is_rung {
            self.commands.push_back(PlatformCommand::ResumeLogs);
            self.timer = Some((now + patience, RunTimer::TtlStep));
        }
    }

    /// Who rings has told why.
    pub(super) fn hear_the_end_of_it(&mut self, now: Timestamp) {
        if let (Phase::Watching, Some((at, RunTimer::TtlStep))) = (self.phase, &mut self.timer) {
            *at = (*at).min(now + READING);
        }
    }

    /// Who was not asked to come to an end is not silent.
    pub(super) fn tell_what_there_is(&mut self) {
        self.drop_suspicion();
        self.stand();
    }
}
