//! `prober run`: a whole run, from its arguments to its report, in the lab or in a cluster.

/// The arguments.
mod args;
/// A run in a cluster.
#[cfg(feature = "cluster")]
mod cluster;
/// A run in the lab.
#[cfg(target_os = "linux")]
mod in_lab;
/// The arguments of a run in the lab.
#[cfg(target_os = "linux")]
mod lab_args;
/// Replaces `cluster` and `telemetry` in a build without the feature `cluster`.
#[cfg(not(feature = "cluster"))]
mod lab_only;
/// The pods of a run in a cluster.
mod pod_args;
/// The report of a run in the lab, handed out of its namespaces.
#[cfg(all(feature = "cluster", target_os = "linux"))]
mod report_file;
/// The traces of a run, sent to an OpenTelemetry collector.
#[cfg(feature = "cluster")]
mod telemetry;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use prober_core::diagnosis::diagnose;
use prober_core::evidence::{Matrix, PathEvidence};
use prober_core::report::{Completion, Meta, Report};
use prober_core::run::RunResult;
use prober_core::time::Timestamp;

use crate::drive::now;
use crate::output::Files;
use crate::progress::{Progress, Verbosity};
use crate::{output, show};

use args::Environment;
pub(crate) use args::RunArgs;
#[cfg(target_os = "linux")]
pub(crate) use in_lab::agent_command;
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
        #[cfg(target_os = "linux")]
        Environment::Lab => in_lab::in_lab(args, command_line, files),
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

/// Creates the progress display, hidden by `--quiet`.
fn progress(args: &RunArgs) -> Progress {
    Progress::new(if args.quiet {
        Verbosity::Quiet
    } else {
        Verbosity::Normal
    })
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
