//! Tests of the lab on a real kernel: this binary isolates itself as `prober` does, then runs its cases inside.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a panic is the failure of a test")]
#![expect(
    clippy::print_stdout,
    reason = "the report of a test binary without a harness, and the lines of a fake agent"
)]

use std::env;
use std::process::ExitCode;
use std::time::Instant;

use prober_lab::isolation::{self, Side};

mod connectivity;
mod control;
mod fake_agent;
mod faults;
mod teardown;

type Case = (&'static str, fn());

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("agent") => return fake_agent::run(&arguments),
        Some("hold") => return teardown::hold(),
        Some("up") => return control::up(),
        Some("request") => return control::request(),
        Some(_) | None => {}
    }
    let cases = [connectivity::CASES, faults::CASES].concat();
    if arguments.iter().any(|argument| argument == "--list") {
        for (name, _) in cases.iter().chain(teardown::OUTSIDE) {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    match teardown::outside(&arguments).and_then(|()| isolation::enter(None, || {})) {
        Ok(Side::Ended(code)) => code,
        Ok(Side::Inside) => run(&cases, &arguments),
        Err(error) if env::var_os("PROBER_SKIP_PRIVILEGED").is_some() => {
            println!("skipped, because PROBER_SKIP_PRIVILEGED is set: {error}");
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
