//! Before and after a one-shot run: permissions, admission, node selection, and the removal of leftovers.

/// The evidence that a namespace admits.
pub mod admission;
/// Finds and removes leftovers.
pub mod cleanup;
/// Groups leftover objects by run.
pub mod leftovers;
/// Selects the nodes of a run.
pub mod node_selection;
/// Checks whether a run can start.
pub mod preflight;
/// The permissions that a run needs.
pub mod rbac;
