//! What time it is: by the wall, for what people read; and on a clock that nobody sets, for what waits.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use prober_core::time::{Timestamp, nanos};

/// The time now, by the wall clock.
pub fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp::from_nanos(nanos(since.unwrap_or_default()))
}

/// The time now on a clock of this process that never goes back; never zero.
pub fn steady() -> Timestamp {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = START.get_or_init(Instant::now);
    Timestamp::from_nanos(nanos(start.elapsed()).saturating_add(1))
}
