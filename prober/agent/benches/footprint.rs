//! The cost of an agent that sends ten probes a second and answers as many, and of a standing agent at rest, whose rounds take
//! ten seconds: memory and processor time.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark that cannot continue fails, and prints what it measured"
)]
#![expect(dead_code, reason = "the tests use more of the fixture")]

#[path = "../tests/agents/fixture.rs"]
mod fixture;

use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use prober_core::packet::family::Family;
use prober_core::plan::standing::{ConfirmRule, STANDING_PLAN_SCHEMA, StandingPlan, StandingSlot};
use prober_core::plan::{Method, ProbePlan};
use prober_core::topology::{AccessPath, NodeName};

use fixture::{Agent, B4, B6, PORT, open_dir, probes, two};

/// The length of the measurement.
const WINDOW: Duration = Duration::from_secs(20);
/// Clock ticks a second that `/proc/PID/stat` counts in (`USER_HZ`, proc(5)).
const TICKS: f64 = 100.0;

/// Ten probes a second for longer than the window: half by the kernel, half crafted.
fn plan() -> Vec<ProbePlan> {
    let every = |path, method| ProbePlan {
        interval_ms: 200,
        ..probes(path, method, B4, PORT, 1000)
    };
    vec![
        every(1, Method::Connect { echo_bytes: 0 }),
        every(2, Method::Exchange { echo_bytes: 0 }),
    ]
}

/// Processor time in seconds, by clock ticks and by the scheduler's own nanoseconds.
fn processor(pid: u32) -> (f64, f64) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let nanos: f64 = threads
        .map(|thread| fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap())
        .map(|text| text.split(' ').next().unwrap().parse::<f64>().unwrap())
        .sum();
    (ticks / TICKS, nanos / 1e9)
}

fn resident(pid: u32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.unwrap().trim().to_owned()
}

/// A plan as of a cluster with both families: the own server, and three peers by their slots and pods.
fn standing_plan() -> StandingPlan {
    let at = |address: &str| SocketAddr::new(address.parse().unwrap(), PORT);
    let slot = |number: usize| StandingSlot {
        node: NodeName::new("node-x"),
        pod: "server".to_owned(),
        addresses: vec![B4.parse().unwrap(), B6.parse().unwrap()],
        service: vec![
            at(&format!("10.77.0.{}", 10 + number)),
            at(&format!("fd77::{}", 10 + number)),
        ],
        node_port: Vec::new(),
    };
    StandingPlan {
        schema: STANDING_PLAN_SCHEMA.to_owned(),
        generation: 1,
        paused: false,
        probing_since: None,
        nonce: 7,
        interval_ms: 10_000,
        deadline_ms: 3_000,
        confirm: ConfirmRule::default(),
        families: Family::ALL.into(),
        access_paths: AccessPath::ALL.into(),
        peers: 3,
        local: vec![at(B4), at(B6)],
        any: Vec::new(),
        slots: (0..3).map(slot).collect(),
        allowed: vec![
            "10.77.0.0/24".parse().unwrap(),
            "fd77::/64".parse().unwrap(),
        ],
    }
}

/// Measures a client and a server that stay as they are.
fn measure(what: &str, agents: [(&str, u32); 2]) {
    let before = agents.map(|(_, pid)| processor(pid));
    let started = Instant::now();
    thread::sleep(WINDOW);
    for ((name, pid), before) in agents.into_iter().zip(before) {
        let (ticks, seconds) = processor(pid);
        let share = 100.0 / started.elapsed().as_secs_f64();
        println!(
            "agent, {what}, {name}: VmRSS {}, VmHWM {}, {:.3} % of a core ({:.2} % by ticks)",
            resident(pid, "VmRSS:"),
            resident(pid, "VmHWM:"),
            (seconds - before.1) * share,
            (ticks - before.0) * share,
        );
    }
}

fn probing() {
    let (a, b) = two();
    let mut server = Agent::start(&b, "b", &[]);
    server.answer();
    let client = Agent::start(&a, "a", &[]);
    client.give(&client.plan(1, plan()));
    // Past the first seconds of a plan, in which tallies are written more often.
    thread::sleep(Duration::from_secs(7));
    measure(
        "10 probes/s",
        [("client", client.pid()), ("server", server.pid())],
    );
}

fn at_rest() {
    let (a, b) = two();
    for number in 10..13 {
        b.ip(&format!("addr add 10.77.0.{number}/24 dev eth0"));
        b.ip(&format!("addr add fd77::{number}/64 dev eth0 nodad"));
    }
    let dir = open_dir();
    let start = |namespace: &_, name: &str, role: &str, plan: &StandingPlan| {
        let file = dir.path().join(role);
        fs::write(&file, serde_json::to_string(plan).unwrap()).unwrap();
        let more = ["--standing-plan", file.to_str().unwrap(), "--role", role];
        let more = [
            &more[..],
            &["--readiness-port", "8082", "--metrics-port", "8083"],
        ]
        .concat();
        Agent::start(namespace, name, &more)
    };
    let plan = standing_plan();
    let without_slots = StandingPlan {
        slots: Vec::new(),
        ..plan.clone()
    };
    let server = start(&b, "node-x/server", "server", &without_slots);
    let client = start(&a, "node-x/client", "client", &plan);
    // Past the first round.
    thread::sleep(Duration::from_secs(12));
    measure(
        "standing, each 10 s",
        [("client", client.pid()), ("server", server.pid())],
    );
}

fn main() {
    at_rest();
    probing();
}
