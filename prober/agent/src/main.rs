//! What runs in a probe pod; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    prober_agent::run(std::env::args_os())
}
