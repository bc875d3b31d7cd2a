//! The addresses of the standing Services for a run, and the endpoints behind them.

use std::net::{IpAddr, SocketAddr};

use prober_core::packet::family::Family;
use prober_core::plan::RESPONDER_PORT;
use prober_core::run::{EndpointSlices, Endpoints, Published, Rules, SliceEndpoint};
use prober_core::topology::AgentId;

use super::StandingConfig;
use super::slot_board::Reservation;
use crate::kubernetes::api_client::ApiClient;
use crate::kubernetes::api_error::ApiError;
use crate::manifest::{BALANCED_PORT, SLOT_PORT, ServerEndpoint};

impl StandingConfig {
    /// Gives the run's servers slots, and returns the addresses at which clients reach them.
    ///
    /// # Errors
    ///
    /// If an EndpointSlice cannot be written.
    pub(super) async fn publish(
        &self,
        client: &ApiClient,
        endpoints: &Endpoints,
    ) -> Result<Published, ApiError> {
        let servers: Vec<ServerEndpoint> =
            endpoints.slots.iter().map(|id| self.server(id)).collect();
        let reservations = self.slots.reserve(client, &self.run, &servers).await?;
        Ok(self.published(
            endpoints,
            &servers,
            &reservations,
            &self.slots.standing().await,
        ))
    }

    /// A server with the addresses that the API server has.
    fn server(&self, agent: &AgentId) -> ServerEndpoint {
        let known = self.pods.get(&agent.pod);
        ServerEndpoint {
            agent: agent.clone(),
            addresses: known.map(|pod| pod.addresses.clone()).unwrap_or_default(),
        }
    }

    fn published(
        &self,
        endpoints: &Endpoints,
        servers: &[ServerEndpoint],
        reservations: &[Option<Reservation>],
        balanced: &[(u16, ServerEndpoint)],
    ) -> Published {
        let services = self.slots.services();
        let families = services.families();
        let cluster_ips = &services.balanced.cluster_ips;
        let slot = |reservation: &Option<Reservation>| match reservation {
            Some(reservation) => with_port(cluster_ips, SLOT_PORT + reservation.slot),
            None => Vec::new(),
        };
        let node_port = |(server, reservation): (&ServerEndpoint, &Option<Reservation>)| {
            let port = reservation.as_ref().and_then(|reservation| {
                (services.balanced.node_ports).get(usize::from(reservation.slot))
            });
            let node = self.nodes.get(&server.agent.node);
            let addresses = node.into_iter().flatten().copied();
            let of_service: Vec<IpAddr> = addresses
                .filter(|address| families.contains(&Family::of(*address)))
                .collect();
            port.map_or_else(Vec::new, |port| with_port(&of_service, *port))
        };
        let written: Vec<SocketAddr> = (reservations.iter())
            .filter(|reservation| reservation.as_ref().is_some_and(|slot| slot.is_recent))
            .flat_map(slot)
            .collect();
        let local: Vec<ServerEndpoint> = endpoints.local.iter().map(|id| self.server(id)).collect();
        Published {
            slots: reservations.iter().map(slot).collect(),
            any: with_port(cluster_ips, BALANCED_PORT),
            local: with_port(&services.local.cluster_ips, BALANCED_PORT),
            node_ports: servers.iter().zip(reservations).map(node_port).collect(),
            slices: Some(EndpointSlices {
                slots: servers.iter().map(slice_endpoints).collect(),
                any: (balanced.iter())
                    .flat_map(|(_, server)| slice_endpoints(server))
                    .collect(),
                local: local.iter().flat_map(slice_endpoints).collect(),
            }),
            rules: if written.is_empty() {
                Rules::Written
            } else {
                Rules::Underway(written)
            },
        }
    }
}

fn with_port(addresses: &[IpAddr], port: u16) -> Vec<SocketAddr> {
    let addresses = addresses.iter();
    addresses.map(|&ip| SocketAddr::new(ip, port)).collect()
}

/// The endpoints of a server, one for each family. The run may not use the server, which runs all the same.
fn slice_endpoints(server: &ServerEndpoint) -> Vec<SliceEndpoint> {
    let addresses = server.addresses.iter();
    addresses
        .map(|&address| SliceEndpoint {
            address: SocketAddr::new(address, RESPONDER_PORT),
            node: server.agent.node.clone(),
            ready: true,
            agent: Some(server.agent.clone()),
        })
        .collect()
}

#[cfg(test)]
mod tests;
