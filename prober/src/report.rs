//! `prober report`: a saved report in another form.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::ValueEnum;
use prober_core::report::Report;

use crate::values::Form;
use crate::{pcapng, show};

/// Shows a saved report; the exit status is the one of the run that wrote it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    prober run --lab --fault forward-drop@node-2 -o json > report.json\n  \
    prober report report.json\n  \
    prober report report.json -o html > report.html\n  \
    prober report report.json -o pcapng | wireshark -k -i -")]
pub(crate) struct ReportArgs {
    /// What `prober run -o json` wrote; - reads standard input
    file: PathBuf,

    /// The form
    #[arg(short, long, value_enum, default_value = "text")]
    output: SavedForm,
}

/// What a saved report can become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SavedForm {
    /// For people
    Text,
    /// The document again, as this version writes it
    Json,
    /// One self-contained page
    Html,
    /// The failing probes' packets of both ends, with comments
    Pcapng,
}

/// Shows it.
pub(crate) fn report(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let name = args.file.display();
    let bytes = if args.file.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin()
            .read_to_end(&mut bytes)
            .context("read a report from standard input")?;
        bytes
    } else {
        std::fs::read(&args.file).with_context(|| format!("read the report {name}"))?
    };
    let report = Report::parse(&bytes).with_context(|| format!("read the report {name}"))?;
    match args.output {
        SavedForm::Text => show::report(&report, Form::Text)?,
        SavedForm::Json => show::report(&report, Form::Json)?,
        SavedForm::Html => show::report(&report, Form::Html)?,
        SavedForm::Pcapng => show::bytes(&pcapng::capture(&report)?)?,
    }
    Ok(ExitCode::from(report.exit_status))
}
