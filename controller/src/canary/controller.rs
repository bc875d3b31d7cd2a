//! The controller that keeps probing: of several one leads, and keeps a patrol for each check.
//!
//! ```text
//! campaign -- permit --> every request that changes anything
//! watch of checks, watch of nodes -> a patrol for each check -> agents, status, Events, observer
//! ```

/// The agents of a check for a while.
mod agent_set;
/// One check.
mod check_worker;
/// Events on their way.
mod event_queue;
/// Standing for election.
mod leader_election;
/// The nodes of the cluster.
mod node_watch;
/// Who is told what is seen.
pub mod observer;
/// Status and Events.
mod status_writer;
/// What dead controllers left.
mod sweep;

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
use leader_election::Campaign;
pub use leader_election::{LEASE, Lost};
use node_watch::Nodes;
use observer::Observer;
use status_writer::Teller;

/// What a controller is started with.
pub struct Settings {
    /// The cluster, and the namespace that agents and the Lease live in.
    pub connection: ApiClient,
    /// The agents' image.
    pub image: String,
    /// Who this is: another for every process.
    pub identity: String,
    /// Who is told what is seen.
    pub observer: Arc<dyn Observer>,
}

/// What every patrol works with.
struct World {
    connection: ApiClient,
    image: String,
    teller: Teller,
    observer: Arc<dyn Observer>,
    /// Whether the controller ends.
    stop: watch::Receiver<bool>,
}

impl World {
    /// A number that nobody has had before.
    fn nonce(&self) -> u64 {
        RandomState::new().hash_one((wall(), &self.image))
    }
}

/// How a controller is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It has not heard from the API server yet.
    Starting,
    /// Another one leads, or nobody yet.
    Waiting,
    /// It leads.
    Leading,
}

/// Runs until `stop` says so, then removes all agents and gives the Lease back; or until the lead is lost.
pub async fn operate(
    settings: Settings,
    doing: watch::Sender<Doing>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Lost> {
    let permit = FencingToken::expired();
    let (leads, leading) = watch::channel(false);
    let mut campaign = Campaign::new(
        settings.connection.clone(),
        settings.identity.clone(),
        permit.clone(),
    );
    let connection = ApiClient {
        fencing_token: permit,
        ..settings.connection
    };
    let world = Arc::new(World {
        teller: Teller::new(connection.clone(), settings.identity),
        connection,
        image: settings.image,
        observer: settings.observer,
        stop: stop.clone(),
    });
    // The campaign outlasts the patrols: they need its permit to remove what they have placed.
    let (patrols_ended, end_campaign) = watch::channel(false);
    let work = async move {
        work(world, leading, doing, &mut stop).await;
        patrols_ended.send_replace(true);
    };
    let work = tokio::spawn(work);
    let campaigned = campaign.run(&leads, end_campaign).await;
    if campaigned.is_err() {
        work.abort();
        return campaigned;
    }
    if let Err(error) = campaign.resign().await {
        tracing::warn!(%error, "the next controller has to wait until the Lease runs out");
    }
    Ok(())
}

/// Waits for the lead, then keeps the patrols until `stop` says so, and until they have ended.
async fn work(
    world: Arc<World>,
    mut leading: watch::Receiver<bool>,
    doing: watch::Sender<Doing>,
    stop: &mut watch::Receiver<bool>,
) {
    let (publish, mut nodes) = watch::channel(Nodes::default());
    let mut followers = JoinSet::new();
    followers.spawn(node_watch::follow(world.connection.clone(), publish));
    tokio::select! {
        _ = nodes.wait_for(|nodes| !nodes.is_empty()) => {}
        _ = stop.wait_for(|stop| *stop) => return,
    }
    doing.send_replace(Doing::Waiting);
    tokio::select! {
        _ = leading.wait_for(|leading| *leading) => {}
        _ = stop.wait_for(|stop| *stop) => return,
    }
    doing.send_replace(Doing::Leading);
    let api: Api<ConnectivityCheck> = Api::all(world.connection.kube.clone());
    let seen = watcher(api, watcher::Config::default()).default_backoff();
    let mut seen = std::pin::pin!(seen);
    let mut patrols = Patrols {
        world,
        nodes,
        known: BTreeMap::new(),
        listed: Vec::new(),
        tasks: JoinSet::new(),
    };
    loop {
        tokio::select! {
            Some(event) = seen.next() => match event {
                Ok(event) => patrols.see(event),
                Err(error) => tracing::warn!(%error, "the watch of ConnectivityChecks broke, and is made anew"),
            },
            Some(ended) = patrols.tasks.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a patrol has broken down");
                }
            }
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    patrols.known.clear();
    while patrols.tasks.join_next().await.is_some() {}
}

/// A patrol for each check.
struct Patrols {
    world: Arc<World>,
    nodes: watch::Receiver<Nodes>,
    /// By the check's name: its uid, and the way to tell of its changes. A patrol ends when that is gone.
    known: BTreeMap<String, (String, watch::Sender<Arc<ConnectivityCheck>>)>,
    /// Checks of the list that is being read, after the watch began anew.
    listed: Vec<String>,
    tasks: JoinSet<()>,
}

impl Patrols {
    fn see(&mut self, event: watcher::Event<ConnectivityCheck>) {
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
                    let teller = self.world.teller.clone();
                    self.tasks.spawn(sweep::sweep_conditions(teller, nodes));
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
            // One that was deleted and made anew is another one.
            Some(_) | None => {
                let (changed, changes) = watch::channel(check);
                self.known.insert(name, (uid, changed));
                let patrol =
                    check_worker::patrol(Arc::clone(&self.world), changes, self.nodes.clone());
                self.tasks.spawn(patrol);
            }
        }
    }
}
