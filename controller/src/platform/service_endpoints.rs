//! Who is to stand behind the Services.

use std::net::IpAddr;

use prober_core::run::Endpoints;
use prober_core::topology::AgentId;

use super::Setting;
use crate::kubernetes::node_info::Site;
use crate::manifest::Backend;

/// Who is to stand behind the Services.
pub(super) struct Behind<'a> {
    /// Of each slot, and where it lives.
    pub(super) slots: Vec<(Backend, &'a Site)>,
    /// Of the port that is balanced.
    pub(super) any: Vec<Backend>,
    /// Of the same-node leg.
    pub(super) local: Vec<Backend>,
}

impl<'a> Behind<'a> {
    /// These agents, at the addresses that they have now. Fails with a sentence where one lives on no node of the run.
    pub(super) fn of(
        endpoints: &Endpoints,
        setting: &'a Setting,
        addresses: impl Fn(&AgentId) -> Vec<IpAddr>,
    ) -> Result<Self, String> {
        let backend = |id: &AgentId| Backend {
            agent: id.clone(),
            addresses: addresses(id),
        };
        let slot = |id: &AgentId| Ok((backend(id), setting.site(&id.node)?));
        Ok(Self {
            slots: (endpoints.slots.iter())
                .map(slot)
                .collect::<Result<_, String>>()?,
            any: endpoints.any.iter().map(backend).collect(),
            local: endpoints.local.iter().map(backend).collect(),
        })
    }
}
