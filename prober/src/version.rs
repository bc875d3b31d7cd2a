//! `prober version`: the version, the commit and the target of this program, for a bug report.

use std::process::ExitCode;

use serde_json::json;

use crate::show;
use crate::values::ListFormat;

/// Shows the version, the commit and the target.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  prober version\n  prober version -o json")]
pub(crate) struct VersionArgs {
    /// The output format
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "text")]
    output: ListFormat,
}

/// The commit that the program was built from; `unknown` if it was built outside a checkout.
const COMMIT: &str = env!("PROBER_COMMIT");

/// The target triple that the program was built for, such as `x86_64-unknown-linux-gnu`.
const TARGET: &str = env!("PROBER_TARGET");

/// Runs `prober version`: shows the version, the commit and the target.
pub(crate) fn version(args: &VersionArgs) -> anyhow::Result<ExitCode> {
    let version = env!("CARGO_PKG_VERSION");
    show::list(
        args.output,
        || format!("prober {version}, commit {COMMIT}, {TARGET}\n"),
        || json!({"version": version, "commit": COMMIT, "target": TARGET}),
    )?;
    Ok(ExitCode::SUCCESS)
}
