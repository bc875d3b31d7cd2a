//! Isolation: restarts the process in new namespaces, so that the lab ends with it and changes nothing else on the machine.
//!
//! The process executes itself again under `unshare`, in new mount, network and PID namespaces (and a user
//! namespace when it is not root), with a private `/run` for the names of network namespaces and for iptables'
//! lock. The inner process is PID 1 of its PID namespace: when it ends, for any reason, the kernel kills every
//! other process of that namespace, and network namespaces disappear with their last process and mount.
//!
//! ```text
//! prober run --lab          waits, returns the inner exit status; holds the parent pipe open
//!   unshare --fork          --kill-child: if it ends, the next process is killed
//!     prober run --lab      PID 1 of the lab; exits when the parent pipe is closed
//! ```
//!
//! The parent pipe is the inner process's standard input; only the outer process holds its write end. It is closed
//! when the outer process ends, by SIGKILL too. Each byte written to it is one interrupt by the user. The inner
//! process does not receive the terminal's Ctrl-C, because the lab is a process group of its own.

use std::env;
use std::ffi::OsString;
use std::io::{self, PipeWriter, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::namespace::{self, CommandError};

/// Environment variable that is set for the inner process only.
const INSIDE: &str = "PROBER_LAB_INSIDE";

/// Environment variable of the inner process: the user's uid outside, where the uid inside may be a mapped root.
const OWNER_UID: &str = "PROBER_LAB_OWNER";

/// Environment variable of the inner process: the file in which it leaves a result for the outer process, if any.
const RESULT_FILE: &str = "PROBER_LAB_RESULT_FILE";

/// Files outside the lab that are removed when it ends.
static FILES_TO_REMOVE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Advice for a refusal: the kernel settings that allow unprivileged user namespaces, Debian's and Ubuntu's included.
const ADVICE: &str = "allow unprivileged user namespaces (sysctl -w kernel.unprivileged_userns_clone=1 or, on Ubuntu, \
kernel.apparmor_restrict_unprivileged_userns=0; user.max_user_namespaces must not be 0), or run as root";

/// The process could not be isolated.
#[derive(Debug, thiserror::Error)]
pub enum IsolationError {
    /// The kernel or a policy refuses the namespaces.
    #[error("cannot make namespaces for the lab: {stderr}; {ADVICE}")]
    Refused {
        /// The standard error of `unshare`.
        stderr: String,
    },
    /// A program that the lab needs could not be started.
    #[error(
        "cannot start {program}: {source}; the lab needs util-linux, iproute2, iptables, ethtool, conntrack and procps: apt-get install them"
    )]
    Start {
        /// The program.
        program: &'static str,
        /// The operating system's error.
        source: io::Error,
    },
    /// The inner process could not be started, fed or awaited.
    #[error("cannot run this program again inside the lab: {0}")]
    Restart(io::Error),
    /// No signal handler could be installed.
    #[error("cannot handle Ctrl-C: {0}")]
    Signals(#[from] ctrlc::Error),
    /// The module `br_netfilter` is not loaded.
    #[error(
        "cannot make a node: this kernel has no /proc/sys/net/bridge; run modprobe br_netfilter as root once"
    )]
    NoBridgeFilter,
    /// The private `/run` could not be mounted.
    #[error(transparent)]
    PrivateRun(#[from] CommandError),
}

/// The process in which [`enter`] has returned.
#[derive(Debug)]
pub enum Side {
    /// The inner process: isolated, ready to create a lab.
    Inside,
    /// The outer process, after the inner one has ended with this exit status.
    Ended(ExitCode),
}

/// Isolates the process. Call it before any thread is started.
///
/// The outer process blocks until the inner one has ended. Its first SIGINT or SIGTERM calls `on_interrupt` in the inner
/// process, on a separate thread; the second ends both processes at once, and so does SIGKILL.
///
/// `result_file` is a file in which the inner process may leave a result; there, [`result_file`] returns its path.
///
/// # Errors
///
/// [`IsolationError`], whose text says what the machine lacks.
pub fn enter(
    result_file: Option<&Path>,
    on_interrupt: impl FnMut() + Send + 'static,
) -> Result<Side, IsolationError> {
    if env::var_os(INSIDE).is_some() {
        mount_private_run()?;
        watch_parent_pipe(on_interrupt)?;
        return Ok(Side::Inside);
    }
    // From here on a signal waits in the pipe until the inner process reads it, so no started process is orphaned.
    let (parent_pipe, write_end) = io::pipe().map_err(IsolationError::Restart)?;
    forward_signals(write_end)?;
    check()?;
    let program = env::current_exe().map_err(IsolationError::Restart)?;
    let mut command = unshare();
    if let Some(path) = result_file {
        command.env(RESULT_FILE, path);
    }
    let mut child = command
        .arg("--")
        .arg(program)
        .args(env::args_os().skip(1))
        .env(INSIDE, "1")
        .env(OWNER_UID, nix::unistd::geteuid().to_string())
        .env("PATH", search_path())
        .stdin(parent_pipe)
        .spawn()
        .map_err(|source| IsolationError::Start {
            program: "unshare",
            source,
        })?;
    let status = child.wait().map_err(IsolationError::Restart)?;
    let code = status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(2);
    Ok(Side::Ended(ExitCode::from(code)))
}

/// Whether this is the inner process.
pub fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Returns the file in which the inner process leaves a result; `None` outside, and where [`enter`] received none.
pub fn result_file() -> Option<PathBuf> {
    is_inside()
        .then(|| env::var_os(RESULT_FILE))
        .flatten()
        .map(PathBuf::from)
}

/// Returns the uid, outside, of the lab's user; `None` in the outer process.
pub fn owner_uid() -> Option<u32> {
    env::var(OWNER_UID).ok()?.parse().ok()
}

/// Registers a file for removal by [`exit`].
pub fn remove_on_exit(path: PathBuf) {
    files_to_remove().push(path);
}

/// Locks the list; a panic of another thread cannot leave a push half done.
fn files_to_remove() -> MutexGuard<'static, Vec<PathBuf>> {
    FILES_TO_REMOVE
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    // In a separate process group, so that only the outer process receives Ctrl-C.
    command.process_group(0).args([
        "--mount",
        "--net",
        "--pid",
        "--fork",
        "--kill-child=KILL",
        "--mount-proc",
    ]);
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
}

/// Tries the first operations of a lab, because a refusal inside could not be distinguished from a failed run.
pub fn check() -> Result<(), IsolationError> {
    let output = unshare()
        .args(["--", "mount", "-t", "tmpfs", "tmpfs", "/run"])
        .stdin(Stdio::null())
        .output()
        .map_err(|source| IsolationError::Start {
            program: "unshare",
            source,
        })?;
    if output.status.success() {
        Ok(())
    } else {
        Err(IsolationError::Refused {
            stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }
}

fn mount_private_run() -> Result<(), IsolationError> {
    if !Path::new("/proc/sys/net/bridge").exists() {
        return Err(IsolationError::NoBridgeFilter);
    }
    namespace::run_in_lab("mount -t tmpfs tmpfs /run\nip link set lo up")?;
    Ok(())
}

/// Handles signals: the first writes a byte to the parent pipe, the second closes the pipe.
fn forward_signals(write_end: PipeWriter) -> Result<(), ctrlc::Error> {
    let mut signals = 0;
    let mut write_end = Some(write_end);
    ctrlc::set_handler(move || {
        signals += 1;
        let Some(pipe) = &mut write_end else { return };
        let is_forwarded = signals == 1 && pipe.write_all(&[0]).is_ok();
        if !is_forwarded {
            write_end = None;
        }
    })
}

/// Starts a thread that calls `on_interrupt` for each byte in the parent pipe, and ends the lab when the pipe is closed.
fn watch_parent_pipe(
    mut on_interrupt: impl FnMut() + Send + 'static,
) -> Result<(), IsolationError> {
    thread::Builder::new()
        .name("parent pipe".to_owned())
        .spawn(move || {
            let mut byte = [0];
            // A read error means the same as a closed pipe: the outer process has ended.
            while matches!(io::stdin().read(&mut byte), Ok(1)) {
                on_interrupt();
            }
            exit(2)
        })
        .map(drop)
        .map_err(IsolationError::Restart)
}

/// Ends the inner process, and the lab with it, after the registered files are removed; may be called from any thread.
#[expect(
    clippy::disallowed_methods,
    reason = "the kernel ends the lab with its PID 1"
)]
pub fn exit(status: i32) -> ! {
    for path in files_to_remove().iter() {
        // The next lab replaces a socket that could not be removed.
        let _left = std::fs::remove_file(path);
    }
    std::process::exit(status)
}

/// Returns `$PATH` with the directories of `ip` and `iptables`, which an ordinary user's path lacks on Debian.
pub(crate) fn search_path() -> OsString {
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin:/usr/bin:/bin");
    path
}
