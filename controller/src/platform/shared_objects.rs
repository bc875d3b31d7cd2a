//! What everything else of a run stands on: the anchor, the Services, and what follows from their addresses.

use std::net::{IpAddr, SocketAddr};

use futures::future::{try_join, try_join_all};
use prober_core::packet::family::Family;
use prober_core::run::{Published, Rules};

use crate::kubernetes::api_error::ApiError;
use crate::manifest::platform_config::PlatformConfig;
use crate::manifest::{
    BALANCED_PORT, OwnerJob, Publication, SLOT_PORT, ServiceAddresses, Slot, allowed_targets,
};
use crate::platform::api_calls::ApiCalls;
use crate::platform::service_endpoints::ServiceEndpoints;

/// The anchor and the Services of a run.
#[derive(Debug)]
pub(super) struct SharedObjects {
    pub(super) anchor: OwnerJob,
    /// What agents may ask.
    pub(super) allowed: Vec<String>,
    service: ServiceAddresses,
    local: ServiceAddresses,
    publication: Publication,
}

impl SharedObjects {
    /// Lays it: the anchor first, since it owns all else.
    pub(super) async fn lay(calls: &ApiCalls, setting: &PlatformConfig) -> Result<Self, ApiError> {
        let manifest = &setting.manifest;
        let job = calls.apply(&manifest.owner_job()).await?;
        let anchor = OwnerJob::from_job(&job)
            .ok_or_else(|| calls.invalid_response("create the anchor", "it has no uid"))?;
        let services = (manifest.service(&anchor), manifest.local_service(&anchor));
        let (service, local) = try_join(calls.apply(&services.0), calls.apply(&services.1)).await?;
        let (service, local) = (
            ServiceAddresses::from_service(&service),
            ServiceAddresses::from_service(&local),
        );
        let addresses = service.cluster_ips.iter().chain(&local.cluster_ips);
        let allowed = allowed_targets(addresses.copied(), setting.nodes.values());
        Ok(Self {
            anchor,
            allowed,
            service,
            local,
            publication: Publication::First,
        })
    }

    /// Lays the slices of RUN-local without endpoints while servers are on their way. A kube-proxy writes its rules when
    /// something changes, and then not again for a second (`minSyncPeriod`). Without a change beforehand the first slice to be
    /// published would be that change, and all others would have to wait.
    ///
    /// <https://kubernetes.io/docs/reference/networking/virtual-ips/#minsyncperiod>
    pub(super) async fn forewarn(
        &self,
        calls: &ApiCalls,
        setting: &PlatformConfig,
    ) -> Result<(), ApiError> {
        match self.publication {
            Publication::First => {
                let slices = (setting.manifest).local_slices(&self.anchor, &self.families(), &[]);
                try_join_all(slices.iter().map(|slice| calls.apply(slice))).await?;
                Ok(())
            }
            Publication::Update => Ok(()),
        }
    }

    fn families(&self) -> Vec<Family> {
        let addresses = self.service.cluster_ips.iter();
        addresses.map(|&ip| Family::of(ip)).collect()
    }

    /// Makes slot `k` lead to `slots[k].0` and the same-node leg to `local`, and says where they can be reached.
    pub(super) async fn publish(
        &mut self,
        calls: &ApiCalls,
        setting: &PlatformConfig,
        behind: &ServiceEndpoints<'_>,
    ) -> Result<Published, ApiError> {
        let families = self.families();
        let slots: Vec<Slot> = behind.slots.iter().map(|(slot, _)| slot.clone()).collect();
        let manifest = &setting.manifest;
        let steps = manifest.publication(
            &self.anchor,
            &families,
            &slots,
            &behind.local,
            self.publication,
        );
        for slices in steps {
            try_join_all(slices.iter().map(|slice| calls.apply(slice))).await?;
        }
        self.publication = Publication::Update;
        let at = |addresses: &[IpAddr], port| -> Vec<SocketAddr> {
            addresses
                .iter()
                .map(|&ip| SocketAddr::new(ip, port))
                .collect()
        };
        Ok(Published {
            slots: (SLOT_PORT..)
                .zip(&behind.slots)
                .map(|(port, _)| at(&self.service.cluster_ips, port))
                .collect(),
            any: at(&self.service.cluster_ips, BALANCED_PORT),
            local: at(&self.local.cluster_ips, BALANCED_PORT),
            node_ports: behind
                .slots
                .iter()
                .zip(&self.service.node_ports)
                .map(|((_, site), &port)| {
                    let of_family = |ip: &&IpAddr| families.contains(&Family::of(**ip));
                    let internal: Vec<IpAddr> = site
                        .internal_ips
                        .iter()
                        .filter(of_family)
                        .copied()
                        .collect();
                    at(&internal, port)
                })
                .collect(),
            slices: None,
            rules: Rules::Underway,
        })
    }
}
