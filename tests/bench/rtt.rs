//! The difference between the round-trip time of a probe and that of the same two packets in a capture of tcpdump.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use prober_core::packet::capture;
use prober_core::plan::{Method, ProbePlan};
use prober_core::probe::engine::Engine as _;
use prober_core::probe::in_flight::ProbeOutput;
use prober_core::probe::outcome::{Outcome, ProbeResult};
use prober_core::time::{Timestamp, nanos};
use prober_core::topology::PathId;
use prober_net::packet_socket::RingShape;

use crate::rate;

/// Time between two probes: long enough for an idle network, without queues.
const PACE: Duration = Duration::from_millis(1);

/// The measured difference, nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Difference {
    p50: u64,
    p99: u64,
    /// Number of handshakes that both have.
    joined: usize,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.p50, self.p99, self.joined)
    }
}

/// Runs `count` half-open handshakes while tcpdump writes `path`.
pub(crate) fn measure(target: SocketAddr, count: u32, path: &Path) -> anyhow::Result<Difference> {
    let mut tcpdump = start_tcpdump(path)?;
    let results = probe(target, count);
    // Killing tcpdump loses packets that it has not read yet.
    std::thread::sleep(Duration::from_millis(500));
    stop(&mut tcpdump)?;
    let results = results?;

    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let theirs = round_trips(&bytes)?;
    let mut differences: Vec<u64> = results
        .iter()
        .filter_map(|result| match result.outcome {
            Outcome::Established { rtt_ns, .. } => {
                Some(theirs.get(&result.isn?.0)?.abs_diff(rtt_ns))
            }
            Outcome::Reset { .. }
            | Outcome::Unreachable { .. }
            | Outcome::RefusedLocally { .. }
            | Outcome::Mismatched { .. }
            | Outcome::Timeout => None,
        })
        .collect();
    differences.sort_unstable();
    let joined = differences.len();
    let at = |share: usize| differences.get(joined * share / 100).copied();
    let (p50, p99) = at(50)
        .zip(at(99))
        .context("tcpdump and prober have no handshake in common")?;
    Ok(Difference { p50, p99, joined })
}

fn start_tcpdump(path: &Path) -> anyhow::Result<Child> {
    let mut tcpdump = Command::new("tcpdump")
        .args([
            "-i",
            "c0",
            "-nn",
            "--immediate-mode",
            "-U",
            "-B",
            "8192",
            "-s",
            "96",
        ])
        .args(["--time-stamp-precision=nano", "-w"])
        .arg(path)
        .arg("tcp")
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start tcpdump; is it installed (scripts/deps bench)?")?;
    // It writes the header of its file when it begins to capture.
    for _ in 0..500 {
        if std::fs::metadata(path).is_ok_and(|file| file.len() > 0) {
            return Ok(tcpdump);
        }
        ensure!(tcpdump.try_wait()?.is_none(), "tcpdump has ended at once");
        std::thread::sleep(Duration::from_millis(10));
    }
    stop(&mut tcpdump)?;
    anyhow::bail!("tcpdump did not begin to capture within five seconds")
}

fn stop(tcpdump: &mut Child) -> anyhow::Result<()> {
    tcpdump.kill().context("cannot end tcpdump")?;
    tcpdump.wait().context("cannot await tcpdump's end")?;
    Ok(())
}

fn probe(target: SocketAddr, count: u32) -> anyhow::Result<Vec<ProbeResult>> {
    let (mut engine, mut flight) = rate::open(target, 20_000..=35_999, RingShape::SMALL)?;
    let plan = ProbePlan {
        path: PathId(0),
        method: Method::Syn,
        target,
        count,
        start_ms: 0,
        interval_ms: 1,
        deadline_ms: 3000,
    };
    let mut results = Vec::new();
    let mut sent = 0;
    let mut due = engine.now();
    while sent < count || !flight.is_idle() {
        let now = engine.now();
        flight.handle_timeout(now);
        if sent < count && now >= due {
            flight.launch(now, &plan)?;
            sent += 1;
            due = now + PACE;
        }
        let mut segments = Vec::new();
        flight.poll_transmit(&mut segments);
        engine.send(&segments)?;
        while let Some(finished) = flight.poll_output() {
            match finished {
                ProbeOutput::Probe(result) => results.push(*result),
                ProbeOutput::TtlProbe(_) => {}
            }
        }
        let until = flight.poll_timeout().map_or(due, |at| at.min(due));
        engine.recv(until.max(now), &mut |observation, payload| {
            flight.observe(observation, payload);
        })?;
    }
    Ok(results)
}

/// The time from each SYN to the first SYN+ACK that acknowledges it, by the file's timestamps.
fn round_trips(bytes: &[u8]) -> anyhow::Result<BTreeMap<u32, u64>> {
    let mut syns: BTreeMap<u32, Timestamp> = BTreeMap::new();
    let mut trips = BTreeMap::new();
    for captured in capture::read(bytes)?.packets {
        let Some((_, tcp)) = captured.packet.tcp() else {
            continue;
        };
        if tcp.flags.is_syn() {
            syns.entry(tcp.seq.0).or_insert(captured.at);
        } else if tcp.flags.is_syn_ack() {
            let isn = tcp.ack.add(u32::MAX).0;
            if let Some(sent) = syns.get(&isn) {
                trips
                    .entry(isn)
                    .or_insert_with(|| nanos(captured.at.since(*sent)));
            }
        }
    }
    Ok(trips)
}
