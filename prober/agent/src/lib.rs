//! What runs in a probe pod: engines and responder, plans in, event lines out.
//!
//! An agent reads its [plan](prober_core::plan::Plan) from a file that may be replaced at any time, probes
//! and answers probes in the network namespace that it was started in, and writes one JSON line per
//! [event](prober_core::probe::event::Event) to its standard output. It has no other way in or out: nothing of
//! a run uses the data path under test, and an agent needs no credentials.
#![forbid(unsafe_code)]

mod agent;
mod args;
mod commands;
mod connect_jobs;
mod event_writer;
mod events;
/// Probes from this host, without an agent or a plan.
pub mod host_probe;
mod kernel_engine;
mod listeners;
mod local_addresses;
mod node_facts_reader;
mod packet_loop;
mod packet_thread;
mod plan_file;
mod plan_progress;
mod plan_watch;
mod readiness_gate;
mod responder;
mod signals;
mod startup;
mod tally;
mod wait_for_services;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

/// Runs an agent with these arguments, of which the first is the program's name.
///
/// Ends with 0 after SIGTERM, SIGINT or `--facts`, and with 2 if it could not start.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let done = match args::Args::try_parse_from(args) {
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
/// Timers of the main task: sleeping, and measuring how late it wakes up.
pub mod timers;
