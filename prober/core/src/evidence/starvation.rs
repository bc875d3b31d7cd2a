//! Probes that failed for lack of processor time: a timeout is no evidence of the network if an agent did not run for nearly
//! as long as a probe waits.

use std::collections::{BTreeMap, BTreeSet};

use super::{AgentEvidence, Evidence, Matrix, PathEvidence};
use crate::probe::outcome::{Echo, Exchange, Outcome};
use crate::topology::AgentId;

/// Nearly the deadline of a probe. Timestamps are the kernel's, and the capture is read before a timeout is declared: a
/// shorter delay does not make a timeout doubtful.
const LONG_NS: u64 = 2_000_000_000;

impl AgentEvidence {
    /// Whether packets that are missing at its end prove nothing about the network.
    pub const fn is_starved(&self) -> bool {
        self.starved_ns > LONG_NS
    }
}

impl Matrix {
    /// Removes timeouts while an agent at one of the ends was starved: stalled exchanges, and probes without an answer
    /// where others on the same path were answered. That agent's notices have their number.
    pub fn remove_starved(&mut self) {
        let starved = self.agents.iter().filter(|(_, known)| known.is_starved());
        let starved: BTreeSet<AgentId> = starved.map(|(agent, _)| agent.clone()).collect();
        let mut removed: BTreeMap<&AgentId, u32> = BTreeMap::new();
        for evidence in self.paths.values_mut() {
            let is_met = evidence.total().outcomes.established > 0;
            let PathEvidence {
                path,
                probes,
                tallies,
                ..
            } = evidence;
            probes.retain(|probe| {
                let server = path.server.as_ref().or(probe.server_agent.as_ref());
                let mut ends = std::iter::once(&path.client).chain(server);
                let is_unanswered = probe.client.outcome == Outcome::Timeout;
                let is_silent = if is_unanswered {
                    is_met
                } else {
                    probe.fell_silent()
                };
                let at = ends.find_map(|end| starved.get(end));
                let Some(at) = at.filter(|_| is_silent) else {
                    return true;
                };
                if is_unanswered && let Some(tally) = tallies.get_mut(&probe.client.engine) {
                    tally.outcomes.timeout = tally.outcomes.timeout.saturating_sub(1);
                }
                *removed.entry(at).or_default() += 1;
                false
            });
        }
        for (agent, probes) in removed {
            let Some(known) = self.agents.get_mut(agent) else {
                continue;
            };
            known.notices.push(format!(
                "it was starved of CPU: {probes} unanswered probes of its paths do not count"
            ));
        }
    }
}

impl Evidence {
    /// Whether no data came after a handshake, or after the banner.
    fn fell_silent(&self) -> bool {
        match &self.client.exchange {
            Exchange::NoBanner => matches!(self.client.outcome, Outcome::Established { .. }),
            Exchange::BannerReceived {
                echo: Echo::Stalled { .. },
                ..
            } => true,
            Exchange::NotTried
            | Exchange::InvalidBanner
            | Exchange::Reset
            | Exchange::BannerReceived {
                echo: Echo::NotTried | Echo::Complete { .. },
                ..
            } => false,
        }
    }
}
