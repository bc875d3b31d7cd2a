//! A lab that stays up, and how other processes of its user reach it: one line of JSON each way over a Unix socket.
//!
//! The socket lies in `/tmp`, as a lab's `/run` is its own and `$XDG_RUNTIME_DIR` is in there. Who connects is told by the
//! kernel which process listens (`SO_PEERCRED`, unix(7)), in its own numbering: through that process a shell enters the lab.

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

use crate::fault::FaultAt;
use crate::isolation;
use crate::platform::{Fleet, FleetError};
use crate::topology::{Node, Pod};

/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(2);

/// What can be asked of a lab that is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Break it: `FAULT[@NODE]`.
    Inject {
        /// As typed.
        fault: String,
    },
    /// Undo every fault.
    Heal,
    /// Tell what it is made of, and the faults in force.
    Status,
}

/// What a lab that is up answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// It is done; this is how things are now.
    Status {
        /// Names of its nodes and pods, each a namespace that a shell can enter.
        places: Vec<String>,
        /// `FAULT@NODE` of every fault in force, in the order in which they came.
        faults: Vec<String>,
    },
    /// It was not done.
    Refused {
        /// Why, as a sentence.
        reason: String,
    },
}

/// A lab could not be held, or not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// This user has one already.
    #[error(
        "cannot hold a second lab: one is up already ({path}); end it first (Ctrl-C where prober lab up runs)"
    )]
    AlreadyUp {
        /// Its socket.
        path: PathBuf,
    },
    /// None is up.
    #[error("cannot reach a lab: none is up ({path}: {source}); start one with prober lab up")]
    NoneUp {
        /// Where its socket would be.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The socket is somebody else's.
    #[error("cannot trust {path}: it belongs to uid {owner}; remove it as its owner or as root")]
    Foreign {
        /// The socket.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// The socket could not be made or used.
    #[error("cannot talk over {path}: {source}")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The lab answered something that is no reply.
    #[error("the lab's answer cannot be read: {0}; is it of the same version?")]
    Reply(serde_json::Error),
    /// The lab refused.
    #[error("{0}")]
    Refused(String),
    /// There is no such node or pod.
    #[error("cannot enter {asked:?}: the lab has {known}")]
    NoPlace {
        /// What was asked for.
        asked: String,
        /// What there is.
        known: String,
    },
    /// The agents could not be started.
    #[error(transparent)]
    Fleet(#[from] FleetError),
}

/// Where the socket of this user's lab is, seen from inside the lab and from outside: `$PROBER_LAB_SOCKET`, or one per uid.
pub fn socket_path() -> PathBuf {
    env::var_os("PROBER_LAB_SOCKET").map_or_else(
        || {
            let uid = isolation::owner().unwrap_or_else(|| geteuid().as_raw());
            PathBuf::from(format!("/tmp/prober-lab-{uid}.sock"))
        },
        PathBuf::from,
    )
}

/// Holds a lab with an agent in every pod, broken so, until the process is ended; `ready` is called once it can be used.
///
/// `told` is the other end of the fleet's events.
pub fn serve(
    mut fleet: Fleet,
    told: Receiver<PlatformEvent>,
    faults: &[FaultAt],
    ready: impl FnOnce(&Reply),
) -> Result<(), ControlError> {
    let path = socket_path();
    let failed = |source| ControlError::Socket {
        path: path.clone(),
        source,
    };
    let listener = listen(&path)?;
    isolation::remove_at_end(path.clone());
    fleet.populate(&told)?;
    for at in faults {
        let node = at.node_in(fleet.lab().spec()).map_err(FleetError::from)?;
        fleet.inject(at.fault, node)?;
    }
    // Whatever the agents say from now on, nobody asked for.
    thread::Builder::new()
        .name("agents' lines".to_owned())
        .spawn(move || told.into_iter().for_each(drop))
        .map_err(failed)?;
    ready(&status(&fleet));
    for stream in listener.incoming() {
        // A client that left before its answer has lost only that.
        let _gone = stream.and_then(|stream| answer(&mut fleet, &stream));
    }
    Ok(())
}

fn listen(path: &Path) -> Result<UnixListener, ControlError> {
    let failed = |source| ControlError::Socket {
        path: path.to_owned(),
        source,
    };
    if UnixStream::connect(path).is_ok() {
        return Err(ControlError::AlreadyUp {
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

fn answer(fleet: &mut Fleet, stream: &UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let reply = match serde_json::from_str(&line) {
        Ok(request) => obey(fleet, request),
        Err(error) => Reply::Refused {
            reason: format!("cannot read the request: {error}"),
        },
    };
    let mut line = serde_json::to_string(&reply)?;
    line.push('\n');
    let mut stream = stream;
    stream.write_all(line.as_bytes())
}

fn obey(fleet: &mut Fleet, request: Request) -> Reply {
    let done = match request {
        Request::Inject { fault } => inject(fleet, &fault),
        Request::Heal => fleet.heal().map_err(|error| error.to_string()),
        Request::Status => Ok(()),
    };
    match done {
        Ok(()) => status(fleet),
        Err(reason) => Reply::Refused { reason },
    }
}

fn inject(fleet: &mut Fleet, fault: &str) -> Result<(), String> {
    let at: FaultAt = fault
        .parse()
        .map_err(|error: crate::fault::FaultError| error.to_string())?;
    let node = at
        .node_in(fleet.lab().spec())
        .map_err(|error| error.to_string())?;
    fleet
        .inject(at.fault, node)
        .map_err(|error| error.to_string())
}

fn status(fleet: &Fleet) -> Reply {
    let spec = fleet.lab().spec();
    Reply::Status {
        places: spec
            .nodes()
            .map(Node::name)
            .chain(spec.pods().map(Pod::name))
            .collect(),
        faults: fleet
            .faults()
            .iter()
            .map(|(fault, node)| format!("{fault}@{node}"))
            .collect(),
    }
}

/// Asks the lab of this user that is up.
pub fn request(request: &Request) -> Result<Reply, ControlError> {
    let (stream, path) = connect()?;
    ask(&stream, &path, request)
}

fn connect() -> Result<(UnixStream, PathBuf), ControlError> {
    let path = socket_path();
    let none = |source| ControlError::NoneUp {
        path: path.clone(),
        source,
    };
    let owner = fs::symlink_metadata(&path).map_err(none)?.uid();
    if owner != geteuid().as_raw() {
        return Err(ControlError::Foreign { path, owner });
    }
    let stream = UnixStream::connect(&path).map_err(none)?;
    Ok((stream, path))
}

fn ask(mut stream: &UnixStream, path: &Path, request: &Request) -> Result<Reply, ControlError> {
    let failed = |source| ControlError::Socket {
        path: path.to_owned(),
        source,
    };
    let mut line = serde_json::to_string(request).map_err(ControlError::Reply)?;
    line.push('\n');
    stream.write_all(line.as_bytes()).map_err(failed)?;
    let mut answer = String::new();
    BufReader::new(stream)
        .read_line(&mut answer)
        .map_err(failed)?;
    match serde_json::from_str(&answer).map_err(ControlError::Reply)? {
        Reply::Refused { reason } => Err(ControlError::Refused(reason)),
        reply @ Reply::Status { .. } => Ok(reply),
    }
}

/// The command that opens a shell in a node or pod of the lab that is up; for the caller to `exec`.
///
/// `program` is what runs there: the user's shell if it is empty.
pub fn shell(place: &str, program: &[String]) -> Result<Command, ControlError> {
    let (stream, path) = connect()?;
    let peer = getsockopt(&stream, PeerCredentials).map_err(|error| ControlError::Socket {
        path: path.clone(),
        source: error.into(),
    })?;
    match ask(&stream, &path, &Request::Status)? {
        Reply::Status { places, .. } if !places.iter().any(|known| known == place) => {
            return Err(ControlError::NoPlace {
                asked: place.to_owned(),
                known: places.join(", "),
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
            "--mount", "--net", "--pid", "--", "ip", "netns", "exec", place,
        ])
        .env("PATH", isolation::search_path())
        .env("PROBER_LAB_PLACE", place);
    if program.is_empty() {
        command.arg(env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into()));
    } else {
        command.args(program);
    }
    Ok(command)
}
