//! [`LabCluster`]: the network of a lab with its agents, test Services and injected faults.

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
use crate::fault::{
    Fault, FaultContext, RefusedFault, SliceChange, Step, USUAL_DURATION, duplicate_pod_name,
};
use crate::kube_proxy::{self, Endpoint};
use crate::network::{Lab, LabError};
use crate::topology::{Node, Pod, UnknownName};
use crate::{namespace, topology};

/// The endpoints and addresses of the test Services.
mod services;

/// Time within which the next agent of a lab that stays up accepts its first plan.
const PLAN_ACCEPTED_TIMEOUT: Duration = Duration::from_secs(5);

/// Environment variable from which an agent reads its tier. A host-network agent runs without capabilities.
const TIER_VARIABLE: &str = "PROBER_TIER";

/// A command of a run, or a request of a user, could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum LabClusterError {
    /// The network could not be changed.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// A command failed.
    #[error(transparent)]
    Command(#[from] namespace::CommandError),
    /// An agent could not be started, signalled or given a plan.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// A node or pod that the lab does not have.
    #[error(transparent)]
    Unknown(#[from] UnknownName),
    /// A fault that this lab cannot have.
    #[error(transparent)]
    Fault(#[from] RefusedFault),
    /// An agent of a lab that stays up failed, or did not accept its first plan in time.
    #[error("cannot start the lab's agents: {0}")]
    NotReady(String),
    /// The platform's thread could not be started.
    #[error("cannot start the thread of the lab's platform: {0}")]
    Thread(io::Error),
}

/// A lab with its agents, test Services and injected faults.
#[derive(Debug)]
pub struct LabCluster {
    lab: Lab,
    agents: Agents,
    /// The endpoints of the last publication, before the changes of faults.
    published_endpoints: run::Endpoints,
    /// The changes of faults to the EndpointSlices, in the order of injection.
    slice_changes: Vec<SliceChange>,
    /// The accept modes that faults have set.
    accept_modes: BTreeMap<AgentId, AcceptMode>,
    /// Agents that a fault has stopped (SIGSTOP).
    frozen: Vec<AgentId>,
    /// The last plan of each agent.
    plans: BTreeMap<AgentId, Plan>,
    /// The faults in force, in the order of injection.
    faults: Vec<(Fault, Node)>,
}

impl LabCluster {
    /// Creates a cluster without agents. `command` is the agent's program and first arguments; `events` receives what happens.
    pub fn new(lab: Lab, command: Vec<OsString>, events: Sender<PlatformEvent>) -> Self {
        let agents = Agents::new(lab.spec(), command, events);
        Self {
            lab,
            agents,
            published_endpoints: run::Endpoints::default(),
            slice_changes: Vec::new(),
            accept_modes: BTreeMap::new(),
            frozen: Vec::new(),
            plans: BTreeMap::new(),
            faults: Vec::new(),
        }
    }

    /// Returns the network.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Returns the faults in force, in the order of injection.
    pub fn faults(&self) -> &[(Fault, Node)] {
        &self.faults
    }

    /// Starts an agent that answers probes in every pod, and publishes up to sixteen servers.
    ///
    /// `events` is the receiver of the cluster's events; this consumes its events until every agent has accepted its plan.
    ///
    /// # Errors
    ///
    /// [`LabClusterError::NotReady`] where an agent fails or no plan is accepted for five seconds, and the errors of
    /// [`Self::place`] and [`Self::publish`].
    pub fn populate(&mut self, events: &Receiver<PlatformEvent>) -> Result<(), LabClusterError> {
        let spec = self.lab.spec().clone();
        let mut pending = BTreeSet::new();
        for pod in spec.pods() {
            let agent = agent_id(pod);
            self.place(Placement {
                plan: responder_plan(&agent),
                agent: agent.clone(),
                role: AgentRole::Server,
            })?;
            pending.insert(agent);
        }
        while !pending.is_empty() {
            match events.recv_timeout(PLAN_ACCEPTED_TIMEOUT) {
                Ok(PlatformEvent::AgentLine {
                    agent,
                    event: Event::PlanAccepted { .. },
                }) => {
                    pending.remove(&agent);
                }
                Ok(PlatformEvent::AgentFailed { agent, reason }) => {
                    return Err(LabClusterError::NotReady(format!("{agent}: {reason}")));
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
                    let names: Vec<_> = pending.iter().map(|agent| agent.pod.as_str()).collect();
                    return Err(LabClusterError::NotReady(format!(
                        "{} did not accept their first plan within five seconds",
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
    pub fn place(&mut self, placement: Placement) -> Result<(), LabClusterError> {
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

    /// Publishes these agents as the endpoints of the test Services.
    pub fn publish(&mut self, endpoints: run::Endpoints) -> Result<(), LabClusterError> {
        self.published_endpoints = endpoints;
        self.republish()
    }

    /// Gives an agent a plan, with the accept mode that a fault has set.
    pub fn send_plan(&mut self, plan: Plan) -> Result<(), LabClusterError> {
        let plan = self.with_accept_mode(plan);
        self.agents.send(&plan)?;
        self.plans.insert(plan.agent.clone(), plan);
        Ok(())
    }

    /// Ends every agent; the network stays up.
    pub fn remove(&mut self) {
        self.agents.remove();
        self.plans.clear();
        self.frozen.clear();
    }

    /// Injects a fault on a node.
    pub fn inject(&mut self, fault: Fault, node: Node) -> Result<(), LabClusterError> {
        self.inject_for(fault, node, None)
    }

    /// Injects a fault on a node; one that ends with start-up lasts as long as this from the first packet.
    pub fn inject_for(
        &mut self,
        fault: Fault,
        node: Node,
        lasts: Option<Duration>,
    ) -> Result<(), LabClusterError> {
        let spec = self.lab.spec().clone();
        let server = Endpoint::of(topology::server(node));
        let slot = self
            .lab
            .slices()
            .slots
            .iter()
            .find_map(|(slot, endpoint)| (*endpoint == server).then_some(*slot))
            .unwrap_or(node.number() - 1);
        let context = FaultContext {
            spec: &spec,
            node,
            slot,
            lasts: lasts.unwrap_or(USUAL_DURATION),
        };
        // Recorded before its steps: a fault whose injection fails halfway is healed like any other.
        self.faults.push((fault, node));
        for step in fault.steps(context) {
            self.run_step(step)?;
        }
        Ok(())
    }

    /// Heals every fault: configures the network again, publishes the endpoints again and resets the agents.
    pub fn heal(&mut self) -> Result<(), LabClusterError> {
        self.slice_changes.clear();
        self.faults.clear();
        for agent in std::mem::take(&mut self.frozen) {
            self.agents.signal(&agent, Signal::SIGCONT)?;
        }
        for agent in std::mem::take(&mut self.accept_modes).into_keys() {
            self.resend_plan(&agent, AcceptMode::Running)?;
        }
        for node in self.lab.spec().nodes() {
            let name = duplicate_pod_name(node);
            if std::path::Path::new(&namespace::path(&name)).exists() {
                namespace::run_in_lab(&format!("ip -n {name} link del eth0\nip netns del {name}"))?;
            }
        }
        self.lab.restore()?;
        self.republish()
    }

    fn run_step(&mut self, step: Step) -> Result<(), LabClusterError> {
        match step {
            Step::Run { namespace, script } => {
                namespace::run(&namespace, &script)?;
            }
            Step::RunInLab(script) => {
                namespace::run_in_lab(&script)?;
            }
            Step::ChangeSlices(change) => {
                self.slice_changes.push(change);
                self.republish()?;
            }
            Step::StaleRules(node) => self.lab.make_rules_stale(node)?,
            Step::ProxyNeverRan(node) => self.lab.end_proxy_without_rules(node)?,
            Step::SetAcceptMode(pod, accept) => {
                let agent = agent_id(pod);
                self.accept_modes.insert(agent.clone(), accept);
                self.resend_plan(&agent, accept)?;
            }
            Step::Freeze(pod) => {
                let agent = agent_id(pod);
                // Without its first plan the agent would not listen on any port, and a stopped process cannot read a plan.
                self.agents.wait_for_first_plan(&agent)?;
                self.agents.signal(&agent, Signal::SIGSTOP)?;
                self.frozen.push(agent);
            }
        }
        Ok(())
    }

    /// Sends an agent's last plan again, without its probes, with another accept mode for its responder.
    fn resend_plan(&mut self, agent: &AgentId, accept: AcceptMode) -> Result<(), LabClusterError> {
        if let Some(plan) = self.plans.get_mut(agent) {
            plan.generation += 1;
            plan.probes.clear();
            plan.responder.accept = accept;
            self.agents.send_and_wait(plan)?;
        }
        Ok(())
    }

    fn with_accept_mode(&self, mut plan: Plan) -> Plan {
        if let Some(accept) = self.accept_modes.get(&plan.agent) {
            plan.responder.accept = *accept;
        }
        plan
    }
}

/// Returns the identity of a pod's agent.
pub fn agent_id(pod: Pod) -> AgentId {
    AgentId::new(pod.node.name(), pod.name())
}

/// Returns a plan without probes, whose agent answers on the responder's ports.
pub fn responder_plan(agent: &AgentId) -> Plan {
    Plan::answering(
        "lab",
        1,
        agent,
        0,
        vec![RESPONDER_PORT, OTHER_RESPONDER_PORT],
    )
}
