//! What the tasks of a leading controller share: the inventory, the states of the checks, and the notice of changes.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use prober_core::time::Timestamp;
use prober_core::topology::NodeName;
use tokio::sync::watch;

use super::event_queue::EventQueue;
use super::observer::Observer;
use super::policy_cache::PolicyCache;
use super::status_writer::StatusWriter;
use crate::canary::check_state::CheckState;
use crate::canary::crd::{ConnectivityCheck, ConnectivityCheckStatus};
use crate::canary::inventory::Inventory;
use crate::clock::wall;
use crate::kubernetes::api_client::ApiClient;
use crate::page::failure_reports::FailureReports;
use crate::platform::standing::slot_board::SlotBoard;

/// What the tasks share.
pub(super) struct Shared {
    /// The cluster; its requests need the Lease.
    pub(super) client: ApiClient,
    /// Writes results.
    pub(super) status_writer: StatusWriter,
    /// Receives results for metrics and traces.
    pub(super) observer: Arc<dyn Observer>,
    /// Ranges of pods' addresses that no Node names.
    pub(super) pod_cidrs: Vec<IpNet>,
    /// The policies that a diagnosis considers.
    pub(super) policies: tokio::sync::Mutex<PolicyCache>,
    state: Mutex<State>,
    /// The newest reports of outages, for the page.
    failure_reports: Mutex<FailureReports>,
    /// By name: the generations of checks that do not parse and whose status says so.
    invalid: Mutex<BTreeMap<String, Option<i64>>>,
    /// The slots and the nonce of the standing plan, once they are known.
    pub(super) standing: watch::Sender<Option<Standing>>,
    /// Whether all checks were evaluated at least once.
    evaluated: watch::Sender<bool>,
    /// Counts changes of the inventory and of the checks' specs.
    inputs: watch::Sender<u64>,
    /// Counts changes of what is to be reported.
    reports: watch::Sender<u64>,
}

/// What an examination needs of the standing plan.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    /// The slots of the Service.
    pub(super) slots: SlotBoard,
    /// The nonce that banners carry.
    pub(super) nonce: u64,
    /// The nodes whose servers have a slot.
    pub(super) nodes: Arc<[NodeName]>,
    /// How many of them each client probes in a round.
    pub(super) peers: usize,
}

/// What is known of the cluster and its checks.
#[derive(Default)]
pub(super) struct State {
    /// Nodes and agents.
    pub(super) inventory: Inventory,
    /// By the check's name.
    pub(super) checks: BTreeMap<String, KnownCheck>,
}

/// A check, and what was written of it.
pub(super) struct KnownCheck {
    /// The object, for references to it.
    pub(super) object: Arc<ConnectivityCheck>,
    /// Its state.
    pub(super) state: CheckState,
    /// The Events that are to be created.
    pub(super) events: EventQueue,
    /// The status that was written last, and when, by the steady clock.
    pub(super) written: Option<(ConnectivityCheckStatus, Timestamp)>,
}

impl Shared {
    pub(super) fn new(
        client: ApiClient,
        status_writer: StatusWriter,
        observer: Arc<dyn Observer>,
        pod_cidrs: Vec<IpNet>,
    ) -> Self {
        Self {
            policies: tokio::sync::Mutex::new(PolicyCache::new(client.clone())),
            client,
            status_writer,
            observer,
            pod_cidrs,
            state: Mutex::default(),
            failure_reports: Mutex::default(),
            invalid: Mutex::default(),
            standing: watch::Sender::new(None),
            evaluated: watch::Sender::new(false),
            inputs: watch::Sender::new(0),
            reports: watch::Sender::new(0),
        }
    }

    /// The state. A task that panics ends the process, so no other sees what it left.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest reports of outages.
    pub(super) fn failure_reports(&self) -> MutexGuard<'_, FailureReports> {
        let reports = self.failure_reports.lock();
        reports.unwrap_or_else(PoisonError::into_inner)
    }

    /// By name: the generations of checks that do not parse and whose status says so.
    pub(super) fn invalid(&self) -> MutexGuard<'_, BTreeMap<String, Option<i64>>> {
        self.invalid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the inventory; `change` returns whether it has changed.
    pub(super) fn change_inventory(&self, change: impl FnOnce(&mut Inventory) -> bool) {
        let has_changed = change(&mut self.state().inventory);
        if has_changed {
            self.notify_inputs();
        }
    }

    /// Waits until all checks were evaluated at least once.
    pub(super) async fn evaluated(&self) {
        // The sender is there as long as `self`.
        drop(self.evaluated.subscribe().wait_for(|is_so| *is_so).await);
    }

    /// Records that all checks were evaluated.
    pub(super) fn set_evaluated(&self) {
        self.evaluated.send_replace(true);
    }

    /// Notifies the evaluation that its inputs have changed.
    pub(super) fn notify_inputs(&self) {
        self.inputs
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// The changes of the inventory and of the checks' specs.
    pub(super) fn inputs(&self) -> watch::Receiver<u64> {
        self.inputs.subscribe()
    }

    /// Notifies those that report that there is something new.
    pub(super) fn notify_reports(&self) {
        self.reports
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// The changes of what is to be reported.
    pub(super) fn reports(&self) -> watch::Receiver<u64> {
        self.reports.subscribe()
    }
}

/// A random number.
pub(super) fn random() -> u64 {
    RandomState::new().hash_one(wall())
}
