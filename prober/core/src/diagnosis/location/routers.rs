//! What routers on the way answered to SYNs whose hop limit ended there.

use super::conntrack::is_led_elsewhere;
use super::{Location, Spot, Stage};
use crate::data_plane::initial_hop_limit;
use crate::diagnosis::case::Case;
use crate::diagnosis::origin;
use crate::diagnosis::symptom::FailureGroup;
use crate::probe::event::TtlStepAnswer;

impl Location {
    /// Answers of routers to SYNs of this client to this server. Time exceeded is raised after the route was found, before the
    /// FORWARD chain (`ip_forward`, net/ipv4/ip_forward.c).
    pub(super) fn read_ttl_probes(&mut self, case: &Case<'_>, group: &FailureGroup) {
        let Some(server) = &group.server else {
            return;
        };
        for (id, evidence, ttl_probe) in case.ttl_probes_of(&group.client, server, group.family) {
            // What goes elsewhere meets other routers.
            let mut of_path = case.groups_of(id);
            if of_path.any(|other| is_led_elsewhere(case, other, server)) {
                continue;
            }
            for step in &ttl_probe.steps {
                let TtlStepAnswer::TimeExceeded { by, hop_limit } = step.answer else {
                    continue;
                };
                let router = origin::router(case, evidence, by, hop_limit);
                let is_own = by == evidence.target.ip();
                if router.is_none()
                    && !is_own
                    && step.hop_limit > 1
                    && routers_before(hop_limit) > 0
                {
                    let sender = self.sender.clone();
                    self.passed(&Spot::Node(sender.clone(), Stage::ToUplink), || {
                        format!(
                            "a SYN with TTL {} was answered by time exceeded from {by}, a router behind {sender}",
                            step.hop_limit
                        )
                    });
                    continue;
                }
                let Some(node) = router.filter(|node| self.nodes().contains(&node)) else {
                    continue;
                };
                // What answers a TTL of 1 is the first router, wherever its address is.
                if step.hop_limit == 1 && node != self.sender {
                    continue;
                }
                self.passed(&Spot::Node(node.clone(), Stage::Routing), || {
                    format!(
                        "a SYN with TTL {} was answered by time exceeded from {by}: {node} routes it",
                        step.hop_limit
                    )
                });
            }
        }
    }
}

/// The number of routers that an answer with this hop limit passed on its way to the client.
const fn routers_before(hop_limit: u8) -> u8 {
    initial_hop_limit(hop_limit) - hop_limit
}
