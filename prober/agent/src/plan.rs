//! Plans in: the file that they come from, and what is waited for before their first probe.

pub(crate) mod file;
pub(crate) mod progress;
pub(crate) mod wait_for_services;
pub(crate) mod watch;
