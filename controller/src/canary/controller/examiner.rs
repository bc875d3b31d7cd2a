//! An examination: a bounded run over the agents of a few nodes, read as it goes, and its diagnosis.
//!
//! The agents run already, and go on with their standing plan meanwhile. The run adds what a diagnosis needs: probes that
//! follow up, the server's end of each handshake, the facts of the nodes and their connection tracking.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use prober_core::diagnosis::diagnose;
use prober_core::evidence::{Matrix, PathEvidence};
use prober_core::plan::pairing::NodePair;
use prober_core::probe::event::Event;
use prober_core::probe::tier::Tier;
use prober_core::report::{Completion, Meta, Report};
use prober_core::run::{NodePods, Phase, PlatformEvent, PodNames, Run, RunResult, RunSpec};
use prober_core::topology::{AccessPath, NodeName};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;

use super::evaluation::{stopped, until};
use super::shared::{Shared, Standing, random};
use crate::canary::check_state::CheckState;
use crate::canary::crd::NodeFacts;
use crate::canary::inventory::{Component, Inventory};
use crate::canary::node_state::NodeState;
use crate::clock::{steady, wall};
use crate::manifest::run_name;
use crate::platform::standing::{StandingConfig, StandingPlatform, StandingPod};

/// How many other nodes each examined node is probed from and probes.
const PEERS: usize = 3;

/// Crafted probes per path: enough to distinguish a lost packet from a lossy path within a few examinations.
const RAW_PROBES: u32 = 6;

/// How long agents may take to greet the run: the kubelet shows an annotation within a second or two.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(15);

/// The time limit of an examination, without its removal.
const TIME_LIMIT: Duration = Duration::from_mins(1);

/// Lines at the end of an agent's log that may name the server of a failed probe.
const TAIL_LINES: i64 = 100;

/// What is to be examined.
pub(super) struct Order {
    /// The examined nodes.
    nodes: BTreeSet<NodeName>,
    /// Nodes that the examination should include.
    wanted_peers: BTreeSet<NodeName>,
    /// Working nodes whose servers have a slot.
    slot_peers: BTreeSet<NodeName>,
    spec: RunSpec,
    /// By node: its pods, and the addresses of the node.
    agents: BTreeMap<NodeName, NodeAgents>,
    standing: Standing,
}

/// The agents of a node.
#[derive(Clone, Default)]
struct NodeAgents {
    pods: BTreeMap<Component, (String, StandingPod)>,
    node: Vec<std::net::IpAddr>,
}

/// The result of an examination.
pub(super) struct Examined {
    /// The examined nodes.
    pub(super) nodes: BTreeSet<NodeName>,
    /// The pods that probe and were to report.
    pub(super) probing: BTreeSet<String>,
    /// The measurements.
    pub(super) matrix: Matrix,
    /// Their diagnosis.
    pub(super) report: Report,
}

impl Order {
    /// The examination of these nodes for a check.
    pub(super) fn new(
        check: &CheckState,
        nodes: BTreeSet<NodeName>,
        inventory: &Inventory,
        standing: &Standing,
    ) -> Self {
        let wanted_peers = check.wanted_peers(&nodes);
        let works = |node: &&NodeName| {
            let state = match check.nodes().get(*node) {
                Some(state) => state.clone(),
                // A node that the check does not select can be a peer all the same.
                None => (inventory.node(node)).map_or(NodeState::Starting, |record| {
                    NodeState::of(inventory, node, record, wall())
                }),
            };
            state == NodeState::Working
        };
        let slot_peers: BTreeSet<NodeName> = (standing.nodes.iter())
            .filter(|node| !nodes.contains(*node))
            .filter(works)
            .cloned()
            .collect();
        let measured = inventory.nodes().filter(|(_, record)| record.is_ready());
        let agents = measured
            .map(|(node, record)| {
                let agents = NodeAgents {
                    pods: pods_of(inventory, node),
                    node: record.internal_ips.clone(),
                };
                (node.clone(), agents)
            })
            .filter(|(node, _)| {
                nodes.contains(node) || wanted_peers.contains(node) || slot_peers.contains(node)
            })
            .collect();
        Self {
            spec: run_spec(check, standing),
            nodes,
            wanted_peers,
            slot_peers,
            agents,
            standing: standing.clone(),
        }
    }

    /// Chooses the peers, and completes the specification of the run and of its platform.
    fn complete(
        mut self,
        named: &BTreeSet<NodeName>,
    ) -> (BTreeSet<NodeName>, RunSpec, StandingConfig) {
        let known = |node: &&NodeName| self.agents.contains_key(*node);
        let first = (self
            .wanted_peers
            .iter()
            .chain(named)
            .chain(&self.slot_peers))
        .filter(known)
        .filter(|node| !self.nodes.contains(*node));
        let mut peers: Vec<NodeName> = Vec::new();
        for node in first {
            if peers.len() < PEERS && !peers.contains(node) {
                peers.push(node.clone());
            }
        }
        let pairs = pairs(&self.nodes, &peers);
        let taken: BTreeSet<&NodeName> = pairs.iter().map(|(client, _)| client).collect();
        self.agents.retain(|node, _| taken.contains(node));
        let name = |agents: &NodeAgents, component| {
            let pod = agents.pods.get(&component);
            pod.map(|(name, _)| name.clone())
        };
        let given = (self.agents.iter()).map(|(node, agents)| {
            let pods = NodePods {
                client: name(agents, Component::Client),
                server: name(agents, Component::Server),
                host: name(agents, Component::Node),
            };
            (node.clone(), pods)
        });
        self.spec.pod_names = PodNames::Given(given.collect());
        self.spec.nodes = self.agents.keys().cloned().collect();
        self.spec.selected = self.nodes.iter().cloned().collect();
        self.spec.further_pairs = pairs;
        let config = StandingConfig {
            run: self.spec.run.clone(),
            pods: (self.agents.values())
                .flat_map(|agents| agents.pods.values().cloned())
                .collect(),
            nodes: (self.agents.iter())
                .map(|(node, agents)| (node.clone(), agents.node.clone()))
                .collect(),
            slots: self.standing.slots.clone(),
            startup_timeout: STARTUP_TIMEOUT,
        };
        (self.nodes, self.spec, config)
    }
}

/// The pairs of an examination: each node with itself, and with each peer in both directions. Where there are no peers,
/// examined nodes are peers of each other.
fn pairs(examined: &BTreeSet<NodeName>, peers: &[NodeName]) -> BTreeSet<NodePair> {
    let missing = PEERS.saturating_sub(peers.len());
    let mut pairs = BTreeSet::new();
    let ring: Vec<&NodeName> = examined.iter().collect();
    for (position, node) in ring.iter().enumerate() {
        pairs.insert(((*node).clone(), (*node).clone()));
        let next = ring.iter().cycle().skip(position + 1);
        let others = next.take(missing.min(ring.len().saturating_sub(1)));
        for peer in peers.iter().chain(others.copied()) {
            pairs.insert(((*node).clone(), peer.clone()));
            pairs.insert((peer.clone(), (*node).clone()));
        }
    }
    pairs
}

fn pods_of(inventory: &Inventory, node: &NodeName) -> BTreeMap<Component, (String, StandingPod)> {
    let pods = Component::ALL.into_iter().filter_map(|component| {
        let pod = inventory.agent(node, component).filter(|pod| pod.runs())?;
        let known = StandingPod {
            uid: pod.uid.clone(),
            addresses: pod.addresses.clone(),
        };
        Some((component, (pod.name.clone(), known)))
    });
    pods.collect()
}

/// The run that examines for a check; nodes and pods are not chosen yet.
fn run_spec(check: &CheckState, standing: &Standing) -> RunSpec {
    let spec = check.spec();
    let services = standing.slots.services();
    let families = services.families();
    let tier = match spec.node_facts {
        NodeFacts::Never => Tier::T1,
        NodeFacts::Auto | NodeFacts::Always => Tier::T2,
    };
    let has_node_ports = !services.balanced.node_ports.is_empty();
    let access_paths = spec.access_paths.iter().map(|&path| AccessPath::from(path));
    let nonce = standing.nonce;
    RunSpec {
        peers: 0,
        access_paths: access_paths
            .filter(|path| *path != AccessPath::NodePort || has_node_ports)
            .collect(),
        families: (spec.ip_families.iter())
            .map(|&family| family.into())
            .filter(|family| families.contains(family))
            .collect(),
        tier,
        raw_probes: RAW_PROBES,
        deadline: spec.probe_deadline.duration(),
        startup_timeout: STARTUP_TIMEOUT,
        time_limit: Some(TIME_LIMIT),
        opening_patience: Duration::ZERO,
        ..RunSpec::new(String::new(), nonce, Vec::new())
    }
}

/// Examines; `None` if the run could not measure anything.
pub(super) async fn examine(
    shared: Arc<Shared>,
    mut order: Order,
    stop: watch::Receiver<bool>,
) -> Option<Examined> {
    let run = run_name(random());
    order.spec.run.clone_from(&run);
    let is_chosen_freely = order.agents.len() <= order.nodes.len() + PEERS;
    let named = if is_chosen_freely {
        BTreeSet::new()
    } else {
        servers_named_by_alerts(&shared, &order).await
    };
    let (nodes, spec, config) = order.complete(&named);
    let probing = probing(&spec.pod_names);
    tracing::info!(run, nodes = ?names(&nodes), "examining nodes");
    let began = wall();
    let finished = drive(&shared, spec, config, stop).await;
    if let Completion::CouldNotRun { reason } = &finished.completion {
        tracing::warn!(run, nodes = ?names(&nodes), reason, "an examination could not be completed");
        if finished.matrix.paths.is_empty() {
            return None;
        }
    }
    let mut finished = finished;
    if !finished.matrix.paths.values().all(PathEvidence::is_clean) {
        finished.matrix.policies = shared.policies.lock().await.policies().await;
    }
    let diagnosed = spawn_blocking(move || {
        let meta = Meta {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command: vec!["prober-controller".to_owned()],
            started: began,
            duration: wall().since(began),
            completion: finished.completion,
            notes: finished.notes,
        };
        let report = Report::new(&finished.matrix, &diagnose(&finished.matrix), meta);
        (finished.matrix, report)
    });
    match diagnosed.await {
        Ok((matrix, report)) => Some(Examined {
            nodes,
            probing,
            matrix,
            report,
        }),
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

/// The clients and servers of a run.
fn probing(names: &PodNames) -> BTreeSet<String> {
    match names {
        PodNames::Given(nodes) => (nodes.values())
            .flat_map(|pods| pods.client.iter().chain(&pods.server))
            .cloned()
            .collect(),
        PodNames::Prefixed(_) => BTreeSet::new(),
    }
}

fn names(nodes: &BTreeSet<NodeName>) -> Vec<&str> {
    nodes.iter().map(NodeName::as_str).collect()
}

/// Drives a run over standing agents to its end.
async fn drive(
    shared: &Shared,
    spec: RunSpec,
    config: StandingConfig,
    mut stop: watch::Receiver<bool>,
) -> RunResult {
    let (commands, platform_commands) = mpsc::unbounded_channel();
    let (event_sender, mut events) = mpsc::unbounded_channel();
    let platform = tokio::spawn(StandingPlatform::serve(
        shared.client.clone(),
        config,
        platform_commands,
        event_sender,
    ));
    let mut run = Run::new(spec);
    let mut is_wanted = true;
    run.start(steady());
    while run.phase() != Phase::Ended {
        while let Some(command) = run.poll_command() {
            // A platform that has ended closes its events.
            drop(commands.send(command));
        }
        tokio::select! {
            event = events.recv() => {
                run.handle(event.unwrap_or(PlatformEvent::Removed), steady());
            }
            () = stopped(&mut stop), if is_wanted => {
                is_wanted = false;
                run.handle(PlatformEvent::Interrupted, steady());
            }
            () = until(run.poll_timeout()) => {}
        }
        run.handle_timeout(steady());
    }
    drop(commands);
    if let Err(ended) = platform.await {
        std::panic::resume_unwind(ended.into_panic());
    }
    run.finish()
}

/// The nodes of the servers that failed probes of the examined nodes were to reach, from the ends of the agents' logs. A
/// log that cannot be read names none.
async fn servers_named_by_alerts(shared: &Shared, order: &Order) -> BTreeSet<NodeName> {
    let client = &shared.client;
    let pods: Api<Pod> = Api::namespaced(client.kube.clone(), &client.namespace);
    let params = LogParams {
        tail_lines: Some(TAIL_LINES),
        ..LogParams::default()
    };
    let examined = order.nodes.iter().filter_map(|node| order.agents.get(node));
    let clients = examined.filter_map(|agents| agents.pods.get(&Component::Client));
    let reading = clients.map(|(pod, _)| {
        let request = pods.logs(pod, &params);
        async move {
            let task = format!("read the end of the log of the Pod {pod}");
            client.request(&task, request).await.unwrap_or_default()
        }
    });
    let logs = futures::future::join_all(reading).await;
    let lines = logs.iter().flat_map(|log| log.lines());
    let failures = lines.filter_map(|line| match Event::parse(line) {
        Ok(Event::StandingFailure(failure)) => failure.server,
        Ok(_) | Err(_) => None,
    });
    failures.map(|server| server.node).collect()
}
