//! Before and after a run: permissions, admission, node selection, and the removal of leftovers.

/// What evidence a namespace admits.
pub mod admission;
/// Leftovers, found and removed.
pub mod cleanup;
/// What runs have left behind.
pub mod leftovers;
/// Which nodes a run probes.
pub mod node_selection;
/// What can be known before anything is placed.
pub mod preflight;
/// What a run needs to be allowed.
pub mod rbac;
