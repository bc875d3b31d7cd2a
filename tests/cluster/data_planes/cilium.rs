//! Cilium: not tried yet.

use super::Plane;

pub(super) fn plane() -> Plane {
    Plane {
        name: "cilium",
        shapes: &[],
        rows: Vec::new(),
    }
}
