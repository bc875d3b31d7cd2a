//! Load balancing in connect(2): not tried yet.

use super::Plane;

pub(super) fn plane() -> Plane {
    Plane {
        name: "socket-lb",
        shapes: &[],
        rows: Vec::new(),
    }
}
