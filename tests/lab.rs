//! The lab: real kernel, real packets, every fault named right and nothing else named.
//!
//! One test for each fault that `prober lab faults` lists, made as the program starts, and the
//! stories that no list tells: a healthy lab, two faults at once, one bad endpoint of ten.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot look fails, and says why it was left out"
)]

#[path = "lab/endings.rs"]
mod endings;
#[path = "lab/harness.rs"]
mod harness;
#[path = "lab/program.rs"]
mod program;
#[path = "lab/refusals.rs"]
mod refusals;
#[path = "lab/socket_level.rs"]
mod socket_level;
#[path = "lab/stories.rs"]
mod stories;

use libtest_mimic::{Arguments, Failed, Trial};

use harness::{Fault, Lab};

fn main() {
    let mut arguments = Arguments::from_args();
    // Labs side by side would starve each other's agents.
    arguments.test_threads = arguments.test_threads.or(Some(1));
    if std::env::var_os("PROBER_SKIP_PRIVILEGED").is_some() {
        println!("left out: every test of the lab, since PROBER_SKIP_PRIVILEGED is set");
        libtest_mimic::run(&arguments, Vec::new()).exit();
    }
    let mut trials: Vec<Trial> = Lab::faults()
        .into_iter()
        .map(|fault| {
            Trial::test(
                format!("fault {} is named and nothing else", fault.name),
                move || named(&fault),
            )
        })
        .collect();
    trials.extend(stories::trials());
    trials.extend(endings::trials());
    trials.extend(refusals::trials());
    trials.extend(socket_level::trials());
    libtest_mimic::run(&arguments, trials).exit();
}

/// Injects one fault on its usual node and looks at what is named.
fn named(fault: &Fault) -> Result<(), Failed> {
    // Faults of IPv6 alone say so in their name, and harm nothing that IPv4 sees.
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
                "{} is blamed on {node}, it is on {expected}",
                diagnosis.cause
            )
            .into());
        }
    }
    Ok(())
}
