//! The program `prober`: parses its command line, runs one command and reports its result by the exit status.
//!
//! The exit status is 0 if every path is healthy, 1 if a path fails, and 2 if the command could not run. A reader that
//! closes the pipe early causes no error.
//!
//! The lab, the agent and probes from this host need Linux. Elsewhere the program runs on clusters, replays captures and shows
//! reports.

#![cfg_attr(
    not(feature = "cluster"),
    expect(
        dead_code,
        reason = "a build for the lab takes the flags of a cluster and reads none of them"
    )
)]

/// `prober agent`: the agent of a pod.
#[cfg(target_os = "linux")]
mod agent;
/// `prober clean`: the objects that runs left in a cluster.
#[cfg(feature = "cluster")]
mod clean;
/// The command line and its commands.
mod cli;
/// `prober completions`: shell completion scripts.
mod completions;
/// The arguments that select a cluster.
mod connect_args;
/// The loop that drives a run against its platform.
mod drive;
/// `prober explain`: the causes and their pages.
mod explain;
/// Input files and standard input.
mod input;
/// `prober lab`: a lab that stays up, and its faults.
#[cfg(target_os = "linux")]
mod lab;
/// The values of arguments that describe a lab.
#[cfg(target_os = "linux")]
mod lab_values;
/// `prober man`: the manual pages.
mod man;
/// The destinations of a report.
mod output;
/// The packets of failing probes as a pcapng capture.
mod pcapng;
/// `prober probe`: handshakes from this host.
#[cfg(target_os = "linux")]
mod probe;
/// The progress of a run on a terminal.
mod progress;
/// `prober replay`: the diagnosis of packet captures.
mod replay;
/// `prober report`: a saved report in another format.
mod report;
/// `prober run`: a run in the lab or in a cluster.
mod run;
/// Output on standard output and standard error.
mod show;
/// The width of the terminal, and text wrapped to it.
mod terminal;
/// `prober ui`: the page of the canary.
#[cfg(feature = "cluster")]
mod ui;
/// Usage errors.
mod usage;
/// The values of arguments that several commands share.
mod values;
/// `prober version`: the version, the commit and the target.
mod version;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::CommandFactory as _;

use cli::{Cli, Command};

/// The exit status of a command that could not run.
const COULD_NOT_RUN: u8 = 2;

fn main() -> ExitCode {
    let command_line: Vec<OsString> = std::env::args_os().collect();
    match cli::parse(&command_line) {
        Ok(cli) => exit_code(dispatch(cli.command, &command_line)),
        Err(error) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(COULD_NOT_RUN);
            exit_code(show::usage(&error).map(|()| ExitCode::from(code)))
        }
    }
}

/// Runs the command and returns its exit status. Reports quote the command line.
fn dispatch(command: Command, command_line: &[OsString]) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => run::run(&args, command_line),
        #[cfg(feature = "cluster")]
        Command::Clean(args) => clean::clean(&args),
        #[cfg(feature = "cluster")]
        Command::Ui(args) => ui::ui(&args),
        #[cfg(target_os = "linux")]
        Command::Lab(args) => lab::lab(args),
        #[cfg(target_os = "linux")]
        Command::Probe(args) => probe::probe(&args, command_line),
        Command::Replay(args) => replay::run_replay(&args, command_line),
        Command::Explain(args) => explain::explain(&args),
        Command::Report(args) => report::report(&args),
        Command::Completions(args) => completions::completions(&args, Cli::command()),
        Command::Man(args) => man::man(&args, Cli::command()),
        Command::Version(args) => version::version(&args),
        #[cfg(target_os = "linux")]
        Command::Agent(args) => Ok(agent::agent(args)),
    }
}

/// Returns the exit status of a command; an error is written to standard error and gives [`COULD_NOT_RUN`].
fn exit_code(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        show::error(&error);
        ExitCode::from(COULD_NOT_RUN)
    })
}
