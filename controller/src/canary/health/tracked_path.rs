//! The results of one path, and what explains them.

use super::history::{ConfirmationRule, History};
use super::outage::Explanation;

/// The results of one path.
#[derive(Clone, Debug, Default)]
pub(super) struct TrackedPath {
    pub(super) history: History,
    /// What explains its failure.
    pub(super) explanation: Option<Explanation>,
    /// Another explanation, and how many results in a row gave it.
    pub(super) alternative: Option<(Explanation, u8)>,
}

impl TrackedPath {
    /// Whether its last results are all healthy; `None` while a failure is neither confirmed nor over.
    pub(super) fn works(&self) -> Option<bool> {
        match (self.history.is_failing(), self.history.is_clean()) {
            (true, _) => Some(false),
            (false, true) => Some(true),
            (false, false) => None,
        }
    }

    /// Considers another explanation: a better one replaces a worse one at once, one that is no better after as many times
    /// in a row as confirm a failure.
    pub(super) fn consider(&mut self, new: &Explanation, rule: ConfirmationRule) {
        let Some(old) = &self.explanation else {
            self.explanation = Some(new.clone());
            return;
        };
        if old.is_same(new) {
            if new.rank() > old.rank() {
                self.explanation = Some(new.clone());
            }
            self.alternative = None;
            return;
        }
        let times = match self.alternative.take() {
            Some((alternative, times)) if alternative.is_same(new) => times.saturating_add(1),
            Some(_) | None => 1,
        };
        let is_named = new.rank() > 0;
        if new.rank() > old.rank() || (is_named && times >= rule.failures()) {
            self.explanation = Some(new.clone());
        } else {
            self.alternative = Some((new.clone(), times));
        }
    }
}
