//! Whether requests may be made: a controller that was frozen, and is led by another when it wakes, makes none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prober_core::time::Timestamp;

use crate::clock::steady;

/// Asked before each request. Clones are of one mind.
#[derive(Clone, Debug, Default)]
pub struct FencingToken {
    /// Until when, on [`steady`]; `None`: always.
    valid_until: Option<Arc<AtomicU64>>,
}

impl FencingToken {
    /// One that has run out, until it is extended.
    pub fn expired() -> Self {
        Self {
            valid_until: Some(Arc::default()),
        }
    }

    /// Holds until then. One that holds always is not changed.
    pub fn extend(&self, until: Timestamp) {
        if let Some(known) = &self.valid_until {
            known.store(until.as_nanos(), Ordering::Release);
        }
    }

    /// Whether it holds now.
    pub fn is_valid(&self) -> bool {
        (self.valid_until.as_ref())
            .is_none_or(|until| steady().as_nanos() < until.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_permit_holds_until_its_time_and_all_clones_with_it() {
        let permit = FencingToken::expired();
        let clone = permit.clone();
        assert!(!clone.is_valid());
        permit.extend(steady() + Duration::from_mins(1));
        assert!(clone.is_valid());
        permit.extend(steady());
        assert!(!clone.is_valid());
        assert!(FencingToken::default().is_valid());
    }
}
