//! Two namespaces joined by a veth, and agents in them; all of it ends with the test, even if that is killed.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prober_core::plan::{Method, Plan, ProbePlan};
use prober_core::probe::event::Event;
use prober_core::topology::{AgentId, PathId};

/// The longest wait of a test.
const PATIENCE: Duration = Duration::from_secs(15);

pub(crate) const A4: &str = "10.77.0.1";
pub(crate) const B4: &str = "10.77.0.2";
pub(crate) const A6: &str = "fd77::1";
pub(crate) const B6: &str = "fd77::2";
const A_MAC: &str = "02:00:00:00:00:0a";
const B_MAC: &str = "02:00:00:00:00:0b";
pub(crate) const PORT: u16 = 8080;
pub(crate) const NONCE: u64 = 0xfeed;

/// A network namespace that lives as long as this value: its process is a `cat` that ends with its input.
pub(crate) struct Namespace {
    holder: Child,
    _input: ChildStdin,
}

impl Namespace {
    pub(crate) fn new() -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests make network namespaces: run them as root (sudo -E make test)"
        );
        let mut holder = Command::new("unshare")
            .args(["--net", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start unshare (util-linux)");
        let mut input = holder.stdin.take().unwrap();
        // What cat gives back shows that the namespace is made.
        input.write_all(b"made\n").unwrap();
        let mut line = String::new();
        let output = holder.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        assert_eq!(line, "made\n");
        let namespace = Self {
            holder,
            _input: input,
        };
        namespace.ip("link set lo up");
        namespace
    }

    pub(crate) fn ip(&self, args: &str) {
        let done = self.command("ip").args(args.split(' ')).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "ip {args}: {said}");
    }

    /// A command within the namespace.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let pid = self.holder.id().to_string();
        command.args(["--target", &pid, "--net", program]);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.holder.kill().unwrap();
        self.holder.wait().unwrap();
    }
}

/// Two namespaces `a` and `b`, each with both families on `eth0`.
pub(crate) fn two() -> (Namespace, Namespace) {
    let (a, b) = (Namespace::new(), Namespace::new());
    let peer = b.holder.id();
    a.ip(&format!(
        "link add eth0 address {A_MAC} type veth peer name eth0 address {B_MAC} netns {peer}"
    ));
    for (namespace, v4, v6) in [(&a, A4, A6), (&b, B4, B6)] {
        namespace.ip(&format!("addr add {v4}/24 dev eth0"));
        namespace.ip(&format!("addr add {v6}/64 dev eth0 nodad"));
        namespace.ip("link set eth0 up");
    }
    // A link that has just come up loses the first neighbour solicitation now and then.
    for (namespace, mac, others) in [(&a, B_MAC, [B4, B6]), (&b, A_MAC, [A4, A6])] {
        for other in others {
            namespace.ip(&format!(
                "neigh add {other} lladdr {mac} dev eth0 nud permanent"
            ));
        }
    }
    (a, b)
}

/// A folder that any user may read: an agent reads its plan as uid 65534.
pub(crate) fn open_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// An agent, and the events that it has written.
pub(crate) struct Agent {
    id: AgentId,
    process: Child,
    dir: tempfile::TempDir,
    lines: Receiver<String>,
    pub(crate) events: Vec<Event>,
}

impl Agent {
    /// Starts pod `name` on node `node-NAME`, or the pod and node of `NODE/POD`, which may probe all addresses of the tests.
    pub(crate) fn start(namespace: &Namespace, name: &str, more: &[&str]) -> Self {
        Self::start_by(namespace, &[], name, more)
    }

    /// As [`Agent::start`], through another program that executes it.
    pub(crate) fn start_by(namespace: &Namespace, by: &[&str], name: &str, more: &[&str]) -> Self {
        let dir = open_dir();
        let plan = dir.path().join("plan");
        let mut words = by.to_vec();
        words.push(env!("CARGO_BIN_EXE_prober-agent"));
        Self::start_in(namespace, dir, &words, &plan, name, more)
    }

    /// As [`Agent::start`], with these words before its arguments; `plan` is its path of the file `plan` in `dir`.
    pub(crate) fn start_in(
        namespace: &Namespace,
        dir: tempfile::TempDir,
        words: &[&str],
        plan: &Path,
        name: &str,
        more: &[&str],
    ) -> Self {
        let id = match name.split_once('/') {
            Some((node, pod)) => AgentId::new(node, pod),
            None => AgentId::new(format!("node-{name}"), name),
        };
        let mut command = namespace.command(words[0]);
        let mut process = command
            .args(&words[1..])
            .arg("--agent")
            .arg(format!("{}/{}", id.node, id.pod))
            .arg("--plan")
            .arg(plan)
            .args(["--allow", "10.77.0.0/24", "--allow", "fd77::/64"])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines() {
                drop(sender.send(line.unwrap()));
            }
        });
        Self {
            id,
            process,
            dir,
            lines,
            events: Vec::new(),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn plan(&self, generation: u32, probes: Vec<ProbePlan>) -> Plan {
        Plan {
            probes,
            ..Plan::answering("test", generation, &self.id, NONCE, vec![PORT])
        }
    }

    /// Replaces the plan's file by rename, so that it is never half written.
    pub(crate) fn give(&self, plan: &Plan) {
        self.give_text(&serde_json::to_string(plan).unwrap());
    }

    pub(crate) fn give_text(&self, text: &str) {
        let new: PathBuf = self.dir.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, self.dir.path().join("plan")).unwrap();
    }

    /// Starts its responder, and waits until it listens.
    pub(crate) fn answer(&mut self) {
        self.give(&self.plan(1, Vec::new()));
        self.wait_done(1);
    }

    /// Waits for the first event that `wanted` maps to something.
    #[track_caller]
    pub(crate) fn wait<T>(&mut self, wanted: impl Fn(&Event) -> Option<T>) -> T {
        if let Some(found) = self.events.iter().find_map(&wanted) {
            return found;
        }
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!(
                    "{}: waited for an event that did not come; it wrote {:#?}",
                    self.id, self.events
                );
            };
            let event = Event::parse(&line).unwrap();
            let found = wanted(&event);
            self.events.push(event);
            if let Some(found) = found {
                return found;
            }
        }
    }

    #[track_caller]
    pub(crate) fn wait_done(&mut self, generation: u32) {
        self.wait(|event| {
            matches!(event, Event::Done { generation: done, .. } if *done == generation)
                .then_some(())
        });
    }

    /// Sends SIGTERM, and returns its last events and its status; every line must be whole.
    pub(crate) fn terminate(mut self) -> (Vec<Event>, ExitStatus) {
        let status = self.end_by(self.process.id());
        (std::mem::take(&mut self.events), status)
    }

    /// Sends SIGTERM to `pid`, the agent, which may be a child of the process that was started, and reads its last events.
    pub(crate) fn end_by(&mut self, pid: u32) -> ExitStatus {
        let pid = Pid::from_raw(pid.try_into().unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        let status = self.process.wait().unwrap();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.events.push(Event::parse(&line).unwrap());
        }
        status
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// `count` probes of path `path`, 20 ms apart, with a deadline of 1.5 s.
pub(crate) fn probes(path: u32, method: Method, target: &str, port: u16, count: u32) -> ProbePlan {
    ProbePlan {
        path: PathId(path),
        method,
        target: SocketAddr::new(target.parse::<IpAddr>().unwrap(), port),
        count,
        start_ms: 0,
        interval_ms: 20,
        deadline_ms: 1500,
    }
}
