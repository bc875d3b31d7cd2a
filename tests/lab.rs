//! Runs of the lab on a real kernel: each fault is named, and nothing else.
//!
//! There is one test for each fault of `prober lab faults`, generated when the program starts, and one for each
//! further scenario: a healthy lab, two faults at once, one bad endpoint of ten, every other data plane.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a panic is the failure of a test; a skipped test prints why"
)]

#[path = "lab/data_planes.rs"]
mod data_planes;
#[path = "lab/harness.rs"]
mod harness;
#[path = "lab/program.rs"]
mod program;
#[path = "lab/rejections.rs"]
mod rejections;
#[path = "lab/scenarios.rs"]
mod scenarios;
#[path = "lab/second_client.rs"]
mod second_client;
#[path = "lab/shutdown.rs"]
mod shutdown;
#[path = "lab/socket_level.rs"]
mod socket_level;

use libtest_mimic::{Arguments, Failed, Trial};

use harness::{Fault, Lab};

fn main() {
    let mut arguments = Arguments::from_args();
    // Labs that run in parallel would starve each other's agents.
    arguments.test_threads = arguments.test_threads.or(Some(1));
    if std::env::var_os("PROBER_SKIP_PRIVILEGED").is_some() {
        println!("skipped: every test of the lab, because PROBER_SKIP_PRIVILEGED is set");
        libtest_mimic::run(&arguments, Vec::new()).exit();
    }
    let mut trials: Vec<Trial> = Lab::faults()
        .into_iter()
        .filter(Fault::is_on_the_default_data_plane)
        .map(|fault| {
            Trial::test(
                format!("fault {} is named and nothing else", fault.name),
                move || fault_is_named(&fault),
            )
        })
        .collect();
    trials.extend(scenarios::trials());
    trials.extend(second_client::trials());
    trials.extend(data_planes::trials());
    trials.extend(shutdown::trials());
    trials.extend(rejections::trials());
    trials.extend(socket_level::trials());
    libtest_mimic::run(&arguments, trials).exit();
}

/// Injects one fault on its default node and checks the causes and nodes of the report.
fn fault_is_named(fault: &Fault) -> Result<(), Failed> {
    // A fault whose name ends in -v6 affects IPv6 only.
    let family = if fault.name.ends_with("-v6") {
        "dual"
    } else {
        "ipv4"
    };
    let report = Lab::run(&["--family", family, "--fault", &fault.name])?;
    report.names_only(&fault.causes)?;
    for diagnosis in &report.diagnoses {
        if let (Some(node), Some(expected)) = (&diagnosis.node, &fault.node)
            && !fault.may_be_elsewhere()
            && node != expected
        {
            return Err(format!(
                "{} is attributed to {node}, but it is on {expected}",
                diagnosis.cause
            )
            .into());
        }
    }
    Ok(())
}
