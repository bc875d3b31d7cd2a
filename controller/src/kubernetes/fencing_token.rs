//! The right of the elected leader to send requests. A controller that was suspended and lost its Lease sends none when it
//! resumes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prober_core::time::Timestamp;

use crate::clock::steady;

/// The right to send requests until a deadline. Clones share the deadline.
#[derive(Clone, Debug, Default)]
pub struct FencingToken {
    /// Nanoseconds of [`steady`] until which the token is valid; `None` if it always is.
    valid_until: Option<Arc<AtomicU64>>,
}

impl FencingToken {
    /// A token that is invalid until it is extended.
    pub fn expired() -> Self {
        Self {
            valid_until: Some(Arc::default()),
        }
    }

    /// Makes the token valid until `until`. A token without a deadline stays as it is.
    pub fn extend(&self, until: Timestamp) {
        if let Some(valid_until) = &self.valid_until {
            valid_until.store(until.as_nanos(), Ordering::Release);
        }
    }

    /// Whether requests may be sent now.
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
    fn a_token_and_its_clones_are_valid_until_the_deadline() {
        let token = FencingToken::expired();
        let clone = token.clone();
        assert!(!clone.is_valid());
        token.extend(steady() + Duration::from_mins(1));
        assert!(clone.is_valid());
        token.extend(steady());
        assert!(!clone.is_valid());
        assert!(FencingToken::default().is_valid());
    }
}
