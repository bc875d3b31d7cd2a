//! Who is to stand behind the Services.

use std::net::IpAddr;

use prober_core::run::Endpoints;
use prober_core::topology::AgentId;

use crate::kubernetes::node_info::NodeInfo;
use crate::manifest::platform_config::PlatformConfig;
use crate::manifest::{Backend, Slot};

/// Who is to stand behind the Services.
pub(super) struct ServiceEndpoints<'a> {
    /// Of each slot, and where it lives.
    pub(super) slots: Vec<(Slot, &'a NodeInfo)>,
    /// Of the same-node leg.
    pub(super) local: Vec<Backend>,
}

impl<'a> ServiceEndpoints<'a> {
    /// These agents, at the addresses that they have now. Fails with a sentence where one lives on no node of the run.
    pub(super) fn of(
        endpoints: &Endpoints,
        setting: &'a PlatformConfig,
        addresses: impl Fn(&AgentId) -> Vec<IpAddr>,
    ) -> Result<Self, String> {
        let backend = |id: &AgentId| Backend {
            agent: id.clone(),
            addresses: addresses(id),
        };
        let slot = |id: &AgentId| {
            let slot = Slot {
                backend: backend(id),
                is_balanced: endpoints.any.contains(id),
            };
            Ok((slot, setting.node_info(&id.node)?))
        };
        Ok(Self {
            slots: (endpoints.slots.iter())
                .map(slot)
                .collect::<Result<_, String>>()?,
            local: endpoints.local.iter().map(backend).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use prober_core::topology::NodeName;

    use super::*;
    use crate::manifest::platform_config::Cleanup;
    use crate::manifest::{IpFamilies, Manifest, NodePorts, Privilege};

    #[test]
    fn a_server_that_any_does_not_lead_to_keeps_its_slot() {
        let servers = ["node-1", "node-2"].map(|node| AgentId::new(node, format!("{node}-server")));
        let sites = BTreeMap::from(
            ["node-1", "node-2"].map(|node| (NodeName::new(node), NodeInfo::default())),
        );
        let setting = PlatformConfig {
            manifest: Manifest {
                run: "prober-k3x9q2".to_owned(),
                namespace: "probes".to_owned(),
                image: "prober-agent".to_owned(),
                lifetime: Duration::from_secs(90),
                privilege: Privilege::Unprivileged,
                families: IpFamilies::Available,
                slots: 2,
                node_ports: NodePorts::Disabled,
                check: None,
            },
            nodes: sites,
            startup_timeout: Duration::from_secs(30),
            cleanup: Cleanup::Remove,
        };
        let endpoints = Endpoints {
            slots: servers.to_vec(),
            any: servers[1..].to_vec(),
            local: servers.to_vec(),
        };
        let behind = ServiceEndpoints::of(&endpoints, &setting, |_| Vec::new()).unwrap();
        let slots: Vec<_> = (behind.slots.iter())
            .map(|(slot, _)| (&slot.backend.agent, slot.is_balanced))
            .collect();
        assert_eq!(slots, [(&servers[0], false), (&servers[1], true)]);
        assert_eq!(behind.local.len(), 2);
    }
}
