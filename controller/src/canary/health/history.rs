//! The last N verdicts about one path. K bad ones confirm a failure; K good ones in a row end it.

use std::collections::VecDeque;

use prober_core::time::Timestamp;

use crate::canary::crd::Confirm;

/// K of N, both at least 1, K at most N.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfirmationRule {
    failures: u8,
    of: u8,
}

/// The verdict of one examination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Good,
    /// The path fails; its agents have reported since then that one does, if they have.
    Bad(Option<Timestamp>),
}

/// The last verdicts.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    /// In order, the newest last.
    verdicts: VecDeque<(Verdict, Timestamp)>,
    /// When a confirmed failure began.
    failing_since: Option<Timestamp>,
}

impl ConfirmationRule {
    /// `failures` of the last `of` verdicts confirm a failure. Values that make no sense become the nearest that do.
    pub const fn new(failures: u8, of: u8) -> Self {
        let failures = if failures == 0 { 1 } else { failures };
        let of = if of < failures { failures } else { of };
        Self { failures, of }
    }

    /// K.
    pub const fn failures(self) -> u8 {
        self.failures
    }

    /// N.
    pub const fn of(self) -> u8 {
        self.of
    }
}

impl Verdict {
    const fn is_bad(self) -> bool {
        matches!(self, Self::Bad(_))
    }
}

impl From<Confirm> for ConfirmationRule {
    fn from(confirm: Confirm) -> Self {
        let count = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
        Self::new(count(confirm.failures), count(confirm.of))
    }
}

impl History {
    /// A failure that another controller has confirmed.
    pub(super) fn confirmed(since: Timestamp) -> Self {
        Self {
            verdicts: [(Verdict::Bad(None), since)].into(),
            failing_since: Some(since),
        }
    }

    pub(super) fn add(&mut self, state: Verdict, rule: ConfirmationRule, now: Timestamp) {
        let last = self.verdicts.back().map(|(_, at)| *at);
        let at = match state {
            // The failure began with the alert, but after the last result.
            Verdict::Bad(Some(since)) => since.max(last.unwrap_or_default()).min(now),
            Verdict::Good | Verdict::Bad(None) => now,
        };
        self.verdicts.push_back((state, at));
        while self.verdicts.len() > usize::from(rule.of) {
            self.verdicts.pop_front();
        }
        let needed = usize::from(rule.failures);
        if self.is_failing() {
            let last = self.verdicts.iter().rev();
            let good = last
                .take_while(|(state, _)| *state == Verdict::Good)
                .count();
            if good >= needed {
                self.failing_since = None;
                self.verdicts.clear();
                self.verdicts.push_back((Verdict::Good, now));
            }
        } else {
            let mut bad = (self.verdicts.iter()).filter(|(state, _)| state.is_bad());
            if bad.clone().count() >= needed {
                self.failing_since = bad.next().map(|(_, at)| *at);
            }
        }
    }

    /// Whether a failure is confirmed.
    pub(super) const fn is_failing(&self) -> bool {
        self.failing_since.is_some()
    }

    /// When a confirmed failure began: the first bad verdict of those that confirmed it.
    pub(super) const fn failing_since(&self) -> Option<Timestamp> {
        self.failing_since
    }

    /// Whether none of the last verdicts is bad.
    pub(super) fn is_clean(&self) -> bool {
        !self.verdicts.iter().any(|(state, _)| state.is_bad())
    }

    /// Whether the next verdict may decide: the last was bad without confirming a failure, or good without ending it.
    pub(super) fn is_suspected(&self) -> bool {
        match self.verdicts.back() {
            Some((Verdict::Bad(_), _)) => !self.is_failing(),
            Some((Verdict::Good, _)) => self.is_failing(),
            None => false,
        }
    }
}
