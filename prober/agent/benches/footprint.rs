//! The cost of an agent that sends ten probes a second and answers as many: memory and processor time.
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
use std::thread;
use std::time::{Duration, Instant};

use prober_core::plan::{Method, ProbePlan};

use fixture::{Agent, B4, PORT, probes, two};

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

fn main() {
    let (a, b) = two();
    let mut server = Agent::start(&b, "b", &[]);
    server.answer();
    let client = Agent::start(&a, "a", &[]);
    client.give(&client.plan(1, plan()));
    // Past the first seconds of a plan, in which tallies are written more often.
    thread::sleep(Duration::from_secs(7));
    let agents = [("client", client.pid()), ("server", server.pid())];
    let before = agents.map(|(_, pid)| processor(pid));
    let started = Instant::now();
    thread::sleep(WINDOW);
    for ((name, pid), before) in agents.into_iter().zip(before) {
        let (ticks, seconds) = processor(pid);
        let share = 100.0 / started.elapsed().as_secs_f64();
        println!(
            "agent, 10 probes/s, {name}: VmRSS {}, VmHWM {}, {:.3} % of a core ({:.2} % by ticks)",
            resident(pid, "VmRSS:"),
            resident(pid, "VmHWM:"),
            (seconds - before.1) * share,
            (ticks - before.0) * share,
        );
    }
}
