//! `prober report`: a saved report in another format.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use prober_core::report::Report;

use crate::input;
use crate::output::OutputArgs;

/// Shows a saved report; the exit status is the one of the run that wrote it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    prober run --lab --fault forward-drop@node-2 -o json > report.json\n  \
    prober report report.json\n  \
    prober report report.json -o html > report.html\n  \
    prober report report.json --report html=report.html --report pcapng=failing.pcapng\n  \
    prober report report.json -o pcapng | wireshark -k -i -")]
pub(crate) struct ReportArgs {
    /// A file that `prober run -o json` wrote; - reads standard input
    file: PathBuf,

    /// Where the report goes
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs `prober report`: writes the saved report to every destination, and returns the exit status it holds.
///
/// Fails if the file is no report, or if a destination cannot be written.
pub(crate) fn report(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let files = args.output.open()?;
    let bytes = input::read(&args.file)?;
    let report = Report::parse(&bytes)
        .with_context(|| format!("cannot read {}", input::name(&args.file)))?;
    files.write(&report, args.output.output)?;
    Ok(ExitCode::from(report.exit_status))
}
