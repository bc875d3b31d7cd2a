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
use prober_core::run::{PlatformEvent, PodNames, Run, RunResult, RunSpec};
use prober_core::time::Timestamp;
use prober_core::topology::NodeName;
use prober_lab::isolation::{self, Side};
use prober_lab::{Lab, LabPlatform, LabSpec};

use crate::drive::{drive, now};
use crate::output::Files;
use crate::progress::{Progress, Verbosity};
use crate::values::RunTierArg;
use crate::{output, show};

use args::Environment;
pub(crate) use args::RunArgs;
#[cfg(not(feature = "cluster"))]
use lab_only::{cluster, telemetry};

/// Runs `prober run` and returns the exit status of its report.
///
/// A run that fails is still a report: it is written to every file, and to standard output if its format is a document.
pub(crate) fn run(args: &RunArgs, command_line: &[OsString]) -> anyhow::Result<ExitCode> {
    let started = now();
    let files = args.output.open()?;
    run_in_environment(args, command_line, &files).inspect_err(|error| {
        let report = unable_report(command_line, started, error);
        // `main` writes the error to standard error, whether or not the report can be written.
        drop(files.save(&report));
        if args.output.output.is_document() {
            drop(output::print(&report, args.output.output));
        }
    })
}

/// Runs in the lab or in the cluster, as the arguments select.
fn run_in_environment(
    args: &RunArgs,
    command_line: &[OsString],
    files: &Files,
) -> anyhow::Result<ExitCode> {
    match args.environment()? {
        Environment::Lab => in_lab(args, command_line, files),
        Environment::Cluster => cluster::in_cluster(args, command_line, files),
    }
}

/// Returns the report of a run that could not run, so that programs always receive the same document.
fn unable_report(command_line: &[OsString], started: Timestamp, error: &anyhow::Error) -> Report {
    let reason = show::sentence(error);
    let meta = meta(command_line, started, Completion::CouldNotRun { reason });
    let nothing = Matrix::default();
    Report::new(&nothing, &diagnose(&nothing), meta)
}

/// Runs in a lab.
///
/// The process restarts itself in namespaces of its own: the inner process builds the lab and runs in it; the outer one
/// waits, sends the traces, and returns the exit status of the inner one.
fn in_lab(args: &RunArgs, command_line: &[OsString], files: &Files) -> anyhow::Result<ExitCode> {
    let lab = args.lab_spec()?;
    let spec = spec(args, &lab)?;
    for fault in &args.lab.faults {
        fault.node_in(&lab)?;
    }
    let (event_sender, events) = mpsc::channel();
    let interrupt_sender = event_sender.clone();
    // If the receiver is gone, the run has ended and there is nothing to interrupt.
    let interrupt = move || drop(interrupt_sender.send(PlatformEvent::Interrupted));
    let report_file = telemetry::ReportFile::prepare();
    match isolation::enter(report_file.path(), interrupt)? {
        Side::Ended(status) => {
            report_file.send();
            return Ok(status);
        }
        Side::Inside => {}
    }
    let started = now();
    let progress = progress(args);
    progress.set_message("building the lab");
    let lab = Lab::up(&lab).context("cannot build the lab")?;
    let (commands, command_receiver) = mpsc::channel();
    let mut command = agent_command()?;
    if matches!(args.tier, RunTierArg::T0) {
        command.extend(["--tier".into(), "T0".into()]);
    }
    let platform = LabPlatform::start(
        lab,
        &args.lab.faults,
        command,
        command_receiver,
        event_sender,
    )
    .context("cannot break the lab")?;
    let result = drive(Run::new(spec), &commands, &events, |run| progress.show(run));
    drop(commands);
    platform.join();
    progress.clear();
    finish_report(args, &result, command_line, started, files)
}

/// Creates the progress display, hidden by `--quiet`.
fn progress(args: &RunArgs) -> Progress {
    Progress::new(if args.quiet {
        Verbosity::Quiet
    } else {
        Verbosity::Normal
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
    spec.pod_names = PodNames::Prefixed(String::new());
    spec.selected = selected;
    spec.families = args.family.list(&[Family::Ipv4]);
    spec.tier = args.max_tier()?;
    Ok(spec)
}

/// Returns what the evidence does not contain: the command line, the version, the times and the completion.
///
/// The duration ends now. Of the program's path only the file name is kept.
pub(crate) fn meta(command_line: &[OsString], started: Timestamp, completion: Completion) -> Meta {
    let mut command: Vec<String> = command_line
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
fn finish_report(
    args: &RunArgs,
    result: &RunResult,
    command_line: &[OsString],
    started: Timestamp,
    files: &Files,
) -> anyhow::Result<ExitCode> {
    let RunResult {
        matrix,
        completion,
        notes,
    } = result;
    let is_measured = |path: &PathEvidence| path.total().outcomes.total() > 0;
    if *completion == Completion::Interrupted && !matrix.paths.values().any(is_measured) {
        bail!("the run was interrupted before anything was measured");
    }
    let mut meta = meta(command_line, started, completion.clone());
    meta.notes.clone_from(notes);
    let report = Report::new(matrix, &diagnose(matrix), meta);
    files.write(&report, args.output.output)?;
    telemetry::send(&report);
    Ok(ExitCode::from(report.exit_status))
}
