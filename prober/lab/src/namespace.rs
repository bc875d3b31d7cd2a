//! Runs scripts and threads inside the lab's network namespaces.
//!
//! Commands enter through `nsenter`, so that no namespace change ever happens to a thread that does anything
//! else; a thread that has to open sockets there enters for its whole life and ends there.

use std::fs::File;
use std::io;
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};

use nix::sched::{CloneFlags, setns};

/// A command of the lab did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The program could not be started.
    #[error(
        "cannot start {program} (in {place}): {source}; the lab needs iproute2, iptables, ethtool, conntrack, procps and util-linux: apt-get install them"
    )]
    Start {
        /// The program.
        program: String,
        /// The namespace it was for.
        place: String,
        /// Why.
        source: io::Error,
    },
    /// The program ran and failed.
    #[error("cannot run in {place}: {said} ({status}); the command was: {script}")]
    Failed {
        /// The namespace it ran in.
        place: String,
        /// What was run.
        script: String,
        /// What it wrote to standard error, in one line.
        said: String,
        /// How it ended.
        status: String,
    },
    /// A thread that was to run scripts could not be started or joined.
    #[error("cannot run in {place}: the thread for it did not start or did not end: {source}")]
    Thread {
        /// The namespace it was for.
        place: String,
        /// Why.
        source: io::Error,
    },
}

/// The file through which a namespace is entered.
pub fn path(name: &str) -> String {
    format!("/run/netns/{name}")
}

/// A command that will run in the namespace.
pub fn command(name: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", path(name))).arg("--");
    command
}

/// Starts a program in a namespace, with that namespace's view of `/sys` (ip-netns(8)).
pub fn command_with_sys(name: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", name]);
    command
}

/// Runs a shell script in a namespace and waits for it; the first line that fails ends it.
pub fn run(name: &str, script: &str) -> Result<String, CommandError> {
    let mut command = command(name);
    command.args(["sh", "-ec", script]);
    finish(command, name, script)
}

/// Runs a shell script in the lab's own namespace, from where all others are reached by name.
pub fn run_outside(script: &str) -> Result<String, CommandError> {
    let mut command = Command::new("sh");
    command.args(["-ec", script]);
    finish(command, "the lab", script)
}

/// Runs one script in each of several namespaces, at the same time; the first error in their order is told.
pub fn run_all(scripts: &[(String, String)]) -> Result<(), CommandError> {
    thread::scope(|scope| {
        let running: Vec<_> = scripts
            .iter()
            .map(|(name, script)| (name, scope.spawn(move || run(name, script))))
            .collect();
        let mut ends = Vec::new();
        for (name, thread) in running {
            ends.push(thread.join().unwrap_or_else(|_| Err(lost_thread(name))));
        }
        ends.into_iter().collect::<Result<Vec<_>, _>>().map(drop)
    })
}

/// Runs a function on a thread of its own inside a namespace: its sockets belong there.
pub fn spawn_inside<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<io::Result<T>>, CommandError> {
    let place = name.to_owned();
    let file = File::open(path(name));
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            setns(file?, CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        })
        .map_err(|source| CommandError::Thread { place, source })
}

fn finish(mut command: Command, place: &str, script: &str) -> Result<String, CommandError> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| CommandError::Start {
            program: command.get_program().to_string_lossy().into_owned(),
            place: place.to_owned(),
            source,
        })?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(CommandError::Failed {
            place: place.to_owned(),
            script: script.trim_end().to_owned(),
            said: String::from_utf8_lossy(&output.stderr)
                .trim()
                .replace('\n', "; "),
            status: output.status.to_string(),
        })
    }
}

fn lost_thread(place: &str) -> CommandError {
    CommandError::Thread {
        place: place.to_owned(),
        source: io::Error::other("it ended without a result"),
    }
}
