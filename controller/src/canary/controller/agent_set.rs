//! The agents of a check that are placed together: a run, and the task that drives it.

use std::collections::BTreeSet;

use prober_core::diagnosis::diagnose;
use prober_core::evidence::{Matrix, PathEvidence};
use prober_core::plan::pairing::NodePair;
use prober_core::report::{Completion, Meta, Report};
use prober_core::run::{CycleSpec, Phase, PlatformEvent, Run, RunResult, RunSpec};
use prober_core::time::Timestamp;
use prober_core::topology::NodeName;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;

use crate::canary::controller::policy_cache::PolicyCache;
use crate::clock::{steady, wall};
use crate::kubernetes::api_client::ApiClient;
use crate::manifest::platform_config::PlatformConfig;
use crate::platform::ClusterPlatform;

/// Agents that probe until they are replaced. Dropping it removes them; [`AgentSet::terminate`] also waits for the
/// removal.
#[derive(Debug)]
pub(super) struct AgentSet {
    /// The run's name.
    pub(super) run: String,
    /// The nodes with agents, without those that have left since.
    pub(super) nodes: BTreeSet<NodeName>,
    /// When the placement began.
    pub(super) since: Timestamp,
    /// The pairs of the current or last round.
    pub(super) requested: BTreeSet<NodePair>,
    commands: UnboundedSender<AgentSetCommand>,
    task: JoinHandle<()>,
}

/// A command to an agent set.
#[derive(Debug)]
enum AgentSetCommand {
    /// Probe these pairs.
    Probe(CycleSpec),
    /// Send no more probes to this node.
    RemoveNode(NodeName),
}

/// An event of an agent set.
#[derive(Debug)]
pub(super) enum AgentSetEvent {
    /// The report of a round, or of several that were read together.
    Round(Box<RoundReport>),
    /// The placement failed, or the run ended: one sentence.
    Ended(String),
}

/// What the rounds since the last report measured, and their diagnosis.
#[derive(Debug)]
pub(super) struct RoundReport {
    pub(super) matrix: Matrix,
    pub(super) report: Report,
}

impl RoundReport {
    /// Diagnoses the result of a run as `prober run` does.
    fn of(finished: RunResult, began: Timestamp) -> Self {
        let meta = Meta {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command: vec!["prober-controller".to_owned()],
            started: began,
            duration: wall().since(began),
            completion: finished.completion,
            notes: finished.notes,
        };
        let report = Report::new(&finished.matrix, &diagnose(&finished.matrix), meta);
        Self {
            matrix: finished.matrix,
            report,
        }
    }

    /// Removes the measurements of other nodes.
    pub(super) fn retain_nodes(&mut self, nodes: &BTreeSet<NodeName>) {
        let Matrix { paths, agents, .. } = &mut self.matrix;
        agents.retain(|agent, _| nodes.contains(&agent.node));
        paths.retain(|_, evidence| {
            let server = evidence.path.server.as_ref();
            let mut ends = std::iter::once(&evidence.path.client).chain(server);
            ends.all(|end| nodes.contains(&end.node))
        });
    }
}

impl AgentSet {
    /// Places agents and probes `pairs`. The events go to `events`, with the run's name.
    pub(super) fn place(
        connection: ApiClient,
        config: PlatformConfig,
        spec: RunSpec,
        pairs: BTreeSet<NodePair>,
        events: UnboundedSender<(String, AgentSetEvent)>,
    ) -> Self {
        let (commands, received) = mpsc::unbounded_channel();
        let run = spec.run.clone();
        let nodes = spec.selected.iter().cloned().collect();
        let driver = Driver {
            run: Run::repeated(spec, pairs.clone()),
            name: run.clone(),
            began: wall(),
            events,
        };
        Self {
            run,
            nodes,
            since: steady(),
            requested: pairs,
            commands,
            task: tokio::spawn(driver.drive(connection, config, received)),
        }
    }

    /// Probes these pairs as soon as the agents are idle.
    pub(super) fn probe(&mut self, probing: CycleSpec) {
        self.requested = probing.pairs();
        // An agent set that has ended has sent its event.
        drop(self.commands.send(AgentSetCommand::Probe(probing)));
    }

    /// Removes a node that has left. Its agents are lost, also if the node returns: no other agent probes them any
    /// more.
    pub(super) fn remove_node(&mut self, node: &NodeName) {
        self.nodes.remove(node);
        // As above.
        drop(
            self.commands
                .send(AgentSetCommand::RemoveNode(node.clone())),
        );
    }

    /// Removes all agents, and waits until they are gone.
    pub(super) async fn terminate(self) {
        drop(self.commands);
        // The panic hook has reported a panic.
        drop(self.task.await);
    }
}

struct Driver {
    run: Run,
    name: String,
    /// When the current round began.
    began: Timestamp,
    events: UnboundedSender<(String, AgentSetEvent)>,
}

impl Driver {
    async fn drive(
        mut self,
        connection: ApiClient,
        config: PlatformConfig,
        mut received: UnboundedReceiver<AgentSetCommand>,
    ) {
        let (commands, platform_commands) = mpsc::unbounded_channel();
        let (event_sender, mut events) = mpsc::unbounded_channel();
        let mut policies = PolicyCache::new(connection.clone(), &self.name);
        let platform = tokio::spawn(ClusterPlatform::serve(
            connection,
            config,
            platform_commands,
            event_sender,
        ));
        let mut is_wanted = true;
        self.run.start(steady());
        while self.run.phase() != Phase::Ended {
            while let Some(command) = self.run.poll_command() {
                // A platform that has ended closes its events.
                drop(commands.send(command));
            }
            if let Some(finished) = self.run.take_cycle_result() {
                self.send_report(finished, &mut policies).await;
            }
            tokio::select! {
                event = events.recv() => {
                    self.run.handle(event.unwrap_or(PlatformEvent::Removed), steady());
                }
                command = received.recv(), if is_wanted => match command {
                    Some(AgentSetCommand::Probe(probing)) => {
                        self.began = wall();
                        self.run.start_cycle(&probing, steady());
                    }
                    Some(AgentSetCommand::RemoveNode(node)) => self.run.withdraw(&node, steady()),
                    None => {
                        is_wanted = false;
                        self.run.handle(PlatformEvent::Interrupted, steady());
                    }
                },
                () = until(self.run.poll_timeout()) => {}
            }
            self.run.handle_timeout(steady());
        }
        drop(commands);
        drop(platform.await);
        let finished = self.run.finish();
        if let Completion::CouldNotRun { reason } = finished.completion {
            drop(self.events.send((self.name, AgentSetEvent::Ended(reason))));
        }
    }

    /// Diagnosing many failures takes long, so it runs on a thread that may block.
    async fn send_report(&self, mut finished: RunResult, policies: &mut PolicyCache) {
        let began = self.began;
        if !finished.matrix.paths.values().all(PathEvidence::is_clean) {
            finished.matrix.policies = policies.policies().await;
        }
        let events = match spawn_blocking(move || RoundReport::of(finished, began)).await {
            Ok(cycle) => {
                let (paths, took_ms) = (cycle.report.paths.len(), cycle.report.duration_ms);
                tracing::debug!(run = self.name, paths, took_ms, "a cycle has ended");
                AgentSetEvent::Round(Box::new(cycle))
            }
            Err(error) => AgentSetEvent::Ended(format!("a cycle could not be diagnosed: {error}")),
        };
        // The receiver is gone during a shutdown.
        drop(self.events.send((self.name.clone(), events)));
    }
}

/// Waits until `at` on the steady clock; `None` is never.
pub(super) async fn until(at: Option<Timestamp>) {
    match at {
        Some(at) => sleep(at.since(steady())).await,
        None => std::future::pending().await,
    }
}
