//! The control socket of a lab that stays up: one JSON request and one JSON reply, each a line, over a Unix socket.
//!
//! The socket is in `/tmp`, because a lab's `/run` is private and `$XDG_RUNTIME_DIR` lies within it. The kernel gives the
//! client the PID of the listening process as numbered in the client's own PID namespace (`SO_PEERCRED`, unix(7)):
//! a shell enters the lab's namespaces through that process.

use std::env;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::geteuid;
use prober_core::run::PlatformEvent;
use serde::{Deserialize, Serialize};

use crate::cluster::{LabCluster, LabClusterError};
use crate::fault::FaultAt;
use crate::isolation;
use crate::topology::{Node, Pod};

/// Time within which a client sends its request after it has connected.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// A request to a lab that is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Injects a fault.
    Inject {
        /// `FAULT[@NODE]`, as typed.
        fault: String,
    },
    /// Heals every fault.
    Heal,
    /// Reports the lab's nodes and pods, and the faults in force.
    Status,
}

/// The reply of a lab that is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// The request was carried out; the state of the lab afterwards.
    Status {
        /// Names of the nodes and pods, each a network namespace that a shell can enter.
        namespaces: Vec<String>,
        /// `FAULT@NODE` of every fault in force, in the order of their injection.
        faults: Vec<String>,
    },
    /// The request was not carried out.
    Refused {
        /// The error, as a sentence.
        reason: String,
    },
}

/// A lab could not be kept up, or not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A lab of this user is up already.
    #[error(
        "cannot keep a second lab up: one is up already ({path}); end it first (Ctrl-C where prober lab up runs)"
    )]
    AlreadyRunning {
        /// Its socket.
        path: PathBuf,
    },
    /// No lab of this user is up.
    #[error("cannot reach a lab: none is up ({path}: {source}); start one with prober lab up")]
    NotRunning {
        /// The path at which its socket is expected.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The socket belongs to another user.
    #[error("cannot trust {path}: it belongs to uid {owner}; remove it as its owner or as root")]
    WrongOwner {
        /// The socket.
        path: PathBuf,
        /// The uid of its owner.
        owner: u32,
    },
    /// The socket could not be created, read or written.
    #[error("cannot use the socket {path}: {source}")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The lab's answer is not a [`Reply`].
    #[error("cannot read the lab's reply: {0}; use a prober of the same version as prober lab up")]
    Reply(serde_json::Error),
    /// The lab refused the request.
    #[error("{0}")]
    Refused(String),
    /// The lab has no node or pod of this name.
    #[error("cannot enter {requested:?}: the lab has {known}")]
    UnknownNamespace {
        /// The requested name.
        requested: String,
        /// The names that exist.
        known: String,
    },
    /// The agents could not be started, or a fault not be injected.
    #[error(transparent)]
    Cluster(#[from] LabClusterError),
}

/// Returns the path of this user's control socket, the same inside the lab and outside: `$PROBER_LAB_SOCKET`, or one per uid.
pub fn socket_path() -> PathBuf {
    env::var_os("PROBER_LAB_SOCKET").map_or_else(
        || {
            let uid = isolation::owner_uid().unwrap_or_else(|| geteuid().as_raw());
            PathBuf::from(format!("/tmp/prober-lab-{uid}.sock"))
        },
        PathBuf::from,
    )
}

/// Starts an agent in every pod, injects `faults`, and serves requests until the process ends.
///
/// `events` is the receiver of the cluster's events. `ready` is called with the status once the lab can be used.
///
/// # Errors
///
/// [`ControlError::AlreadyRunning`], [`ControlError::Socket`], or [`ControlError::Cluster`] where an agent does not start or
/// a fault cannot be injected.
pub fn serve(
    mut cluster: LabCluster,
    events: Receiver<PlatformEvent>,
    faults: &[FaultAt],
    ready: impl FnOnce(&Reply),
) -> Result<(), ControlError> {
    let path = socket_path();
    let failed = |source| ControlError::Socket {
        path: path.clone(),
        source,
    };
    let listener = listen(&path)?;
    isolation::remove_on_exit(path.clone());
    cluster.populate(&events)?;
    for at in faults {
        let node = at
            .node_in(cluster.lab().spec())
            .map_err(LabClusterError::from)?;
        cluster.inject_for(at.fault, node, at.lasts)?;
    }
    // Later events have no consumer; they are read so that the channel does not grow.
    thread::Builder::new()
        .name("drain events".to_owned())
        .spawn(move || events.into_iter().for_each(drop))
        .map_err(failed)?;
    ready(&status(&cluster));
    for stream in listener.incoming() {
        // A client that disconnects early loses only its own reply.
        let _disconnected = stream.and_then(|stream| serve_client(&mut cluster, &stream));
    }
    Ok(())
}

fn listen(path: &Path) -> Result<UnixListener, ControlError> {
    let failed = |source| ControlError::Socket {
        path: path.to_owned(),
        source,
    };
    if UnixStream::connect(path).is_ok() {
        return Err(ControlError::AlreadyRunning {
            path: path.to_owned(),
        });
    }
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    UnixListener::bind(path).map_err(failed)
}

fn serve_client(cluster: &mut LabCluster, stream: &UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let reply = match serde_json::from_str(&line) {
        Ok(request) => handle(cluster, request),
        Err(error) => Reply::Refused {
            reason: format!("cannot read the request: {error}"),
        },
    };
    let mut line = serde_json::to_string(&reply)?;
    line.push('\n');
    let mut stream = stream;
    stream.write_all(line.as_bytes())
}

fn handle(cluster: &mut LabCluster, request: Request) -> Reply {
    let result = match request {
        Request::Inject { fault } => inject(cluster, &fault),
        Request::Heal => cluster.heal().map_err(|error| error.to_string()),
        Request::Status => Ok(()),
    };
    match result {
        Ok(()) => status(cluster),
        Err(reason) => Reply::Refused { reason },
    }
}

fn inject(cluster: &mut LabCluster, fault: &str) -> Result<(), String> {
    let at: FaultAt = fault
        .parse()
        .map_err(|error: crate::fault::FaultError| error.to_string())?;
    let node = at
        .node_in(cluster.lab().spec())
        .map_err(|error| error.to_string())?;
    cluster
        .inject_for(at.fault, node, at.lasts)
        .map_err(|error| error.to_string())
}

fn status(cluster: &LabCluster) -> Reply {
    let spec = cluster.lab().spec();
    Reply::Status {
        namespaces: spec
            .nodes()
            .map(Node::name)
            .chain(spec.pods().map(Pod::name))
            .collect(),
        faults: cluster
            .faults()
            .iter()
            .map(|(fault, node)| format!("{fault}@{node}"))
            .collect(),
    }
}

/// Sends a request to this user's lab and returns the reply.
pub fn request(request: &Request) -> Result<Reply, ControlError> {
    let (stream, path) = connect()?;
    send(&stream, &path, request)
}

fn connect() -> Result<(UnixStream, PathBuf), ControlError> {
    let path = socket_path();
    let not_running = |source| ControlError::NotRunning {
        path: path.clone(),
        source,
    };
    let owner = fs::symlink_metadata(&path).map_err(not_running)?.uid();
    if owner != geteuid().as_raw() {
        return Err(ControlError::WrongOwner { path, owner });
    }
    let stream = UnixStream::connect(&path).map_err(not_running)?;
    Ok((stream, path))
}

fn send(mut stream: &UnixStream, path: &Path, request: &Request) -> Result<Reply, ControlError> {
    let failed = |source| ControlError::Socket {
        path: path.to_owned(),
        source,
    };
    let mut line = serde_json::to_string(request).map_err(ControlError::Reply)?;
    line.push('\n');
    stream.write_all(line.as_bytes()).map_err(failed)?;
    let mut reply = String::new();
    BufReader::new(stream)
        .read_line(&mut reply)
        .map_err(failed)?;
    match serde_json::from_str(&reply).map_err(ControlError::Reply)? {
        Reply::Refused { reason } => Err(ControlError::Refused(reason)),
        reply @ Reply::Status { .. } => Ok(reply),
    }
}

/// Returns the command that runs `program`, or the user's shell if it is empty, in a node or pod of the lab that is up.
///
/// The caller executes it.
///
/// # Errors
///
/// [`ControlError::NotRunning`] and the other errors of a request, or [`ControlError::UnknownNamespace`].
pub fn shell(namespace: &str, program: &[String]) -> Result<Command, ControlError> {
    let (stream, path) = connect()?;
    let peer = getsockopt(&stream, PeerCredentials).map_err(|error| ControlError::Socket {
        path: path.clone(),
        source: error.into(),
    })?;
    match send(&stream, &path, &Request::Status)? {
        Reply::Status { namespaces, .. } if !namespaces.iter().any(|known| known == namespace) => {
            return Err(ControlError::UnknownNamespace {
                requested: namespace.to_owned(),
                known: namespaces.join(", "),
            });
        }
        Reply::Status { .. } | Reply::Refused { .. } => {}
    }
    let mut command = Command::new("nsenter");
    command.arg(format!("--target={}", peer.pid()));
    if !geteuid().is_root() {
        command.args(["--user", "--preserve-credentials"]);
    }
    command
        .args([
            "--mount", "--net", "--pid", "--", "ip", "netns", "exec", namespace,
        ])
        .env("PATH", isolation::search_path())
        .env("PROBER_LAB_NAMESPACE", namespace);
    if program.is_empty() {
        command.arg(env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into()));
    } else {
        command.args(program);
    }
    Ok(command)
}
