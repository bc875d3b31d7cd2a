//! The agents of a lab: one process in each pod, a plan file in, event lines out.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prober_core::packet::family::Family;
use prober_core::plan::Plan;
use prober_core::probe::event::Event;
use prober_core::run::PlatformEvent;
use prober_core::topology::AgentId;

use crate::kube_proxy::{cluster_cidr, cluster_ip, local_cluster_ip};
use crate::topology::underlay_cidr;

/// Where plans and the agents' complaints are; private, as all of `/run` is in a lab.
const FOLDER: &str = "/run/prober";

/// How long agents may take to end after SIGTERM, a second more than they wait for their last lines to be read.
const GRACE: Duration = Duration::from_secs(3);

/// How long an agent may take to notice a plan.
const NOTICE: Duration = Duration::from_secs(3);

/// An agent could not be started or told something.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Its process could not be started.
    #[error("cannot start the agent {agent}: {source}")]
    Start {
        /// The agent.
        agent: AgentId,
        /// Why.
        source: io::Error,
    },
    /// Its plan could not be written.
    #[error("cannot write the plan of {agent}: {source}")]
    Plan {
        /// The agent.
        agent: AgentId,
        /// Why.
        source: io::Error,
    },
    /// It does not run.
    #[error("there is no agent {0} in the lab: it was not placed, or has ended")]
    Absent(AgentId),
    /// It did not take its plan.
    #[error("the agent {0} did not take its plan within three seconds")]
    Deaf(AgentId),
    /// It could not be signalled.
    #[error("cannot send {signal} to the agent {agent}: {source}")]
    Signal {
        /// The agent.
        agent: AgentId,
        /// The signal.
        signal: Signal,
        /// Why.
        source: nix::Error,
    },
}

/// All agents of a lab.
#[derive(Debug)]
pub struct Agents {
    command: Vec<OsString>,
    events: Sender<PlatformEvent>,
    running: BTreeMap<AgentId, Agent>,
}

#[derive(Debug)]
struct Agent {
    pid: Pid,
    /// Set before it is ended on purpose.
    leaving: Arc<AtomicBool>,
    /// Set once it has taken a plan.
    has_taken: Arc<AtomicBool>,
    /// One message for each plan that it took; disconnected when it has ended.
    taken: Receiver<()>,
    reader: JoinHandle<()>,
}

impl Agents {
    /// No agent yet; `command` starts one, given its flags after it.
    pub fn new(command: Vec<OsString>, events: Sender<PlatformEvent>) -> Self {
        Self {
            command,
            events,
            running: BTreeMap::new(),
        }
    }

    /// The command that starts an agent.
    pub fn command(&self) -> &[OsString] {
        &self.command
    }

    /// Those that were started and not removed.
    pub fn running(&self) -> impl Iterator<Item = &AgentId> {
        self.running.keys()
    }

    /// Starts an agent behind what enters its namespace; its first line will tell that it is ready.
    pub fn start(&mut self, agent: &AgentId, mut command: Command) -> Result<(), AgentError> {
        let failed = |source| AgentError::Start {
            agent: agent.clone(),
            source,
        };
        fs::create_dir_all(FOLDER).map_err(failed)?;
        let complaints = PathBuf::from(format!("{FOLDER}/{}.err", agent.pod));
        command
            .args(&self.command)
            .args(["--agent", &format!("{}/{}", agent.node, agent.pod)])
            .args(["--plan", &plan_path(agent)])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&complaints).map_err(failed)?);
        allow(&mut command);
        let mut child = command.spawn().map_err(failed)?;
        let lines = child
            .stdout
            .take()
            .ok_or_else(|| failed(io::Error::other("it has no standard output")))?;
        let pid = Pid::from_raw(
            i32::try_from(child.id()).map_err(|error| failed(io::Error::other(error)))?,
        );
        let leaving = Arc::new(AtomicBool::new(false));
        let has_taken = Arc::new(AtomicBool::new(false));
        let (notice, taken) = mpsc::channel();
        let teller = Teller {
            agent: agent.clone(),
            events: self.events.clone(),
            notice,
            has_taken: Arc::clone(&has_taken),
            leaving: Arc::clone(&leaving),
            complaints,
        };
        let reader = thread::Builder::new()
            .name(agent.pod.clone())
            .spawn(move || teller.read(child, lines))
            .map_err(failed)?;
        self.running.insert(
            agent.clone(),
            Agent {
                pid,
                leaving,
                has_taken,
                taken,
                reader,
            },
        );
        Ok(())
    }

    /// Gives an agent a plan: it sees the whole old file or the whole new one.
    pub fn send(&self, plan: &Plan) -> Result<(), AgentError> {
        let agent = &plan.agent;
        let failed = |source| AgentError::Plan {
            agent: agent.clone(),
            source,
        };
        fs::create_dir_all(FOLDER).map_err(failed)?;
        let path = plan_path(agent);
        let next = format!("{path}.next");
        let text = serde_json::to_vec(plan).map_err(|error| failed(error.into()))?;
        fs::write(&next, text).map_err(failed)?;
        fs::rename(next, path).map_err(failed)
    }

    /// Gives an agent a plan and waits until it is taken.
    pub fn send_and_wait(&self, plan: &Plan) -> Result<(), AgentError> {
        let running = self.agent(&plan.agent)?;
        while running.taken.try_recv().is_ok() {}
        self.send(plan)?;
        running
            .taken
            .recv_timeout(NOTICE)
            .map_err(|_| AgentError::Deaf(plan.agent.clone()))
    }

    /// Waits until an agent has taken its first plan.
    pub fn wait_until_it_listens(&self, agent: &AgentId) -> Result<(), AgentError> {
        let running = self.agent(agent)?;
        if running.has_taken.load(Ordering::Acquire) {
            return Ok(());
        }
        running
            .taken
            .recv_timeout(NOTICE)
            .map_err(|_| AgentError::Deaf(agent.clone()))
    }

    /// Sends a signal to an agent's process.
    pub fn signal(&self, agent: &AgentId, signal: Signal) -> Result<(), AgentError> {
        kill(self.agent(agent)?.pid, signal).map_err(|source| AgentError::Signal {
            agent: agent.clone(),
            signal,
            source,
        })
    }

    /// Ends every agent and waits until all of them are gone; what they say on the way is still told.
    pub fn remove(&mut self) {
        let leaving = std::mem::take(&mut self.running);
        for agent in leaving.values() {
            agent.leaving.store(true, Ordering::Release);
            // One that has ended already cannot be signalled, and need not be.
            for signal in [Signal::SIGCONT, Signal::SIGTERM] {
                let _ended = kill(agent.pid, signal);
            }
        }
        let deadline = Instant::now() + GRACE;
        for (id, agent) in leaving {
            agent.wait_until_gone(deadline);
            // A pod's next agent must not find the last one's plan.
            drop(fs::remove_file(plan_path(&id)));
        }
    }

    fn agent(&self, agent: &AgentId) -> Result<&Agent, AgentError> {
        self.running
            .get(agent)
            .ok_or_else(|| AgentError::Absent(agent.clone()))
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        self.remove();
    }
}

impl Agent {
    fn wait_until_gone(self, deadline: Instant) {
        loop {
            let patience = deadline.saturating_duration_since(Instant::now());
            match self.taken.recv_timeout(patience) {
                Ok(()) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let _ended = kill(self.pid, Signal::SIGKILL);
                    break;
                }
            }
        }
        // A reader that panicked has nothing left to tell.
        drop(self.reader.join());
    }
}

/// Passes on what one agent says.
struct Teller {
    agent: AgentId,
    events: Sender<PlatformEvent>,
    notice: Sender<()>,
    has_taken: Arc<AtomicBool>,
    leaving: Arc<AtomicBool>,
    complaints: PathBuf,
}

impl Teller {
    fn read(self, mut child: Child, lines: ChildStdout) {
        for line in BufReader::new(lines).split(b'\n') {
            match line {
                Ok(line) => self.tell(&String::from_utf8_lossy(&line)),
                Err(_) => break,
            }
        }
        let status = child.wait();
        if self.leaving.load(Ordering::Acquire) {
            return;
        }
        let said = fs::read_to_string(&self.complaints).unwrap_or_default();
        let last = said.lines().last().unwrap_or("it said nothing");
        let how = match status {
            Ok(status) => status.to_string(),
            Err(error) => format!("it could not be awaited: {error}"),
        };
        self.send(PlatformEvent::AgentFailed {
            agent: self.agent.clone(),
            reason: format!("its process ended by itself ({how}): {last}"),
        });
    }

    fn tell(&self, line: &str) {
        let event = match Event::parse(line) {
            Ok(event) => event,
            Err(error) => Event::Notice {
                text: error.to_string(),
            },
        };
        if let Event::Hello(hello) = &event {
            self.send(PlatformEvent::AgentReady {
                agent: self.agent.clone(),
                addresses: hello.addresses.clone(),
            });
        }
        let is_taken = matches!(event, Event::PlanAccepted { .. });
        self.send(PlatformEvent::AgentLine {
            agent: self.agent.clone(),
            event,
        });
        if is_taken {
            self.has_taken.store(true, Ordering::Release);
            // Nobody may be waiting for it.
            let _unheard = self.notice.send(());
        }
    }

    /// A run that has stopped listening has ended: nobody is left to tell.
    fn send(&self, event: PlatformEvent) {
        drop(self.events.send(event));
    }
}

fn plan_path(agent: &AgentId) -> String {
    format!("{FOLDER}/{}.plan", agent.pod)
}

/// What plans may ask: pods, test Services, and the nodes' own addresses.
fn allow(command: &mut Command) {
    for family in [Family::Ipv4, Family::Ipv6] {
        for prefix in [
            cluster_cidr(family).to_owned(),
            cluster_ip(family).to_string(),
            local_cluster_ip(family).to_string(),
            underlay_cidr(family).to_owned(),
        ] {
            command.args(["--allow", &prefix]);
        }
    }
}
