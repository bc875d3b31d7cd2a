//! The cost of an agent at ten probes per second: memory, and its share of a core.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use prober_core::plan::{Method, Plan, ProbePlan};
use prober_core::probe::event::Event;
use prober_core::topology::{AgentId, PathId};

/// Duration of the measurement.
const WATCHED: Duration = Duration::from_secs(20);
/// Time to start and accept its plan.
const SETTLED: Duration = Duration::from_secs(3);

/// Minimum number of probes by then at ten per second, with room for a slow start.
const LEAST_PROBES: u64 = 200;

/// The measured cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Resident memory, KiB.
    kib: u64,
    /// Share of one core, percent.
    share: f64,
    /// Number of probes with an outcome.
    probes: u64,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:.3} {}", self.kib, self.share, self.probes)
    }
}

/// Runs `program` with a plan of five connects and five crafted SYNs a second; its files are in `dir`.
pub(crate) fn measure(target: SocketAddr, program: &Path, dir: &Path) -> anyhow::Result<Cost> {
    let agent = AgentId::new("node-1", "client-1");
    let (plan, lines) = (dir.join("plan.json"), dir.join("lines"));
    fs::write(&plan, serde_json::to_string(&plan_of(&agent, target))?)
        .with_context(|| format!("cannot write {}", plan.display()))?;
    let written =
        fs::File::create(&lines).with_context(|| format!("cannot write {}", lines.display()))?;
    let mut process = Command::new(program)
        .args(["--agent", "node-1/client-1", "--allow", "10.96.0.0/11"])
        .arg("--plan")
        .arg(&plan)
        .stdout(written)
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let watched = watch(&process);
    // On SIGTERM it writes its remaining tallies.
    let killed = Command::new("kill").arg(process.id().to_string()).status();
    killed.context("cannot end the agent")?;
    process.wait().context("cannot await the agent's end")?;
    let (kib, share) = watched?;
    let probes = fs::read_to_string(&lines)?
        .lines()
        .filter_map(|line| match Event::parse(line) {
            Ok(Event::Tally(tally)) => Some(tally.outcomes.established),
            Ok(_) | Err(_) => None,
        })
        .sum();
    // An idle agent costs nothing: its figure would be wrong.
    ensure!(
        probes >= LEAST_PROBES,
        "only {probes} probes of the agent were established: see {}",
        lines.display()
    );
    Ok(Cost { kib, share, probes })
}

fn plan_of(agent: &AgentId, target: SocketAddr) -> Plan {
    let item = |path, method, start_ms| ProbePlan {
        path: PathId(path),
        method,
        target,
        count: 1000,
        start_ms,
        interval_ms: 200,
        deadline_ms: 1000,
    };
    Plan {
        probes: vec![
            item(0, Method::Connect { echo_bytes: 0 }, 0),
            item(1, Method::Syn, 100),
        ],
        ..Plan::answering("bench", 1, agent, 0xbe7c4, vec![8080])
    }
}

fn watch(process: &Child) -> anyhow::Result<(u64, f64)> {
    std::thread::sleep(SETTLED);
    let (before, start) = (time_on_core(process.id())?, Instant::now());
    std::thread::sleep(WATCHED);
    let (after, wall) = (time_on_core(process.id())?, start.elapsed());
    let share = after.saturating_sub(before).as_secs_f64() / wall.as_secs_f64() * 100.0;
    Ok((resident(process.id())?, share))
}

/// The processor time of all its threads: the first number of each schedstat, nanoseconds
/// (linux/Documentation/scheduler/sched-stats.rst). The ticks of /proc/PID/stat are too coarse.
fn time_on_core(pid: u32) -> anyhow::Result<Duration> {
    let mut total = 0_u64;
    for task in fs::read_dir(format!("/proc/{pid}/task")).context("the agent has ended")? {
        let line = fs::read_to_string(task?.path().join("schedstat"))?;
        let nanos = line.split(' ').next().unwrap_or_default();
        total += nanos
            .parse::<u64>()
            .with_context(|| format!("'{line}' is no schedstat"))?;
    }
    Ok(Duration::from_nanos(total))
}

fn resident(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.with_context(|| format!("/proc/{pid}/status has no VmRSS"))
}
