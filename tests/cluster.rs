//! Tests on a real Kubernetes that the tests start: its start and its end, its faults, the agent, runs and canaries on it.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test prints why it is skipped, and what takes minutes the first time"
)]

#[path = "cluster/agent.rs"]
mod agent;
#[path = "cluster/bringup.rs"]
mod bringup;
#[path = "cluster/canary.rs"]
mod canary;
#[path = "cluster/causes.rs"]
mod causes;
#[path = "cluster/cpu_load.rs"]
mod cpu_load;
#[path = "cluster/data_planes.rs"]
mod data_planes;
#[path = "cluster/faults.rs"]
mod faults;
#[path = "cluster/harness.rs"]
mod harness;
#[path = "cluster/large.rs"]
mod large;
#[path = "tools/part.rs"]
mod part;
#[path = "cluster/pod_faults.rs"]
mod pod_faults;
#[path = "cluster/prober.rs"]
mod prober;
#[path = "lab/program.rs"]
mod program;
#[path = "cluster/run.rs"]
mod run;
#[path = "cluster/run_errors.rs"]
mod run_errors;
#[path = "cluster/teardown.rs"]
mod teardown;
#[path = "cluster/test_pods.rs"]
mod test_pods;

use libtest_mimic::{Arguments, Trial};

/// Set to run all tests of the cluster, which take as long as all other tests together.
const WHOLE: &str = "PROBER_WHOLE_CLUSTER";

/// Set to the name of a data plane to run its trials alone.
const DATA_PLANE: &str = "PROBER_DATA_PLANE";

fn main() {
    let mut arguments = Arguments::from_args();
    // Tests share clusters, and a fault affects every test on its cluster.
    arguments.test_threads = arguments.test_threads.or(Some(1));
    let mut trials = run::essential();
    trials.extend(canary::essential());
    trials.extend(data_planes::essential());
    let more: Vec<Trial> = [
        bringup::trials(),
        faults::trials(),
        agent::trials(),
        run::trials(),
        run_errors::trials(),
        causes::trials(),
        pod_faults::trials(),
        canary::trials(),
        teardown::trials(),
        large::trials(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let data_plane = std::env::var(DATA_PLANE).unwrap_or_default();
    if !data_plane.is_empty() {
        trials = data_planes::trials(&data_plane).expect("PROBER_DATA_PLANE names a data plane");
    } else if std::env::var_os(WHOLE).is_some() || arguments.list {
        trials.extend(more);
    } else {
        println!(
            "skipped: {} tests of the cluster, which take twenty minutes (make test-cluster)",
            more.len()
        );
    }
    if !arguments.list
        && let Err(reason) = harness::can_run()
    {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI must run all tests: {reason}"
        );
        println!("skipped: all tests of the cluster: {reason}");
        trials.clear();
    }
    trials.push(Trial::test(
        "the table of data planes has the rows of their trials, and each trial accepts its row",
        data_planes::table_is_current,
    ));
    let conclusion = libtest_mimic::run(&arguments, trials);
    harness::end_all();
    conclusion.exit();
}
