//! Agent processes of a lab: one in each pod; a plan file goes in, event lines come out on standard output.

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

use crate::kube_proxy::{cluster_ip, local_cluster_ip};
use crate::topology::{LabSpec, pods_cidr};

/// Directory of the plan files and of the agents' standard error; private to the lab, as all of its `/run` is.
const DIRECTORY: &str = "/run/prober";

/// Time between SIGTERM and SIGKILL: one second more than an agent waits for its last lines to be read.
const TERMINATION_GRACE: Duration = Duration::from_secs(3);

/// Time within which an agent accepts a new plan.
const PLAN_TIMEOUT: Duration = Duration::from_secs(3);

/// An agent could not be started, signalled or given a plan.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The process could not be started.
    #[error("cannot start the agent {agent}: {source}")]
    Start {
        /// The agent.
        agent: AgentId,
        /// The operating system's error.
        source: io::Error,
    },
    /// The plan file could not be written.
    #[error("cannot write the plan of {agent}: {source}")]
    Plan {
        /// The agent.
        agent: AgentId,
        /// The operating system's error.
        source: io::Error,
    },
    /// No process runs for the agent.
    #[error("cannot reach the agent {0}: no process runs for it in the lab; start it first")]
    NotRunning(AgentId),
    /// The agent did not report within three seconds that it has accepted its plan.
    #[error("cannot change the plan of {0}: the agent did not accept it within three seconds")]
    PlanTimeout(AgentId),
    /// The process could not be signalled.
    #[error("cannot send {signal} to the agent {agent}: {source}")]
    Signal {
        /// The agent.
        agent: AgentId,
        /// The signal.
        signal: Signal,
        /// The operating system's error.
        source: nix::Error,
    },
}

/// All agent processes of a lab; dropping it ends them.
#[derive(Debug)]
pub struct Agents {
    command: Vec<OsString>,
    /// The prefixes that plans may target.
    allowed: Vec<String>,
    events: Sender<PlatformEvent>,
    running: BTreeMap<AgentId, Agent>,
}

#[derive(Debug)]
struct Agent {
    pid: Pid,
    /// Set before the process is terminated, so that its end is not reported as a failure.
    is_terminating: Arc<AtomicBool>,
    /// Set once the agent has accepted a plan.
    has_plan: Arc<AtomicBool>,
    /// One message for each accepted plan; disconnected when the process has ended.
    accepted_plans: Receiver<()>,
    /// The thread of the [`OutputReader`].
    reader: JoinHandle<()>,
}

impl Agents {
    /// Starts with no agent. `command` is the agent's program and first arguments; the agent's flags are appended.
    pub fn new(spec: &LabSpec, command: Vec<OsString>, events: Sender<PlatformEvent>) -> Self {
        Self {
            command,
            allowed: allowed_targets(spec),
            events,
            running: BTreeMap::new(),
        }
    }

    /// Returns the agent's program and first arguments.
    pub fn command(&self) -> &[OsString] {
        &self.command
    }

    /// Iterates over the agents that were started and not removed.
    pub fn running(&self) -> impl Iterator<Item = &AgentId> {
        self.running.keys()
    }

    /// Starts an agent. `command` enters the pod's network namespace; the agent's program is appended to it.
    ///
    /// The agent's `hello` line is reported as [`PlatformEvent::AgentReady`].
    ///
    /// # Errors
    ///
    /// [`AgentError::Start`].
    pub fn start(&mut self, agent: &AgentId, mut command: Command) -> Result<(), AgentError> {
        let failed = |source| AgentError::Start {
            agent: agent.clone(),
            source,
        };
        fs::create_dir_all(DIRECTORY).map_err(failed)?;
        let stderr_file = PathBuf::from(format!("{DIRECTORY}/{}.err", agent.pod));
        command
            .args(&self.command)
            .args(["--agent", &format!("{}/{}", agent.node, agent.pod)])
            .args(["--plan", &plan_path(agent)])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&stderr_file).map_err(failed)?);
        for prefix in &self.allowed {
            command.args(["--allow", prefix]);
        }
        let mut child = command.spawn().map_err(failed)?;
        let lines = child
            .stdout
            .take()
            .ok_or_else(|| failed(io::Error::other("it has no standard output")))?;
        let pid = Pid::from_raw(
            i32::try_from(child.id()).map_err(|error| failed(io::Error::other(error)))?,
        );
        let is_terminating = Arc::new(AtomicBool::new(false));
        let has_plan = Arc::new(AtomicBool::new(false));
        let (accepted_plans_sender, accepted_plans) = mpsc::channel();
        let output_reader = OutputReader {
            agent: agent.clone(),
            events: self.events.clone(),
            accepted_plans: accepted_plans_sender,
            has_plan: Arc::clone(&has_plan),
            is_terminating: Arc::clone(&is_terminating),
            stderr_file,
        };
        let reader = thread::Builder::new()
            .name(agent.pod.clone())
            .spawn(move || output_reader.read(child, lines))
            .map_err(failed)?;
        self.running.insert(
            agent.clone(),
            Agent {
                pid,
                is_terminating,
                has_plan,
                accepted_plans,
                reader,
            },
        );
        Ok(())
    }

    /// Replaces an agent's plan file atomically, by rename(2).
    pub fn send(&self, plan: &Plan) -> Result<(), AgentError> {
        let agent = &plan.agent;
        let failed = |source| AgentError::Plan {
            agent: agent.clone(),
            source,
        };
        fs::create_dir_all(DIRECTORY).map_err(failed)?;
        let path = plan_path(agent);
        let next = format!("{path}.next");
        let text = serde_json::to_vec(plan).map_err(|error| failed(error.into()))?;
        fs::write(&next, text).map_err(failed)?;
        fs::rename(next, path).map_err(failed)
    }

    /// Replaces an agent's plan file and waits until the agent has accepted the plan.
    pub fn send_and_wait(&self, plan: &Plan) -> Result<(), AgentError> {
        let running = self.agent(&plan.agent)?;
        while running.accepted_plans.try_recv().is_ok() {}
        self.send(plan)?;
        running
            .accepted_plans
            .recv_timeout(PLAN_TIMEOUT)
            .map_err(|_| AgentError::PlanTimeout(plan.agent.clone()))
    }

    /// Waits until an agent has accepted its first plan.
    pub fn wait_for_first_plan(&self, agent: &AgentId) -> Result<(), AgentError> {
        let running = self.agent(agent)?;
        if running.has_plan.load(Ordering::Acquire) {
            return Ok(());
        }
        running
            .accepted_plans
            .recv_timeout(PLAN_TIMEOUT)
            .map_err(|_| AgentError::PlanTimeout(agent.clone()))
    }

    /// Sends a signal to an agent's process.
    pub fn signal(&self, agent: &AgentId, signal: Signal) -> Result<(), AgentError> {
        kill(self.agent(agent)?.pid, signal).map_err(|source| AgentError::Signal {
            agent: agent.clone(),
            signal,
            source,
        })
    }

    /// Terminates every agent and waits until all processes have ended; the lines that they still write are reported.
    pub fn remove(&mut self) {
        let terminating = std::mem::take(&mut self.running);
        for agent in terminating.values() {
            agent.is_terminating.store(true, Ordering::Release);
            // A process that has ended already cannot be signalled, and need not be.
            for signal in [Signal::SIGCONT, Signal::SIGTERM] {
                let _ended = kill(agent.pid, signal);
            }
        }
        let deadline = Instant::now() + TERMINATION_GRACE;
        for (id, agent) in terminating {
            agent.wait(deadline);
            // The pod's next agent must not read the plan of this one.
            drop(fs::remove_file(plan_path(&id)));
        }
    }

    fn agent(&self, agent: &AgentId) -> Result<&Agent, AgentError> {
        self.running
            .get(agent)
            .ok_or_else(|| AgentError::NotRunning(agent.clone()))
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        self.remove();
    }
}

impl Agent {
    fn wait(self, deadline: Instant) {
        loop {
            let remaining = deadline.saturating_duration_since(Instant::now());
            match self.accepted_plans.recv_timeout(remaining) {
                Ok(()) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let _ended = kill(self.pid, Signal::SIGKILL);
                    break;
                }
            }
        }
        // A reader that panicked reports nothing more.
        drop(self.reader.join());
    }
}

/// Reads the standard output of one agent and sends its lines on as [`PlatformEvent`]s.
struct OutputReader {
    agent: AgentId,
    events: Sender<PlatformEvent>,
    accepted_plans: Sender<()>,
    has_plan: Arc<AtomicBool>,
    is_terminating: Arc<AtomicBool>,
    stderr_file: PathBuf,
}

impl OutputReader {
    fn read(self, mut child: Child, lines: ChildStdout) {
        for line in BufReader::new(lines).split(b'\n') {
            match line {
                Ok(line) => self.handle_line(&String::from_utf8_lossy(&line)),
                Err(_) => break,
            }
        }
        let status = child.wait();
        if self.is_terminating.load(Ordering::Acquire) {
            return;
        }
        let stderr = fs::read_to_string(&self.stderr_file).unwrap_or_default();
        let last_line = stderr
            .lines()
            .last()
            .unwrap_or("it wrote nothing to standard error");
        let status = match status {
            Ok(status) => status.to_string(),
            Err(error) => format!("its exit status cannot be read: {error}"),
        };
        self.send(PlatformEvent::AgentFailed {
            agent: self.agent.clone(),
            reason: format!("its process ended unexpectedly ({status}): {last_line}"),
        });
    }

    fn handle_line(&self, line: &str) {
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
        let is_accepted = matches!(event, Event::PlanAccepted { .. });
        self.send(PlatformEvent::AgentLine {
            agent: self.agent.clone(),
            event,
        });
        if is_accepted {
            self.has_plan.store(true, Ordering::Release);
            // The receiver is dropped once the agent is being removed.
            let _dropped = self.accepted_plans.send(());
        }
    }

    /// Drops the event when the run has ended and its receiver is gone.
    fn send(&self, event: PlatformEvent) {
        drop(self.events.send(event));
    }
}

fn plan_path(agent: &AgentId) -> String {
    format!("{DIRECTORY}/{}.plan", agent.pod)
}

/// Returns the prefixes of pods, of the test Services and of the nodes' own addresses.
fn allowed_targets(spec: &LabSpec) -> Vec<String> {
    let mut allowed = Vec::new();
    for family in [Family::Ipv4, Family::Ipv6] {
        allowed.extend([
            pods_cidr(family).to_owned(),
            cluster_ip(family).to_string(),
            local_cluster_ip(family).to_string(),
        ]);
        let subnets = spec.subnets().into_iter();
        allowed.extend(subnets.map(|subnet| subnet.cidr(family)));
    }
    allowed
}
