//! The lab on a real kernel: this binary isolates itself as `prober` does, then runs its cases inside.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(
    clippy::print_stdout,
    reason = "the report of a test binary without a harness, and a stand-in agent's lines"
)]

use std::env;
use std::process::ExitCode;
use std::time::Instant;

use prober_lab::isolation::{self, Side};

mod control;
mod death;
mod faults;
mod path;
mod stand_in;

type Case = (&'static str, fn());

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("agent") => return stand_in::run(&arguments),
        Some("hold") => return death::hold(),
        Some("up") => return control::up(),
        Some("reach") => return control::reach(),
        Some(_) | None => {}
    }
    let cases = [path::CASES, faults::CASES].concat();
    if arguments.iter().any(|argument| argument == "--list") {
        for (name, _) in cases.iter().chain(death::OUTSIDE) {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    match death::outside(&arguments).and_then(|()| isolation::enter(None, || {})) {
        Ok(Side::Ended(code)) => code,
        Ok(Side::Inside) => run(&cases, &arguments),
        Err(error) if env::var_os("PROBER_SKIP_PRIVILEGED").is_some() => {
            println!("skipped, as PROBER_SKIP_PRIVILEGED asks: {error}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{error}; PROBER_SKIP_PRIVILEGED=1 skips these tests");
            ExitCode::FAILURE
        }
    }
}

fn run(cases: &[Case], arguments: &[String]) -> ExitCode {
    let wanted: Vec<&String> = arguments
        .iter()
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    for (name, case) in cases {
        if wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str())) {
            let start = Instant::now();
            println!("test {name} ...");
            case();
            println!("test {name} ... ok ({:.1?})", start.elapsed());
        }
    }
    ExitCode::SUCCESS
}
