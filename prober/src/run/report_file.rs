//! The file in which a run in the lab hands its report to the outer process, which sends the traces: the network of the lab has
//! no route to a collector.

use std::env;
use std::fs::{self, OpenOptions};
use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process;

use anyhow::Context as _;
use prober_core::report::Report;
use prober_lab::isolation;

use super::telemetry::{endpoint, send};
use crate::show;

/// Writes a report to the file of the outer process, if this process is inside the lab and the outer process has a file.
///
/// Returns `None` outside of the lab.
pub(super) fn hand_out(report: &Report) -> Option<anyhow::Result<()>> {
    let path = isolation::is_inside().then(isolation::result_file)?;
    Some(path.map_or(Ok(()), |path| write_report(report, &path)))
}

/// Writes the report as JSON to the file for the outer process, which exists already.
fn write_report(report: &Report, path: &Path) -> anyhow::Result<()> {
    let json = serde_json::to_vec(report).context("cannot serialize the report")?;
    let mut file = OpenOptions::new()
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open {} for the report", path.display()))?;
    file.write_all(&json)
        .with_context(|| format!("cannot write the report to {}", path.display()))
}

/// The temporary file in which a lab hands its report to the outer process; `Drop` removes it.
#[derive(Debug)]
pub(super) struct ReportFile(Option<PathBuf>);

impl ReportFile {
    /// Creates the file, readable by its owner alone, if this is the outer process and an endpoint is named.
    ///
    /// An error is a warning, and nothing is sent.
    pub(super) fn prepare() -> Self {
        if isolation::is_inside() {
            return Self(None);
        }
        match endpoint() {
            Ok(Some(_)) => {}
            Ok(None) => return Self(None),
            Err(error) => {
                show::warning(&format!("the traces will not be sent: {error}"));
                return Self(None);
            }
        }
        let nonce = RandomState::new().hash_one(process::id());
        let path = env::temp_dir().join(format!("prober-{nonce:016x}.json"));
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        match made {
            Ok(_empty) => Self(Some(path)),
            Err(error) => {
                show::warning(&format!(
                    "the traces will not be sent: cannot make {}: {error}",
                    path.display()
                ));
                Self(None)
            }
        }
    }

    /// Returns the path of the file, if there is one.
    pub(super) fn path(&self) -> Option<&Path> {
        self.0.as_deref()
    }

    /// Sends the traces of the report in the file, which is empty if the lab ended early.
    pub(super) fn send(&self) {
        let Some(path) = &self.0 else { return };
        match fs::read(path) {
            Ok(json) if json.is_empty() => {}
            Ok(json) => match Report::parse(&json) {
                Ok(report) => send(&report),
                Err(error) => show::warning(&format!("the traces were not sent: {error}")),
            },
            Err(error) => show::warning(&format!(
                "the traces were not sent: cannot read {}: {error}",
                path.display()
            )),
        }
    }
}

impl Drop for ReportFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // On failure the file stays until the temporary folder is cleaned.
            drop(fs::remove_file(path));
        }
    }
}
