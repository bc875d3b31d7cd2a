//! The program `prober`: parses its command line, runs one command and reports its result by the exit status.
//!
//! 0 healthy, 1 a path fails, 2 could not run; a reader that goes away is no error.

#![cfg_attr(
    not(feature = "cluster"),
    expect(
        dead_code,
        reason = "a build for the lab takes the flags of a cluster and reads none of them"
    )
)]

/// Runs as an agent.
mod agent;
/// Leftovers of runs in a cluster.
#[cfg(feature = "cluster")]
mod clean;
/// The command line.
mod cli;
/// Scripts that complete commands in a shell.
mod completions;
/// Drives a run against its fleet.
mod drive;
/// Causes, listed and explained.
mod explain;
/// Files to read.
mod input;
/// The lab by hand.
mod lab;
/// The manual page.
mod man;
/// Where a report goes.
mod output;
/// Failing probes as a capture.
mod pcapng;
/// Handshakes from this host.
mod probe;
/// A display of a run on a terminal.
mod progress;
/// Which cluster is meant.
mod reach;
/// Existing captures.
mod replay;
/// Saved reports in other forms.
mod report;
/// A whole run.
mod run;
/// What is written to standard output and standard error.
mod show;
/// The width of the terminal.
mod terminal;
/// Errors of usage.
mod usage;
/// Values on the command line that several commands take.
mod values;
/// What this program is.
mod version;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::CommandFactory as _;

use cli::{Cli, Command};

/// The exit status of what could not run.
const COULD_NOT_RUN: u8 = 2;

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    match cli::parse(&words) {
        Ok(cli) => finish(dispatch(cli.command, &words)),
        Err(error) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(COULD_NOT_RUN);
            finish(show::usage(&error).map(|()| ExitCode::from(code)))
        }
    }
}

fn dispatch(command: Command, words: &[OsString]) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => run::run(&args, words),
        #[cfg(feature = "cluster")]
        Command::Clean(args) => clean::clean(&args),
        Command::Lab(args) => lab::lab(args),
        Command::Probe(args) => probe::probe(&args, words),
        Command::Replay(args) => replay::run_replay(&args, words),
        Command::Explain(args) => explain::explain(&args),
        Command::Report(args) => report::report(&args),
        Command::Completions(args) => completions::completions(&args, Cli::command()),
        Command::Man(args) => man::man(&args, Cli::command()),
        Command::Version(args) => version::version(&args),
        Command::Agent(args) => Ok(agent::agent(args)),
    }
}

fn finish(done: anyhow::Result<ExitCode>) -> ExitCode {
    done.unwrap_or_else(|error| {
        show::failure(&error);
        ExitCode::from(COULD_NOT_RUN)
    })
}
