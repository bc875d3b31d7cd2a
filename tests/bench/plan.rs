//! The time to plan a cycle of thousands of nodes.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use prober_core::plan::pairing::rotation::{Budget, Rotation};
use prober_core::topology::NodeName;

/// Number of zones of the nodes.
const ZONES: usize = 3;

/// The longest time of several cycles.
#[derive(Debug)]
pub(crate) struct Planning {
    nodes: usize,
    /// Time to add the nodes, assign the first batch, and choose the pairs of the first cycle.
    first: Duration,
    /// The same for later cycles, each with a node that joins or leaves.
    later: Duration,
}

impl fmt::Display for Planning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |length: Duration| length.as_secs_f64() * 1e3;
        write!(
            f,
            "{} nodes: first {:.1} ms, later {:.1} ms",
            self.nodes,
            millis(self.first),
            millis(self.later)
        )
    }
}

/// Plans a hundred cycles with the default budget of a check.
pub(crate) fn measure(nodes: NonZeroUsize) -> Planning {
    let of = |number| NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN);
    let budget = Budget {
        peers: 3,
        pairs: of(400),
        nodes: of(64),
    };
    let all = (0..=nodes.get()).map(|number| {
        let name = format!("ip-10-0-{}-{}.internal", number / 256, number % 256);
        (NodeName::new(name), format!("zone-{}", number % ZONES))
    });
    let all: BTreeMap<NodeName, String> = all.collect();
    let mut without_last = all.clone();
    without_last.pop_last();
    let mut rotation = Rotation::default();
    let mut took = (0..100).map(|round: usize| {
        let present = if round.is_multiple_of(2) {
            &without_last
        } else {
            &all
        };
        let begun = Instant::now();
        rotation.set_nodes(present);
        if round == 0 || rotation.is_batch_done() || rotation.is_new_node_waiting() {
            rotation.assign(budget, &[]);
        }
        let pairs = rotation.next_pairs(budget, usize::MAX);
        rotation.record(&pairs, &pairs);
        std::hint::black_box(rotation.rounds(budget));
        begun.elapsed()
    });
    Planning {
        nodes: nodes.get(),
        first: took.next().unwrap_or_default(),
        later: took.max().unwrap_or_default(),
    }
}
