//! A run in the lab, in namespaces of its own.

use std::ffi::OsString;
use std::hash::{BuildHasher as _, RandomState};
use std::process::ExitCode;
use std::sync::mpsc;

use anyhow::Context as _;
use prober_core::packet::family::Family;
use prober_core::run::{PlatformEvent, PodNames, Run, RunSpec};
use prober_core::topology::NodeName;
use prober_lab::isolation::{self, Side};
use prober_lab::{Lab, LabPlatform, LabSpec};

#[cfg(not(feature = "cluster"))]
use super::lab_only::report_file::ReportFile;
#[cfg(feature = "cluster")]
use super::report_file::ReportFile;
use super::{RunArgs, finish_report, progress};
use crate::drive::{drive, now};
use crate::output::Files;
use crate::values::RunTierArg;

/// Runs in a lab.
///
/// The process restarts itself in namespaces of its own: the inner process builds the lab and runs in it; the outer one
/// waits, sends the traces, and returns the exit status of the inner one.
pub(super) fn in_lab(
    args: &RunArgs,
    command_line: &[OsString],
    files: &Files,
) -> anyhow::Result<ExitCode> {
    let lab = args.lab.lab_spec(args.servers.get())?;
    let spec = spec(args, &lab)?;
    for fault in &args.lab.faults {
        fault.node_in(&lab)?;
    }
    let (event_sender, events) = mpsc::channel();
    let interrupt_sender = event_sender.clone();
    // If the receiver is gone, the run has ended and there is nothing to interrupt.
    let interrupt = move || drop(interrupt_sender.send(PlatformEvent::Interrupted));
    let report_file = ReportFile::prepare();
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
