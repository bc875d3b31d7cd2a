//! `prober probe`: handshakes from this host, each classified by its packets.

use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;
use prober_agent::host_probe::{HostEngine, HostProbe, HostProbeEnd, probe_from_host};
use prober_core::diagnosis::diagnose;
use prober_core::evidence::{AgentEvidence, Evidence, Matrix, PathEvidence, PathTally, Source};
use prober_core::packet::family::Family;
use prober_core::probe::event::{Event, Tally};
use prober_core::probe::outcome::{EngineKind, Outcome, ProbeResult};
use prober_core::report::{Completion, Report};
use prober_core::topology::{AccessPath, AgentId, Path, PathId};

use crate::drive::now;
use crate::output::OutputArgs;
use crate::values::{Format, duration};
use crate::{run, show, usage};

/// The most probes of one target that a report contains.
const MAX_PROBES_KEPT: usize = 64;

/// Probes addresses from this host.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A probe is judged by its packets: which address answered, after how many SYNs. Without CAP_NET_RAW \
    only the result of connect() is known, and the report says so.\n\n\
    Exit status: 0 every target answers, 1 a target fails, 2 could not run.\n\n\
    Examples:\n  \
    prober probe 100.67.30.133:80\n  \
    prober probe api.example.com:443 [fd00::1]:80 --count 100 --interval 10ms\n  \
    prober probe 100.67.30.133:80 --engine raw -o json"
)]
pub(crate) struct ProbeArgs {
    /// The address to probe; of a name, its first address
    #[arg(required = true, value_name = "HOST:PORT")]
    targets: Vec<String>,

    /// How many probes each target gets
    #[arg(short, long, value_name = "N", default_value_t = 5, env = "PROBER_COUNT",
        value_parser = clap::value_parser!(u32).range(1..=200_000))]
    count: u32,

    /// The time between two probes of a target
    #[arg(short, long, value_name = "DURATION", default_value = "200ms", value_parser = duration)]
    interval: Duration,

    /// What sends the probes
    #[arg(long, value_enum, default_value = "auto", env = "PROBER_ENGINE")]
    engine: EngineArg,

    /// When a probe without an answer has failed
    #[arg(long, value_name = "DURATION", default_value = "3.5s", value_parser = duration, env = "PROBER_PROBE_DEADLINE")]
    deadline: Duration,

    /// Where the report goes; text shows each probe as it ends as well
    #[command(flatten)]
    output: OutputArgs,
}

/// What sends the probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EngineArg {
    /// Crafted SYNs; needs CAP_NET_RAW
    Raw,
    /// connect(), as an application does it
    Kernel,
    /// connect(), with its packets where they can be seen
    Auto,
}

/// Runs `prober probe`: probes every target, shows each outcome, and returns the exit status of the report.
///
/// Fails if a target cannot be resolved, if the probes cannot be sent, or if the report cannot be written.
pub(crate) fn probe(args: &ProbeArgs, command_line: &[OsString]) -> anyhow::Result<ExitCode> {
    let files = args.output.open()?;
    let is_text = matches!(args.output.output, Format::Text | Format::Wide);
    let targets = args
        .targets
        .iter()
        .map(|name| resolve(name))
        .collect::<anyhow::Result<Vec<SocketAddr>>>()?;
    let host_probe = HostProbe {
        count: args.count,
        interval: args.interval,
        deadline: args.deadline,
        engine: match args.engine {
            EngineArg::Raw => HostEngine::Raw,
            EngineArg::Kernel => HostEngine::Kernel,
            EngineArg::Auto => HostEngine::Auto,
        },
    };
    let started = now();
    let mut matrix = matrix(&targets, args.count);
    let mut notes = Vec::new();
    let mut shown = Ok(());
    let mut number = 0;
    let ended = probe_from_host(&targets, &host_probe, &mut |event| {
        if let Event::Probe(result) = &event
            && is_text
            && shown.is_ok()
        {
            number += 1;
            shown = show::text(&line(number, result));
        }
        record_event(&mut matrix, &mut notes, event);
    })?;
    shown?;
    let completion = match ended {
        HostProbeEnd::Complete => Completion::Complete,
        HostProbeEnd::Interrupted => Completion::Interrupted,
    };
    let mut meta = run::meta(command_line, started, completion);
    meta.notes = notes;
    let report = Report::new(&matrix, &diagnose(&matrix), meta);
    if is_text {
        show::text("\n")?;
    }
    files.write(&report, args.output.output)?;
    Ok(ExitCode::from(report.exit_status))
}

/// Resolves `HOST:PORT` to its first address. Fails if the port is missing or the name has no address.
fn resolve(name: &str) -> anyhow::Result<SocketAddr> {
    if !name
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    {
        return Err(usage::error(format!(
            "'{name}' is not HOST:PORT: write 100.67.30.133:80, api.example.com:443 or [fd00::1]:80"
        )));
    }
    let host = name.rsplit_once(':').map_or(name, |(host, _)| host);
    name.to_socket_addrs()
        .with_context(|| format!("cannot resolve {host}"))?
        .next()
        .with_context(|| format!("cannot resolve {host}: it has no address"))
}

/// Returns a matrix with one path for each target, without evidence; `count` is the number of probes of each.
fn matrix(targets: &[SocketAddr], count: u32) -> Matrix {
    let paths = (0..).map(PathId).zip(targets).map(|(id, target)| {
        let path = Path {
            client: this_host(),
            server: None,
            access_path: AccessPath::PodIp,
            family: Family::of(target.ip()),
        };
        let evidence = PathEvidence {
            requested: u64::from(count),
            ..PathEvidence::new(path, *target, Vec::new())
        };
        (id, evidence)
    });
    Matrix {
        source: Source::Host,
        paths: paths.collect(),
        ..Matrix::default()
    }
}

/// Returns the agent of this host, which has a node name but no pod name.
fn this_host() -> AgentId {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    AgentId::new(if name.is_empty() { "this host" } else { name }, "")
}

/// Adds an event to the evidence, and the text of a notice to the notes.
fn record_event(matrix: &mut Matrix, notes: &mut Vec<String>, event: Event) {
    match event {
        Event::Hello(hello) => {
            let agent = AgentEvidence {
                hello: Some(hello),
                has_reported: true,
                ..AgentEvidence::default()
            };
            matrix.agents.insert(this_host(), agent);
        }
        Event::Probe(result) => record_probe(matrix, *result),
        Event::Tally(tally) => record_tally(matrix, &tally),
        Event::Capture { dropped, .. } => {
            if let Some(agent) = matrix.agents.get_mut(&this_host()) {
                agent.capture_dropped = agent.capture_dropped.max(dropped);
            }
        }
        Event::Notice { text } => notes.push(text),
        Event::PlanAccepted { .. }
        | Event::PlanRefused { .. }
        | Event::ServerTrace { .. }
        | Event::TtlProbe(_)
        | Event::Reached { .. }
        | Event::Counters { .. }
        | Event::Done { .. }
        | Event::Starved { .. }
        | Event::StandingFailure(_)
        | Event::Alert
        | Event::Facts(_) => {}
    }
}

/// Adds a probe to its path: the first one, and then those that fail, up to [`MAX_PROBES_KEPT`].
fn record_probe(matrix: &mut Matrix, result: ProbeResult) {
    let Some(path) = matrix.paths.get_mut(&result.path) else {
        return;
    };
    let is_wanted = path.probes.is_empty() || !result.is_first_syn_success();
    if is_wanted && path.probes.len() < MAX_PROBES_KEPT {
        path.probes.push(Evidence {
            client: result,
            server_agent: None,
            server: None,
        });
    }
}

/// Adds a tally to the counts of its path.
fn record_tally(matrix: &mut Matrix, tally: &Tally) {
    if let Some(path) = matrix.paths.get_mut(&tally.path) {
        let counts: &mut PathTally = path.tallies.entry(tally.engine).or_default();
        counts.add(&tally.outcomes, tally.first_syn_success, &tally.rtt);
    }
}

/// Renders a probe in one line: its number, target, outcome, SYNs and engine.
fn line(number: u64, result: &ProbeResult) -> String {
    let what = match result.outcome {
        Outcome::Established { rtt_ns, .. } => format!("established in {}", millis(rtt_ns)),
        Outcome::Reset { by, hop_limit } => format!("reset by {by}, TTL {hop_limit}"),
        Outcome::Unreachable {
            by: Some(by),
            reason,
        } => format!("unreachable, says {by}: {reason:?}"),
        Outcome::Unreachable { by: None, reason } => {
            format!("unreachable, by the errno of connect(): {reason:?}")
        }
        Outcome::RefusedLocally { errno } => errno.sentence(),
        Outcome::Mismatched { from } => format!("mismatched: {from} answered instead"),
        Outcome::Timeout => "timeout".to_owned(),
    };
    let syns = match (result.isn, result.syns) {
        (None, _) => String::new(),
        (Some(_), 1) => ", 1 SYN".to_owned(),
        (Some(_), several) => format!(", {several} SYNs"),
    };
    let engine = match result.engine {
        EngineKind::Kernel => "kernel",
        EngineKind::Raw => "raw",
    };
    format!("{number:>4}  {}  {what}{syns}  ({engine})\n", result.dst)
}

/// Formats nanoseconds as milliseconds with three decimals: timestamps are accurate to about a microsecond.
fn millis(nanos: u64) -> String {
    let micros = nanos / 1_000;
    format!("{}.{:03} ms", micros / 1_000, micros % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_port_is_refused_with_an_example() {
        for name in ["", "host", "host:", ":80", "host:http", "host:70000"] {
            let error = resolve(name).unwrap_err().to_string();
            assert!(error.contains("is not HOST:PORT"), "{name}: {error}");
        }
        assert_eq!(resolve("[::1]:80").unwrap().to_string(), "[::1]:80");
    }
}
