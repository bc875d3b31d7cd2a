//! The program `prober-agent`; all of it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    prober_agent::run(std::env::args_os())
}
