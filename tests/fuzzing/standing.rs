//! Standing plans and the banners of responders, which come from the cluster and from the network.

use std::time::Duration;

use prober_core::plan::AllowedTargets;
use prober_core::plan::standing::{StandingPlan, StandingSlot};
use prober_core::probe::banner::Banner;
use prober_core::standing::StandingRole;
use prober_core::standing::agent::{Crafting, StandingAgent, StandingOutput};
use prober_core::time::Timestamp;
use prober_core::topology::AgentId;

use super::{CaseResult, prefix};

/// Probes that one agent sends in 100 s at most, by the bounds of a plan's rate and of what is sent at once.
const MOST_PROBES: usize = 100 * 50 + 100;

/// An arbitrary standing plan: it is refused, or an agent carries it out within its bounds.
///
/// # Panics
///
/// Where an accepted plan is not the same when it is written and read again, or an agent of it probes a target that is not
/// allowed, or too often.
pub fn standing_plan(data: &[u8]) -> CaseResult {
    let ports = || "8080-8081,9000-9100,30000-32767".parse();
    let Ok(ports) = ports() else {
        unreachable!("these are ranges of ports")
    };
    let started_for =
        AllowedTargets::new(vec![prefix("100.64.0.0/10"), prefix("fd00::/8")]).on_ports(ports);
    let Ok(plan) = StandingPlan::parse(data, &started_for) else {
        return CaseResult::Rejected;
    };
    let written =
        serde_json::to_vec(&plan).unwrap_or_else(|error| panic!("write {plan:?}: {error}"));
    let again = StandingPlan::parse(&written, &started_for)
        .unwrap_or_else(|error| panic!("read {plan:?} again: {error}"));
    assert_eq!(plan, again);
    let allowed = plan.allowed_targets(&started_for);
    let server = plan.slots.first().map(StandingSlot::server);
    for (agent, role) in [
        (AgentId::new("node-1", "client"), StandingRole::Client),
        (
            server.unwrap_or_else(|| AgentId::new("node-1", "server")),
            StandingRole::Server,
        ),
    ] {
        let mut now = Timestamp::from_nanos(1_000_000_000_000);
        let end = now + Duration::from_secs(100);
        let mut agent =
            StandingAgent::new(agent, role, Crafting::Possible, started_for.clone(), now);
        agent.set_plan(Some(plan.clone()), now);
        let mut sent = 0;
        while let Some(at) = agent.poll_timeout().filter(|at| *at <= end) {
            now = now.max(at);
            agent.handle_timeout(now);
            while let Some(output) = agent.poll_output() {
                if let StandingOutput::Probe(probe) = output {
                    assert!(allowed.permits(probe.target), "{} is probed", probe.target);
                    sent += 1;
                }
            }
        }
        assert!(sent <= MOST_PROBES, "{sent} probes");
    }
    CaseResult::Accepted
}

/// The first line of a server: it is rejected, or is the same when it is written and read again.
///
/// # Panics
///
/// Where an accepted banner differs when it is written and read again.
pub fn banner(data: &[u8]) -> CaseResult {
    let Ok(banner) = Banner::parse_line(data) else {
        return CaseResult::Rejected;
    };
    let again = Banner::parse_line(banner.to_line().as_bytes());
    assert_eq!(again.as_ref(), Ok(&banner), "{data:?}");
    CaseResult::Accepted
}
