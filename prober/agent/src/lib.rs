//! The agent, the program of a probe pod: it reads plans from a file and writes event lines to standard output.
//!
//! The modules follow the data. `startup` reads the command line, opens the packet sockets, drops all privileges and
//! writes the first line. Then the `main_task` takes over: it reads each `plan` as its file changes, starts the
//! plan's listeners in the `responder` and hands its probes to the two kinds of `engine`, the kernel's connect() and
//! the packet thread. Their results come back to the main task, which counts them and writes `event_lines`. Where
//! nothing reads these lines at once, the `readiness_gate` reports a failed probe by closing its port.
//! `timers` wake the main task and measure how late it wakes up. [`host_probe`] uses the same engines without an agent
//! or a plan, for `prober probe`.
//!
//! An agent works in the network namespace that it is started in, and has no other input or output than the plan file and
//! standard output: a run depends on nothing of the data path under test, and an agent needs no credentials. The plan is a
//! [`Plan`](prober_core::plan::Plan), a line an [`Event`](prober_core::probe::event::Event).
#![forbid(unsafe_code)]

/// From the command line to a running agent.
mod startup;

/// The configuration of an agent.
mod config;

/// The signals that end an agent.
mod signals;

/// The addresses and the MTU of this end.
mod local_addresses;

/// The event loop that takes plans, starts probes and writes lines.
mod main_task;

/// Plans: their file, their progress, and the conditions before their first probe.
mod plan;

/// The engines, which send probes and receive their answers.
mod engine;

/// The server that answers the probes of other agents.
mod responder;

/// Event lines: the selection of the probes that get one, and their output.
mod event_lines;

/// A port that is open until the log has an event that must be read.
mod readiness_gate;

/// The rounds of a standing agent.
mod standing;

/// Timers of the main task: sleeping, and measuring how late it wakes up.
mod timers;

/// Probes from this host, without an agent or a plan.
pub mod host_probe;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

/// Runs an agent with these arguments, of which the first is the program's name.
///
/// Ends with 0 after SIGTERM, SIGINT or `--facts`, and with 2 if it could not start.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let done = match startup::args::Args::try_parse_from(args) {
        Ok(args) => startup::start(args),
        Err(error) => {
            // A closed terminal is no reason to fail.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(std::io::stderr(), "prober-agent: {error:#}"));
            ExitCode::from(2)
        }
    }
}
