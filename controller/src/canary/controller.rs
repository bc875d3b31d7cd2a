//! The controller: of several replicas one leads, and runs the tasks below; one that ends, ends the process.
//!
//! ```text
//! leader election -- fencing token --> every request that changes anything
//!
//! watches -> inventory -> evaluation -> states of the checks -> reconciler -> status, Events
//!                          |   ^                \-> node conditions, start-up taints, fresh pods
//!                          v   | results         \-> standing plan, slots
//!                       examiner -> agents of a few nodes
//! ```

/// Applies changes to the states of the checks, and starts examinations.
mod evaluation;
/// The Events that are to be created.
mod event_queue;
/// One examination.
mod examiner;
/// Replaces clients by fresh pods.
mod fresh_pods;
/// Acquires, renews and releases the Lease.
mod leader_election;
/// Deletes what versions without DaemonSets left behind.
mod leftovers;
/// Writes the conditions of nodes.
mod node_conditions;
/// The interface to metrics and traces.
pub mod observer;
/// Reads the state for the page.
mod page_feed;
/// Makes kubelets show agents a standing plan at once.
mod plan_refresh;
/// The policies for the diagnosis.
mod policy_cache;
/// Reports each check.
mod reconciler;
/// What the tasks share.
mod shared;
/// Writes slots and the standing plan.
mod standing_plan_writer;
/// Removes start-up taints.
mod startup_taint;
/// Writes status, node conditions and Events.
mod status_writer;
/// Watches nodes and agents.
mod watches;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::kubernetes::api_client::ApiClient;
use crate::kubernetes::fencing_token::FencingToken;
use crate::page::state::Reading;
use evaluation::stopped;
use leader_election::LeaderElection;
pub use leader_election::{LEASE, Lost};
use observer::Observer;
use shared::Shared;
use status_writer::StatusWriter;

/// The configuration of a controller.
pub struct Settings {
    /// The cluster, and the namespace of the agents and of the Lease.
    pub connection: ApiClient,
    /// Ranges of pods' addresses that no Node names.
    pub pod_cidrs: Vec<IpNet>,
    /// The identity of this process in the Lease; unique per process.
    pub identity: String,
    /// Receives results for metrics and traces.
    pub observer: Arc<dyn Observer>,
    /// Receives what the page shows.
    pub page: watch::Sender<Reading>,
}

/// The state of a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControllerState {
    /// It has not listed the nodes and the agents yet.
    Starting,
    /// It waits for the Lease.
    Standby,
    /// It holds the Lease.
    Leading,
}

/// Why a controller ended that was not to.
#[derive(Debug, Error)]
pub enum Ended {
    /// It has lost the Lease.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// A task of it has ended or panicked: the others would go on with what it left.
    #[error(
        "the task '{0}' has ended, so the controller ends and is started again; its log says why"
    )]
    Task(&'static str),
}

/// How long the tasks may take to end at a shutdown.
const SHUTDOWN: Duration = Duration::from_secs(15);

/// Runs until `stop` is true, then releases the Lease.
///
/// # Errors
///
/// Once the Lease is lost, or a task has ended.
pub async fn run(
    settings: Settings,
    state: watch::Sender<ControllerState>,
    stop: watch::Receiver<bool>,
) -> Result<(), Ended> {
    let fencing_token = FencingToken::expired();
    let (leads, leading) = watch::channel(false);
    let mut election = LeaderElection::new(
        settings.connection.clone(),
        settings.identity.clone(),
        fencing_token.clone(),
    );
    let client = ApiClient {
        fencing_token,
        ..settings.connection
    };
    let shared = Arc::new(Shared::new(
        client.clone(),
        StatusWriter::new(client, settings.identity.clone()),
        settings.observer,
        settings.pod_cidrs,
    ));
    // The election outlasts the tasks: they need its fencing token to give back what examinations use.
    let (tasks_ended, end_election) = watch::channel(false);
    let page = (settings.identity, settings.page);
    let tasks = work(shared, page, leading, state, stop);
    let tasks = async move {
        let ended = tasks.await;
        tasks_ended.send_replace(true);
        ended
    };
    let election = async {
        let ended = election.run(&leads, end_election).await;
        if ended.is_ok()
            && let Err(error) = election.release().await
        {
            tracing::warn!(%error, "the Lease was not released: the next controller waits until it expires");
        }
        ended
    };
    tokio::pin!(tasks, election);
    tokio::select! {
        lost = &mut election => Err(lost.err().map_or(Ended::Task("leader election"), Ended::Lost)),
        ended = &mut tasks => {
            drop(election.await);
            ended
        }
    }
}

/// Runs the watches, waits for the Lease, then runs the other tasks until `stop` is true.
async fn work(
    shared: Arc<Shared>,
    (identity, page): (String, watch::Sender<Reading>),
    mut leading: watch::Receiver<bool>,
    state: watch::Sender<ControllerState>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Ended> {
    let mut tasks = Tasks::default();
    tasks.spawn("watch of nodes", watches::nodes(Arc::clone(&shared)));
    tasks.spawn("watch of agents", watches::pods(Arc::clone(&shared)));
    let mut inputs = shared.inputs();
    let is_listed = inputs.wait_for(|_| shared.state().inventory.is_listed());
    tokio::select! {
        _ = is_listed => {}
        ended = tasks.ended() => return Err(ended),
        () = stopped(&mut stop) => return Ok(()),
    }
    state.send_replace(ControllerState::Standby);
    tokio::select! {
        _ = leading.wait_for(|leading| *leading) => {}
        ended = tasks.ended() => return Err(ended),
        () = stopped(&mut stop) => return Ok(()),
    }
    state.send_replace(ControllerState::Leading);
    shared.observer.leads(true);
    leftovers::delete(&shared).await;
    let (checks, reporting) = reconciler::controller(Arc::clone(&shared));
    tasks.spawn("reports", reporting);
    tasks.spawn(
        "standing plan",
        standing_plan_writer::run(Arc::clone(&shared)),
    );
    tasks.spawn("node conditions", node_conditions::run(Arc::clone(&shared)));
    tasks.spawn("fresh pods", fresh_pods::run(Arc::clone(&shared)));
    tasks.spawn("page", page_feed::run(Arc::clone(&shared), identity, page));
    tasks.spawn("start-up taints", startup_taint::run(Arc::clone(&shared)));
    let evaluation = evaluation::run(Arc::clone(&shared), checks, stop.clone());
    let mut evaluation = tokio::spawn(evaluation);
    tokio::select! {
        ended = tasks.ended() => Err(ended),
        ended = &mut evaluation => match ended {
            Ok(()) if *stop.borrow() => Ok(()),
            Ok(()) | Err(_) => Err(Ended::Task("evaluation")),
        },
        () = shutdown_overdue(&mut stop) => {
            evaluation.abort();
            Ok(())
        }
    }
}

/// Waits until a shutdown takes too long.
async fn shutdown_overdue(stop: &mut watch::Receiver<bool>) {
    stopped(stop).await;
    tokio::time::sleep(SHUTDOWN).await;
}

/// Tasks that never end, unless something is wrong. Dropping them ends them.
#[derive(Default)]
struct Tasks {
    running: JoinSet<()>,
    names: BTreeMap<tokio::task::Id, &'static str>,
}

impl Tasks {
    fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let id = self.running.spawn(task).id();
        self.names.insert(id, name);
    }

    /// Waits until one of them ends, or panics: the panic hook has logged that.
    async fn ended(&mut self) -> Ended {
        let id = match self.running.join_next_with_id().await {
            Some(Ok((id, ()))) => id,
            Some(Err(panicked)) => panicked.id(),
            None => std::future::pending().await,
        };
        Ended::Task(self.names.get(&id).copied().unwrap_or_default())
    }
}
