//! `prober replay`: captures that somebody took, diagnosed.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use prober_core::diagnosis::diagnose;
use prober_core::packet::capture;
use prober_core::replay::replay;
use prober_core::report::{Completion, Report};

use crate::drive::now;
use crate::values::Form;
use crate::{pcapng, run, show};

/// Diagnoses captures: of one end, or of both.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Reads pcap and pcapng: Ethernet, Linux cooked v1 and v2, raw IP. From one end alone it \
    says only what one end can know.\n\n\
    Exit status: 0 healthy, 1 a path fails, 2 could not tell.\n\n\
    Examples:\n  \
    tcpdump -i any -w client.pcap tcp or icmp     on the client's node, while it fails\n  \
    prober replay client.pcap\n  \
    prober replay client.pcap server.pcap -o html > report.html"
)]
pub(crate) struct ReplayArgs {
    /// Capture files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// The form of the report
    #[arg(short, long, value_enum, default_value = "text", env = "PROBER_OUTPUT")]
    output: Form,

    /// Also write the failing connections' packets, with comments for Wireshark
    #[arg(long, value_name = "FILE")]
    pcapng: Option<PathBuf>,
}

/// Diagnoses them.
pub(crate) fn run_replay(args: &ReplayArgs, words: &[OsString]) -> anyhow::Result<ExitCode> {
    let started = now();
    let mut files = Vec::new();
    for path in &args.files {
        let bytes =
            std::fs::read(path).with_context(|| format!("read the capture {}", path.display()))?;
        files.push((path, bytes));
    }
    let mut captures = Vec::new();
    for (path, bytes) in &files {
        captures.push(
            capture::read(bytes).with_context(|| format!("read the capture {}", path.display()))?,
        );
    }
    let found = replay(&captures);
    let mut meta = run::meta(words, started, Completion::Complete);
    meta.notes = found.notes;
    let report = Report::new(&found.matrix, &diagnose(&found.matrix), meta);
    if let Some(path) = &args.pcapng {
        show::file(path, &pcapng::capture(&report)?)?;
    }
    show::report(&report, args.output)?;
    Ok(ExitCode::from(report.exit_status))
}
