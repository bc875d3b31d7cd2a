//! A run against a model of a fleet: it always ends, and nothing stays placed.

use std::net::SocketAddr;
use std::num::NonZeroU8;

use proptest::prelude::*;

use super::*;
use crate::event::{EVENT_SCHEMA, Event, Hello, OutcomeCounts, Tally};
use crate::evidence::{Matrix, PathEvidence};
use crate::family::Family;
use crate::latency::Latency;
use crate::observation::EngineKind;
use crate::plan::{Plan, Reading};
use crate::topology::Route;

/// A fleet that answers at once and remembers what is placed.
#[derive(Default)]
struct ModelFleet {
    placed: BTreeSet<AgentId>,
    commands: usize,
    broken: Option<AgentId>,
    silent: Option<AgentId>,
}

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

impl ModelFleet {
    fn obey(&mut self, command: FleetCommand) -> Vec<FleetEvent> {
        self.commands += 1;
        match command {
            FleetCommand::Place(placements) => placements
                .into_iter()
                .flat_map(|Placement { agent, plan, .. }| {
                    if self.broken.as_ref() == Some(&agent) {
                        let reason = "no image".to_owned();
                        return vec![FleetEvent::AgentFailed { agent, reason }];
                    }
                    self.placed.insert(agent.clone());
                    let ready = FleetEvent::AgentReady {
                        addresses: vec![address(&agent)],
                        agent,
                    };
                    let mut events = self.run_plan(plan);
                    events.insert(0, ready);
                    events
                })
                .collect(),
            FleetCommand::Publish(endpoints) => {
                let vip = IpAddr::from([100, 67, 30, 133]);
                vec![FleetEvent::Published(Published {
                    slots: (9_000..)
                        .take(endpoints.slots.len())
                        .map(|port| vec![SocketAddr::new(vip, port)])
                        .collect(),
                    any: vec![SocketAddr::new(vip, 80)],
                    local: vec![SocketAddr::from(([100, 67, 30, 134], 80))],
                    node_ports: (30_000..)
                        .take(endpoints.slots.len())
                        .map(|port| vec![SocketAddr::from(([172, 20, 0, 11], port))])
                        .collect(),
                    not_ready: Vec::new(),
                })]
            }
            FleetCommand::SendPlan(plan) => self.run_plan(plan),
            FleetCommand::Remove => {
                self.placed.clear();
                vec![FleetEvent::Removed]
            }
        }
    }

    fn run_plan(&self, plan: Plan) -> Vec<FleetEvent> {
        if self.silent.as_ref() == Some(&plan.agent) {
            return Vec::new();
        }
        let mut lines = vec![Event::Hello(Hello {
            schema: EVENT_SCHEMA.to_owned(),
            agent: plan.agent.clone(),
            version: "0".to_owned(),
            tier: Tier::T1,
            addresses: Vec::new(),
            limits: Vec::new(),
            at: Timestamp::default(),
        })];
        if plan.facts == Reading::Take {
            lines.push(Event::Facts(Box::default()));
        }
        lines.extend(plan.probes.iter().map(|probe| {
            let count = u64::from(probe.count);
            Event::Tally(Tally {
                path: probe.path,
                engine: EngineKind::Kernel,
                outcomes: OutcomeCounts {
                    established: count,
                    ..OutcomeCounts::default()
                },
                first_syn_success: count,
                rtt: Latency::new(),
            })
        }));
        lines.push(Event::Done {
            generation: plan.generation,
            starved_ns: 0,
        });
        let agent = plan.agent;
        lines
            .into_iter()
            .map(|event| FleetEvent::AgentLine {
                agent: agent.clone(),
                event,
            })
            .collect()
    }
}

fn spec(nodes: usize) -> RunSpec {
    let nodes: Vec<_> = (1..=nodes)
        .map(|i| NodeName::new(format!("node-{i}")))
        .collect();
    RunSpec {
        run: "test".to_owned(),
        pod_prefix: String::new(),
        nonce: 7,
        selected: nodes.clone(),
        nodes,
        peers: 3,
        servers_per_node: NonZeroU8::MIN,
        routes: Route::ALL.into(),
        families: vec![Family::Ipv4],
        tier: Tier::T2,
        kernel_probes: 3,
        raw_probes: 10,
        echo_bytes: 0,
        deadline: Duration::from_secs(3),
        patience: Duration::from_mins(1),
    }
}

/// Runs to the end; after `limit` commands the user interrupts.
fn play(mut fleet: ModelFleet, mut run: Run, limit: usize) -> (ModelFleet, Matrix, Completion) {
    let mut now = Timestamp::from_nanos(1);
    let mut events = VecDeque::new();
    let mut interrupted = false;
    run.start(now);
    for _ in 0..10_000 {
        if run.phase() == Phase::Ended {
            let Finished {
                matrix, completion, ..
            } = run.finish();
            return (fleet, matrix, completion);
        }
        if fleet.commands >= limit && !interrupted {
            interrupted = true;
            run.handle(FleetEvent::Interrupted, now);
        } else if let Some(command) = run.poll_command() {
            events.extend(fleet.obey(command));
        } else if let Some(event) = events.pop_front() {
            run.handle(event, now);
        } else {
            let (at, _) = run.poll_timeout().expect("a run that waits has a timer");
            now = at;
            run.handle_timeout(now);
        }
    }
    panic!("the run does not end: {:?}", run.phase());
}

#[test]
fn a_healthy_fleet_is_probed_once_and_left_empty() {
    let (fleet, matrix, ending) = play(ModelFleet::default(), Run::new(spec(2)), usize::MAX);
    assert_eq!(ending, Completion::Complete);
    assert!(fleet.placed.is_empty());
    // Two directions across, two on the same node, each by pod-ip and cluster-ip; and per node
    // prober-local, any and hairpin; and each pair by node-port and host-network.
    assert_eq!(matrix.paths.len(), 4 * 4 + 2 * 3);
    assert!(matrix.paths.values().all(PathEvidence::is_clean));
    assert!(matrix.agents.values().all(|agent| agent.heard));
}

#[test]
fn an_agent_that_cannot_start_on_a_node_under_test_ends_the_run_with_its_reason() {
    let broken = AgentId::new("node-2", "node-2-client");
    let fleet = ModelFleet {
        broken: Some(broken),
        ..ModelFleet::default()
    };
    let (fleet, _, ending) = play(fleet, Run::new(spec(2)), usize::MAX);
    let Completion::CouldNotRun { reason } = ending else {
        panic!("{ending:?}")
    };
    assert!(
        reason.contains("node-2-client") && reason.contains("no image"),
        "{reason}"
    );
    assert!(fleet.placed.is_empty());
}

#[test]
fn a_peer_that_cannot_start_is_left_out() {
    let broken = AgentId::new("node-2", "node-2-server");
    let fleet = ModelFleet {
        broken: Some(broken.clone()),
        ..ModelFleet::default()
    };
    let run = Run::new(RunSpec {
        selected: vec![NodeName::new("node-1")],
        ..spec(3)
    });
    let (_, matrix, ending) = play(fleet, run, usize::MAX);
    assert_eq!(ending, Completion::Complete);
    assert!(
        matrix
            .paths
            .values()
            .all(|path| path.path.server.as_ref() != Some(&broken))
    );
    assert!(matrix.agents[&broken].failed.is_some());
}

#[test]
fn an_agent_that_never_reports_does_not_hold_up_the_run() {
    let silent = AgentId::new("node-2", "node-2-client");
    let fleet = ModelFleet {
        silent: Some(silent.clone()),
        ..ModelFleet::default()
    };
    let (_, matrix, ending) = play(fleet, Run::new(spec(2)), usize::MAX);
    assert_eq!(ending, Completion::Complete);
    assert!(!matrix.agents[&silent].heard);
}

proptest! {
    #[test]
    fn a_run_stopped_at_any_command_leaves_nothing_placed(limit in 0_usize..40, nodes in 1_usize..5) {
        let (fleet, _, _) = play(ModelFleet::default(), Run::new(spec(nodes)), limit);
        prop_assert!(fleet.placed.is_empty());
    }
}
