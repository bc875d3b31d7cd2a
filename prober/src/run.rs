//! `prober run`: a whole run, from what was typed to what is told.

use std::ffi::OsString;
use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroU8;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use prober_core::diagnosis::diagnose;
use prober_core::evidence::PathEvidence;
use prober_core::observation::Tier;
use prober_core::report::{Completion, Meta, Report};
use prober_core::run::{Finished, FleetEvent, Run, RunSpec};
use prober_core::time::Timestamp;
use prober_core::topology::{NodeName, Route};
use prober_lab::isolate::{self, Side};
use prober_lab::{FaultAt, Lab, LabFleet, LabSpec};

use crate::cli::{Families, Form, TierArg, duration};
use crate::drive::{drive, now};
use crate::progress::{Progress, Verbosity};
use crate::{pcapng, show};

/// Kernel probes per path: what an application would suffer.
const KERNEL_PROBES: u32 = 3;

/// Bytes that a kernel probe has echoed, enough to fill several packets of any MTU.
const ECHO_BYTES: u32 = 8_192;

/// When placing and publishing have failed.
const PATIENCE: Duration = Duration::from_mins(1);

/// Probes every path and says what is broken.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 healthy, 1 a path fails, 2 could not run.\n\n\
    Examples:\n  \
    prober run --lab\n  \
    prober run --lab --fault bridge-netfilter-off@node-1\n  \
    prober run --lab --nodes 3 --node node-2 --family dual -o json > report.json\n  \
    prober run --lab --fault packet-loss --probes 2000 --pcapng failing.pcapng"
)]
pub(crate) struct RunArgs {
    /// Build a network of namespaces and probe that
    #[arg(long)]
    lab: bool,

    /// How many nodes the lab has
    #[arg(long, value_name = "N", default_value_t = 2, env = "PROBER_NODES")]
    nodes: u8,

    /// A node to probe; may be given several times [default: every node]
    #[arg(long = "node", value_name = "NODE")]
    selected: Vec<String>,

    /// How many other nodes each node is paired with
    #[arg(long, value_name = "N", default_value_t = 3, env = "PROBER_PEERS")]
    peers: usize,

    /// How many servers, endpoints of the test Service, each node gets
    #[arg(long, value_name = "N", default_value = "1", env = "PROBER_SERVERS")]
    servers: NonZeroU8,

    /// Break the lab first; may be given several times (`prober lab faults` lists them)
    #[arg(long = "fault", value_name = "FAULT[@NODE]", requires = "lab")]
    faults: Vec<FaultAt>,

    /// The IP families to probe
    #[arg(long, value_enum, default_value = "ipv4", env = "PROBER_FAMILY")]
    family: Families,

    /// The form of the report
    #[arg(short, long, value_enum, default_value = "text", env = "PROBER_OUTPUT")]
    output: Form,

    /// Also write the failing probes' packets of both ends, with comments for Wireshark
    #[arg(long, value_name = "FILE")]
    pcapng: Option<PathBuf>,

    /// The most evidence to gather
    #[arg(long, value_enum, default_value = "T2", env = "PROBER_TIER")]
    tier: TierArg,

    /// Crafted probes per path
    #[arg(long, value_name = "N", default_value_t = 100, env = "PROBER_PROBES")]
    probes: u32,

    /// When a probe without an answer has failed, such as 800ms or 3.5s
    #[arg(long, value_name = "DURATION", default_value = "3.5s", value_parser = duration, env = "PROBER_PROBE_DEADLINE")]
    probe_deadline: Duration,

    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

/// Runs.
pub(crate) fn run(args: &RunArgs, words: &[OsString]) -> anyhow::Result<ExitCode> {
    if !args.lab {
        bail!("prober run on a cluster is not in this build yet: use --lab");
    }
    let lab = LabSpec::new(args.nodes, args.servers.get())?;
    let spec = spec(args, &lab)?;
    for fault in &args.faults {
        fault.node_in(&lab)?;
    }
    let (tellers, events) = mpsc::channel();
    let interrupted = tellers.clone();
    // A run that has stopped listening has ended: nobody is left to tell.
    match isolate::enter(move || drop(interrupted.send(FleetEvent::Interrupted)))? {
        Side::Ended(status) => return Ok(status),
        Side::Inside => {}
    }
    let started = now();
    let progress = Progress::new(if args.quiet {
        Verbosity::Quiet
    } else {
        Verbosity::Usual
    });
    progress.say("building the lab");
    let lab = Lab::up(&lab).context("build the lab")?;
    let (commands, orders) = mpsc::channel();
    let mut command = agent_command()?;
    if matches!(args.tier, TierArg::T0) {
        command.extend(["--tier".into(), "T0".into()]);
    }
    let fleet =
        LabFleet::start(lab, &args.faults, command, orders, tellers).context("break the lab")?;
    let finished = drive(Run::new(spec), &commands, &events, |run| progress.show(run));
    drop(commands);
    fleet.join();
    progress.clear();
    tell(args, &finished, words, started)
}

/// How an agent is started: this program again.
pub(crate) fn agent_command() -> anyhow::Result<Vec<OsString>> {
    let program = std::env::current_exe().context("find this program, to start agents with it")?;
    Ok(vec![program.into_os_string(), "agent".into()])
}

fn spec(args: &RunArgs, lab: &LabSpec) -> anyhow::Result<RunSpec> {
    let nodes: Vec<NodeName> = lab.nodes().map(|node| NodeName::new(node.name())).collect();
    let mut selected = Vec::new();
    for name in &args.selected {
        selected.push(NodeName::new(lab.node(name)?.name()));
    }
    if selected.is_empty() {
        selected.clone_from(&nodes);
    }
    let nonce = RandomState::new().hash_one(now());
    Ok(RunSpec {
        run: format!("lab-{:08x}", nonce >> 32),
        pod_prefix: String::new(),
        nonce,
        nodes,
        selected,
        peers: args.peers,
        servers_per_node: args.servers,
        routes: Route::ALL.into(),
        families: args.family.list(),
        tier: Tier::from(args.tier),
        kernel_probes: KERNEL_PROBES,
        raw_probes: args.probes,
        echo_bytes: ECHO_BYTES,
        deadline: args.probe_deadline,
        patience: PATIENCE,
    })
}

/// What the evidence itself does not know.
pub(crate) fn meta(words: &[OsString], started: Timestamp, completion: Completion) -> Meta {
    let mut command: Vec<String> = words
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    if let Some(program) = command.first_mut()
        && let Some(name) = Path::new(program.as_str()).file_name()
    {
        *program = name.to_string_lossy().into_owned();
    }
    Meta {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command,
        started,
        duration: now().since(started),
        completion,
        notes: Vec::new(),
    }
}

fn tell(
    args: &RunArgs,
    finished: &Finished,
    words: &[OsString],
    started: Timestamp,
) -> anyhow::Result<ExitCode> {
    let Finished {
        matrix,
        completion,
        notes,
    } = finished;
    let is_measured = |path: &PathEvidence| path.total().outcomes.total() > 0;
    if *completion == Completion::Interrupted && !matrix.paths.values().any(is_measured) {
        bail!("the run was interrupted before anything was measured");
    }
    let mut meta = meta(words, started, completion.clone());
    meta.notes.clone_from(notes);
    let report = Report::new(matrix, &diagnose(matrix), meta);
    if let Some(path) = &args.pcapng {
        show::file(path, &pcapng::capture(&report)?)?;
    }
    show::report(&report, args.output)?;
    Ok(ExitCode::from(report.exit_status))
}
