//! The servers behind the test Services, with the addresses that their pods have now.

use std::net::IpAddr;

use prober_core::run::Endpoints;
use prober_core::topology::AgentId;

use crate::kubernetes::node_info::NodeInfo;
use crate::manifest::platform_config::PlatformConfig;
use crate::manifest::{ServerEndpoint, SlotEndpoint};

/// The servers behind the test Services.
pub(super) struct ServiceEndpoints<'a> {
    /// The server of each slot, and its node.
    pub(super) slots: Vec<(SlotEndpoint, &'a NodeInfo)>,
    /// The servers behind the Service with `internalTrafficPolicy: Local`.
    pub(super) local: Vec<ServerEndpoint>,
}

impl<'a> ServiceEndpoints<'a> {
    /// Resolves agents to the addresses of their pods.
    ///
    /// # Errors
    ///
    /// A sentence, if an agent is on no node of the run.
    pub(super) fn resolve(
        endpoints: &Endpoints,
        config: &'a PlatformConfig,
        addresses: impl Fn(&AgentId) -> Vec<IpAddr>,
    ) -> Result<Self, String> {
        let server = |id: &AgentId| ServerEndpoint {
            agent: id.clone(),
            addresses: addresses(id),
        };
        let slot = |id: &AgentId| {
            let slot = SlotEndpoint {
                server: server(id),
                is_balanced: endpoints.any.contains(id),
            };
            Ok((slot, config.node_info(&id.node)?))
        };
        Ok(Self {
            slots: (endpoints.slots.iter())
                .map(slot)
                .collect::<Result<_, String>>()?,
            local: endpoints.local.iter().map(server).collect(),
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
    use crate::manifest::pod_options::PodOptions;
    use crate::manifest::{IpFamilies, Manifest, NodePorts, PodPrefixes, Privilege};

    #[test]
    fn a_server_that_is_not_balanced_keeps_its_slot() {
        let servers = ["node-1", "node-2"].map(|node| AgentId::new(node, format!("{node}-server")));
        let nodes = BTreeMap::from(
            ["node-1", "node-2"].map(|node| (NodeName::new(node), NodeInfo::default())),
        );
        let config = PlatformConfig {
            manifest: Manifest {
                run: "prober-k3x9q2".to_owned(),
                namespace: "probes".to_owned(),
                image: "prober-agent".to_owned(),
                pod_options: PodOptions::default(),
                lifetime: Duration::from_secs(90),
                privilege: Privilege::Unprivileged,
                families: IpFamilies::Available,
                slots: 2,
                node_ports: NodePorts::Disabled,
                check: None,
            },
            nodes,
            pod_prefixes: PodPrefixes::default(),
            startup_timeout: Duration::from_secs(30),
            cleanup: Cleanup::Remove,
        };
        let endpoints = Endpoints {
            slots: servers.to_vec(),
            any: servers[1..].to_vec(),
            local: servers.to_vec(),
        };
        let resolved = ServiceEndpoints::resolve(&endpoints, &config, |_| Vec::new()).unwrap();
        let slots: Vec<_> = (resolved.slots.iter())
            .map(|(slot, _)| (&slot.server.agent, slot.is_balanced))
            .collect();
        assert_eq!(slots, [(&servers[0], false), (&servers[1], true)]);
        assert_eq!(resolved.local.len(), 2);
    }
}
