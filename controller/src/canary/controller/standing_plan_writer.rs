//! Keeps the slots and the standing plan as the checks, the servers and the nodes require: written seldom, since every
//! kubelet of the cluster reads the plan.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::Api;
use kube::api::{Patch, PatchParams};
use prober_core::plan::standing::StandingPlan;
use prober_core::time::Timestamp;
use prober_core::topology::{AgentId, NodeName};
use serde_json::json;
use tokio::time::sleep;

use super::plan_refresh;
use super::shared::{Shared, Standing, random};
use crate::backoff::Backoff;
use crate::canary::inventory::{Component, Inventory, NodeRecord};
use crate::canary::node_state::NodeState;
use crate::canary::slots::SlotTable;
use crate::canary::standing_plan::{Sources, standing_plan};
use crate::clock::{steady, wall};
use crate::kubernetes::api_client::ApiClient;
use crate::kubernetes::api_error::ApiError;
use crate::kubernetes::labels::PROBER;
use crate::manifest::standing::{
    FIRST_RESERVED_SLOT, LOCAL_SERVICE, SERVICE, STANDING_PLAN, STANDING_PLAN_KEY, StandingServices,
};
use crate::manifest::{SLOT_PORT, ServerEndpoint};
use crate::platform::standing::slot_board::SlotBoard;

/// How long changes are collected before slots and plan are written.
const COLLECTING: Duration = Duration::from_secs(1);

/// The shortest time from one write of the plan to the next.
const PLAN_PERIOD: Duration = Duration::from_secs(5);

/// How often slots rotate, where there are more servers than slots.
const ROTATION: Duration = Duration::from_mins(15);

/// How many slots rotate at a time: all within an hour.
const ROTATING: usize = 14;

/// The pauses after failures.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Keeps slots and plan; never ends.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
    loop {
        match Writer::start(&shared).await {
            Ok(mut writer) => loop {
                // Without the checks, the plan of an earlier controller would be paused.
                shared.evaluated().await;
                match writer.update(&shared).await {
                    Ok(()) => backoff.reset(),
                    Err(error) => {
                        tracing::warn!(%error, "the standing plan was not written, and is tried again");
                        sleep(backoff.pause()).await;
                        if matches!(error, ApiError::Refused { code: 404, .. }) {
                            // The Services were deleted, and may be created again with other addresses.
                            break;
                        }
                        continue;
                    }
                }
                writer.wait(&shared).await;
            },
            Err(error) => {
                tracing::warn!(%error, "the Services of the agents were not read, and are read again");
                sleep(backoff.pause()).await;
            }
        }
    }
}

/// The slots, and the plan that was written last.
struct Writer {
    slots: SlotBoard,
    nonce: u64,
    /// The plan in the ConfigMap.
    written: Option<StandingPlan>,
    /// When it was written, by the steady clock.
    written_at: Timestamp,
    rotated_at: Timestamp,
}

impl Writer {
    /// Reads the Services and the plan of an earlier controller, and goes on with its slots and its nonce.
    async fn start(shared: &Shared) -> Result<Self, ApiError> {
        let client = &shared.client;
        let (balanced, local) = futures::try_join!(
            read_service(client, SERVICE),
            read_service(client, LOCAL_SERVICE)
        )?;
        let services = StandingServices::from_services(&balanced, &local).ok_or_else(|| {
            ApiError::InvalidResponse {
                server: client.server.clone(),
                task: format!("read the Service {SERVICE}"),
                cause: "it has no uid".to_owned(),
            }
        })?;
        let written = read_plan(client).await?;
        let probing_since = written.as_ref().and_then(|plan| plan.probing_since);
        shared.change_inventory(|inventory| inventory.set_probing_since(probing_since));
        let assigned = written.iter().flat_map(|plan| &plan.slots);
        let table = SlotTable::restore(assigned.filter_map(|slot| {
            let number = slot.service.first()?.port().checked_sub(SLOT_PORT)?;
            let server = ServerEndpoint {
                agent: AgentId {
                    node: slot.node.clone(),
                    pod: slot.pod.clone(),
                },
                addresses: slot.addresses.clone(),
            };
            Some((number, server))
        }));
        Ok(Self {
            slots: SlotBoard::new(services, table),
            nonce: written.as_ref().map_or_else(random, |plan| plan.nonce),
            written,
            written_at: Timestamp::default(),
            rotated_at: steady(),
        })
    }

    /// Assigns and writes slots, then the plan if it has changed.
    async fn update(&mut self, shared: &Arc<Shared>) -> Result<(), ApiError> {
        let Some(servers) = servers(&shared.state().inventory) else {
            return Ok(());
        };
        let rotating = if steady().since(self.rotated_at) >= ROTATION {
            self.rotated_at = steady();
            ROTATING
        } else {
            0
        };
        self.slots.apply(&shared.client, &servers, rotating).await?;
        let standing = self.slots.standing().await;
        let plan = self.plan(shared, &standing);
        if self.written.as_ref() != Some(&plan) && steady().since(self.written_at) >= PLAN_PERIOD {
            write_plan(&shared.client, &plan).await?;
            tracing::info!(
                generation = plan.generation,
                slots = plan.slots.len(),
                paused = plan.paused,
                "the standing plan is written"
            );
            let begins_or_ends = self.probing_since() != plan.probing_since;
            self.written = Some(plan);
            self.written_at = steady();
            if begins_or_ends {
                plan_refresh::refresh(shared).await;
            }
        }
        let probing_since = self.probing_since();
        shared.change_inventory(|inventory| inventory.set_probing_since(probing_since));
        let peers = self.written.as_ref().map_or(0, |plan| plan.peers);
        shared.standing.send_replace(Some(Standing {
            slots: self.slots.clone(),
            nonce: self.nonce,
            nodes: (standing.iter())
                .map(|(_, server)| server.agent.node.clone())
                .collect(),
            peers: usize::try_from(peers).unwrap_or(usize::MAX),
        }));
        Ok(())
    }

    /// Since when the plan in the ConfigMap lets agents probe.
    fn probing_since(&self) -> Option<Timestamp> {
        self.written.as_ref().and_then(|plan| plan.probing_since)
    }

    /// The plan as it should be: that of the last generation if it is the same.
    fn plan(&self, shared: &Shared, standing: &[(u16, ServerEndpoint)]) -> StandingPlan {
        let state = shared.state();
        let mut plan = standing_plan(
            state.checks.values().map(|check| check.state.spec()),
            Sources {
                services: self.slots.services(),
                slots: standing,
                inventory: &state.inventory,
                pod_cidrs: &shared.pod_cidrs,
                nonce: self.nonce,
            },
        );
        if !plan.paused {
            plan.probing_since = self.probing_since().or_else(|| Some(wall()));
        }
        if let Some(written) = &self.written {
            plan.generation = written.generation;
            if plan != *written {
                plan.generation += 1;
            }
        }
        plan
    }

    /// Waits until something may have changed.
    async fn wait(&self, shared: &Shared) {
        let mut reports = shared.reports();
        let rotation = ROTATION.saturating_sub(steady().since(self.rotated_at));
        tokio::select! {
            _ = reports.changed() => {}
            () = sleep(rotation.min(PLAN_PERIOD)) => {}
        }
        sleep(COLLECTING).await;
    }
}

/// The servers that may have a slot, by node: those that run, or, where they are more than slots, those that work. A slot
/// whose server does not work makes every node alert that probes it. `None` before all pods are known.
fn servers(inventory: &Inventory) -> Option<BTreeMap<NodeName, ServerEndpoint>> {
    if !inventory.is_listed() {
        return None;
    }
    let now = wall();
    let running = || {
        let servers = inventory.agents(Component::Server).filter(|pod| pod.runs());
        servers.filter(|pod| inventory.node(&pod.node).is_some_and(NodeRecord::is_ready))
    };
    let are_scarce = running().count() > usize::from(FIRST_RESERVED_SLOT);
    let works = |node: &NodeName| {
        let record = inventory.node(node);
        record
            .is_some_and(|record| NodeState::of(inventory, node, record, now) == NodeState::Working)
    };
    let eligible = running().filter(|pod| !are_scarce || works(&pod.node));
    let endpoints = eligible.map(|pod| {
        let agent = AgentId {
            node: pod.node.clone(),
            pod: pod.name.clone(),
        };
        let server = ServerEndpoint {
            agent,
            addresses: pod.addresses.clone(),
        };
        (pod.node.clone(), server)
    });
    Some(endpoints.collect())
}

async fn read_service(client: &ApiClient, name: &str) -> Result<Service, ApiError> {
    let services: Api<Service> = Api::namespaced(client.kube.clone(), &client.namespace);
    let task = format!("read the Service {name}");
    client.request(&task, services.get(name)).await
}

/// The plan of an earlier controller; `None` if there is none that this version reads.
async fn read_plan(client: &ApiClient) -> Result<Option<StandingPlan>, ApiError> {
    let config_maps: Api<ConfigMap> = Api::namespaced(client.kube.clone(), &client.namespace);
    let task = format!("read the ConfigMap {STANDING_PLAN}");
    let found = client
        .request(&task, config_maps.get(STANDING_PLAN))
        .await?;
    let text = found
        .data
        .as_ref()
        .and_then(|data| data.get(STANDING_PLAN_KEY));
    Ok(text.and_then(|text| serde_json::from_str(text).ok()))
}

async fn write_plan(client: &ApiClient, plan: &StandingPlan) -> Result<(), ApiError> {
    let task = format!("write the ConfigMap {STANDING_PLAN}");
    let text = serde_json::to_string(plan).map_err(|error| ApiError::InvalidResponse {
        server: client.server.clone(),
        task: task.clone(),
        cause: format!("it cannot be written as JSON: {error}"),
    })?;
    let config_maps: Api<ConfigMap> = Api::namespaced(client.kube.clone(), &client.namespace);
    let patch = Patch::Merge(json!({"data": {STANDING_PLAN_KEY: text}}));
    let params = PatchParams {
        field_manager: Some(PROBER.to_owned()),
        ..PatchParams::default()
    };
    let request = config_maps.patch(STANDING_PLAN, &params, &patch);
    client.request(&task, request).await.map(drop)
}
