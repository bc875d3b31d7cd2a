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

use libtest_mimic::Arguments;

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    match part("collector") {
        Ok(program) => trials.extend(traces::trials(&program)),
        Err(why) => println!("left out: every test with an OpenTelemetry Collector, since {why}"),
    }
    match part("prometheus") {
        Ok(program) => trials.extend(prometheus::trials(&program)),
        Err(why) => println!("left out: every test with a Prometheus, since {why}"),
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// The program of that name, built where it is not there yet.
fn part(name: &str) -> Result<PathBuf, String> {
    let deps = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/deps");
    let output = Command::new(&deps)
        .args(["export", name])
        .output()
        .map_err(|error| format!("{} does not start: {error}", deps.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or_default();
        return Err(format!("scripts/deps export {name} failed: {last}"));
    }
    let folder = String::from_utf8_lossy(&output.stdout);
    Ok(Path::new(folder.trim()).join(name))
}
