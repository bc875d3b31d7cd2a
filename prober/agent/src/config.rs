//! The configuration of an agent.

use std::sync::Arc;

use prober_core::plan::AllowedTargets;
use prober_core::probe::event::Hello;
use prober_core::standing::StandingRole;
use prober_core::topology::AgentId;
use prober_net::node_facts::ConntrackTable;

use crate::local_addresses::LocalAddresses;
use crate::plan::file::PlanFile;

/// The configuration of an agent, from its command line and its network namespace.
#[derive(Debug)]
pub(crate) struct AgentConfig {
    /// The node and pod of this agent.
    pub(crate) agent: AgentId,
    /// The file that plans come from.
    pub(crate) plan: PlanFile,
    /// The targets that plans may probe.
    pub(crate) allowed: AllowedTargets,
    /// The only run whose plans are accepted; `None` accepts any.
    pub(crate) run: Option<String>,
    /// The port of the readiness gate.
    pub(crate) readiness_port: Option<u16>,
    /// The first line, if it is written again for each run.
    pub(crate) greeting: Option<Hello>,
    /// What makes it a standing agent, if it is one.
    pub(crate) standing: Option<StandingConfig>,
    /// The addresses and the MTU of this end.
    pub(crate) local: LocalAddresses,
    /// The connection tracking table, opened while this agent had the right to.
    pub(crate) conntrack: Arc<ConntrackTable>,
}

/// The configuration of a standing agent.
#[derive(Debug)]
pub(crate) struct StandingConfig {
    /// The file of the standing plan, until the rounds take it.
    pub(crate) plan: Option<PlanFile>,
    /// What the agent is.
    pub(crate) role: StandingRole,
    /// The port of the metrics.
    pub(crate) metrics_port: Option<u16>,
}
