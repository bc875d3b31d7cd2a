//! How a second terminal talks to a lab that is up: one line asked, one answered, on a Unix socket.

use std::fmt;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use prober_lab::FaultAt;

/// How long the lab may take for one thing that is asked of it.
const PATIENCE: Duration = Duration::from_mins(1);

/// The socket.
pub(super) struct Line(PathBuf);

/// What can be asked of a lab that is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Break it.
    Inject(FaultAt),
    /// Undo every fault.
    Heal,
    /// Say whether there is such a node or pod.
    Find(String),
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inject(fault) => write!(f, "inject {fault}"),
            Self::Heal => f.write_str("heal"),
            Self::Find(place) => write!(f, "find {place}"),
        }
    }
}

impl Request {
    fn parse(line: &str) -> anyhow::Result<Self> {
        match line.split_once(' ') {
            Some(("inject", fault)) => Ok(Self::Inject(fault.parse()?)),
            Some(("find", place)) => Ok(Self::Find(place.to_owned())),
            None if line == "heal" => Ok(Self::Heal),
            Some(_) | None => bail!("the lab does not understand '{line}'"),
        }
    }
}

/// Something that was asked, and whom to answer.
pub(super) struct Asked {
    /// What.
    pub(super) request: Request,
    stream: UnixStream,
}

impl Asked {
    /// Answers it; an error is told in full.
    pub(super) fn answer(mut self, answer: anyhow::Result<String>) {
        let text = match answer {
            Ok(text) => format!("ok {text}\n"),
            Err(error) => format!("error {error:#}\n"),
        };
        // Who asked may be gone; the lab stays.
        drop(
            self.stream
                .write_all(text.replace('\n', " ").trim_end().as_bytes()),
        );
    }
}

impl Line {
    /// The socket at `path`, or at its usual place.
    pub(super) fn at(path: Option<PathBuf>) -> anyhow::Result<Self> {
        let cache = || {
            let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
            let home = || set("HOME").map(|home| PathBuf::from(home).join(".cache"));
            set("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)
        };
        let path = match path {
            Some(path) => path,
            None => cache()
                .context("neither HOME nor XDG_CACHE_HOME is set: say --socket PATH")?
                .join("prober/lab.sock"),
        };
        Ok(Self(path))
    }

    /// Asks the lab that is up, and gives its answer.
    pub(super) fn ask(&self, request: &Request) -> anyhow::Result<String> {
        let mut stream = self.connect()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        writeln!(stream, "{request}").context("ask the lab")?;
        let mut answer = String::new();
        BufReader::new(stream)
            .read_line(&mut answer)
            .context("wait for the lab's answer")?;
        match answer.trim_end().split_once(' ') {
            Some(("ok", text)) => Ok(format!("{text}\n")),
            Some(("error", text)) => bail!("{text}"),
            Some(_) | None => bail!("the lab ended before it answered"),
        }
    }

    /// The process that holds the lab, as this side numbers processes.
    pub(super) fn keeper(&self) -> anyhow::Result<i32> {
        let peer =
            getsockopt(&self.connect()?, PeerCredentials).context("ask who holds the lab")?;
        Ok(peer.pid())
    }

    fn connect(&self) -> anyhow::Result<UnixStream> {
        UnixStream::connect(&self.0).with_context(|| {
            format!(
                "no lab is up (nobody listens on {}): run `prober lab up` in another terminal",
                self.0.display()
            )
        })
    }

    /// Listens, and hands what is asked to `sink` from a thread of its own.
    pub(super) fn listen(&self, sink: impl Fn(Asked) + Send + 'static) -> anyhow::Result<()> {
        let shown = self.0.display();
        if let Some(folder) = self.0.parent() {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .with_context(|| format!("make the folder of {shown}"))?;
        }
        if self.connect().is_ok() {
            bail!("a lab is up already (somebody listens on {shown}): end it, or say --socket");
        }
        match std::fs::remove_file(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove the stale {shown}"));
            }
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&self.0).with_context(|| format!("listen on {shown}"))?;
        std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || {
                for stream in listener.incoming().flatten() {
                    serve(stream, &sink);
                }
            })
            .context("start the thread that listens")?;
        Ok(())
    }

    /// Takes the socket's name away.
    pub(super) fn forget(&self) {
        // Another lab finds a stale name and replaces it.
        drop(std::fs::remove_file(&self.0));
    }
}

fn serve(stream: UnixStream, sink: &impl Fn(Asked)) {
    let mut line = String::new();
    let is_read = stream
        .set_read_timeout(Some(Duration::from_secs(1)))
        .is_ok()
        && BufReader::new(&stream).read_line(&mut line).is_ok();
    // Who only wants to know who listens asks nothing.
    if !is_read || line.is_empty() {
        return;
    }
    match Request::parse(line.trim_end()) {
        Ok(request) => sink(Asked { request, stream }),
        Err(error) => Asked {
            request: Request::Heal,
            stream,
        }
        .answer(Err(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_understood() {
        for request in [
            Request::Inject("forward-drop@node-2".parse().unwrap()),
            Request::Heal,
            Request::Find("node-1-client".to_owned()),
        ] {
            assert_eq!(Request::parse(&request.to_string()).unwrap(), request);
        }
        for line in ["", "inject", "inject nonsense", "heal all"] {
            assert!(Request::parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn an_answer_reaches_who_asked_and_a_second_lab_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let line = Line::at(Some(folder.path().join("lab.sock"))).unwrap();
        assert!(
            line.ask(&Request::Heal)
                .unwrap_err()
                .to_string()
                .contains("no lab is up")
        );
        line.listen(|asked| {
            let answer = match &asked.request {
                Request::Heal => Ok("healed".to_owned()),
                Request::Inject(_) | Request::Find(_) => Err(anyhow::anyhow!("no such\nplace")),
            };
            asked.answer(answer);
        })
        .unwrap();
        assert_eq!(line.ask(&Request::Heal).unwrap(), "healed\n");
        let find = Request::Find("node-9".to_owned());
        assert_eq!(line.ask(&find).unwrap_err().to_string(), "no such place");
        assert_eq!(
            line.keeper().unwrap(),
            i32::try_from(std::process::id()).unwrap()
        );
        assert!(
            line.listen(drop)
                .unwrap_err()
                .to_string()
                .contains("up already")
        );
    }
}
