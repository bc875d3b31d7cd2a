//! The results of the TTL probes of both directions, and whether packets cross between two nodes.

use std::net::IpAddr;

use crate::diagnosis::case::{Case, counts};
use crate::evidence::PathEvidence;
use crate::packet::family::Family;
use crate::probe::event::{TtlProbe, TtlStepAnswer};
use crate::probe::outcome::Outcome;
use crate::topology::{NodeName, PathId};

impl<'a> Case<'a> {
    /// The TTL probe of a path.
    pub(crate) fn ttl_probe(&self, id: PathId) -> Option<&'a TtlProbe> {
        self.path(id)?.counted_ttl_probe()
    }

    /// TTL probes between two nodes, whatever the access path.
    pub(crate) fn ttl_probes<'s>(
        &'s self,
        from: &'s NodeName,
        to: &'s NodeName,
        family: Family,
    ) -> impl Iterator<Item = &'a TtlProbe> + 's {
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
            .filter_map(PathEvidence::counted_ttl_probe)
    }

    /// Whether the second router answered, or anything beyond it: the path to the other node and back is open. Time exceeded
    /// is raised before the FORWARD chain (net/ipv4/ip_forward.c). A packet with TTL 1 got no further than the client's own
    /// node, however distant the source of the answer seems: Cilium's answers come from `cilium_host`, a hop behind it.
    pub(crate) fn reached_second_hop(&self, from: &NodeName, ttl_probe: &TtlProbe) -> bool {
        ttl_probe.steps.iter().any(|step| {
            let distance = |hop_limit: u8| 64_u8.checked_sub(hop_limit);
            let (by, is_beyond) = match step.answer {
                TtlStepAnswer::Silent => return false,
                TtlStepAnswer::TimeExceeded { by, hop_limit }
                | TtlStepAnswer::Unreachable { by, hop_limit, .. } => {
                    (by, distance(hop_limit) == Some(1))
                }
                TtlStepAnswer::Reset { from, hop_limit }
                | TtlStepAnswer::SynAck { from, hop_limit } => {
                    (from.ip(), matches!(distance(hop_limit), Some(1 | 2)))
                }
            };
            step.hop_limit > 1 && is_beyond && !self.is_address_of(from, by)
        })
    }

    /// Whether a node or one of its agents reports this address as its own.
    fn is_address_of(&self, node: &NodeName, address: IpAddr) -> bool {
        let by_facts =
            (self.facts(node)).is_some_and(|facts| facts.address(address).found().is_some());
        let agents = self.matrix.agents.iter();
        let mut hellos = agents
            .filter(|(agent, _)| agent.node == *node)
            .filter_map(|(_, known)| known.hello.as_ref());
        by_facts || hellos.any(|hello| hello.addresses.contains(&address))
    }

    /// Whether a packet is known to have reached one node from the other.
    pub(crate) fn reachability(
        &self,
        from: &NodeName,
        to: &NodeName,
        family: Family,
    ) -> Reachability {
        let mut is_probed = false;
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
            is_probed = true;
            for (_, probe) in evidence.counted() {
                let answered = match probe.client.outcome {
                    Outcome::Established { .. } => true,
                    // One or two routers away: beyond the client's own node.
                    Outcome::Reset { hop_limit, .. } => matches!(hop_limit, 62 | 63),
                    Outcome::Unreachable { .. }
                    | Outcome::RefusedLocally { .. }
                    | Outcome::Mismatched { .. }
                    | Outcome::Timeout => false,
                };
                let arrived = probe
                    .server
                    .as_ref()
                    .is_some_and(|server_trace| server_trace.syns > 0);
                if answered || (there && arrived) {
                    return Reachability::Reached;
                }
            }
            if counts(evidence).0.established > 0 {
                return Reachability::Reached;
            }
            let ttl_probe = evidence.counted_ttl_probe();
            if ttl_probe
                .is_some_and(|ttl_probe| self.reached_second_hop(&path.client.node, ttl_probe))
            {
                return Reachability::Reached;
            }
        }
        if is_probed {
            Reachability::NotReached
        } else {
            Reachability::NotProbed
        }
    }
}

/// Whether packets from one node reach another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reachability {
    /// A packet arrived.
    Reached,
    /// No packet that was sent is known to have arrived.
    NotReached,
    /// No packet was sent.
    NotProbed,
}

/// Whether the target answered a SYN of any hop limit by SYN+ACK.
pub(crate) fn completes(ttl_probe: &TtlProbe) -> bool {
    ttl_probe.steps.iter().any(
        |step| matches!(step.answer, TtlStepAnswer::SynAck { from, .. } if from == ttl_probe.target),
    )
}

/// The answer to one hop limit.
pub(crate) fn answer_to_ttl(ttl_probe: &TtlProbe, hop_limit: u8) -> Option<TtlStepAnswer> {
    ttl_probe
        .steps
        .iter()
        .find(|step| step.hop_limit == hop_limit)
        .map(|step| step.answer)
}
