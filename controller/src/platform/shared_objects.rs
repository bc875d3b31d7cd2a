//! The objects that all agents of a run share: the owner Job, the test Services, and their EndpointSlices.

use std::net::{IpAddr, SocketAddr};

use futures::future::{try_join, try_join_all};
use k8s_openapi::api::core::v1::Service;
use prober_core::packet::family::Family;
use prober_core::run::{Published, Rules};

use crate::kubernetes::api_error::ApiError;
use crate::manifest::platform_config::PlatformConfig;
use crate::manifest::{
    BALANCED_PORT, Manifest, NodePorts, OwnerJob, Publication, SLOT_PORT, ServiceAddresses,
    SlotEndpoint,
};
use crate::platform::api_calls::ApiCalls;
use crate::platform::service_endpoints::ServiceEndpoints;

/// The shared objects of a run, as the API server created them.
#[derive(Debug)]
pub(super) struct SharedObjects {
    pub(super) owner_job: OwnerJob,
    service: ServiceAddresses,
    local_service: ServiceAddresses,
    publication: Publication,
}

impl SharedObjects {
    /// Creates the owner Job, then the Services that it owns; where the cluster refuses node ports, without them, and with a note
    /// for the reader of the report.
    pub(super) async fn create(
        calls: &ApiCalls,
        config: &PlatformConfig,
    ) -> Result<(Self, Option<String>), ApiError> {
        let manifest = &config.manifest;
        let job = calls.apply(&manifest.owner_job()).await?;
        let owner_job = OwnerJob::from_job(&job)
            .ok_or_else(|| calls.invalid_response("create the owner Job", "it has no uid"))?;
        let local_service = manifest.local_service(&owner_job);
        let ((service, note), local_service) = try_join(
            create_service(calls, manifest, &owner_job),
            calls.apply(&local_service),
        )
        .await?;
        let (service, local_service) = (
            ServiceAddresses::from_service(&service),
            ServiceAddresses::from_service(&local_service),
        );
        let shared_objects = Self {
            owner_job,
            service,
            local_service,
            publication: Publication::First,
        };
        Ok((shared_objects, note))
    }

    /// The addresses of both Services.
    pub(super) fn cluster_ips(&self) -> impl Iterator<Item = IpAddr> {
        let services = [&self.service, &self.local_service];
        services
            .into_iter()
            .flat_map(|service| service.cluster_ips.iter().copied())
    }

    /// Writes the slices of RUN-local without endpoints while the servers start. A kube-proxy writes its rules at a change, and
    /// then not again for a second (`minSyncPeriod`). Without this change the first published slice would be that change, and
    /// the others would be delayed by the second.
    ///
    /// <https://kubernetes.io/docs/reference/networking/virtual-ips/#minsyncperiod>
    pub(super) async fn create_empty_slices(
        &self,
        calls: &ApiCalls,
        config: &PlatformConfig,
    ) -> Result<(), ApiError> {
        match self.publication {
            Publication::First => {
                let slices = (config.manifest).local_slices(&self.owner_job, &self.families(), &[]);
                try_join_all(slices.iter().map(|slice| calls.apply(slice))).await?;
                Ok(())
            }
            Publication::Update => Ok(()),
        }
    }

    fn families(&self) -> Vec<Family> {
        let cluster_ips = self.service.cluster_ips.iter();
        cluster_ips.map(|&ip| Family::of(ip)).collect()
    }

    /// Writes the EndpointSlices of both Services, and returns the addresses at which clients reach the servers.
    pub(super) async fn publish(
        &mut self,
        calls: &ApiCalls,
        config: &PlatformConfig,
        endpoints: &ServiceEndpoints<'_>,
    ) -> Result<Published, ApiError> {
        let families = self.families();
        let slots: Vec<SlotEndpoint> = (endpoints.slots.iter())
            .map(|(slot, _)| slot.clone())
            .collect();
        let steps = config.manifest.publication(
            &self.owner_job,
            &families,
            &slots,
            &endpoints.local,
            self.publication,
        );
        for slices in steps {
            try_join_all(slices.iter().map(|slice| calls.apply(slice))).await?;
        }
        self.publication = Publication::Update;
        let with_port = |addresses: &[IpAddr], port| -> Vec<SocketAddr> {
            addresses
                .iter()
                .map(|&ip| SocketAddr::new(ip, port))
                .collect()
        };
        let any = with_port(&self.service.cluster_ips, BALANCED_PORT);
        Ok(Published {
            slots: (SLOT_PORT..)
                .zip(&endpoints.slots)
                .map(|(port, _)| with_port(&self.service.cluster_ips, port))
                .collect(),
            any: any.clone(),
            local: with_port(&self.local_service.cluster_ips, BALANCED_PORT),
            node_ports: endpoints
                .slots
                .iter()
                .zip(&self.service.node_ports)
                .map(|((_, node), &port)| {
                    let has_family = |ip: &&IpAddr| families.contains(&Family::of(**ip));
                    let internal_ips: Vec<IpAddr> = (node.internal_ips.iter())
                        .filter(has_family)
                        .copied()
                        .collect();
                    with_port(&internal_ips, port)
                })
                .collect(),
            slices: None,
            // The slices of `any` are written last.
            rules: Rules::Underway(any),
        })
    }
}

/// Creates the Service with the slots. Where a quota or the range of node ports refuses it, it is created without node ports.
async fn create_service(
    calls: &ApiCalls,
    manifest: &Manifest,
    owner_job: &OwnerJob,
) -> Result<(Service, Option<String>), ApiError> {
    let service = manifest.service(owner_job, manifest.node_ports);
    let error = match (calls.apply(&service).await, manifest.node_ports) {
        (Err(error @ ApiError::Refused { .. }), NodePorts::Enabled) => error,
        (response, NodePorts::Enabled | NodePorts::Disabled) => {
            return response.map(|service| (service, None));
        }
    };
    let service = manifest.service(owner_job, NodePorts::Disabled);
    let service = calls.apply(&service).await?;
    let note = format!(
        "node-port paths were not probed: {error}; to leave them out, give the others (--access-paths)"
    );
    Ok((service, Some(note)))
}
