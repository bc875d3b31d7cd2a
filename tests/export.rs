//! Telemetry arrives: in a real OpenTelemetry Collector by both protocols, in a real Prometheus by both formats.

#![expect(
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot look fails, and says why it was left out"
)]

#[path = "export/collector.rs"]
mod collector;
#[path = "export/prometheus.rs"]
mod prometheus;
#[path = "export/samples.rs"]
mod samples;
#[path = "export/traces.rs"]
mod traces;

use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let arguments = Arguments::from_args();
    let trials = match parts() {
        Ok(parts) => trials(&parts),
        Err(why) => {
            println!("left out: every test of the export, since {why}");
            Vec::new()
        }
    };
    libtest_mimic::run(&arguments, trials).exit();
}

/// What is sent to.
struct Parts {
    collector: PathBuf,
    prometheus: PathBuf,
}

fn trials(parts: &Parts) -> Vec<Trial> {
    let mut trials = traces::trials(&parts.collector);
    trials.extend(prometheus::trials(&parts.prometheus));
    trials
}

/// Builds them, or finds them built.
fn parts() -> Result<Parts, String> {
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/deps");
    let output = Command::new(&build)
        .arg("export")
        .output()
        .map_err(|error| format!("{} does not start: {error}", build.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let mut folders = said.lines().map(PathBuf::from);
    match (folders.next(), folders.next(), output.status.success()) {
        (Some(collector), Some(prometheus), true) => Ok(Parts {
            collector: collector.join("collector"),
            prometheus: prometheus.join("prometheus"),
        }),
        _ => Err(format!(
            "{} failed: {}",
            build.display(),
            String::from_utf8_lossy(&output.stderr)
                .lines()
                .last()
                .unwrap_or_default()
        )),
    }
}
