//! Standing agents in a simulated cluster: when the gate opens and closes, and what is written.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::plan::standing::StandingSlot;
use crate::plan::standing::tests::{plan, slots};
use crate::probe::banner::Banner;
use crate::probe::outcome::{Echo, EngineKind, Exchange, Outcome, ProbeResult};
use crate::topology::AccessPath;

/// What answers a probe.
#[derive(Clone, Debug)]
enum Answer {
    Server(AgentId),
    Nothing,
    Reset,
}

type World = Box<dyn FnMut(SocketAddr, Timestamp) -> Answer>;

/// An agent, its time, and a world that answers.
struct Simulation {
    agent: StandingAgent,
    now: Timestamp,
    world: World,
    /// Results that arrive later.
    results: BTreeMap<(Timestamp, u64), ProbeResult>,
    sent: Vec<(Timestamp, ProbePlan)>,
    gates: Vec<(Timestamp, Gate)>,
    lines: Vec<Event>,
    deadline: Duration,
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_nanos(1_000_000_000_000) + Duration::from_secs(seconds)
}

fn own_server() -> AgentId {
    AgentId::new("node-a", "server-a")
}

fn own_addresses() -> Vec<IpAddr> {
    vec!["10.77.1.1".parse().unwrap(), "fd77::1:1".parse().unwrap()]
}

/// The server that these slots have at a target, and those that are the same in every test.
fn server_at(slots: &[StandingSlot], target: SocketAddr) -> Option<AgentId> {
    let is_own = own_addresses().contains(&target.ip());
    if is_own || target.ip().to_string().ends_with("99.0.2") || target.ip().to_string() == "fd99::2"
    {
        return Some(own_server());
    }
    let has = |slot: &&StandingSlot| {
        slot.addresses.contains(&target.ip())
            || slot.service.contains(&target)
            || slot.node_port.contains(&target)
            || target.port() == 9100
    };
    slots.iter().find(has).map(StandingSlot::server)
}

/// A world in which every server of a plan answers.
fn healthy(slots: Vec<StandingSlot>) -> World {
    Box::new(move |target, _| server_at(&slots, target).map_or(Answer::Nothing, Answer::Server))
}

impl Simulation {
    fn new(world: World) -> Self {
        let agent = AgentId::new("node-a", "client-a");
        let ports = "8080-8081,9000-9100,30000-32767".parse().unwrap();
        Self {
            agent: StandingAgent::new(
                agent,
                StandingRole::Client,
                Crafting::Possible,
                AllowedTargets::any().on_ports(ports),
                at(0),
            ),
            now: at(0),
            world,
            results: BTreeMap::new(),
            sent: Vec::new(),
            gates: Vec::new(),
            lines: Vec::new(),
            deadline: Duration::from_secs(3),
        }
    }

    fn with_plan(plan: &StandingPlan, world: World) -> Self {
        let mut simulation = Self::new(world);
        simulation.set_plan(plan);
        simulation
    }

    fn set_plan(&mut self, plan: &StandingPlan) {
        self.agent.set_plan(Some(plan.clone()), self.now);
        self.take_outputs();
    }

    fn take_outputs(&mut self) {
        while let Some(output) = self.agent.poll_output() {
            match output {
                StandingOutput::Gate(gate) => self.gates.push((self.now, gate)),
                StandingOutput::Line(line) => self.lines.push(line),
                StandingOutput::Probe(probe) => {
                    let answer = (self.world)(probe.target, self.now);
                    let ended = self.now
                        + match answer {
                            Answer::Nothing => self.deadline,
                            Answer::Server(_) | Answer::Reset => Duration::from_millis(1),
                        };
                    let result = result_of(&probe, answer, self.now);
                    self.results.insert((ended, self.sent.len() as u64), result);
                    self.sent.push((self.now, probe));
                }
            }
        }
    }

    fn run_until(&mut self, until: Timestamp) {
        loop {
            let result = self.results.keys().next().copied();
            let timeout = self.agent.poll_timeout();
            let next = result.map(|(at, _)| at).into_iter().chain(timeout).min();
            let Some(next) = next.filter(|next| *next <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(next);
            match result.filter(|(at, _)| *at <= self.now) {
                Some(key) => {
                    let result = self.results.remove(&key).unwrap();
                    let age = self.now.since(result.started);
                    self.agent.handle_result(Box::new(result), age, self.now);
                }
                None => self.agent.handle_timeout(self.now),
            }
            self.take_outputs();
        }
    }

    fn gate(&self) -> Gate {
        self.gates.last().map_or(Gate::Closed, |(_, gate)| *gate)
    }

    fn alerts(&self) -> usize {
        self.lines
            .iter()
            .filter(|line| **line == Event::Alert)
            .count()
    }

    fn failures(&self) -> Vec<&crate::probe::event::StandingFailure> {
        let failures = self.lines.iter().filter_map(|line| {
            if let Event::StandingFailure(failure) = line {
                return Some(&**failure);
            }
            None
        });
        failures.collect()
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        self.agent
            .render_metrics(self.now, self.now, &mut text)
            .unwrap();
        text
    }
}

fn result_of(probe: &ProbePlan, answer: Answer, now: Timestamp) -> ProbeResult {
    let engine = match probe.method {
        Method::Connect { .. } => EngineKind::Kernel,
        Method::Syn | Method::Exchange { .. } | Method::TtlProbe { .. } => EngineKind::Raw,
    };
    let src = SocketAddr::new("10.77.1.2".parse().unwrap(), 61_000);
    let established = Outcome::Established {
        rtt_ns: 1_000_000,
        connect_ns: 1_000_000,
    };
    let (outcome, exchange) = match answer {
        Answer::Nothing => (Outcome::Timeout, Exchange::NotTried),
        Answer::Reset => {
            let by = probe.target.ip();
            (Outcome::Reset { by, hop_limit: 63 }, Exchange::NotTried)
        }
        Answer::Server(_) if engine == EngineKind::Raw => (established, Exchange::NotTried),
        Answer::Server(AgentId { node, pod }) => {
            let banner = Banner {
                nonce: 7,
                addresses: if node.as_str() == "node-a" {
                    own_addresses()
                } else {
                    Vec::new()
                },
                pod,
                node,
                peer: src,
            };
            let echo = Echo::Complete { bytes: 8_192 };
            (established, Exchange::BannerReceived { banner, echo })
        }
    };
    ProbeResult {
        path: probe.path,
        engine,
        src,
        dst: probe.target,
        started: now,
        isn: None,
        server_isn: None,
        outcome,
        syns: 1,
        exchange,
        observations: Vec::new(),
    }
}

#[test]
fn a_healthy_agent_opens_its_gate_soon_meets_every_slot_and_never_alerts() {
    let plan = plan(slots(7));
    let mut simulation = Simulation::with_plan(&plan, healthy(plan.slots.clone()));
    simulation.run_until(at(2));
    assert_eq!(simulation.gate(), Gate::Open);
    simulation.run_until(at(60));
    assert_eq!(simulation.gates.len(), 1);
    assert_eq!(simulation.lines, []);
    let met: BTreeSet<SocketAddr> = simulation
        .sent
        .iter()
        .map(|(_, probe)| probe.target)
        .collect();
    let missed = plan.slots.iter().flat_map(|slot| &slot.service);
    let missed: Vec<_> = missed.filter(|target| !met.contains(target)).collect();
    assert_eq!(missed, Vec::<&SocketAddr>::new());
    assert!(
        met.contains(&"10.77.1.1:8080".parse().unwrap()),
        "its own server's pod"
    );
    // Own paths in every round, by both engines.
    let own = simulation
        .sent
        .iter()
        .filter(|(_, probe)| probe.target.to_string() == "10.99.0.2:8080");
    assert_eq!(own.count(), 2 * 6);
}

#[test]
fn a_path_that_drops_packets_closes_the_gate_and_its_failures_are_written_once() {
    let plan = plan(slots(3));
    let mut works = healthy(plan.slots.clone());
    let broken_until = at(300);
    let mut simulation = Simulation::with_plan(
        &plan,
        Box::new(move |target, now| {
            let is_broken = now >= at(100) && now < broken_until;
            if is_broken && target.to_string() == "10.99.0.2:8080" {
                Answer::Nothing
            } else {
                works(target, now)
            }
        }),
    );
    simulation.run_until(at(99));
    assert_eq!(simulation.gate(), Gate::Open);
    simulation.run_until(at(299));
    let (closed, gate) = *simulation.gates.last().unwrap();
    assert_eq!((simulation.gates.len(), gate), (2, Gate::Closed));
    // A round with its jitter, a deadline, the pause before it is repeated, and a deadline.
    let bound = Duration::from_millis(10_000 + 625 + 3_000 + 1_000 + 3_000);
    assert!(
        closed.since(at(100)) <= bound,
        "{:?}",
        closed.since(at(100))
    );
    assert_eq!(simulation.alerts(), 1);
    let failures = simulation.failures();
    assert!(failures.len() >= 3, "{failures:#?}");
    for failure in failures {
        assert_eq!(failure.access_path, AccessPath::ClusterIpLocal);
        assert_eq!(failure.result.outcome, Outcome::Timeout);
    }
    assert!(simulation.metrics().contains("\nprober_alerting 1\n"));
    simulation.run_until(at(320));
    assert_eq!(simulation.gate(), Gate::Open);
    assert!(simulation.metrics().contains("\nprober_alerting 0\n"));
}

#[test]
fn a_peer_that_fails_is_probed_in_every_round_until_it_works() {
    let plan = plan(slots(60));
    let mut works = healthy(plan.slots.clone());
    let broken = plan.slots[0].service[0];
    let mut simulation = Simulation::with_plan(
        &plan,
        Box::new(move |target, now| {
            if target == broken && (at(100)..at(600)).contains(&now) {
                Answer::Reset
            } else {
                works(target, now)
            }
        }),
    );
    // Twenty rounds meet every slot.
    simulation.run_until(at(305));
    assert_eq!(simulation.gate(), Gate::Closed);
    let rounds = |from, until| {
        let sent = simulation.sent.iter();
        sent.filter(|(at, probe)| probe.target == broken && (from..until).contains(at))
            .count()
    };
    assert!(rounds(at(300 - 50), at(300)) >= 6 || rounds(at(305 - 20), at(305)) >= 2);
    simulation.run_until(at(615));
    assert_eq!(simulation.gate(), Gate::Open);
}

#[test]
fn one_lost_packet_is_no_alert() {
    let plan = plan(slots(3));
    let mut works = healthy(plan.slots.clone());
    let mut nth = 0_u32;
    let mut simulation = Simulation::with_plan(
        &plan,
        Box::new(move |target, now| {
            nth += 1;
            if nth.is_multiple_of(97) {
                Answer::Nothing
            } else {
                works(target, now)
            }
        }),
    );
    simulation.run_until(at(3_600));
    assert_eq!((simulation.alerts(), simulation.gate()), (0, Gate::Open));
    assert!(simulation.metrics().contains("outcome=\"timeout\""));
}

#[test]
fn another_server_at_a_slot_is_no_failure_until_it_lasts() {
    let plan = plan(slots(3));
    let mut others = plan.slots.clone();
    others[0].pod = "server-new".to_owned();
    others[0].addresses = vec!["10.77.0.99".parse().unwrap()];
    // The old server is gone: its pod does not answer, its slot has another.
    let (mut before, mut after) = (healthy(plan.slots.clone()), healthy(others));
    let mut simulation = Simulation::with_plan(
        &plan,
        Box::new(move |target, now| {
            if now < at(100) {
                before(target, now)
            } else {
                after(target, now)
            }
        }),
    );
    simulation.run_until(at(270));
    assert_eq!(
        (simulation.alerts(), simulation.gates.len()),
        (0, 1),
        "{:#?}",
        simulation.lines
    );
    assert!(simulation.metrics().contains("outcome=\"other-server\""));
    simulation.run_until(at(400));
    assert_eq!(simulation.gate(), Gate::Closed);
    assert!(simulation.failures().iter().any(|failure| failure.stale));
}

#[test]
fn what_is_unanswered_while_the_agent_is_starved_is_no_failure_and_a_reset_is_one() {
    for (answer, expected) in [(Answer::Nothing, 0), (Answer::Reset, 1)] {
        let plan = plan(slots(1));
        let mut works = healthy(plan.slots.clone());
        let mut simulation = Simulation::with_plan(
            &plan,
            Box::new(move |target, now| {
                let is_broken = now >= at(100) && target.to_string() == "10.99.0.2:8080";
                if is_broken {
                    answer.clone()
                } else {
                    works(target, now)
                }
            }),
        );
        for second in 0..200 {
            simulation.run_until(at(second));
            simulation
                .agent
                .handle_lateness(Duration::from_millis(900), simulation.now);
            simulation.take_outputs();
        }
        assert_eq!(simulation.alerts(), expected, "{:#?}", simulation.lines);
    }
}

#[test]
fn lateness_that_is_measured_after_the_failures_takes_the_alert_back() {
    let plan = plan(slots(1));
    let mut works = healthy(plan.slots.clone());
    let mut simulation = Simulation::with_plan(
        &plan,
        Box::new(move |target, now| {
            if (at(100)..at(120)).contains(&now) {
                Answer::Nothing
            } else {
                works(target, now)
            }
        }),
    );
    simulation.run_until(at(125));
    assert_eq!(simulation.gate(), Gate::Closed);
    simulation
        .agent
        .handle_lateness(Duration::from_secs(25), at(125));
    simulation.take_outputs();
    assert_eq!(simulation.gate(), Gate::Open);
}

#[test]
fn a_connection_that_stalls_alerts_though_every_handshake_works() {
    let plan = plan(slots(1));
    let mut simulation = Simulation::with_plan(&plan, healthy(plan.slots.clone()));
    simulation.run_until(at(60));
    let path = simulation
        .agent
        .tracks
        .iter()
        .find(|(_, track)| track.path.access_path == AccessPath::PodIp);
    let id = *path.unwrap().0;
    for second in 60..66 {
        for engine in [EngineKind::Kernel, EngineKind::Raw] {
            let probe = ProbePlan {
                path: id,
                method: Method::Syn,
                ..simulation.sent[0].1.clone()
            };
            let mut result = result_of(&probe, Answer::Server(own_server()), at(second));
            result.engine = engine;
            if engine == EngineKind::Kernel {
                result.exchange = Exchange::NoBanner;
            }
            simulation
                .agent
                .handle_result(Box::new(result), Duration::ZERO, at(second));
        }
    }
    simulation.take_outputs();
    assert_eq!((simulation.gate(), simulation.alerts()), (Gate::Closed, 1));
}

#[test]
fn a_plan_to_probe_closes_an_open_gate_for_long_enough_to_be_seen() {
    let plan = plan(slots(3));
    let mut paused = plan.clone();
    paused.paused = true;
    let mut simulation = Simulation::with_plan(&paused, healthy(plan.slots.clone()));
    simulation.run_until(at(10));
    assert_eq!(simulation.gate(), Gate::Open);
    simulation.set_plan(&plan);
    simulation.run_until(at(60));
    let [_, closed, opened] = simulation.gates[..] else {
        panic!("{:?}", simulation.gates);
    };
    assert_eq!(closed, (at(10), Gate::Closed));
    assert_eq!(opened, (at(13), Gate::Open));
}

#[test]
fn without_a_plan_or_with_a_paused_one_the_gate_is_open_and_nothing_is_probed() {
    let mut simulation = Simulation::new(healthy(slots(1)));
    assert_eq!(simulation.gate(), Gate::Closed);
    simulation.agent.set_plan(None, at(0));
    simulation.take_outputs();
    assert_eq!(simulation.gate(), Gate::Open);
    let paused = StandingPlan {
        paused: true,
        ..plan(slots(1))
    };
    let mut simulation = Simulation::with_plan(&paused, healthy(slots(1)));
    assert_eq!(simulation.gate(), Gate::Open);
    simulation.run_until(at(60));
    assert_eq!(simulation.sent.len(), 0);
}

#[test]
fn a_pause_ends_an_alert() {
    let plan = plan(slots(1));
    let mut simulation = Simulation::with_plan(&plan, Box::new(|_, _| Answer::Nothing));
    simulation.run_until(at(30));
    assert_eq!(
        (simulation.gate(), simulation.alerts() > 0),
        (Gate::Closed, true)
    );
    simulation.set_plan(&StandingPlan {
        paused: true,
        ..plan
    });
    assert_eq!(simulation.gate(), Gate::Open);
}

#[test]
fn a_new_agent_whose_plan_is_refused_measures_nothing_and_is_not_ready() {
    let mut simulation = Simulation::new(healthy(slots(1)));
    simulation.agent.refuse_plan();
    simulation.take_outputs();
    assert_eq!(simulation.gate(), Gate::Closed);
    simulation.set_plan(&plan(slots(1)));
    simulation.run_until(at(2));
    assert_eq!(simulation.gate(), Gate::Open);
    simulation.agent.refuse_plan();
    simulation.take_outputs();
    assert_eq!(
        simulation.gate(),
        Gate::Open,
        "the last good plan stays in force"
    );
}

#[test]
fn a_permanent_failure_is_written_once_and_paths_that_flap_are_bounded() {
    let plan = plan(slots(20));
    let mut simulation = Simulation::with_plan(&plan, Box::new(|_, _| Answer::Nothing));
    simulation.run_until(at(1_800));
    let early = simulation.lines.len();
    simulation.run_until(at(7_200));
    assert!(
        simulation.lines.len() <= early + 90,
        "{early} {}",
        simulation.lines.len()
    );
    assert!(early <= 60 + 30, "{early}");

    let mut works = healthy(plan.slots.clone());
    let flapping: World = Box::new(move |target, now| {
        if now.as_nanos() / 60_000_000_000 % 2 == 0 {
            Answer::Reset
        } else {
            works(target, now)
        }
    });
    let mut simulation = Simulation::with_plan(&plan, flapping);
    simulation.run_until(at(7_200));
    assert!(
        simulation.lines.len() <= 60 + 120,
        "{}",
        simulation.lines.len()
    );
}

#[test]
fn addresses_of_a_banner_are_believed_only_where_they_may_be_probed() {
    let plan = StandingPlan {
        allowed: vec![
            "10.99.0.0/16".parse().unwrap(),
            "fd99::/64".parse().unwrap(),
        ],
        slots: Vec::new(),
        ..plan(Vec::new())
    };
    let mut simulation = Simulation::with_plan(&plan, healthy(slots(1)));
    simulation.run_until(at(60));
    assert_eq!(simulation.gate(), Gate::Open);
    let is_own = |probe: &ProbePlan| own_addresses().contains(&probe.target.ip());
    assert!(!simulation.sent.iter().any(|(_, probe)| is_own(probe)));
}

#[test]
fn no_more_probes_are_sent_than_the_bound_however_much_fails() {
    let plan = StandingPlan {
        interval_ms: 1_000,
        ..plan(slots(64))
    };
    let mut simulation = Simulation::with_plan(&plan, Box::new(|_, _| Answer::Reset));
    simulation.run_until(at(120));
    let most = 2 * MAX_STANDING_RATE + 120 * MAX_STANDING_RATE;
    assert!(
        simulation.sent.len() <= most as usize,
        "{}",
        simulation.sent.len()
    );
    assert!(simulation.sent.len() >= 1_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// The slots of the cluster change at any time, and each node's plan follows up to two minutes later.
    #[test]
    fn a_change_of_slots_is_no_failure(
        changes in prop::collection::vec((20_u64..400, 0_usize..6, 0_u64..120), 1..8),
    ) {
        let mut versions = vec![(at(0), slots(6))];
        let mut learned = Vec::new();
        let mut now = at(0);
        for (number, (pause, slot, lag)) in changes.into_iter().enumerate() {
            now = now + Duration::from_secs(pause);
            let mut changed = versions.last().unwrap().1.clone();
            changed[slot].pod = format!("server-{number}-new");
            changed[slot].node = crate::topology::NodeName::new(format!("node-{number}-new"));
            changed[slot].addresses = vec![format!("10.77.2.{number}").parse().unwrap(), format!("fd77::2:{number}").parse().unwrap()];
            changed[slot].node_port = Vec::new();
            versions.push((now, changed.clone()));
            learned.push((now + Duration::from_secs(lag), changed));
        }
        let all = versions.clone();
        let world: World = Box::new(move |target, now| {
            let current = all.iter().rev().find(|(since, _)| *since <= now).unwrap();
            // A node port of a node that has left the slot is forwarded all the same.
            let node_port = |slots: &[StandingSlot]| slots.iter().position(|slot| slot.node_port.contains(&target));
            let first = node_port(&all[0].1);
            first.map(|slot| current.1[slot].server())
                .or_else(|| server_at(&current.1, target))
                .map_or(Answer::Nothing, Answer::Server)
        });
        let mut simulation = Simulation::with_plan(&plan(slots(6)), world);
        // A later version may reach the node first; an earlier one never comes after it.
        for (generation, (at, slots)) in (2..).zip(learned) {
            if at > simulation.now {
                simulation.run_until(at);
            }
            simulation.set_plan(&StandingPlan { generation, ..plan(slots) });
        }
        simulation.run_until(simulation.now + Duration::from_mins(1));
        prop_assert_eq!(simulation.alerts(), 0, "{:#?}", simulation.lines);
        prop_assert_eq!(simulation.gates.len(), 1, "{:?}", simulation.gates);
    }

    #[test]
    fn own_paths_are_probed_once_in_every_interval(interval_ms in 1_000_u32..60_000) {
        let plan = StandingPlan { interval_ms, ..plan(slots(3)) };
        let interval = Duration::from_millis(interval_ms.into());
        let mut simulation = Simulation::with_plan(&plan, healthy(plan.slots.clone()));
        simulation.run_until(at(0) + 20 * interval);
        let own: Vec<Timestamp> = simulation.sent.iter()
            .filter(|(_, probe)| probe.target.to_string() == "10.99.0.2:8080" && probe.method == Method::Syn)
            .map(|(at, _)| *at)
            .collect();
        prop_assert!((19..=21).contains(&own.len()));
        for pair in own.windows(2) {
            prop_assert!(pair[1].since(pair[0]) <= interval + interval / 4);
        }
    }
}
