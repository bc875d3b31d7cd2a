//! Executes the commands of a run on standing agents, and gives back what the run used.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use prober_core::plan::Plan;
use prober_core::run::{Placement, PlatformCommand, PlatformEvent};
use prober_core::topology::AgentId;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::{StandingConfig, StandingPod};
use crate::kubernetes::api_client::ApiClient;
use crate::platform::agent_pod::write_plans;
use crate::platform::api_calls::{ApiCalls, PlanTarget};
use crate::platform::log_reader::{Greeting, LogStart, LogState};
use crate::platform::log_readers::LogReaders;
use crate::platform::sleep_until_some;

/// How long the first plan waits until the log of its agent is open: a line before that may be missed, if many follow it.
const OPENING_PATIENCE: Duration = Duration::from_millis(500);

/// Annotations that are removed at the same time.
const MAX_REMOVING: usize = 16;

/// The standing agents of a run.
pub(super) struct StandingAgents {
    client: ApiClient,
    calls: ApiCalls,
    config: StandingConfig,
    events: UnboundedSender<PlatformEvent>,
    /// By the name of the pod.
    agents: BTreeMap<String, Agent>,
    plan_tasks: JoinSet<()>,
    log_readers: LogReaders,
}

/// An agent that has a plan of the run.
struct Agent {
    id: AgentId,
    uid: String,
    plans: UnboundedSender<Plan>,
    log: watch::Receiver<LogState>,
    /// When it fails unless it has greeted the run; `None` once it has failed.
    deadline: Option<Instant>,
}

impl StandingAgents {
    pub(super) fn new(
        client: ApiClient,
        config: StandingConfig,
        events: UnboundedSender<PlatformEvent>,
    ) -> Self {
        Self {
            calls: ApiCalls::new(client.clone()),
            client,
            config,
            events,
            agents: BTreeMap::new(),
            plan_tasks: JoinSet::new(),
            log_readers: LogReaders::new(),
        }
    }

    /// Executes commands until their sender is dropped.
    pub(super) async fn run(mut self, mut commands: UnboundedReceiver<PlatformCommand>) {
        loop {
            let deadline = self.next_deadline();
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.execute(command).await,
                    None => break,
                },
                () = sleep_until_some(deadline) => self.fail_silent_agents(),
            }
        }
        self.remove().await;
    }

    async fn execute(&mut self, command: PlatformCommand) {
        match command {
            PlatformCommand::Place(placements) => {
                for placement in placements {
                    self.place(placement);
                }
            }
            PlatformCommand::Publish(endpoints) => {
                let published = self.config.publish(&self.client, &endpoints).await;
                self.send(match published {
                    Ok(published) => PlatformEvent::Published(published),
                    Err(error) => PlatformEvent::Failed(error.to_string()),
                });
            }
            PlatformCommand::SendPlan(plan) => self.send_plan(plan),
            PlatformCommand::PauseLogs => self.log_readers.set_enabled(false),
            PlatformCommand::ResumeLogs => self.log_readers.set_enabled(true),
            PlatformCommand::Remove => {
                self.remove().await;
                self.send(PlatformEvent::Removed);
            }
        }
    }

    /// Opens the log of an agent and writes its first plan.
    fn place(&mut self, placement: Placement) {
        let Placement { agent, role, plan } = placement;
        let Some(pod) = self.config.pods.get(&agent.pod) else {
            let reason = "no pod of the canary runs there for it".to_owned();
            self.send(PlatformEvent::AgentFailed { agent, reason });
            return;
        };
        let StandingPod { uid, addresses } = pod.clone();
        let (log_state, log) = watch::channel(LogState::Opening);
        let start = LogStart::Greeting(Greeting {
            run: self.config.run.clone(),
            role,
            addresses,
            state: log_state,
        });
        self.log_readers.start(
            self.calls.clone(),
            agent.clone(),
            start,
            self.events.clone(),
        );
        let (plans, received_plans) = mpsc::unbounded_channel();
        // The receiver exists.
        drop(plans.send(plan));
        let target = PlanTarget {
            pod: agent.pod.clone(),
            uid: Some(uid.clone()),
        };
        let writing = write_plans(
            self.calls.clone(),
            agent.clone(),
            target,
            received_plans,
            self.events.clone(),
        );
        let mut opened = log.clone();
        self.plan_tasks.spawn(async move {
            let is_open = opened.wait_for(|state| *state != LogState::Opening);
            drop(timeout(OPENING_PATIENCE, is_open).await);
            writing.await;
        });
        let known = Agent {
            uid,
            plans,
            log,
            deadline: Some(Instant::now() + self.config.startup_timeout),
            id: agent.clone(),
        };
        self.agents.insert(agent.pod, known);
    }

    fn send_plan(&self, plan: Plan) {
        let known = self.agents.get(&plan.agent.pod);
        let agent = plan.agent.clone();
        if known.is_none_or(|agent| agent.plans.send(plan).is_err()) {
            let reason = "it has no pod to receive a plan".to_owned();
            self.send(PlatformEvent::AgentFailed { agent, reason });
        }
    }

    /// When the next agent fails that has not greeted the run.
    fn next_deadline(&self) -> Option<Instant> {
        let silent =
            (self.agents.values()).filter(|agent| *agent.log.borrow() != LogState::Greeted);
        silent.filter_map(|agent| agent.deadline).min()
    }

    /// Fails agents that have not greeted the run in time.
    fn fail_silent_agents(&mut self) {
        let now = Instant::now();
        let timeout = self.config.startup_timeout.as_secs_f64();
        let mut silent = Vec::new();
        for agent in self.agents.values_mut() {
            let is_silent = *agent.log.borrow() != LogState::Greeted;
            if is_silent && agent.deadline.take_if(|at| *at <= now).is_some() {
                silent.push(agent.id.clone());
            }
        }
        for agent in silent {
            let reason = format!(
                "it runs, and has not accepted its plan after {timeout} s; does the kubelet of {} update the pod's volumes?",
                agent.node
            );
            self.send(PlatformEvent::AgentFailed { agent, reason });
        }
    }

    /// Frees the slots of the run, removes its plans, and stops to read logs. A note reports what remains.
    async fn remove(&mut self) {
        if self.agents.is_empty() {
            return;
        }
        let agents = std::mem::take(&mut self.agents);
        let targets: Vec<PlanTarget> = (agents.into_values())
            .map(|agent| PlanTarget {
                pod: agent.id.pod,
                uid: Some(agent.uid),
            })
            .collect();
        // The senders of plans are dropped, which ends the tasks after their open requests: no plan is written later.
        while self.plan_tasks.join_next().await.is_some() {}
        let mut removals = stream::iter(targets)
            .map(|target| {
                let calls = self.calls.clone();
                async move { calls.remove_plan(&target).await }
            })
            .buffer_unordered(MAX_REMOVING);
        let mut remaining = Vec::new();
        while let Some(removed) = removals.next().await {
            remaining.extend(removed.err());
        }
        drop(removals);
        let released = self
            .config
            .slots
            .release(&self.client, &self.config.run)
            .await;
        if let Some(error) = remaining.into_iter().next().or(released.err()) {
            self.send(PlatformEvent::Note(format!(
                "something of the run {} is left until the next one: {error}",
                self.config.run
            )));
        }
        self.log_readers.stop().await;
    }

    /// Sends an event to the run. Sending fails only after the run has ended.
    fn send(&self, event: PlatformEvent) {
        drop(self.events.send(event));
    }
}
