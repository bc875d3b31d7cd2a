//! Plans: their file, their progress, and the conditions before their first probe.

/// The file of the plan, read when it has changed.
pub(crate) mod file;

/// The watch of its folder.
pub(crate) mod watch;

/// The wait for the Services and servers of a new plan.
pub(crate) mod wait_for_services;

/// The outcomes of a plan so far.
pub(crate) mod progress;
