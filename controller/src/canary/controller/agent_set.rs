//! The agents of one check for a while: a run that stands, driven against its fleet.

use std::collections::BTreeSet;

use prober_core::diagnosis::diagnose;
use prober_core::evidence::Matrix;
use prober_core::plan::pairing::NodePair;
use prober_core::report::{Completion, Meta, Report};
use prober_core::run::{CycleSpec, Phase, PlatformEvent, Run, RunResult, RunSpec};
use prober_core::time::Timestamp;
use prober_core::topology::NodeName;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;

use crate::clock::{steady, wall};
use crate::kubernetes::api_client::ApiClient;
use crate::manifest::platform_config::PlatformConfig;
use crate::platform::ClusterPlatform;

/// Agents that stand. Dropped, they are removed all the same; [`Stand::end`] waits for it.
#[derive(Debug)]
pub(super) struct Stand {
    /// The run's name.
    pub(super) run: String,
    /// The nodes that they are on and that have not left since.
    pub(super) nodes: BTreeSet<NodeName>,
    /// When they were placed.
    pub(super) since: Timestamp,
    /// The pairs that they were asked to probe last.
    pub(super) asked: BTreeSet<NodePair>,
    orders: UnboundedSender<Order>,
    task: JoinHandle<()>,
}

/// What a stand is told.
#[derive(Debug)]
enum Order {
    /// Probe pairs.
    Again(CycleSpec),
    /// Lead nobody to this node any more.
    Withdraw(NodeName),
}

/// What a stand tells.
#[derive(Debug)]
pub(super) enum Told {
    /// What a cycle measured.
    Cycle(Box<Cycle>),
    /// It could not be placed, or could not go on: why, as a sentence.
    Ended(String),
}

/// What a cycle measured, and what that amounts to.
#[derive(Debug)]
pub(super) struct Cycle {
    pub(super) matrix: Matrix,
    pub(super) report: Report,
}

impl Cycle {
    /// Made by the same code as the report of a run.
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

    /// Leaves out of its figures what is of other nodes.
    pub(super) fn keep(&mut self, nodes: &BTreeSet<NodeName>) {
        let Matrix { paths, agents, .. } = &mut self.matrix;
        agents.retain(|agent, _| nodes.contains(&agent.node));
        paths.retain(|_, evidence| {
            let server = evidence.path.server.as_ref();
            let mut ends = std::iter::once(&evidence.path.client).chain(server);
            ends.all(|end| nodes.contains(&end.node))
        });
    }
}

impl Stand {
    /// Places agents and probes `pairs`; each thing it tells goes to `told` with the run's name.
    pub(super) fn begin(
        connection: ApiClient,
        setting: PlatformConfig,
        spec: RunSpec,
        pairs: BTreeSet<NodePair>,
        told: UnboundedSender<(String, Told)>,
    ) -> Self {
        let (orders, ordered) = mpsc::unbounded_channel();
        let run = spec.run.clone();
        let nodes = spec.selected.iter().cloned().collect();
        let driver = Driver {
            run: Run::repeated(spec, pairs.clone()),
            name: run.clone(),
            began: wall(),
            told,
        };
        Self {
            run,
            nodes,
            since: steady(),
            asked: pairs,
            orders,
            task: tokio::spawn(driver.drive(connection, setting, ordered)),
        }
    }

    /// Probes these pairs, once it stands.
    pub(super) fn again(&mut self, probing: CycleSpec) {
        self.asked = probing.pairs();
        // One that has ended has told so.
        drop(self.orders.send(Order::Again(probing)));
    }

    /// A node has left, and its agents are as good as gone, also if it comes back: nobody is led there any more.
    pub(super) fn withdraw(&mut self, node: &NodeName) {
        self.nodes.remove(node);
        // As above.
        drop(self.orders.send(Order::Withdraw(node.clone())));
    }

    /// Removes all agents, and waits until they are gone.
    pub(super) async fn end(self) {
        drop(self.orders);
        // That it panicked is told by whoever caught it.
        drop(self.task.await);
    }
}

struct Driver {
    run: Run,
    name: String,
    /// When the present cycle began.
    began: Timestamp,
    told: UnboundedSender<(String, Told)>,
}

impl Driver {
    async fn drive(
        mut self,
        connection: ApiClient,
        setting: PlatformConfig,
        mut ordered: UnboundedReceiver<Order>,
    ) {
        let (commands, orders) = mpsc::unbounded_channel();
        let (tellers, mut events) = mpsc::unbounded_channel();
        let fleet = tokio::spawn(ClusterPlatform::serve(connection, setting, orders, tellers));
        let mut is_wanted = true;
        self.run.start(steady());
        while self.run.phase() != Phase::Ended {
            while let Some(command) = self.run.poll_command() {
                // A fleet that is gone tells so by the end of its events.
                drop(commands.send(command));
            }
            if let Some(finished) = self.run.take_cycle_result() {
                self.tell_cycle(finished).await;
            }
            tokio::select! {
                event = events.recv() => {
                    self.run.handle(event.unwrap_or(PlatformEvent::Removed), steady());
                }
                order = ordered.recv(), if is_wanted => match order {
                    Some(Order::Again(probing)) => {
                        self.began = wall();
                        self.run.start_cycle(&probing, steady());
                    }
                    Some(Order::Withdraw(node)) => self.run.withdraw(&node, steady()),
                    None => {
                        is_wanted = false;
                        self.run.handle(PlatformEvent::Interrupted, steady());
                    }
                },
                () = until(self.run.poll_timeout().map(|(at, _)| at)) => {}
            }
            self.run.handle_timeout(steady());
        }
        drop(commands);
        drop(fleet.await);
        let finished = self.run.finish();
        if let Completion::CouldNotRun { reason } = finished.completion {
            drop(self.told.send((self.name, Told::Ended(reason))));
        }
    }

    /// Diagnosing takes its time when much fails, and others want their turn.
    async fn tell_cycle(&self, finished: RunResult) {
        let began = self.began;
        let told = match spawn_blocking(move || Cycle::of(finished, began)).await {
            Ok(cycle) => {
                let (paths, took_ms) = (cycle.report.paths.len(), cycle.report.duration_ms);
                tracing::debug!(run = self.name, paths, took_ms, "a cycle has ended");
                Told::Cycle(Box::new(cycle))
            }
            Err(error) => Told::Ended(format!("a cycle could not be diagnosed: {error}")),
        };
        // Whoever does not listen any more wants no more of it.
        drop(self.told.send((self.name.clone(), told)));
    }
}

/// Waits for a time of the steady clock that may never come.
pub(super) async fn until(at: Option<Timestamp>) {
    match at {
        Some(at) => sleep(at.since(steady())).await,
        None => std::future::pending().await,
    }
}
