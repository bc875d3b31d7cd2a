//! The Helm chart: its values are described and checked, and what it renders is what kustomize renders. Helm takes a quarter
//! of an hour to build, so tests that run it need `PROBER_HELM`, which `make test-chart` sets.

#![expect(
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot look fails, and says why it was left out"
)]

#[path = "chart/copies.rs"]
mod copies;
#[path = "chart/manifests.rs"]
mod manifests;
#[path = "tools/part.rs"]
mod part;
#[path = "chart/rendering.rs"]
mod rendering;
#[path = "chart/values.rs"]
mod values;

use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::{Arguments, Failed};

/// Set to run Helm.
const HELM: &str = "PROBER_HELM";

/// Set to write what is generated.
const WRITE: &str = "PROBER_WRITE_CHART";

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = values::trials();
    trials.extend(copies::trials());
    if std::env::var_os(HELM).is_some() {
        trials.extend(rendering::trials());
    } else {
        println!(
            "left out: every test with Helm, since building it takes a quarter of an hour: make test-chart"
        );
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The folder of the chart.
fn chart() -> PathBuf {
    checkout().join("deploy/chart/prober")
}

fn read(path: &Path) -> Result<String, Failed> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// Compares a file with what it must be, or writes it.
fn assert_file(path: &Path, expected: &str) -> Result<(), Failed> {
    if std::env::var_os(WRITE).is_some() {
        return Ok(fs::write(path, expected)?);
    }
    if read(path)? == expected {
        return Ok(());
    }
    let path = path.display();
    Err(format!("{path} is generated: {WRITE}=1 cargo test -p prober-tests --test chart").into())
}
