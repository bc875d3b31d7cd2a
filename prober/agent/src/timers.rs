//! Timers of the main task: sleeping, and measuring how late it wakes up.

pub(crate) mod lateness;
pub(crate) mod sleep;
