//! `prober replay`: the diagnosis of existing packet captures.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use prober_core::diagnosis::diagnose;
use prober_core::replay::replay;
use prober_core::report::{Completion, Report};

use crate::drive::now;
use crate::output::OutputArgs;
use crate::{input, run};

/// Diagnoses captures: of one end, or of both.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Reads pcap and pcapng, also as .gz and .zst: Ethernet, Linux cooked v1 and v2, raw IP, PPP, loopback. \
    A capture of one end alone decides only what that end can know.\n\n\
    Exit status: 0 healthy, 1 a path fails, 2 inconclusive, or could not run.\n\n\
    Examples:\n  \
    tcpdump -i any -w client.pcap tcp or icmp     on the client's node, while it fails\n  \
    prober replay client.pcap\n  \
    prober replay client.pcap server.pcap -o html > report.html\n  \
    ssh node-1 tcpdump -i any -U -w - tcp or icmp | prober replay -     until Ctrl-C"
)]
pub(crate) struct ReplayArgs {
    /// Capture files; - reads standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Where the report goes
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs `prober replay`: diagnoses the captures together, and returns the exit status of the report.
///
/// The report starts with the first packet and ends with the last. Fails if a file is no capture, or if a destination
/// cannot be written.
pub(crate) fn run_replay(args: &ReplayArgs, command_line: &[OsString]) -> anyhow::Result<ExitCode> {
    let destinations = args.output.open()?;
    let mut captures = Vec::new();
    for path in &args.files {
        captures.push(input::read_capture(path)?);
    }
    let found = replay(&captures);
    let mut meta = run::meta(command_line, now(), Completion::Complete);
    if let Some((first, last)) = found.span {
        meta.started = first;
        meta.duration = last.since(first);
    }
    meta.notes = found.notes;
    let report = Report::new(&found.matrix, &diagnose(&found.matrix), meta);
    destinations.write(&report, args.output.output)?;
    Ok(ExitCode::from(report.exit_status))
}
