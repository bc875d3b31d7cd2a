//! A run against a model of a platform: it always ends, and no object stays placed.

mod comparisons;
mod cycles;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU8;
use std::time::Duration;

use proptest::prelude::*;

use super::actions::{DELIVERY, FOLLOW_UP_AFTER};
use super::*;
use crate::evidence::{Matrix, PathEvidence};
use crate::node_facts::ConntrackRequest;
use crate::packet::family::Family;
use crate::plan::{LogReading, NodeFactsReading, Plan};
use crate::probe::event::{EVENT_SCHEMA, Event, Hello, OutcomeCounts, Tally};
use crate::probe::latency::Latency;
use crate::probe::outcome::{EngineKind, OutcomeKind};
use crate::probe::tier::Tier;
use crate::topology::{AccessPath, AgentId, Path};

/// Whether a fault affects the probes of an agent to a target.
type IsAffected = fn(&AgentId, SocketAddr) -> bool;

/// A platform that answers at once and records the placed objects.
#[derive(Default)]
struct ModelPlatform {
    placed: BTreeSet<AgentId>,
    commands: usize,
    /// The agents that were placed, in order.
    history: Vec<AgentId>,
    /// Agents that were placed with probes.
    placed_with_probes: BTreeSet<AgentId>,
    /// Agents without raw sockets.
    plain: BTreeSet<AgentId>,
    /// Agents with an address of the other family too; if there are any, the Services have one.
    dual: BTreeSet<AgentId>,
    /// Agents that cannot be started.
    broken: BTreeSet<AgentId>,
    /// Fails when it receives probes.
    failing: Option<AgentId>,
    /// Runs only after it receives another plan than its first.
    late: Option<AgentId>,
    /// The slots whose servers' nodes have no address for node ports.
    portless: BTreeSet<usize>,
    /// Writes no line.
    silent: Option<AgentId>,
    /// Probes of this port get no answer.
    dead_port: Option<u16>,
    /// Probes of these agents to these targets end otherwise.
    fault: Option<(IsAffected, OutcomeKind)>,
    /// Finishes its initial round only after its follow-up.
    slow: Option<AgentId>,
    /// Receives the plan of its follow-up seven seconds late.
    delayed: Option<AgentId>,
    /// Lines that these write later: a second after the follow-up, or those seven.
    unwritten: Vec<PlatformEvent>,
    has_follow_up: bool,
    /// Agents that receive no plan after that of the initial round.
    cut_off: BTreeSet<AgentId>,
    /// Receives the plan of the initial round only after another has replaced it.
    overtaken: Option<AgentId>,
    /// Agents that read facts, and the generation of the plan.
    readings: Vec<(AgentId, u32)>,
    /// Agents that read conntrack entries, and the connections of these.
    tracked: Vec<(AgentId, ConntrackRequest)>,
    /// When the run ended.
    ended: Timestamp,
    /// The number of periods of a cycle with unread logs; 0: its logs are read.
    periods: usize,
    /// Lines that are written and not read.
    unread_lines: Vec<PlatformEvent>,
    /// The agent with a failed probe meanwhile.
    alerting: Option<AgentId>,
    /// The numbers of `PauseLogs` and `ResumeLogs`.
    pauses: usize,
    resumes: usize,
    /// When each cycle had its result.
    finished_at: Vec<Timestamp>,
}

const OTHER: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn address(agent: &AgentId) -> IpAddr {
    let node: u8 = agent
        .node
        .as_str()
        .trim_start_matches("node-")
        .parse()
        .unwrap();
    let host = if agent.pod.ends_with("client") {
        10
    } else {
        20
    };
    IpAddr::from([100, 96, node, host])
}

impl ModelPlatform {
    fn handle(&mut self, command: PlatformCommand) -> Vec<PlatformEvent> {
        self.commands += 1;
        match command {
            PlatformCommand::Place(mut placements) => {
                // Reading takes time.
                placements.sort_by_key(|placement| placement.plan.facts != NodeFactsReading::Skip);
                placements
                    .into_iter()
                    .flat_map(|Placement { agent, plan, .. }| {
                        self.history.push(agent.clone());
                        if self.broken.contains(&agent) {
                            let reason = "no image".to_owned();
                            return vec![PlatformEvent::AgentFailed { agent, reason }];
                        }
                        self.placed.insert(agent.clone());
                        if self.late.as_ref() == Some(&agent) {
                            return Vec::new();
                        }
                        if !plan.probes.is_empty() {
                            self.placed_with_probes.insert(agent.clone());
                        }
                        let other = self.dual.contains(&agent).then_some(OTHER);
                        let ready = PlatformEvent::AgentReady {
                            addresses: [address(&agent)].into_iter().chain(other).collect(),
                            agent,
                        };
                        let mut events = self.run_plan(plan);
                        events.insert(0, ready);
                        events
                    })
                    .collect()
            }
            PlatformCommand::Publish(endpoints) => {
                let vip = IpAddr::from([100, 67, 30, 133]);
                let vips: Vec<_> = [vip]
                    .into_iter()
                    .chain((!self.dual.is_empty()).then_some(OTHER))
                    .collect();
                let at = |port| vips.iter().map(move |&ip| SocketAddr::new(ip, port));
                vec![PlatformEvent::Published(Published {
                    slots: (9_000..)
                        .take(endpoints.slots.len())
                        .map(|port| at(port).collect())
                        .collect(),
                    any: vec![SocketAddr::new(vip, 80)],
                    local: vec![SocketAddr::from(([100, 67, 30, 134], 80))],
                    node_ports: (0..endpoints.slots.len())
                        .zip(30_000..)
                        .map(|(slot, port)| {
                            let address = SocketAddr::from(([172, 20, 0, 11], port));
                            let has_port = !self.portless.contains(&slot);
                            has_port.then_some(address).into_iter().collect()
                        })
                        .collect(),
                    slices: None,
                    rules: Rules::Written,
                })]
            }
            PlatformCommand::SendPlan(plan) => {
                let late = self.late.take_if(|agent| *agent == plan.agent);
                let ready = late.map(|agent| PlatformEvent::AgentReady {
                    addresses: vec![address(&agent)],
                    agent,
                });
                ready.into_iter().chain(self.run_plan(plan)).collect()
            }
            PlatformCommand::PauseLogs => {
                self.pauses += 1;
                let alerting = self.alerting.take();
                alerting
                    .map(|agent| PlatformEvent::Alert { agent })
                    .into_iter()
                    .collect()
            }
            PlatformCommand::ResumeLogs => {
                self.resumes += 1;
                self.unread_lines.drain(..).collect()
            }
            PlatformCommand::Remove => {
                self.placed.clear();
                vec![PlatformEvent::Removed]
            }
        }
    }

    fn run_plan(&mut self, plan: Plan) -> Vec<PlatformEvent> {
        let is_overtaken = plan.generation == 2 && self.overtaken.as_ref() == Some(&plan.agent);
        if is_overtaken || self.silent.as_ref() == Some(&plan.agent) {
            return Vec::new();
        }
        if self.failing.as_ref() == Some(&plan.agent) && !plan.probes.is_empty() {
            return vec![PlatformEvent::AgentFailed {
                agent: plan.agent,
                reason: "it was evicted".to_owned(),
            }];
        }
        let mut lines = vec![Event::Hello(Hello {
            schema: EVENT_SCHEMA.to_owned(),
            agent: plan.agent.clone(),
            version: "0".to_owned(),
            tier: if self.plain.contains(&plan.agent) {
                Tier::T0
            } else {
                Tier::T1
            },
            addresses: Vec::new(),
            limits: Vec::new(),
            at: Timestamp::default(),
            run: None,
        })];
        let tracked = plan.conntrack.map(|request| (plan.agent.clone(), *request));
        self.tracked.extend(tracked);
        let readings = match plan.facts {
            NodeFactsReading::Skip => 0,
            NodeFactsReading::Once => 1,
            NodeFactsReading::Twice { .. } => 2,
        };
        for _ in 0..readings {
            self.readings.push((plan.agent.clone(), plan.generation));
            lines.push(Event::Facts(Box::default()));
        }
        lines.extend(plan.probes.iter().map(|probe| {
            let count = u64::from(probe.count);
            let fault = self
                .fault
                .filter(|(is_hit, _)| is_hit(&plan.agent, probe.target));
            let mut outcomes = OutcomeCounts::default();
            let kind = if self.dead_port == Some(probe.target.port()) {
                if plan.log_reading == LogReading::Unattended {
                    self.alerting = Some(plan.agent.clone());
                }
                OutcomeKind::Timeout
            } else {
                fault.map_or(OutcomeKind::Established, |(_, kind)| kind)
            };
            for _ in 0..count {
                outcomes.count(kind);
            }
            Event::Tally(Tally {
                path: probe.path,
                engine: EngineKind::Kernel,
                first_syn_success: outcomes.established,
                outcomes,
                rtt: Latency::new(),
            })
        }));
        lines.push(Event::Done {
            generation: plan.generation,
        });
        let agent = plan.agent;
        let events = (lines.into_iter()).map(|event| line(&agent, event));
        if plan.log_reading == LogReading::Unattended {
            self.unread_lines.extend(events);
            self.unread_lines
                .extend(self.alerting.iter().map(|agent| line(agent, Event::Alert)));
            return Vec::new();
        }
        if plan.generation > 2 && self.cut_off.contains(&agent) {
            self.has_follow_up = true;
            return Vec::new();
        }
        if self.delayed.as_ref() == Some(&agent) {
            let accepted = accepted(&agent, plan.generation);
            let events = std::iter::once(accepted).chain(events).collect();
            if plan.generation < 3 {
                return events;
            }
            self.has_follow_up = true;
            self.unwritten = events;
            return Vec::new();
        }
        if self.slow.as_ref() != Some(&agent) {
            return events.collect();
        }
        match plan.generation {
            2 => {
                self.unwritten = events.collect();
                vec![accepted(&agent, 2)]
            }
            generation => {
                self.has_follow_up = generation == 3;
                events.collect()
            }
        }
    }
}

fn line(agent: &AgentId, event: Event) -> PlatformEvent {
    PlatformEvent::AgentLine {
        agent: agent.clone(),
        event,
    }
}

/// The line of an agent that has accepted a plan.
fn accepted(agent: &AgentId, generation: u32) -> PlatformEvent {
    line(agent, Event::PlanAccepted { generation })
}

fn spec(nodes: usize) -> RunSpec {
    let nodes: Vec<_> = (1..=nodes)
        .map(|i| NodeName::new(format!("node-{i}")))
        .collect();
    RunSpec {
        run: "test".to_owned(),
        further_pairs: BTreeSet::new(),
        pod_names: PodNames::Prefixed(String::new()),
        nonce: 7,
        selected: nodes.clone(),
        nodes,
        peers: 3,
        servers_per_node: NonZeroU8::MIN,
        slots: MAX_SLOTS,
        access_paths: AccessPath::ALL.into(),
        pod_ranges: PodRanges::Known,
        families: vec![Family::Ipv4],
        missing_families: MissingFamilies::Skip,
        tier: Tier::T2,
        kernel_probes: 3,
        raw_probes: 10,
        echo_bytes: 0,
        deadline: Duration::from_secs(3),
        startup_timeout: Duration::from_mins(1),
        time_limit: None,
        opening_patience: Duration::from_secs(10),
    }
}

/// Runs to the end; after `limit` commands the user interrupts.
fn play(
    mut platform: ModelPlatform,
    mut run: Run,
    limit: usize,
) -> (ModelPlatform, Matrix, Completion) {
    let mut now = Timestamp::from_nanos(1);
    let mut events = VecDeque::new();
    let mut interrupted = false;
    run.start(now);
    for _ in 0..100_000 {
        if run.phase() == Phase::Ended {
            platform.ended = now;
            let RunResult {
                matrix, completion, ..
            } = run.finish();
            return (platform, matrix, completion);
        }
        if platform.commands >= limit && !interrupted {
            interrupted = true;
            run.handle(PlatformEvent::Interrupted, now);
        } else {
            step(&mut run, &mut platform, &mut events, &mut now);
        }
    }
    panic!("the run does not end: {:?}", run.phase());
}

/// The next step: the platform handles a command, the run an event, or time passes.
fn step(
    run: &mut Run,
    platform: &mut ModelPlatform,
    events: &mut VecDeque<PlatformEvent>,
    now: &mut Timestamp,
) {
    if let Some(command) = run.poll_command() {
        events.extend(platform.handle(command));
    } else if let Some(event) = events.pop_front() {
        run.handle(event, *now);
    } else {
        let at = run.poll_timeout().expect("a run that waits has a timer");
        let wait = if platform.delayed.is_some() { 7 } else { 1 };
        let then = *now + Duration::from_secs(wait);
        if platform.has_follow_up && !platform.unwritten.is_empty() && at > then {
            *now = then;
            events.extend(platform.unwritten.drain(..));
        } else {
            *now = at;
            run.handle_timeout(at);
        }
    }
}

#[test]
fn a_healthy_platform_is_probed_once_and_left_empty() {
    let (platform, matrix, ending) = play(ModelPlatform::default(), Run::new(spec(2)), usize::MAX);
    assert_eq!(ending, Completion::Complete);
    assert!(platform.placed.is_empty());
    // Two directions across, two on the same node, each by pod-ip and cluster-ip; and per node
    // prober-local, any and hairpin; and each pair by node-port and host-network.
    assert_eq!(matrix.paths.len(), 4 * 4 + 2 * 3);
    assert!(matrix.paths.values().all(PathEvidence::is_clean));
    assert!(matrix.agents.values().all(|agent| agent.has_reported));
    assert!(matrix.paths.values().all(|path| path.unfinished() == 0));
    assert_all_probed(&matrix);
}

#[test]
fn probes_without_an_outcome_at_an_interruption_are_counted() {
    // At the first command after which there are paths.
    let (_, matrix, ending) = (0..40)
        .map(|limit| play(ModelPlatform::default(), Run::new(spec(2)), limit))
        .find(|(_, matrix, _)| !matrix.paths.is_empty())
        .unwrap();
    assert_eq!(ending, Completion::Interrupted);
    assert_all_probed(&matrix);
    assert!(
        matrix
            .paths
            .values()
            .all(|path| path.unfinished() == path.requested)
    );
}

#[test]
fn a_run_ends_at_its_time_limit_with_what_is_measured() {
    let limit = Duration::from_secs(4);
    let platform = ModelPlatform {
        silent: Some(AgentId::new("node-2", "node-2-client")),
        ..ModelPlatform::default()
    };
    let run = Run::new(RunSpec {
        time_limit: Some(limit),
        ..spec(2)
    });
    let (platform, matrix, ending) = play(platform, run, usize::MAX);
    let reason = "its time limit of 4 s is over (--timeout)".to_owned();
    assert_eq!(ending, Completion::CouldNotRun { reason });
    assert_eq!(platform.ended, Timestamp::from_nanos(1) + limit);
    assert!(platform.placed.is_empty());
    assert!((matrix.paths.values()).any(|path| path.total().outcomes.total() > 0));
}

fn assert_all_probed(matrix: &Matrix) {
    for path in matrix.paths.values() {
        let least = spec(2).probes_of(path.path.access_path);
        assert!(path.requested >= least && least > 0, "{:?}", path.path);
    }
}

#[test]
fn an_agent_that_cannot_start_on_a_node_under_test_ends_the_run_with_its_reason() {
    let broken = AgentId::new("node-2", "node-2-client");
    let platform = ModelPlatform {
        broken: [broken].into(),
        ..ModelPlatform::default()
    };
    let (platform, _, ending) = play(platform, only("node-2", 2), usize::MAX);
    let Completion::CouldNotRun { reason } = ending else {
        panic!("{ending:?}")
    };
    assert!(
        reason.contains("node-2-client") && reason.contains("no image"),
        "{reason}"
    );
    assert!(platform.placed.is_empty());
}

#[test]
fn servers_beyond_the_slots_are_reported_as_not_probed() {
    let few = RunSpec {
        slots: 2,
        ..spec(3)
    };
    let (_, matrix, ending) = play(ModelPlatform::default(), Run::new(few), usize::MAX);
    assert_eq!(ending, Completion::Complete);
    let third = Some(AgentId::new("node-3", "node-3-server"));
    let to_third = |path: &Path| path.server == third;
    assert!(matrix.unprobed.keys().all(to_third));
    assert!(matrix.unprobed.values().all(|why| why.contains("2 of 3")));
    let access_paths: Vec<AccessPath> = matrix
        .unprobed
        .keys()
        .map(|path| path.access_path)
        .collect();
    let count = |access_path| {
        access_paths
            .iter()
            .filter(|&&other| other == access_path)
            .count()
    };
    // Three clients, and the server itself.
    for (access_path, paths) in [
        (AccessPath::ClusterIp, 3),
        (AccessPath::NodePort, 3),
        (AccessPath::HostNetwork, 3),
        (AccessPath::Hairpin, 1),
    ] {
        assert_eq!(count(access_path), paths, "{access_path}");
    }
    let by_pod_ip =
        |path: &PathEvidence| path.path.access_path == AccessPath::PodIp && to_third(&path.path);
    assert_eq!(
        matrix.paths.values().filter(|path| by_pod_ip(path)).count(),
        3
    );
}

#[test]
fn every_path_of_a_run_is_probed_or_listed_with_a_reason() {
    let two_servers = NonZeroU8::new(2).unwrap();
    let more_than_slots = RunSpec {
        slots: 8,
        peers: 9,
        ..spec(10)
    };
    let broken = |pods: &[&str]| ModelPlatform {
        broken: pods
            .iter()
            .map(|pod| AgentId::new(&pod[..6], *pod))
            .collect(),
        ..ModelPlatform::default()
    };
    let portless = |slots: &[usize]| ModelPlatform {
        portless: slots.iter().copied().collect(),
        ..ModelPlatform::default()
    };
    let of_two = RunSpec {
        servers_per_node: two_servers,
        ..spec(3)
    };
    for (name, spec, platform, reason) in [
        (
            "slots",
            more_than_slots,
            ModelPlatform::default(),
            "8 of 10",
        ),
        ("agent", spec(3), broken(&["node-3-client"]), "no image"),
        (
            "servers",
            of_two,
            broken(&["node-3-server", "node-3-server-2"]),
            "no image",
        ),
        ("port", spec(3), portless(&[1]), "node-2 has no node port"),
        (
            "ports",
            spec(3),
            portless(&[0, 1, 2]),
            "no node port on any",
        ),
    ] {
        let (_, whole, _) = play(ModelPlatform::default(), Run::new(spec.clone()), usize::MAX);
        let wanted: BTreeSet<Path> = whole.paths.into_values().map(|path| path.path).collect();
        let wanted: BTreeSet<Path> = wanted
            .into_iter()
            .chain(whole.unprobed.into_keys())
            .collect();
        let (_, matrix, _) = play(platform, Run::new(spec), usize::MAX);
        let probed = matrix.paths.values().map(|path| &path.path);
        let reported: BTreeSet<Path> = probed.chain(matrix.unprobed.keys()).cloned().collect();
        assert!(wanted.len() > 20, "{name}");
        assert_eq!(wanted.difference(&reported).count(), 0, "{name}");
        assert!(
            matrix.unprobed.values().any(|why| why.contains(reason)),
            "{name}"
        );
        let meta = crate::report::incident::meta("prober run --all");
        let report = crate::report::Report::new(&matrix, &[], meta);
        assert_eq!(report.exit_status, 2, "{name}");
        let notes = report
            .notes
            .iter()
            .filter(|note| note.starts_with("Not probed"));
        assert!(
            (1..=9).contains(&notes.count()),
            "{name}: {:?}",
            report.notes
        );
    }
}

#[test]
fn agents_that_start_before_other_pods_probe_presumed_ranges_alone() {
    let ranges = |prefix: &str| {
        PodRanges::Presumed(crate::plan::AllowedTargets::new(vec![
            prefix.parse().unwrap(),
        ]))
    };
    // Nothing reaches node-2 from other nodes: a server of another node, and the client of node-2, are compared.
    let is_cut_off: IsAffected = |agent, target| {
        agent.node.as_str() != "node-2" && target.ip() == IpAddr::from([100, 96, 2, 20])
    };
    let compared = |pod_ranges: PodRanges| {
        let platform = ModelPlatform {
            fault: Some((is_cut_off, OutcomeKind::Timeout)),
            ..ModelPlatform::default()
        };
        let run = Run::new(RunSpec {
            pod_ranges,
            access_paths: [AccessPath::PodIp].into(),
            ..spec(3)
        });
        play(platform, run, usize::MAX).1.comparisons.len()
    };
    assert!(compared(PodRanges::Known) > 0);
    assert_eq!(
        compared(ranges("100.96.0.0/16")),
        compared(PodRanges::Known)
    );
    assert_eq!(compared(ranges("10.0.0.0/8")), 0);

    // No client of a peer starts while the facts are read.
    let first_client = |pod_ranges: PodRanges| {
        let run = Run::new(RunSpec {
            pod_ranges,
            selected: vec![NodeName::new("node-1")],
            ..spec(3)
        });
        let (platform, ..) = play(ModelPlatform::default(), run, usize::MAX);
        let place = |pod: &str| {
            let mut placed = platform.history.iter();
            placed.position(|agent| agent.pod == pod).unwrap()
        };
        (place("node-2-client"), place("node-1-server"))
    };
    let (client, server) = first_client(PodRanges::Known);
    assert!(client < server);
    let (client, server) = first_client(ranges("10.0.0.0/8"));
    assert!(client > server);
}

#[test]
fn a_peer_that_cannot_start_leaves_its_paths_unprobed_with_the_reason() {
    let broken = AgentId::new("node-2", "node-2-server");
    let platform = ModelPlatform {
        broken: [broken.clone()].into(),
        ..ModelPlatform::default()
    };
    let (_, matrix, ending) = play(platform, only("node-1", 3), usize::MAX);
    assert_eq!(ending, Completion::Complete);
    assert!(
        matrix
            .paths
            .values()
            .all(|path| path.path.server.as_ref() != Some(&broken))
    );
    assert!(matrix.agents[&broken].failed.is_some());
    let unprobed = matrix.unprobed.iter();
    assert!(
        unprobed
            .clone()
            .all(|(path, reason)| path.server.as_ref() == Some(&broken)
                && reason.contains("node-2-server on node-2: no image"))
    );
    assert!(unprobed.count() > 0);
}

/// A run of one of this many nodes.
fn only(node: &str, nodes: usize) -> Run {
    Run::new(RunSpec {
        selected: vec![NodeName::new(node)],
        ..spec(nodes)
    })
}

#[test]
fn a_node_under_test_that_cannot_be_probed_is_reported_after_the_others_are_probed() {
    let platform = ModelPlatform {
        broken: [AgentId::new("node-2", "node-2-client")].into(),
        ..ModelPlatform::default()
    };
    let (_, matrix, completion) = play(platform, Run::new(spec(3)), usize::MAX);
    assert!(matches!(completion, Completion::CouldNotRun { .. }));
    assert!(matrix.paths.len() > 20 && matrix.paths.values().all(PathEvidence::is_clean));
}

#[test]
fn facts_are_read_before_other_agents_are_placed_on_a_node_under_test_and_peers_do_not_wait() {
    let (platform, matrix, _) = play(ModelPlatform::default(), only("node-2", 3), usize::MAX);
    let place = |pod: &str| {
        let of_pod = |agent: &AgentId| agent.pod == pod;
        platform.history.iter().position(of_pod).unwrap()
    };
    for first in ["node-1-server", "node-3-server", "node-2-host"] {
        assert!(
            place(first) < place("node-2-server"),
            "{:?}",
            platform.history
        );
    }
    let read: Vec<_> = matrix.nodes.keys().map(NodeName::as_str).collect();
    assert_eq!(read, ["node-2"]);
    assert_eq!(platform.readings.len(), 1);
}

#[test]
fn agents_that_only_probe_are_placed_last_and_with_their_probes() {
    let (platform, matrix, _) = play(ModelPlatform::default(), Run::new(spec(2)), usize::MAX);
    let pods: Vec<_> = platform
        .history
        .iter()
        .map(|agent| agent.pod.as_str())
        .collect();
    assert_eq!(pods[4..], ["node-1-client", "node-2-client"]);
    assert_eq!(
        platform.placed_with_probes,
        platform.history[4..].iter().cloned().collect()
    );
    assert_all_probed(&matrix);
}

#[test]
fn peers_probe_from_agents_that_started_while_facts_were_read_or_are_starting() {
    for late in [None, Some(AgentId::new("node-1", "node-1-client"))] {
        let platform = ModelPlatform {
            late,
            ..ModelPlatform::default()
        };
        let (platform, matrix, ending) = play(platform, only("node-2", 2), usize::MAX);
        assert_eq!(ending, Completion::Complete);
        let pods: Vec<_> = platform
            .history
            .iter()
            .map(|agent| agent.pod.as_str())
            .collect();
        let early = ["node-1-client", "node-1-host"];
        assert_eq!(
            pods[2..],
            [&early[..], &["node-2-server", "node-2-client"]].concat()
        );
        let at_once: Vec<_> = platform
            .placed_with_probes
            .iter()
            .map(|agent| agent.pod.as_str())
            .collect();
        assert_eq!(at_once, ["node-2-client"]);
        assert_all_probed(&matrix);
        assert!(matrix.agents.values().all(|agent| agent.has_reported));
        assert!(matrix.paths.values().all(|path| path.unfinished() == 0));
    }
}

#[test]
fn a_client_that_sees_no_packets_is_not_taken_to_have_sent_any() {
    let plain = AgentId::new("node-1", "node-1-client");
    let platform = ModelPlatform {
        plain: [plain.clone()].into(),
        ..ModelPlatform::default()
    };
    let (_, matrix, _) = play(platform, Run::new(spec(2)), usize::MAX);
    for path in matrix.paths.values() {
        let is_plain = path.path.client == plain;
        let crafted = spec(2).probes_of(path.path.access_path) > u64::from(spec(2).kernel_probes);
        assert!(!crafted || (path.requested < u64::from(spec(2).raw_probes) + 3) == is_plain);
    }
}

#[test]
fn a_client_without_an_address_of_a_family_has_no_paths_in_it() {
    let server = |node: u8| AgentId::new(format!("node-{node}"), format!("node-{node}-server"));
    let client = AgentId::new("node-1", "node-1-client");
    let run = || {
        Run::new(RunSpec {
            families: vec![Family::Ipv4, Family::Ipv6],
            ..spec(2)
        })
    };
    let of_other = |matrix: &Matrix| {
        let paths = matrix.paths.values();
        paths
            .filter(|path| path.path.family == Family::Ipv6 && path.path.client == client)
            .count()
    };
    let mut dual: BTreeSet<_> = [server(1), server(2)].into();
    let with = |dual: &BTreeSet<AgentId>| ModelPlatform {
        dual: dual.clone(),
        ..ModelPlatform::default()
    };
    let (_, matrix, completion) = play(with(&dual), run(), usize::MAX);
    assert_eq!((of_other(&matrix), completion), (0, Completion::Complete));
    dual.insert(client.clone());
    let (_, matrix, _) = play(with(&dual), run(), usize::MAX);
    assert!(of_other(&matrix) >= 4);
}

#[test]
fn paths_of_a_requested_family_that_is_missing_are_reported_as_not_probed() {
    let requested = || {
        Run::new(RunSpec {
            families: vec![Family::Ipv4, Family::Ipv6],
            missing_families: MissingFamilies::Report,
            ..spec(2)
        })
    };
    let (_, matrix, completion) = play(ModelPlatform::default(), requested(), usize::MAX);
    assert_eq!(completion, Completion::Complete);
    assert_eq!(matrix.unprobed.len(), matrix.paths.len());
    let is_ipv6 = |path: &Path| path.family == Family::Ipv6;
    assert!(matrix.unprobed.keys().all(is_ipv6));
    let reasons: BTreeSet<&String> = matrix.unprobed.values().collect();
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    assert!(reasons.iter().all(|why| why.contains("no pod has an IPv6")));

    // Every pod of node-1 has one, and no node.
    let pods = ["client", "server"].map(|pod| AgentId::new("node-1", format!("node-1-{pod}")));
    let platform = ModelPlatform {
        dual: pods.into(),
        ..ModelPlatform::default()
    };
    let (_, matrix, _) = play(platform, requested(), usize::MAX);
    let reason = |client: &str, access_path| {
        let found = matrix.unprobed.iter().find(|(path, _)| {
            path.client.pod == client && path.access_path == access_path && is_ipv6(path)
        });
        found.map_or("", |(_, why)| why.as_str())
    };
    let ends = "its client or its server has no IPv6 address";
    assert_eq!(reason("node-2-client", AccessPath::PodIp), ends);
    let node_port = "the cluster has no IPv6 address for node-port";
    assert_eq!(reason("node-1-client", AccessPath::NodePort), node_port);
    let is_probed = |path: &PathEvidence| is_ipv6(&path.path);
    assert!(matrix.paths.values().any(is_probed));
    let probed = matrix.paths.values().map(|path| &path.path);
    assert!(
        probed
            .into_iter()
            .all(|path| !matrix.unprobed.contains_key(path))
    );
}

#[test]
fn a_run_without_a_client_of_a_wanted_family_could_not_run() {
    let server = |node: u8| AgentId::new(format!("node-{node}"), format!("node-{node}-server"));
    let platform = ModelPlatform {
        dual: [1, 2].map(server).into(),
        ..ModelPlatform::default()
    };
    let run = Run::new(RunSpec {
        families: vec![Family::Ipv6],
        access_paths: [AccessPath::ClusterIp].into(),
        ..spec(2)
    });
    let (_, matrix, completion) = play(platform, run, usize::MAX);
    assert_eq!(matrix.paths.len(), 0);
    let Completion::CouldNotRun { reason } = completion else {
        panic!("{completion:?}");
    };
    assert!(reason.contains("no path can be probed"), "{reason}");
}

#[test]
fn a_host_that_cannot_be_placed_costs_the_facts_of_its_node_and_nothing_else() {
    let platform = ModelPlatform {
        broken: [AgentId::new("node-1", "node-1-host")].into(),
        ..ModelPlatform::default()
    };
    let (_, matrix, completion) = play(platform, only("node-1", 2), usize::MAX);
    assert_eq!(completion, Completion::Complete);
    let unread = matrix.nodes[&NodeName::new("node-1")].unread.as_deref();
    assert_eq!(unread, Some("no image"));
    assert_eq!(matrix.unprobed, BTreeMap::new());
    assert!(matrix.paths.values().all(PathEvidence::is_clean));
}

#[test]
fn facts_are_read_again_at_the_ends_of_failing_paths_and_nowhere_else() {
    let platform = ModelPlatform {
        // Slot 1 is that of node-2.
        dead_port: Some(9_001),
        ..ModelPlatform::default()
    };
    let run = Run::new(RunSpec {
        access_paths: [AccessPath::Hairpin].into(),
        ..spec(3)
    });
    let (platform, matrix, completion) = play(platform, run, usize::MAX);
    assert_eq!(completion, Completion::Complete);
    let again: Vec<_> = platform
        .readings
        .iter()
        .filter(|(_, generation)| *generation > 1)
        .map(|(agent, generation)| (agent.pod.as_str(), *generation))
        .collect();
    assert_eq!(again, [("node-2-host", 3), ("node-2-host", 3)]);
    // The hairpin of node-2, by its ClusterIP and its server; no plan of another agent requests entries.
    let [(host, request)] = &platform.tracked[..] else {
        panic!("{:?}", platform.tracked)
    };
    let server = address(&AgentId::new("node-2", "node-2-server"));
    let targets = ["100.67.30.133:9001", "100.96.2.20:8080"].map(|target| target.parse().unwrap());
    assert_eq!(host.pod, "node-2-host");
    assert_eq!(request.targets, targets.into());
    assert!(
        request.clients.contains(&server),
        "the client of a hairpin is its server"
    );
    let node = &matrix.nodes[&NodeName::new("node-2")];
    assert!(node.before.is_some() && node.during.is_some() && node.after.is_some());
}

#[test]
fn an_agent_that_ends_in_mid_run_makes_its_paths_unprobed_and_no_others() {
    let failing = AgentId::new("node-1", "node-1-client");
    let platform = ModelPlatform {
        failing: Some(failing.clone()),
        ..ModelPlatform::default()
    };
    let (_, matrix, completion) = play(platform, only("node-1", 2), usize::MAX);
    let Completion::CouldNotRun { reason } = completion else {
        panic!("{completion:?}")
    };
    assert!(reason.contains("it was evicted"), "{reason}");
    assert!(matrix.unprobed.keys().all(|path| path.client == failing));
    assert!(!matrix.unprobed.is_empty() && !matrix.paths.is_empty());
    assert!(matrix.paths.values().all(PathEvidence::is_clean));
}

#[test]
fn a_platform_that_cannot_go_on_ends_the_run_with_what_it_has() {
    let mut run = Run::new(spec(2));
    run.start(Timestamp::from_nanos(1));
    let facts = Event::Facts(Box::default());
    let agent = AgentId::new("node-1", "node-1-host");
    let now = Timestamp::from_nanos(2);
    run.handle(
        PlatformEvent::AgentLine {
            agent,
            event: facts,
        },
        now,
    );
    let reason = "the API server is gone".to_owned();
    run.handle(PlatformEvent::Note("node-1 is cordoned".to_owned()), now);
    run.handle(PlatformEvent::Failed(reason.clone()), now);
    assert_eq!(run.phase(), Phase::Removing);
    let finished = run.finish();
    assert_eq!(finished.completion, Completion::CouldNotRun { reason });
    assert_eq!(finished.notes, ["node-1 is cordoned"]);
    assert_eq!(finished.matrix.nodes.len(), 1);
}

#[test]
fn an_agent_whose_initial_round_outlasts_its_follow_up_is_waited_for() {
    let slow = AgentId::new("node-1", "node-1-client");
    let platform = ModelPlatform {
        slow: Some(slow.clone()),
        dead_port: Some(9_000),
        ..ModelPlatform::default()
    };
    let (_, matrix, completion) = play(platform, Run::new(spec(2)), usize::MAX);
    assert_eq!(completion, Completion::Complete);
    let mut own = matrix
        .paths
        .values()
        .filter(|path| path.path.client == slow);
    assert!(own.all(|path| path.unfinished() == 0 && path.requested > 0));
}

#[test]
fn an_agent_that_accepted_the_initial_plan_is_waited_for_where_its_next_plan_is_late() {
    let delayed = AgentId::new("node-1", "node-1-client");
    let platform = ModelPlatform {
        delayed: Some(delayed.clone()),
        dead_port: Some(9_000),
        ..ModelPlatform::default()
    };
    let (platform, matrix, completion) = play(platform, Run::new(spec(2)), usize::MAX);
    assert_eq!(completion, Completion::Complete);
    assert!(platform.has_follow_up);
    assert!(matrix.agents[&delayed].has_reported);
    let own = |path: &&PathEvidence| path.path.client == delayed && path.requested > 0;
    for path in matrix.paths.values().filter(own) {
        assert_eq!(path.unfinished(), 0, "{:?}", path.path);
    }
}

#[test]
fn a_path_that_was_only_late_needs_no_follow_up() {
    let slow = AgentId::new("node-1", "node-1-client");
    let platform = ModelPlatform {
        slow: Some(slow.clone()),
        cut_off: [slow, AgentId::new("node-1", "node-1-server")].into(),
        ..ModelPlatform::default()
    };
    let (platform, matrix, completion) = play(platform, Run::new(spec(2)), usize::MAX);
    assert_eq!(completion, Completion::Complete);
    assert!(platform.has_follow_up, "no follow-up has started");
    assert!(matrix.agents.values().all(|agent| agent.has_reported));
    assert!(matrix.paths.values().all(PathEvidence::is_clean));
    let most = DELIVERY + FOLLOW_UP_AFTER + Duration::from_secs(1);
    let took = platform.ended.since(Timestamp::from_nanos(1));
    assert!(took <= most, "{took:?}");
}

#[test]
fn a_plan_that_was_replaced_before_it_was_taken_is_in_the_next() {
    let overtaken = AgentId::new("node-1", "node-1-server");
    let platform = ModelPlatform {
        overtaken: Some(overtaken.clone()),
        ..ModelPlatform::default()
    };
    let (platform, matrix, completion) = play(platform, Run::new(spec(2)), usize::MAX);
    assert_eq!(completion, Completion::Complete);
    let own = |path: &&PathEvidence| path.path.client == overtaken;
    assert!(matrix.paths.values().filter(own).count() > 0);
    for path in matrix.paths.values() {
        let state = (path.unfinished(), path.is_clean());
        assert_eq!(state, (0, true), "{:?}", path.path);
    }
    let took = platform.ended.since(Timestamp::from_nanos(1));
    assert!(took <= DELIVERY + FOLLOW_UP_AFTER, "{took:?}");
}

#[test]
fn several_servers_a_node_share_the_slots_and_each_is_probed() {
    let run = Run::new(RunSpec {
        servers_per_node: NonZeroU8::new(4).unwrap(),
        ..spec(3)
    });
    let (_, matrix, completion) = play(ModelPlatform::default(), run, usize::MAX);
    assert_eq!(completion, Completion::Complete);
    let count = |access_path| {
        let paths = matrix.paths.values();
        paths
            .filter(|path| path.path.access_path == access_path)
            .count()
    };
    assert_eq!(count(AccessPath::ClusterIp), 9 * 4);
    assert_eq!(count(AccessPath::Hairpin), 3 * 4);
    assert_eq!(count(AccessPath::HostNetwork), 9);
    let local = matrix
        .paths
        .values()
        .find(|path| path.path.access_path == AccessPath::ClusterIpLocal);
    assert_eq!(local.map(|path| path.backends.len()), Some(4));
}

#[test]
fn an_agent_that_never_reports_does_not_delay_the_run() {
    let silent = AgentId::new("node-2", "node-2-client");
    let platform = ModelPlatform {
        silent: Some(silent.clone()),
        ..ModelPlatform::default()
    };
    let (platform, matrix, ending) = play(platform, Run::new(spec(2)), usize::MAX);
    assert_eq!(ending, Completion::Complete);
    assert!(!matrix.agents[&silent].has_reported);
    // Two seconds for its first plan, the delivery of the next, half a second for last lines: the rest is the duration of
    // probes of it, and the start of the follow-up of its paths.
    let most = Duration::from_secs(2)
        + DELIVERY
        + FOLLOW_UP_AFTER
        + 2 * spec(2).deadline
        + Duration::from_millis(500);
    let took = platform.ended.since(Timestamp::from_nanos(1));
    assert!(took <= most, "{took:?}");
}

proptest! {
    #[test]
    fn a_run_stopped_at_any_command_leaves_nothing_placed(
        limit in 0_usize..40,
        nodes in 1_usize..5,
        broken in proptest::collection::btree_set((1_u8..5, 0_usize..3), 0..4),
        dead_port in proptest::option::of(9_000_u16..9_004),
    ) {
        let role = |at: usize| ["client", "server", "host"][at];
        let platform = ModelPlatform {
            broken: broken
                .into_iter()
                .map(|(node, at)| AgentId::new(format!("node-{node}"), format!("node-{node}-{}", role(at))))
                .collect(),
            dead_port,
            ..ModelPlatform::default()
        };
        let (platform, ..) = play(platform, Run::new(spec(nodes)), limit);
        prop_assert!(platform.placed.is_empty());
    }
}
