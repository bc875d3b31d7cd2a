//! The slots of the standing Service, which the rotation and all examinations share, and the writer of their EndpointSlices.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use prober_core::plan::SERVICES_PATIENCE;
use prober_core::topology::NodeName;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::canary::slots::SlotTable;
use crate::kubernetes::api_client::ApiClient;
use crate::kubernetes::api_error::ApiError;
use crate::kubernetes::labels::PROBER;
use crate::manifest::ServerEndpoint;
use crate::manifest::standing::{SLICE_SELECTOR, StandingServices};

/// The slots, their servers, and their slices. Clones share them.
#[derive(Clone, Debug)]
pub struct SlotBoard {
    services: Arc<StandingServices>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    table: SlotTable,
    /// What the API server has, by the name of the slice; `None` before the slices were listed.
    written: Option<BTreeMap<String, Content>>,
    /// When the slices of a slot were written last.
    recent: BTreeMap<u16, Instant>,
}

/// A slot that a run uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reservation {
    /// Its number.
    pub(super) slot: u16,
    /// Whether nodes may not lead to its server yet, since its slices were written just now.
    pub(super) is_recent: bool,
}

/// What a slice says: its ports, and the addresses and pods of its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Content {
    ports: Vec<Option<String>>,
    endpoints: Vec<(Vec<String>, Option<String>)>,
}

impl Content {
    fn of(slice: &EndpointSlice) -> Self {
        let ports = slice.ports.iter().flatten();
        let endpoints = slice.endpoints.iter().map(|endpoint| {
            let pod = endpoint.target_ref.as_ref();
            let pod = pod.and_then(|target| target.name.clone());
            (endpoint.addresses.clone(), pod)
        });
        Self {
            ports: ports.map(|port| port.name.clone()).collect(),
            endpoints: endpoints.collect(),
        }
    }
}

impl SlotBoard {
    /// The board of these Services. `table` has what an earlier controller assigned, or nothing.
    pub fn new(services: StandingServices, table: SlotTable) -> Self {
        let state = State {
            table,
            written: None,
            recent: BTreeMap::new(),
        };
        Self {
            services: Arc::new(services),
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// The Services.
    pub fn services(&self) -> &StandingServices {
        &self.services
    }

    /// The rotating slots with their servers: those of the standing plan, and the endpoints of the balanced port.
    pub async fn standing(&self) -> Vec<(u16, ServerEndpoint)> {
        let state = self.state.lock().await;
        let standing = state.table.standing();
        standing
            .map(|(slot, server)| (slot, server.clone()))
            .collect()
    }

    /// Applies the servers that run as [`SlotTable::update`] does, then rotates so many slots, and writes the slices that
    /// changed.
    ///
    /// # Errors
    ///
    /// If the slices cannot be listed or one cannot be written. The next call writes what is missing.
    pub async fn apply(
        &self,
        client: &ApiClient,
        servers: &BTreeMap<NodeName, ServerEndpoint>,
        rotating: usize,
    ) -> Result<(), ApiError> {
        let mut state = self.state.lock().await;
        state.table.update(servers);
        state.table.rotate(servers, rotating);
        self.write(client, &mut state).await
    }

    /// Gives each of these servers a slot until [`Self::release`], in their order; `None` where none is free.
    ///
    /// # Errors
    ///
    /// As [`Self::apply`].
    pub(super) async fn reserve(
        &self,
        client: &ApiClient,
        run: &str,
        servers: &[ServerEndpoint],
    ) -> Result<Vec<Option<Reservation>>, ApiError> {
        let mut state = self.state.lock().await;
        let servers = servers.iter();
        let reserved: Vec<_> = servers
            .map(|server| state.table.reserve(run, server))
            .collect();
        self.write(client, &mut state).await?;
        let recent = &state.recent;
        let reservation = |slot: u16| Reservation {
            slot,
            is_recent: (recent.get(&slot)).is_some_and(|at| at.elapsed() < SERVICES_PATIENCE),
        };
        Ok(reserved
            .into_iter()
            .map(|slot| slot.map(reservation))
            .collect())
    }

    /// Frees the slots of a run.
    ///
    /// # Errors
    ///
    /// As [`Self::apply`].
    pub(super) async fn release(&self, client: &ApiClient, run: &str) -> Result<(), ApiError> {
        let mut state = self.state.lock().await;
        state.table.release(run);
        self.write(client, &mut state).await
    }

    /// Writes the slices that changed, one after the other: those that lose their endpoint first, so that at no time two slices
    /// name one server.
    async fn write(&self, client: &ApiClient, state: &mut State) -> Result<(), ApiError> {
        let slices: Api<EndpointSlice> =
            Api::namespaced(client.kube.clone(), &self.services.namespace);
        let listed = match state.written.take() {
            Some(written) => written,
            None => list(client, &slices).await?,
        };
        let written = state.written.insert(listed);
        let wanted = state.table.slots().flat_map(|(slot, server)| {
            let families = self.services.families().into_iter();
            families.map(move |family| (slot, self.services.slot_slice(slot, family, server)))
        });
        let mut changed: Vec<(u16, String, Content, EndpointSlice)> = wanted
            .map(|(slot, slice)| (slot, slice.name_any(), Content::of(&slice), slice))
            .filter(|(_, name, content, _)| match written.get(name) {
                Some(known) => known != content,
                None => !content.endpoints.is_empty(),
            })
            .collect();
        changed.sort_by_key(|(_, _, content, _)| content.endpoints.len());
        for (slot, name, content, slice) in changed {
            let params = PatchParams::apply(PROBER);
            let patch = Patch::Apply(&slice);
            let request = slices.patch(&name, &params, &patch);
            let task = format!("write the EndpointSlice {name}");
            client.request(&task, request).await?;
            written.insert(name, content);
            state.recent.insert(slot, Instant::now());
        }
        Ok(())
    }
}

async fn list(
    client: &ApiClient,
    slices: &Api<EndpointSlice>,
) -> Result<BTreeMap<String, Content>, ApiError> {
    let params = ListParams::default().labels(SLICE_SELECTOR);
    let task = "list the EndpointSlices of the Service prober";
    let listed = client.request(task, slices.list(&params)).await?;
    let contents = listed
        .iter()
        .map(|slice| (slice.name_any(), Content::of(slice)));
    Ok(contents.collect())
}
