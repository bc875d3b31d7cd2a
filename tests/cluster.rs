//! A real Kubernetes, made for the test: it comes up, it can be broken as the list of faults says, and nothing of it stays.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test says why it was left out, and what takes it minutes the first time"
)]

#[path = "cluster/agent.rs"]
mod agent;
#[path = "cluster/aimed.rs"]
mod aimed;
#[path = "cluster/boxes.rs"]
mod boxes;
#[path = "cluster/bringup.rs"]
mod bringup;
#[path = "cluster/busy.rs"]
mod busy;
#[path = "cluster/canary.rs"]
mod canary;
#[path = "cluster/causes.rs"]
mod causes;
#[path = "cluster/endings.rs"]
mod endings;
#[path = "cluster/faults.rs"]
mod faults;
#[path = "cluster/harness.rs"]
mod harness;
#[path = "tools/part.rs"]
mod part;
#[path = "cluster/prober.rs"]
mod prober;
#[path = "lab/program.rs"]
mod program;
#[path = "cluster/run.rs"]
mod run;
#[path = "cluster/sentences.rs"]
mod sentences;

use libtest_mimic::{Arguments, Trial};

/// Whoever sets it has the time for all tests: they take as long as the rest of the house together.
const WHOLE: &str = "PROBER_WHOLE_CLUSTER";

fn main() {
    let mut arguments = Arguments::from_args();
    // What breaks a node breaks it for every test.
    arguments.test_threads = arguments.test_threads.or(Some(1));
    let mut trials = run::essential();
    let more: Vec<Trial> = [
        bringup::trials(),
        faults::trials(),
        agent::trials(),
        run::trials(),
        sentences::trials(),
        causes::trials(),
        aimed::trials(),
        canary::trials(),
        endings::trials(),
    ]
    .into_iter()
    .flatten()
    .collect();
    if std::env::var_os(WHOLE).is_some() || arguments.list {
        trials.extend(more);
    } else {
        println!(
            "left out: {} tests of the cluster that take twenty minutes (make test-cluster)",
            more.len()
        );
    }
    if !arguments.list
        && let Err(reason) = harness::can_run()
    {
        assert!(
            std::env::var_os("CI").is_none(),
            "nothing may be left out here: {reason}"
        );
        println!("left out: every test of the cluster, since {reason}");
        trials.clear();
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    harness::end_all();
    conclusion.exit();
}
