//! Who obeys the commands of a run, and sees how its pods stand.

/// What the watch of pods tells.
mod pod_watch;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt as _, watcher};
use prober_core::plan::Plan;
use prober_core::run::{Endpoints, Placement, PlatformCommand, PlatformEvent};
use prober_core::topology::{AgentId, AgentRole};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::agent_pod;
use crate::kubernetes::api_client::ApiClient;
use crate::kubernetes::api_error::ApiError;
use crate::kubernetes::labels;
use crate::kubernetes::pod_status::startup_timeout_reason;
use crate::manifest::platform_config::{Cleanup, PlatformConfig};
use crate::platform::api_calls::ApiCalls;
use crate::platform::apiserver_health::ApiServerHealth;
use crate::platform::log_readers::LogReaders;
use crate::platform::removal::leave;
use crate::platform::service_endpoints::ServiceEndpoints;
use crate::platform::shared_objects::SharedObjects;

/// What the watch of pods gives.
type Seen = Result<watcher::Event<Pod>, watcher::Error>;

/// Who obeys.
pub(super) struct CommandLoop {
    calls: ApiCalls,
    setting: PlatformConfig,
    events: UnboundedSender<PlatformEvent>,
    began: Instant,
    ground: Option<SharedObjects>,
    pods: BoxStream<'static, Seen>,
    /// Pods of the list that is being read, after the watch began anew.
    listed: BTreeSet<String>,
    pulse: ApiServerHealth,
    /// By the names of their pods.
    agents: BTreeMap<String, Agent>,
    keepers: JoinSet<()>,
    ears: LogReaders,
}

struct Agent {
    id: AgentId,
    plans: UnboundedSender<Plan>,
    stage: Stage,
    /// Whether its bell is still.
    is_still: bool,
}

/// How far an agent's pod is.
enum Stage {
    /// On its way since then; what for.
    Waiting(Instant, String),
    /// It runs, and its log is read.
    Running(Vec<IpAddr>),
    /// The run knows that it failed.
    Failed,
}

impl CommandLoop {
    pub(super) fn new(
        connection: ApiClient,
        setting: PlatformConfig,
        events: UnboundedSender<PlatformEvent>,
    ) -> Self {
        let calls = ApiCalls::new(connection);
        let pulse = ApiServerHealth::new(calls.clone());
        Self {
            calls,
            setting,
            events,
            began: Instant::now(),
            ground: None,
            pods: stream::pending().boxed(),
            listed: BTreeSet::new(),
            pulse,
            agents: BTreeMap::new(),
            keepers: JoinSet::new(),
            ears: LogReaders::new(),
        }
    }

    /// Obeys until the commands' sender is gone.
    pub(super) async fn serve(mut self, mut commands: UnboundedReceiver<PlatformCommand>) {
        loop {
            let overdue = self.overdue();
            let quiet = self.pulse.quiet(self.awaited());
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.obey(command).await,
                    None => break,
                },
                Some(seen) = self.pods.next() => self.see(seen),
                () = wait_until(quiet) => self.pulse.ask(),
                answer = self.pulse.answer() => self.fail(answer),
                () = wait_until(overdue) => self.give_up().await,
            }
        }
        self.remove().await;
    }

    async fn obey(&mut self, command: PlatformCommand) {
        match command {
            PlatformCommand::Place(placements) => {
                if let Err(error) = self.place(placements).await {
                    self.tell(PlatformEvent::Failed(error.to_string()));
                }
            }
            PlatformCommand::Publish(endpoints) => {
                let answer = self.publish(&endpoints).await;
                self.tell(answer);
            }
            PlatformCommand::SendPlan(plan) => self.send_plan(plan),
            PlatformCommand::PauseLogs => self.hush(),
            PlatformCommand::ResumeLogs => self.ears.listen(true),
            PlatformCommand::Remove => {
                self.remove().await;
                self.tell(PlatformEvent::Removed);
            }
        }
    }

    async fn place(&mut self, placements: Vec<Placement>) -> Result<(), ApiError> {
        let is_laid = self.ground.is_some();
        if !is_laid {
            self.ground = Some(SharedObjects::lay(&self.calls, &self.setting).await?);
            self.pods = self.watch();
        }
        let have_servers = (placements.iter()).any(|placement| placement.role == AgentRole::Server);
        for placement in placements {
            self.start(placement);
        }
        match &self.ground {
            Some(ground) if is_laid && have_servers => {
                ground.forewarn(&self.calls, &self.setting).await
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A watch of this run's pods, which goes on by itself when it breaks.
    fn watch(&self) -> BoxStream<'static, Seen> {
        let ours = labels::run_selector(Some(&self.setting.manifest.run));
        let config = watcher::Config::default().labels(&ours).any_semantic();
        watcher(self.calls.api::<Pod>(), config)
            .default_backoff()
            .boxed()
    }

    fn start(&mut self, placement: Placement) {
        let Placement { agent, role, plan } = placement;
        let made = self.ground.as_ref().map(|ground| {
            let site = self.setting.node_info(&agent.node)?;
            self.setting
                .manifest
                .pod(&ground.anchor, site, role, &plan, &ground.allowed)
                .map_err(|error| format!("its first plan cannot be written as JSON: {error}"))
        });
        let (plans, kept) = mpsc::unbounded_channel();
        match made {
            Some(Ok(pod)) => {
                let keeper = agent_pod::keep(
                    self.calls.clone(),
                    agent.clone(),
                    pod,
                    kept,
                    self.events.clone(),
                );
                self.keepers.spawn(keeper);
                let stage =
                    Stage::Waiting(Instant::now(), "the API server has not made it".to_owned());
                let name = agent.pod.clone();
                let id = agent;
                let agent = Agent {
                    id,
                    plans,
                    stage,
                    is_still: false,
                };
                self.agents.insert(name, agent);
            }
            Some(Err(reason)) => self.tell(PlatformEvent::AgentFailed { agent, reason }),
            // Nothing is placed before the ground is laid.
            None => {}
        }
    }

    fn send_plan(&self, plan: Plan) {
        let known = self.agents.get(&plan.agent.pod);
        let agent = plan.agent.clone();
        if known.is_none_or(|agent| agent.plans.send(plan).is_err()) {
            let reason = "it has no pod to give a plan to".to_owned();
            self.tell(PlatformEvent::AgentFailed { agent, reason });
        }
    }

    async fn publish(&mut self, endpoints: &Endpoints) -> PlatformEvent {
        let Some(ground) = &mut self.ground else {
            return PlatformEvent::Failed(
                "there is nothing to publish: no agent was placed".to_owned(),
            );
        };
        let agents = &self.agents;
        // One whose pod does not run is an endpoint without addresses.
        let addresses = |id: &AgentId| match agents.get(&id.pod).map(|agent| &agent.stage) {
            Some(Stage::Running(addresses)) => addresses.clone(),
            Some(Stage::Waiting(..) | Stage::Failed) | None => Vec::new(),
        };
        let behind = match ServiceEndpoints::of(endpoints, &self.setting, addresses) {
            Ok(behind) => behind,
            Err(reason) => return PlatformEvent::Failed(reason),
        };
        match ground.publish(&self.calls, &self.setting, &behind).await {
            Ok(published) => PlatformEvent::Published(published),
            Err(error) => PlatformEvent::Failed(error.to_string()),
        }
    }

    /// The run cannot go on, where there is a reason.
    fn fail(&self, reason: Option<String>) {
        if let Some(reason) = reason {
            self.tell(PlatformEvent::Failed(reason));
        }
    }

    /// When patience with pods that are on their way ends.
    fn overdue(&self) -> Option<Instant> {
        self.waiting().next()?;
        Some(self.began + self.setting.startup_timeout)
    }

    /// Since when something has been awaited of the API server. An agent of a run has news all the time, while a canary's may
    /// have none for long.
    fn awaited(&self) -> Option<Instant> {
        let is_run = self.setting.manifest.check.is_none();
        let news = (is_run && !self.agents.is_empty()).then_some(self.began);
        self.waiting().chain(news).max()
    }

    /// Since when each pod that is on its way has been so.
    fn waiting(&self) -> impl Iterator<Item = Instant> {
        self.agents.values().filter_map(|agent| match agent.stage {
            Stage::Waiting(since, _) => Some(since),
            Stage::Running(_) | Stage::Failed => None,
        })
    }

    /// Fails every agent whose pod is still on its way.
    async fn give_up(&mut self) {
        let patience = self.setting.startup_timeout;
        let mut late = Vec::new();
        for agent in self.agents.values_mut() {
            if let Stage::Waiting(_, what) = &agent.stage {
                late.push((agent.id.clone(), what.clone()));
                agent.stage = Stage::Failed;
            }
        }
        for (agent, what) in late {
            // Without them the sentence says less.
            let about = self
                .calls
                .events_about(&agent.pod)
                .await
                .unwrap_or_default();
            let reason = startup_timeout_reason(&what, patience.as_secs(), &about);
            self.tell(PlatformEvent::AgentFailed { agent, reason });
        }
    }

    /// Removes all that was placed and waits until it is gone, or says what is not.
    async fn remove(&mut self) {
        if self.ground.take().is_none() {
            return;
        }
        self.pods = stream::pending().boxed();
        // Without a sender of plans a keeper ends; what it has begun is done first, so that nothing is made later.
        self.agents.clear();
        while self.keepers.join_next().await.is_some() {}
        match self.setting.cleanup {
            Cleanup::Remove => {
                if let Err(sentence) = leave(&self.calls, &self.setting.manifest).await {
                    self.tell(PlatformEvent::Note(sentence));
                }
            }
            Cleanup::Keep => self.tell(PlatformEvent::Note(format!(
                "everything is left in the namespace {} until the cluster removes it, {} s after the run began: \
                 `prober clean --run {}` removes it at once",
                self.setting.manifest.namespace,
                self.setting.manifest.lifetime.as_secs(),
                self.setting.manifest.run
            ))),
        }
        self.ears.close().await;
    }

    /// A run that has stopped listening has ended: nobody is left to tell.
    fn tell(&self, event: PlatformEvent) {
        drop(self.events.send(event));
    }
}

/// Waits for a time that may never come.
async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
