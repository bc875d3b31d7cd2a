//! The lab as a fleet: what a run asks for, done with namespaces and processes.
//!
//! [`LabPlatform`] is the fleet behind two channels, on a thread of its own, as any fleet is; [`Fleet`] is the same without
//! the channels, for whoever holds a lab by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use nix::sys::signal::Signal;
use prober_core::plan::{AcceptMode, OTHER_RESPONDER_PORT, Plan, RESPONDER_PORT};
use prober_core::probe::event::Event;
use prober_core::run::{self, Placement, PlatformEvent};
use prober_core::topology::{AgentId, AgentRole};

use crate::agents::{AgentError, Agents};
use crate::fault::{Fault, Site, SliceChange, Step, impostor_name};
use crate::kube_proxy::{self, Endpoint};
use crate::network::{Lab, LabError};
use crate::topology::{Node, Pod, UnknownPlace};
use crate::{namespace, topology};

/// The fleet behind two channels.
mod channels;
/// Where the test Services lead.
mod publication;

pub use channels::LabPlatform;

/// How long the agents of a lab that is to stay up may be silent while they start.
const AGENTS_PATIENCE: Duration = Duration::from_secs(5);

/// Where agents look for their tier: a host is given no capability.
const TIER_VARIABLE: &str = "PROBER_TIER";

/// The lab could not do what a run or a user asked.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The network could not be changed.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// A command failed.
    #[error(transparent)]
    Command(#[from] namespace::CommandError),
    /// An agent could not be started or told something.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// A node or pod that the lab does not have.
    #[error(transparent)]
    Unknown(#[from] UnknownPlace),
    /// The agents of a lab that is to stay up did not start.
    #[error("cannot start the lab's agents: {0}")]
    NotReady(String),
    /// The fleet's thread could not be started.
    #[error("cannot start the thread that holds the lab: {0}")]
    Thread(io::Error),
}

/// A lab with agents, and the faults in it.
#[derive(Debug)]
pub struct Fleet {
    lab: Lab,
    agents: Agents,
    /// What the last publication asked for, before any fault's change.
    asked: run::Endpoints,
    changes: Vec<SliceChange>,
    accepts: BTreeMap<AgentId, AcceptMode>,
    frozen: Vec<AgentId>,
    plans: BTreeMap<AgentId, Plan>,
    faults: Vec<(Fault, Node)>,
}

impl Fleet {
    /// A fleet without agents; `command` starts one.
    pub fn new(lab: Lab, command: Vec<OsString>, events: Sender<PlatformEvent>) -> Self {
        Self {
            lab,
            agents: Agents::new(command, events),
            asked: run::Endpoints::default(),
            changes: Vec::new(),
            accepts: BTreeMap::new(),
            frozen: Vec::new(),
            plans: BTreeMap::new(),
            faults: Vec::new(),
        }
    }

    /// The network.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The faults in force, in the order in which they came.
    pub fn faults(&self) -> &[(Fault, Node)] {
        &self.faults
    }

    /// Starts an agent in every pod, lets the servers answer, and publishes up to sixteen of them.
    ///
    /// `told` is the other end of the fleet's events; what it holds up to then is used up.
    pub fn populate(&mut self, told: &Receiver<PlatformEvent>) -> Result<(), FleetError> {
        let spec = self.lab.spec().clone();
        let mut silent = BTreeSet::new();
        for pod in spec.pods() {
            let agent = agent_id(pod);
            self.place(Placement {
                plan: responder_plan(&agent),
                agent: agent.clone(),
                role: AgentRole::Server,
            })?;
            silent.insert(agent);
        }
        while !silent.is_empty() {
            match told.recv_timeout(AGENTS_PATIENCE) {
                Ok(PlatformEvent::AgentLine {
                    agent,
                    event: Event::PlanAccepted { .. },
                }) => {
                    silent.remove(&agent);
                }
                Ok(PlatformEvent::AgentFailed { agent, reason }) => {
                    return Err(FleetError::NotReady(format!("{agent}: {reason}")));
                }
                Ok(
                    PlatformEvent::AgentLine { .. }
                    | PlatformEvent::AgentReady { .. }
                    | PlatformEvent::Published(_)
                    | PlatformEvent::Alert { .. }
                    | PlatformEvent::Note(_)
                    | PlatformEvent::Failed(_)
                    | PlatformEvent::Removed
                    | PlatformEvent::Interrupted,
                ) => {}
                Err(_) => {
                    let names: Vec<_> = silent.iter().map(|agent| agent.pod.as_str()).collect();
                    return Err(FleetError::NotReady(format!(
                        "no word from {} for five seconds",
                        names.join(", ")
                    )));
                }
            }
        }
        let servers: Vec<_> = spec
            .nodes()
            .take(usize::from(kube_proxy::SLOTS))
            .map(|node| agent_id(topology::server(node)))
            .collect();
        self.publish(run::Endpoints {
            slots: servers.clone(),
            any: servers.clone(),
            local: servers,
        })
    }

    /// Starts an agent with its first plan.
    pub fn place(&mut self, placement: Placement) -> Result<(), FleetError> {
        let Placement { agent, role, plan } = placement;
        self.send_plan(plan)?;
        let spec = self.lab.spec();
        match role {
            AgentRole::Client | AgentRole::Server => {
                let pod = spec.pod(&agent.pod)?.name();
                self.agents.start(&agent, namespace::command(&pod))?;
            }
            AgentRole::Host => {
                let node = spec.node(agent.node.as_str())?.name();
                let mut command = namespace::command_with_sys(&node);
                command.env(TIER_VARIABLE, "T0");
                self.agents.start(&agent, command)?;
            }
        }
        Ok(())
    }

    /// Makes the test Services lead to these agents.
    pub fn publish(&mut self, asked: run::Endpoints) -> Result<(), FleetError> {
        self.asked = asked;
        self.publish_again()
    }

    /// Gives an agent a plan, changed where a fault makes its server misbehave.
    pub fn send_plan(&mut self, plan: Plan) -> Result<(), FleetError> {
        let plan = self.bent(plan);
        self.agents.send(&plan)?;
        self.plans.insert(plan.agent.clone(), plan);
        Ok(())
    }

    /// Ends every agent; the network stays.
    pub fn remove(&mut self) {
        self.agents.remove();
        self.plans.clear();
        self.frozen.clear();
    }

    /// Breaks the lab.
    pub fn inject(&mut self, fault: Fault, node: Node) -> Result<(), FleetError> {
        let spec = self.lab.spec().clone();
        let server = Endpoint::of(topology::server(node));
        let slot = self
            .lab
            .slices()
            .slots
            .iter()
            .find_map(|(slot, endpoint)| (*endpoint == server).then_some(*slot))
            .unwrap_or(node.number() - 1);
        let site = Site {
            spec: &spec,
            node,
            slot,
        };
        // A fault that fails half-way is in force by half, and healed like a whole one.
        self.faults.push((fault, node));
        for step in fault.steps(site) {
            self.take(step)?;
        }
        Ok(())
    }

    /// Undoes every fault: the network, the Services and the agents are as they were meant.
    pub fn heal(&mut self) -> Result<(), FleetError> {
        self.changes.clear();
        self.faults.clear();
        for agent in std::mem::take(&mut self.frozen) {
            self.agents.signal(&agent, Signal::SIGCONT)?;
        }
        for agent in std::mem::take(&mut self.accepts).into_keys() {
            self.tell_again(&agent, AcceptMode::Running)?;
        }
        for node in self.lab.spec().nodes() {
            let name = impostor_name(node);
            if std::path::Path::new(&namespace::path(&name)).exists() {
                namespace::run_outside(&format!(
                    "ip -n {node} link del veth-impostor\nip netns del {name}"
                ))?;
            }
        }
        self.lab.restore()?;
        self.publish_again()
    }

    fn take(&mut self, step: Step) -> Result<(), FleetError> {
        match step {
            Step::Run { place, script } => {
                namespace::run(&place, &script)?;
            }
            Step::RunOutside(script) => {
                namespace::run_outside(&script)?;
            }
            Step::Slices(change) => {
                self.changes.push(change);
                self.publish_again()?;
            }
            Step::StaleRules(node) => self.lab.leave_behind(node)?,
            Step::Accept(pod, accept) => {
                let agent = agent_id(pod);
                self.accepts.insert(agent.clone(), accept);
                self.tell_again(&agent, accept)?;
            }
            Step::Freeze(pod) => {
                let agent = agent_id(pod);
                // Before its first plan an agent listens on nothing, and afterwards it could not read one.
                self.agents.wait_until_it_listens(&agent)?;
                self.agents.signal(&agent, Signal::SIGSTOP)?;
                self.frozen.push(agent);
            }
        }
        Ok(())
    }

    /// Repeats an agent's last plan, without its probes, so that its responder changes.
    fn tell_again(&mut self, agent: &AgentId, accept: AcceptMode) -> Result<(), FleetError> {
        if let Some(plan) = self.plans.get_mut(agent) {
            plan.generation += 1;
            plan.probes.clear();
            plan.responder.accept = accept;
            self.agents.send_and_wait(plan)?;
        }
        Ok(())
    }

    fn bent(&self, mut plan: Plan) -> Plan {
        if let Some(accept) = self.accepts.get(&plan.agent) {
            plan.responder.accept = *accept;
        }
        plan
    }
}

/// The name of a pod's agent, which is the pod's.
pub fn agent_id(pod: Pod) -> AgentId {
    AgentId::new(pod.node.name(), pod.name())
}

/// A plan that only answers.
pub fn responder_plan(agent: &AgentId) -> Plan {
    Plan::answering(
        "lab",
        1,
        agent,
        0,
        vec![RESPONDER_PORT, OTHER_RESPONDER_PORT],
    )
}
