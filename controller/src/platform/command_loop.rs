//! Executes the commands of a run, and keeps the state of its agents' pods.

/// Handles the events of the pod watch.
mod pod_watch;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;
use futures::stream::{self, BoxStream};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::utils::ResetTimerBackoff;
use kube::runtime::{WatchStreamExt as _, watcher};
use prober_core::plan::Plan;
use prober_core::run::{Endpoints, Placement, PlatformCommand, PlatformEvent};
use prober_core::topology::{AgentId, AgentRole};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::agent_pod;
use super::sleep_until_some;
use crate::backoff::Backoff;
use crate::kubernetes::api_client::ApiClient;
use crate::kubernetes::api_error::ApiError;
use crate::kubernetes::labels;
use crate::kubernetes::pod_status::{startup_timeout_reason, with_architecture};
use crate::manifest::allowed_targets;
use crate::manifest::platform_config::{Cleanup, PlatformConfig};
use crate::platform::api_calls::ApiCalls;
use crate::platform::apiserver_health::ApiServerHealth;
use crate::platform::log_readers::LogReaders;
use crate::platform::removal::remove_run;
use crate::platform::service_endpoints::ServiceEndpoints;
use crate::platform::shared_objects::SharedObjects;

/// The first and the longest pause before a watch that broke is opened again, before they are lengthened at random. Those of
/// kube-rs, up to half a minute, are longer than a run.
const FIRST_WATCH_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_WATCH_PAUSE: Duration = Duration::from_secs(2);

/// After how long without a failure the next pause is the first one again.
const WATCH_RESET: Duration = Duration::from_mins(1);

/// Agents that have not started whose events are read: those of more say the same.
const MAX_EVENT_LISTS: usize = 16;

/// An event of the pod watch.
type WatchResult = Result<watcher::Event<Pod>, watcher::Error>;

/// The state of a run on its cluster.
pub(super) struct CommandLoop {
    calls: ApiCalls,
    config: PlatformConfig,
    events: UnboundedSender<PlatformEvent>,
    started_at: Instant,
    /// `None` before the first agent is placed.
    shared_objects: Option<SharedObjects>,
    pod_watch: BoxStream<'static, WatchResult>,
    /// Names of the pods in the list that a restarted watch is reading.
    listed_pods: BTreeSet<String>,
    apiserver_health: ApiServerHealth,
    /// By the name of the pod.
    agents: BTreeMap<String, Agent>,
    pod_tasks: JoinSet<()>,
    log_readers: LogReaders,
}

/// An agent and its pod.
struct Agent {
    id: AgentId,
    plans: UnboundedSender<Plan>,
    state: AgentState,
    /// Whether the pod is ready. A canary's agent makes it unready to raise an alert.
    is_ready: bool,
}

/// The state of an agent as the run knows it.
enum AgentState {
    /// Its pod has been starting since then, for this reason.
    Starting(Instant, String),
    /// Its pod runs with these addresses, and its log is read.
    Running(Vec<IpAddr>),
    /// It has failed, and the failure is reported.
    Failed,
}

impl CommandLoop {
    pub(super) fn new(
        client: ApiClient,
        config: PlatformConfig,
        events: UnboundedSender<PlatformEvent>,
    ) -> Self {
        let calls = ApiCalls::new(client);
        let apiserver_health = ApiServerHealth::new(calls.clone());
        Self {
            calls,
            config,
            events,
            started_at: Instant::now(),
            shared_objects: None,
            pod_watch: stream::pending().boxed(),
            listed_pods: BTreeSet::new(),
            apiserver_health,
            agents: BTreeMap::new(),
            pod_tasks: JoinSet::new(),
            log_readers: LogReaders::new(),
        }
    }

    /// Executes commands until their sender is dropped, then removes everything.
    pub(super) async fn run(mut self, mut commands: UnboundedReceiver<PlatformCommand>) {
        loop {
            let startup_deadline = self.startup_deadline();
            let next_check = self.apiserver_health.next_check(self.expected_since());
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.execute(command).await,
                    None => break,
                },
                Some(event) = self.pod_watch.next() => self.handle_watch_event(event),
                () = sleep_until_some(next_check) => self.apiserver_health.start_check(),
                failure = self.apiserver_health.finish_check() => self.report_failure(failure),
                () = sleep_until_some(startup_deadline) => self.fail_starting_agents().await,
            }
        }
        self.remove().await;
    }

    async fn execute(&mut self, command: PlatformCommand) {
        match command {
            PlatformCommand::Place(placements) => {
                if let Err(error) = self.place(placements).await {
                    self.send(PlatformEvent::Failed(error.to_string()));
                }
            }
            PlatformCommand::Publish(endpoints) => {
                let event = self.publish(&endpoints).await;
                self.send(event);
            }
            PlatformCommand::SendPlan(plan) => self.send_plan(plan),
            PlatformCommand::PauseLogs => self.pause_logs(),
            PlatformCommand::ResumeLogs => self.log_readers.set_enabled(true),
            PlatformCommand::Remove => {
                self.remove().await;
                self.send(PlatformEvent::Removed);
            }
        }
    }

    async fn place(&mut self, placements: Vec<Placement>) -> Result<(), ApiError> {
        let is_first = self.shared_objects.is_none();
        if is_first {
            let (shared_objects, note) = SharedObjects::create(&self.calls, &self.config).await?;
            if let Some(note) = note {
                self.send(PlatformEvent::Note(note));
            }
            self.shared_objects = Some(shared_objects);
            self.pod_watch = self.watch_pods();
        }
        let has_servers = (placements.iter()).any(|placement| placement.role == AgentRole::Server);
        let allowed_targets = self.allowed_targets();
        for placement in placements {
            self.start_agent(placement, &allowed_targets);
        }
        match &self.shared_objects {
            Some(shared_objects) if !is_first && has_servers => {
                shared_objects
                    .create_empty_slices(&self.calls, &self.config)
                    .await
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A watch of the run's pods that restarts by itself when it breaks.
    fn watch_pods(&self) -> BoxStream<'static, WatchResult> {
        let selector = labels::run_selector(Some(&self.config.manifest.run));
        let config = watcher::Config::default().labels(&selector).any_semantic();
        let pauses = Backoff::new(FIRST_WATCH_PAUSE, LONGEST_WATCH_PAUSE);
        watcher(self.calls.api::<Pod>(), config)
            .backoff(ResetTimerBackoff::new(pauses, WATCH_RESET))
            .boxed()
    }

    fn start_agent(&mut self, placement: Placement, allowed_targets: &[IpNet]) {
        let Placement { agent, role, plan } = placement;
        // Agents are placed only after the shared objects exist.
        let Some(shared_objects) = &self.shared_objects else {
            return;
        };
        let pod = self.config.node_info(&agent.node).and_then(|node| {
            let owner = &shared_objects.owner_job;
            (self.config.manifest)
                .pod(owner, node, role, &plan, allowed_targets)
                .map_err(|error| format!("its first plan cannot be written as JSON: {error}"))
        });
        let pod = match pod {
            Ok(pod) => pod,
            Err(reason) => {
                self.send(PlatformEvent::AgentFailed { agent, reason });
                return;
            }
        };
        let (plans, received_plans) = mpsc::unbounded_channel();
        self.pod_tasks.spawn(agent_pod::create_and_update(
            self.calls.clone(),
            agent.clone(),
            pod,
            received_plans,
            self.events.clone(),
        ));
        let pending = "the API server has not created it".to_owned();
        let name = agent.pod.clone();
        let agent = Agent {
            id: agent,
            plans,
            state: AgentState::Starting(Instant::now(), pending),
            is_ready: false,
        };
        self.agents.insert(name, agent);
    }

    /// The prefixes that agents may send packets to which are placed now.
    fn allowed_targets(&self) -> Vec<IpNet> {
        let services = self.shared_objects.iter();
        let pods = self.agents.values().map(|agent| match &agent.state {
            AgentState::Running(addresses) => addresses.as_slice(),
            AgentState::Starting(..) | AgentState::Failed => &[],
        });
        allowed_targets(
            services.flat_map(SharedObjects::cluster_ips),
            self.config.nodes.values(),
            &self.config.pod_prefixes,
            pods.flatten().copied(),
        )
    }

    fn send_plan(&self, plan: Plan) {
        let known = self.agents.get(&plan.agent.pod);
        let agent = plan.agent.clone();
        if known.is_none_or(|agent| agent.plans.send(plan).is_err()) {
            let reason = "it has no pod to receive a plan".to_owned();
            self.send(PlatformEvent::AgentFailed { agent, reason });
        }
    }

    async fn publish(&mut self, endpoints: &Endpoints) -> PlatformEvent {
        let Some(shared_objects) = &mut self.shared_objects else {
            return PlatformEvent::Failed(
                "cannot publish endpoints: no agent was placed".to_owned(),
            );
        };
        let agents = &self.agents;
        // An agent whose pod does not run is an endpoint without addresses.
        let addresses = |id: &AgentId| match agents.get(&id.pod).map(|agent| &agent.state) {
            Some(AgentState::Running(addresses)) => addresses.clone(),
            Some(AgentState::Starting(..) | AgentState::Failed) | None => Vec::new(),
        };
        let endpoints = match ServiceEndpoints::resolve(endpoints, &self.config, addresses) {
            Ok(endpoints) => endpoints,
            Err(reason) => return PlatformEvent::Failed(reason),
        };
        let published = shared_objects.publish(&self.calls, &self.config, &endpoints);
        match published.await {
            Ok(published) => PlatformEvent::Published(published),
            Err(error) => PlatformEvent::Failed(error.to_string()),
        }
    }

    /// Reports that the run cannot go on, if there is a reason.
    fn report_failure(&self, reason: Option<String>) {
        if let Some(reason) = reason {
            self.send(PlatformEvent::Failed(reason));
        }
    }

    /// When starting pods fail; `None` if no pod is starting.
    fn startup_deadline(&self) -> Option<Instant> {
        self.starting_since().next()?;
        Some(self.started_at + self.config.startup_timeout)
    }

    /// Since when an event of the API server is expected. An agent of a one-shot run logs all the time; a canary's agent may
    /// be silent for long.
    fn expected_since(&self) -> Option<Instant> {
        let is_one_shot = self.config.manifest.check.is_none();
        let logs = (is_one_shot && !self.agents.is_empty()).then_some(self.started_at);
        self.starting_since().chain(logs).max()
    }

    /// Since when each starting pod has been starting.
    fn starting_since(&self) -> impl Iterator<Item = Instant> {
        self.agents.values().filter_map(|agent| match agent.state {
            AgentState::Starting(since, _) => Some(since),
            AgentState::Running(_) | AgentState::Failed => None,
        })
    }

    /// Fails every agent whose pod is still starting.
    async fn fail_starting_agents(&mut self) {
        let timeout = self.config.startup_timeout;
        let mut late = Vec::new();
        for agent in self.agents.values_mut() {
            if let AgentState::Starting(_, pending) = &agent.state {
                late.push((agent.id.clone(), pending.clone()));
                agent.state = AgentState::Failed;
            }
        }
        // The events only add detail to the reason.
        let calls = &self.calls;
        let explained = late.iter().take(MAX_EVENT_LISTS);
        let pod_events = join_all(explained.map(async |(agent, _)| {
            let events = calls.pod_events(&agent.pod).await;
            events.unwrap_or_default()
        }));
        let pod_events = pod_events
            .await
            .into_iter()
            .chain(std::iter::repeat(Vec::new()));
        for ((agent, pending), pod_events) in late.into_iter().zip(pod_events) {
            let reason = startup_timeout_reason(&pending, timeout.as_secs(), &pod_events);
            let reason = with_architecture(reason, self.architecture_of(&agent));
            self.send(PlatformEvent::AgentFailed { agent, reason });
        }
    }

    /// Removes the objects of the run and waits until they are gone. A note reports what remains.
    async fn remove(&mut self) {
        if self.shared_objects.take().is_none() {
            return;
        }
        self.pod_watch = stream::pending().boxed();
        // After the last open request, no object is created any more.
        self.calls = self.calls.end().await;
        self.agents.clear();
        self.pod_tasks.shutdown().await;
        match self.config.cleanup {
            Cleanup::Remove => {
                if let Err(note) = remove_run(&self.calls, &self.config.manifest).await {
                    self.send(PlatformEvent::Note(note));
                }
            }
            Cleanup::Keep => self.send(PlatformEvent::Note(format!(
                "everything is left in the namespace {} until the cluster removes it, {} s after the run began: \
                 `prober clean --run {}` removes it at once",
                self.config.manifest.namespace,
                self.config.manifest.lifetime.as_secs(),
                self.config.manifest.run
            ))),
        }
        self.log_readers.stop().await;
    }

    /// Sends an event to the run. Sending fails only after the run has ended.
    fn send(&self, event: PlatformEvent) {
        drop(self.events.send(event));
    }
}

/// The pauses of a watch of kube-rs.
impl kube::runtime::utils::Backoff for Backoff {
    fn reset(&mut self) {
        Self::reset(self);
    }
}
