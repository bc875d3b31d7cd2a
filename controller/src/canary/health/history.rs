//! The last N looks at one thing. K bad ones of them make it bad; K good ones in a row make it good again.

use std::collections::VecDeque;

use prober_core::time::Timestamp;

use crate::canary::crd::Confirm;

/// K of N, both at least 1, K at most N.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    failures: u8,
    of: u8,
}

/// One look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Good,
    Bad,
}

/// The last looks.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    /// The newest last.
    looks: VecDeque<(State, Timestamp)>,
    /// Since when it is confirmed to be bad.
    bad_since: Option<Timestamp>,
}

impl Rule {
    /// `failures` of the last `of` looks; what makes no sense is moved to the nearest that does.
    pub const fn new(failures: u8, of: u8) -> Self {
        let failures = if failures == 0 { 1 } else { failures };
        let of = if of < failures { failures } else { of };
        Self { failures, of }
    }

    /// How many.
    pub const fn failures(self) -> u8 {
        self.failures
    }

    /// Of how many.
    pub const fn of(self) -> u8 {
        self.of
    }
}

impl From<Confirm> for Rule {
    fn from(confirm: Confirm) -> Self {
        let count = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
        Self::new(count(confirm.failures), count(confirm.of))
    }
}

impl History {
    /// Bad, as somebody else has confirmed.
    pub(super) fn confirmed(since: Timestamp) -> Self {
        Self {
            looks: [(State::Bad, since)].into(),
            bad_since: Some(since),
        }
    }

    pub(super) fn add(&mut self, state: State, rule: Rule, now: Timestamp) {
        self.looks.push_back((state, now));
        while self.looks.len() > usize::from(rule.of) {
            self.looks.pop_front();
        }
        let needed = usize::from(rule.failures);
        if self.is_bad() {
            let last = self.looks.iter().rev();
            let good = last.take_while(|(state, _)| *state == State::Good).count();
            if good >= needed {
                self.bad_since = None;
                self.looks.clear();
                self.looks.push_back((State::Good, now));
            }
        } else {
            let mut bad = self.looks.iter().filter(|(state, _)| *state == State::Bad);
            if bad.clone().count() >= needed {
                self.bad_since = bad.next().map(|(_, at)| *at);
            }
        }
    }

    /// Whether it is confirmed to be bad.
    pub(super) const fn is_bad(&self) -> bool {
        self.bad_since.is_some()
    }

    /// Since when it is confirmed to be bad: the first bad look of those that confirmed it.
    pub(super) const fn bad_since(&self) -> Option<Timestamp> {
        self.bad_since
    }

    /// Whether none of the last looks was bad.
    pub(super) fn is_calm(&self) -> bool {
        !self.looks.iter().any(|(state, _)| *state == State::Bad)
    }

    /// Whether the last look was bad and is not confirmed, or good and does not end it yet: another one would decide.
    pub(super) fn is_suspected(&self) -> bool {
        match self.looks.back() {
            Some((State::Bad, _)) => !self.is_bad(),
            Some((State::Good, _)) => self.is_bad(),
            None => false,
        }
    }
}
