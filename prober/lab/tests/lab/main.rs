//! The lab on a real kernel: this binary isolates itself as `prober` does, then runs its cases inside.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(
    clippy::print_stdout,
    reason = "the report of a test binary without a harness"
)]

use std::env;
use std::process::ExitCode;
use std::time::Instant;

use prober_lab::isolate::{self, Side};

mod path;

type Case = (&'static str, fn());

fn main() -> ExitCode {
    let wanted: Vec<String> = env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let cases: Vec<Case> = path::CASES.to_vec();
    if env::args().any(|arg| arg == "--list") {
        for (name, _) in cases {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    match isolate::enter() {
        Ok(Side::Ended(code)) => code,
        Ok(Side::Inside) => run(&cases, &wanted),
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

fn run(cases: &[Case], wanted: &[String]) -> ExitCode {
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
