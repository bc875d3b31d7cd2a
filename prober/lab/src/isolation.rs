//! Moves the process into namespaces of its own, so that the lab dies with it and touches nothing else.
//!
//! The process starts itself again under `unshare`: new mount, network and process namespaces (and a user
//! namespace when it is not root), a private `/run` for the names of network namespaces and for iptables'
//! lock. What runs inside is the first process of its process namespace: when it ends, however it ends,
//! the kernel kills everything in there, and network namespaces vanish with their last process and mount.
//!
//! ```text
//! prober run --lab          waits, passes the exit status on; holds the lifeline
//!   unshare --fork          --kill-child: dies -> the next dies
//!     prober run --lab      process 1 of the lab; the lifeline ends -> it exits
//! ```
//!
//! The lifeline is the inner process's standard input, a pipe that only the outer process holds open: an outer
//! process that ends in any way, SIGKILL included, closes it. Each byte that comes down the lifeline says that the
//! user wants it to end. Nothing inside hears the terminal's Ctrl-C by itself: all of it is a process group of its own.

use std::env;
use std::ffi::OsString;
use std::io::{self, PipeWriter, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::namespace::{self, CommandError};

/// Set for the inner process, so that it knows what it is.
const INSIDE: &str = "PROBER_LAB_INSIDE";

/// Set for the inner process: the uid of its user, who may be root only in here.
const OWNER: &str = "PROBER_LAB_OWNER";

/// Set for the inner process where it is to leave something for the outer one: a file.
const HAND_OVER: &str = "PROBER_LAB_HAND_OVER";

/// Files outside the lab that must not outlive it.
static LEFT_OVERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// What kernel switch decides about unprivileged user namespaces, Debian's and Ubuntu's.
const HOW: &str = "allow unprivileged user namespaces (sysctl -w kernel.unprivileged_userns_clone=1 or, on Ubuntu, \
kernel.apparmor_restrict_unprivileged_userns=0; user.max_user_namespaces must not be 0), or run as root";

/// The process could not be isolated.
#[derive(Debug, thiserror::Error)]
pub enum IsolateError {
    /// The kernel or a policy refuses the namespaces.
    #[error("cannot make namespaces for the lab: {said}; {HOW}")]
    Refused {
        /// What `unshare` said.
        said: String,
    },
    /// A program that the lab needs is not there.
    #[error(
        "cannot start {program}: {source}; the lab needs util-linux, iproute2, iptables, ethtool, conntrack and procps: apt-get install them"
    )]
    Start {
        /// The program.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The inner process could not be awaited or found.
    #[error("cannot start this program again inside the lab: {0}")]
    Again(io::Error),
    /// The outer process cannot hear signals.
    #[error("cannot take over Ctrl-C: {0}")]
    Signals(#[from] ctrlc::Error),
    /// The bridge filter is not in the kernel.
    #[error(
        "cannot make a node: this kernel has no /proc/sys/net/bridge; run modprobe br_netfilter as root once"
    )]
    NoBridgeFilter,
    /// The private `/run` could not be made.
    #[error(transparent)]
    Private(#[from] CommandError),
}

/// Which of the two processes this is.
#[derive(Debug)]
pub enum Side {
    /// The inner one: alone in its namespaces, free to make a lab.
    Inside,
    /// The outer one, after the inner one has ended: this is its exit status.
    Ended(ExitCode),
}

/// Isolates the process: call it first thing, before any thread is started.
///
/// The outer process blocks until the inner one has ended. Its first SIGINT or SIGTERM calls `on_interrupt` inside,
/// from a thread of its own; the second ends both at once, and so does SIGKILL.
///
/// `handed` is a file in which the inner process may leave something, for [`hand_over`] to find there.
pub fn enter(
    handed: Option<&Path>,
    on_interrupt: impl FnMut() + Send + 'static,
) -> Result<Side, IsolateError> {
    if env::var_os(INSIDE).is_some() {
        private_run()?;
        hold_lifeline(on_interrupt)?;
        return Ok(Side::Inside);
    }
    // From here on a signal waits in the pipe until the inner process hears it: nothing that was started is left alone.
    let (lifeline, held) = io::pipe().map_err(IsolateError::Again)?;
    pass_on_signals(held)?;
    check()?;
    let program = env::current_exe().map_err(IsolateError::Again)?;
    let mut command = unshare();
    if let Some(path) = handed {
        command.env(HAND_OVER, path);
    }
    let mut child = command
        .arg("--")
        .arg(program)
        .args(env::args_os().skip(1))
        .env(INSIDE, "1")
        .env(OWNER, nix::unistd::geteuid().to_string())
        .env("PATH", search_path())
        .stdin(lifeline)
        .spawn()
        .map_err(|source| IsolateError::Start {
            program: "unshare",
            source,
        })?;
    let status = child.wait().map_err(IsolateError::Again)?;
    let code = status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(2);
    Ok(Side::Ended(ExitCode::from(code)))
}

/// Whether this process is inside already.
pub fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Where the inner process leaves what the outer one waits for; `None` outside, and where nothing is waited for.
pub fn hand_over() -> Option<PathBuf> {
    is_inside()
        .then(|| env::var_os(HAND_OVER))
        .flatten()
        .map(PathBuf::from)
}

/// The uid of the user who made the lab, as it is outside; `None` outside.
pub fn owner() -> Option<u32> {
    env::var(OWNER).ok()?.parse().ok()
}

/// Lets a file be removed when the lab ends because its outer process has.
pub fn remove_at_end(path: PathBuf) {
    left_overs().push(path);
}

/// A thread that panicked while it held the list left the list whole.
fn left_overs() -> MutexGuard<'static, Vec<PathBuf>> {
    LEFT_OVERS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    // In a group of its own: Ctrl-C is for the outer process alone.
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

/// Tries what the lab does first: only here can a refusal be told from a run that fails inside.
pub fn check() -> Result<(), IsolateError> {
    let output = unshare()
        .args(["--", "mount", "-t", "tmpfs", "tmpfs", "/run"])
        .stdin(Stdio::null())
        .output()
        .map_err(|source| IsolateError::Start {
            program: "unshare",
            source,
        })?;
    if output.status.success() {
        Ok(())
    } else {
        Err(IsolateError::Refused {
            said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }
}

fn private_run() -> Result<(), IsolateError> {
    if !Path::new("/proc/sys/net/bridge").exists() {
        return Err(IsolateError::NoBridgeFilter);
    }
    namespace::run_outside("mount -t tmpfs tmpfs /run\nip link set lo up")?;
    Ok(())
}

/// Holds the lifeline: the first signal is told down it, the second cuts it.
fn pass_on_signals(lifeline: PipeWriter) -> Result<(), ctrlc::Error> {
    let mut signals = 0;
    let mut lifeline = Some(lifeline);
    ctrlc::set_handler(move || {
        signals += 1;
        let Some(held) = &mut lifeline else { return };
        let is_told = signals == 1 && held.write_all(&[0]).is_ok();
        if !is_told {
            lifeline = None;
        }
    })
}

/// Passes on that the user wants it to end; ends the lab when the outer process is gone.
fn hold_lifeline(mut on_interrupt: impl FnMut() + Send + 'static) -> Result<(), IsolateError> {
    thread::Builder::new()
        .name("lifeline".to_owned())
        .spawn(move || {
            let mut byte = [0];
            // A pipe that is closed or broken is the same: nobody is there any more.
            while matches!(io::stdin().read(&mut byte), Ok(1)) {
                on_interrupt();
            }
            end(2)
        })
        .map(drop)
        .map_err(IsolateError::Again)
}

/// Ends this process, which is inside, and the lab with it; may be called from any thread.
#[expect(
    clippy::disallowed_methods,
    reason = "the kernel takes the lab down with its first process"
)]
pub fn end(status: i32) -> ! {
    for path in left_overs().iter() {
        // What cannot be removed is found stale by the next lab.
        let _stale = std::fs::remove_file(path);
    }
    std::process::exit(status)
}

/// The caller's path with the folders of `ip` and `iptables`, which an ordinary user's path lacks on Debian.
pub(crate) fn search_path() -> OsString {
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin:/usr/bin:/bin");
    path
}
