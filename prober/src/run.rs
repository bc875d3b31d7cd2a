//! `prober run`: a whole run, from its arguments to its report, in the lab or in a cluster.

/// The arguments.
mod args;
/// A run in a cluster.
#[cfg(feature = "cluster")]
mod cluster;
/// Replaces `cluster` and `telemetry` in a build without the feature `cluster`.
#[cfg(not(feature = "cluster"))]
mod lab_only;
/// The traces of a run, sent to an OpenTelemetry collector.
#[cfg(feature = "cluster")]
mod telemetry;

use std::ffi::OsString;
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc;

use anyhow::{Context as _, bail};
use prober_core::diagnosis::diagnose;
use prober_core::evidence::{Matrix, PathEvidence};
use prober_core::packet::family::Family;
use prober_core::report::{Completion, Meta, Report};
use prober_core::run::{PlatformEvent, Run, RunResult, RunSpec};
use prober_core::time::Timestamp;
use prober_core::topology::NodeName;
use prober_lab::isolation::{self, Side};
use prober_lab::{Lab, LabPlatform, LabSpec};

use crate::drive::{drive, now};
use crate::output::Files;
use crate::progress::{Progress, Verbosity};
use crate::show;
use crate::values::TierArg;

use args::Place;
pub(crate) use args::RunArgs;
#[cfg(not(feature = "cluster"))]
use lab_only::{cluster, telemetry};

/// Runs `prober run` and returns the exit status of its report.
///
/// A run that fails is still a report: it is written to every file, and to standard output if its form is a document.
pub(crate) fn run(args: &RunArgs, words: &[OsString]) -> anyhow::Result<ExitCode> {
    let started = now();
    let files = args.output.open()?;
    begin(args, words, &files).inspect_err(|error| {
        let report = unable(words, started, error);
        // `main` writes the error to standard error, whether or not the report can be written.
        drop(files.save(&report));
        if args.output.output.is_document() {
            drop(show::report(&report, args.output.output));
        }
    })
}

/// Starts the run in the lab or in the cluster.
fn begin(args: &RunArgs, words: &[OsString], files: &Files) -> anyhow::Result<ExitCode> {
    match args.place()? {
        Place::Lab => in_lab(args, words, files),
        Place::Cluster(choice) => cluster::in_cluster(args, choice, words, files),
    }
}

/// Returns the report of a run that could not run, so that programs always receive the same document.
fn unable(words: &[OsString], started: Timestamp, error: &anyhow::Error) -> Report {
    let reason = show::sentence(error);
    let meta = meta(words, started, Completion::CouldNotRun { reason });
    let nothing = Matrix::default();
    Report::new(&nothing, &diagnose(&nothing), meta)
}

/// Runs in a lab.
///
/// The process restarts itself in namespaces of its own: the inner process builds the lab and runs in it; the outer one
/// waits, sends the traces, and returns the exit status of the inner one.
fn in_lab(args: &RunArgs, words: &[OsString], files: &Files) -> anyhow::Result<ExitCode> {
    let lab = LabSpec::new(args.lab.nodes, args.servers.get())?;
    let spec = spec(args, &lab)?;
    for fault in &args.lab.faults {
        fault.node_in(&lab)?;
    }
    let (tellers, events) = mpsc::channel();
    let interrupted = tellers.clone();
    // If the receiver is gone, the run has ended and there is nothing to interrupt.
    let interrupt = move || drop(interrupted.send(PlatformEvent::Interrupted));
    let handed = telemetry::Handed::prepare();
    match isolation::enter(handed.path(), interrupt)? {
        Side::Ended(status) => {
            handed.send();
            return Ok(status);
        }
        Side::Inside => {}
    }
    let started = now();
    let progress = progress(args);
    progress.say("building the lab");
    let lab = Lab::up(&lab).context("cannot build the lab")?;
    let (commands, orders) = mpsc::channel();
    let mut command = agent_command()?;
    if matches!(args.tier, TierArg::T0) {
        command.extend(["--tier".into(), "T0".into()]);
    }
    let fleet = LabPlatform::start(lab, &args.lab.faults, command, orders, tellers)
        .context("cannot break the lab")?;
    let finished = drive(Run::new(spec), &commands, &events, |run| progress.show(run));
    drop(commands);
    fleet.join();
    progress.clear();
    tell(args, &finished, words, started, files)
}

/// Creates the progress display, hidden by `--quiet`.
fn progress(args: &RunArgs) -> Progress {
    Progress::new(if args.quiet {
        Verbosity::Quiet
    } else {
        Verbosity::Usual
    })
}

/// Returns the command that starts an agent: this program with the command `agent`.
///
/// Fails if the path of this program is unknown.
pub(crate) fn agent_command() -> anyhow::Result<Vec<OsString>> {
    let program =
        std::env::current_exe().context("cannot find this program, which starts the agents")?;
    Ok(vec![program.into_os_string(), "agent".into()])
}

/// Returns the run that the arguments describe in this lab; without `--node` it selects every node.
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
    let mut spec = args.spec(format!("lab-{:08x}", nonce >> 32), nonce, nodes);
    spec.pod_prefix.clear();
    spec.selected = selected;
    spec.families = args.family.list(&[Family::Ipv4]);
    spec.tier = args.most_evidence()?;
    Ok(spec)
}

/// Returns what the evidence does not contain: the command line, the version, the times and the completion.
///
/// The duration ends now. Of the program's path only the file name is kept.
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

/// Diagnoses the result of a run, writes the report, sends the traces, and returns the exit status.
///
/// Fails if the run was interrupted before its first outcome, or if the report cannot be written.
fn tell(
    args: &RunArgs,
    finished: &RunResult,
    words: &[OsString],
    started: Timestamp,
    files: &Files,
) -> anyhow::Result<ExitCode> {
    let RunResult {
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
    files.write(&report, args.output.output)?;
    telemetry::send(&report);
    Ok(ExitCode::from(report.exit_status))
}
