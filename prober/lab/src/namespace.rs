//! Commands and threads in the lab's network namespaces.
//!
//! Commands enter a namespace through `nsenter`, so that no thread of this process changes its namespace and then does
//! other work; a thread that opens sockets in a namespace enters it at its start and never leaves it.

use std::fs::File;
use std::io;
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};

use nix::sched::{CloneFlags, setns};

/// A command of the lab could not be run, or failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The program could not be started.
    #[error(
        "cannot start {program} (in {namespace}): {source}; the lab needs iproute2, iptables, ethtool, conntrack, procps and util-linux: apt-get install them"
    )]
    Start {
        /// The program.
        program: String,
        /// The network namespace.
        namespace: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// The program ran and failed.
    #[error("cannot run a command in {namespace}: {stderr} ({status}); the command was: {script}")]
    Failed {
        /// The network namespace.
        namespace: String,
        /// The shell script.
        script: String,
        /// Its standard error, in one line.
        stderr: String,
        /// Its exit status.
        status: String,
    },
    /// A thread could not be started, or panicked.
    #[error("cannot run a command in {namespace}: its thread did not start or panicked: {source}")]
    Thread {
        /// The network namespace.
        namespace: String,
        /// The operating system's error.
        source: io::Error,
    },
}

/// Returns the file through which a network namespace is entered.
pub fn path(name: &str) -> String {
    format!("/run/netns/{name}")
}

/// Returns an `nsenter` command without a program; the caller appends the program.
pub fn command(name: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", path(name))).arg("--");
    command
}

/// Returns an `ip netns exec` command without a program, which shows the program the namespace's `/sys` (ip-netns(8)).
pub fn command_with_sys(name: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", name]);
    command
}

/// Runs a shell script in a namespace and returns its standard output; the first failing line ends the script.
pub fn run(name: &str, script: &str) -> Result<String, CommandError> {
    let mut command = command(name);
    command.args(["sh", "-ec", script]);
    output_of(command, name, script)
}

/// Runs a shell script in the lab's initial namespace, from which all others can be reached by name (`ip -n`).
pub fn run_in_lab(script: &str) -> Result<String, CommandError> {
    let mut command = Command::new("sh");
    command.args(["-ec", script]);
    output_of(command, "the lab", script)
}

/// Runs one script in each of several namespaces, in parallel; returns the first error in their order.
pub fn run_all(scripts: &[(String, String)]) -> Result<(), CommandError> {
    thread::scope(|scope| {
        let running: Vec<_> = scripts
            .iter()
            .map(|(name, script)| (name, scope.spawn(move || run(name, script))))
            .collect();
        let mut results = Vec::new();
        for (name, thread) in running {
            results.push(thread.join().unwrap_or_else(|_| Err(panicked(name))));
        }
        results.into_iter().collect::<Result<Vec<_>, _>>().map(drop)
    })
}

/// Runs a function on a new thread in a namespace: sockets that it opens belong to the namespace.
pub fn spawn_in<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<io::Result<T>>, CommandError> {
    let namespace = name.to_owned();
    let file = File::open(path(name));
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            setns(file?, CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        })
        .map_err(|source| CommandError::Thread { namespace, source })
}

fn output_of(mut command: Command, namespace: &str, script: &str) -> Result<String, CommandError> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| CommandError::Start {
            program: command.get_program().to_string_lossy().into_owned(),
            namespace: namespace.to_owned(),
            source,
        })?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(CommandError::Failed {
            namespace: namespace.to_owned(),
            script: script.trim_end().to_owned(),
            stderr: String::from_utf8_lossy(&output.stderr)
                .trim()
                .replace('\n', "; "),
            status: output.status.to_string(),
        })
    }
}

fn panicked(namespace: &str) -> CommandError {
    CommandError::Thread {
        namespace: namespace.to_owned(),
        source: io::Error::other("the thread panicked"),
    }
}
