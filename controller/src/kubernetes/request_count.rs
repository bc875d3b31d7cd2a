//! Counts the requests that are sent to the API server, by verb and status code.

/// The middleware that counts.
mod layer;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The requests that a client has sent. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub struct RequestCount(Arc<Mutex<BTreeMap<(&'static str, String), u64>>>);

impl RequestCount {
    /// Returns the number of requests so far that were answered, or failed. A watch and a followed log count as one
    /// request each time they are opened.
    pub fn total(&self) -> u64 {
        self.counts().values().sum()
    }

    /// The number of requests by verb (`get`, `watch`, `post`, `put`, `patch`, `delete`) and status code, which is `error`
    /// where there was no answer.
    pub fn by_verb_and_code(&self) -> BTreeMap<(&'static str, String), u64> {
        self.counts().clone()
    }

    fn count(&self, verb: &'static str, code: String) {
        *self.counts().entry((verb, code)).or_default() += 1;
    }

    /// A writer that panicked leaves whole numbers.
    fn counts(&self) -> MutexGuard<'_, BTreeMap<(&'static str, String), u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
