//! The controller: of several replicas one leads, and runs a worker for each check.
//!
//! ```text
//! leader election -- fencing token --> every request that changes anything
//! watch of checks, watch of nodes -> a worker for each check -> agents, status, Events, observer
//! ```

/// The agents that are placed together, and the run that drives them.
mod agent_set;
/// The worker of one check.
mod check_worker;
/// The Events that are to be created.
mod event_queue;
/// Acquires, renews and releases the Lease.
mod leader_election;
/// Deletes what earlier controllers left behind.
mod leftovers;
/// Watches the nodes of the cluster.
mod node_watch;
/// The interface to metrics and traces.
pub mod observer;
/// The policies for the diagnosis.
mod policy_cache;
/// Writes status, node conditions and Events.
mod status_writer;

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use futures::StreamExt as _;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::canary::crd::ConnectivityCheck;
use crate::clock::wall;
use crate::kubernetes::api_client::ApiClient;
use crate::kubernetes::fencing_token::FencingToken;
use leader_election::LeaderElection;
pub use leader_election::{LEASE, Lost};
use node_watch::Nodes;
use observer::RoundObserver;
use status_writer::StatusWriter;

/// The configuration of a controller.
pub struct Settings {
    /// The cluster, and the namespace of the agents and of the Lease.
    pub connection: ApiClient,
    /// The agents' image.
    pub image: String,
    /// The identity of this process in the Lease; unique per process.
    pub identity: String,
    /// Receives the results of every round.
    pub observer: Arc<dyn RoundObserver>,
}

/// What all check workers share.
struct Context {
    connection: ApiClient,
    image: String,
    status_writer: StatusWriter,
    observer: Arc<dyn RoundObserver>,
    /// True once the controller shuts down.
    stop: watch::Receiver<bool>,
}

impl Context {
    /// A random number.
    fn nonce(&self) -> u64 {
        RandomState::new().hash_one((wall(), &self.image))
    }
}

/// The state of a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControllerState {
    /// It has not listed the nodes yet.
    Starting,
    /// It waits for the Lease.
    Standby,
    /// It holds the Lease.
    Leading,
}

/// Runs until `stop` is true, then removes all agents and releases the Lease.
///
/// Fails once the Lease is lost.
pub async fn run(
    settings: Settings,
    state: watch::Sender<ControllerState>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Lost> {
    let fencing_token = FencingToken::expired();
    let (leads, leading) = watch::channel(false);
    let mut election = LeaderElection::new(
        settings.connection.clone(),
        settings.identity.clone(),
        fencing_token.clone(),
    );
    let connection = ApiClient {
        fencing_token,
        ..settings.connection
    };
    let context = Arc::new(Context {
        status_writer: StatusWriter::new(connection.clone(), settings.identity),
        connection,
        image: settings.image,
        observer: settings.observer,
        stop: stop.clone(),
    });
    // The election outlasts the workers: they need its fencing token to remove their agents.
    let (workers_ended, end_election) = watch::channel(false);
    let work = async move {
        work(context, leading, state, &mut stop).await;
        workers_ended.send_replace(true);
    };
    let work = tokio::spawn(work);
    let ended = election.run(&leads, end_election).await;
    if ended.is_err() {
        work.abort();
        return ended;
    }
    if let Err(error) = election.release().await {
        tracing::warn!(%error, "the Lease was not released: the next controller waits until it expires");
    }
    Ok(())
}

/// Waits for the Lease, then runs the workers until `stop` is true and all of them have ended.
async fn work(
    context: Arc<Context>,
    mut leading: watch::Receiver<bool>,
    state: watch::Sender<ControllerState>,
    stop: &mut watch::Receiver<bool>,
) {
    let (publish, mut nodes) = watch::channel(Nodes::default());
    let mut followers = JoinSet::new();
    followers.spawn(node_watch::follow(context.connection.clone(), publish));
    tokio::select! {
        _ = nodes.wait_for(|nodes| !nodes.is_empty()) => {}
        _ = stop.wait_for(|stop| *stop) => return,
    }
    state.send_replace(ControllerState::Standby);
    tokio::select! {
        _ = leading.wait_for(|leading| *leading) => {}
        _ = stop.wait_for(|stop| *stop) => return,
    }
    state.send_replace(ControllerState::Leading);
    let api: Api<ConnectivityCheck> = Api::all(context.connection.kube.clone());
    let events = watcher(api, watcher::Config::default()).default_backoff();
    let mut events = std::pin::pin!(events);
    let mut workers = CheckWorkers {
        context,
        nodes,
        known: BTreeMap::new(),
        listed: Vec::new(),
        tasks: JoinSet::new(),
    };
    loop {
        tokio::select! {
            Some(event) = events.next() => match event {
                Ok(event) => workers.handle(event),
                Err(error) => tracing::warn!(%error, "the watch of ConnectivityChecks failed, and is restarted"),
            },
            Some(ended) = workers.tasks.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "the worker of a check has panicked");
                }
            }
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    workers.known.clear();
    while workers.tasks.join_next().await.is_some() {}
}

/// The workers, one for each check.
struct CheckWorkers {
    context: Arc<Context>,
    nodes: watch::Receiver<Nodes>,
    /// By the check's name: its uid, and the channel for its changes. A worker ends when its channel closes.
    known: BTreeMap<String, (String, watch::Sender<Arc<ConnectivityCheck>>)>,
    /// The checks of the list in progress, after the watch was restarted.
    listed: Vec<String>,
    tasks: JoinSet<()>,
}

impl CheckWorkers {
    fn handle(&mut self, event: watcher::Event<ConnectivityCheck>) {
        match event {
            watcher::Event::Init => self.listed.clear(),
            watcher::Event::InitApply(check) => {
                self.listed.push(check.name_any());
                self.apply(check);
            }
            watcher::Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                self.known.retain(|name, _| listed.contains(name));
                let mut checks = self.known.values().map(|(_, check)| check.borrow());
                if !checks.any(|check| check.spec.node_condition.enabled) {
                    let nodes = self.nodes.borrow().clone();
                    let status_writer = self.context.status_writer.clone();
                    self.tasks
                        .spawn(leftovers::clear_conditions(status_writer, nodes));
                }
            }
            watcher::Event::Apply(check) => self.apply(check),
            watcher::Event::Delete(check) => {
                self.known.remove(&check.name_any());
            }
        }
    }

    fn apply(&mut self, check: ConnectivityCheck) {
        let (name, uid) = (check.name_any(), check.uid().unwrap_or_default());
        if check.metadata.deletion_timestamp.is_some() {
            self.known.remove(&name);
            return;
        }
        let check = Arc::new(check);
        match self.known.get(&name) {
            Some((known, changed)) if *known == uid => {
                changed.send_replace(check);
            }
            // A check that is deleted and created again has a new uid, and gets a new worker.
            Some(_) | None => {
                let (changed, changes) = watch::channel(check);
                self.known.insert(name, (uid, changed));
                let worker =
                    check_worker::run(Arc::clone(&self.context), changes, self.nodes.clone());
                self.tasks.spawn(worker);
            }
        }
    }
}
