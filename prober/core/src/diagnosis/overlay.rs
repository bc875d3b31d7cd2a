//! Rules for overlay.

use super::case::Case;
use super::opinion::Opinion;

/// What this family has to say.
pub(crate) fn opinions(_case: &Case<'_>) -> Vec<Opinion> {
    Vec::new()
}
