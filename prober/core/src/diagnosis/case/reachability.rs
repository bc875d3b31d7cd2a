//! What the TTL ladders of both directions say, and whether packets cross between two nodes.

use crate::diagnosis::case::{Case, counts};
use crate::packet::family::Family;
use crate::probe::event::{Ladder, RungAnswer};
use crate::probe::outcome::Outcome;
use crate::topology::{NodeName, PathId};

impl<'a> Case<'a> {
    /// The TTL ladder of a path.
    pub(crate) fn ladder(&self, id: PathId) -> Option<&'a Ladder> {
        self.path(id)?.ladder.as_ref()
    }

    /// Ladders between two nodes, whatever the route.
    pub(crate) fn ladders<'s>(
        &'s self,
        from: &'s NodeName,
        to: &'s NodeName,
        family: Family,
    ) -> impl Iterator<Item = &'a Ladder> + 's {
        self.paths()
            .filter(move |evidence| {
                let path = &evidence.path;
                path.family == family
                    && path.client.node == *from
                    && path
                        .server
                        .as_ref()
                        .is_some_and(|server| server.node == *to)
            })
            .filter_map(|evidence| evidence.ladder.as_ref())
    }

    /// Whether a packet is known to have got from one node to the other.
    pub(crate) fn crossed(&self, from: &NodeName, to: &NodeName, family: Family) -> Crossing {
        let mut asked = false;
        for evidence in self.paths() {
            let path = &evidence.path;
            let Some(server) = path.server.as_ref().filter(|_| path.family == family) else {
                continue;
            };
            let there = path.client.node == *from && server.node == *to;
            let back = path.client.node == *to && server.node == *from;
            if !(there || back) {
                continue;
            }
            asked = true;
            for probe in &evidence.probes {
                let answered = match probe.client.outcome {
                    Outcome::Established { .. } => true,
                    // One or two routers away: not the client's own node.
                    Outcome::Reset { hop_limit, .. } => matches!(hop_limit, 62 | 63),
                    Outcome::Unreachable { .. } | Outcome::Mismatched { .. } | Outcome::Timeout => {
                        false
                    }
                };
                let arrived = probe
                    .server
                    .as_ref()
                    .is_some_and(|witness| witness.syns > 0);
                if answered || (there && arrived) {
                    return Crossing::Seen;
                }
            }
            if counts(evidence).0.established > 0 {
                return Crossing::Seen;
            }
            if let Some(ladder) = &evidence.ladder
                && second_hop(ladder)
            {
                return Crossing::Seen;
            }
        }
        if asked {
            Crossing::Never
        } else {
            Crossing::Unasked
        }
    }
}

/// Whether packets get from one node to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crossing {
    /// One did.
    Seen,
    /// None that was sent is known to have arrived.
    Never,
    /// None was sent.
    Unasked,
}

/// Whether the second router answered, or anything beyond it: the way to the other node and back
/// is open. Time exceeded is raised before the FORWARD chain (net/ipv4/ip_forward.c).
pub(crate) fn second_hop(ladder: &Ladder) -> bool {
    ladder.rungs.iter().any(|rung| {
        let distance = |hop_limit: u8| 64_u8.checked_sub(hop_limit);
        match rung.answer {
            RungAnswer::Silent => false,
            RungAnswer::TimeExceeded { hop_limit, .. }
            | RungAnswer::Unreachable { hop_limit, .. } => distance(hop_limit) == Some(1),
            RungAnswer::Reset { hop_limit, .. } | RungAnswer::SynAck { hop_limit, .. } => {
                matches!(distance(hop_limit), Some(1 | 2))
            }
        }
    })
}

/// Whether a SYN got its SYN+ACK from whom it asked, however many hops it was given.
pub(crate) fn completes(ladder: &Ladder) -> bool {
    ladder
        .rungs
        .iter()
        .any(|rung| matches!(rung.answer, RungAnswer::SynAck { from, .. } if from == ladder.target))
}

/// The answer to one hop limit.
pub(crate) fn rung(ladder: &Ladder, hop_limit: u8) -> Option<RungAnswer> {
    ladder
        .rungs
        .iter()
        .find(|rung| rung.hop_limit == hop_limit)
        .map(|rung| rung.answer)
}
