//! [`LabPlatform`]: a lab cluster on its own thread that receives a run's commands and sends it events.

use std::ffi::OsString;
use std::sync::mpsc::{Receiver, Sender};
use std::thread::{self, JoinHandle};

use prober_core::run::{Endpoints, PlatformCommand, PlatformEvent, Published};

use crate::cluster::{LabCluster, LabClusterError};
use crate::fault::{Fault, FaultAt, InjectionPhase};
use crate::network::Lab;
use crate::topology::Node;

/// The lab as a run's platform: two channels, and the thread that serves them.
#[derive(Debug)]
pub struct LabPlatform {
    thread: JoinHandle<LabCluster>,
}

impl LabPlatform {
    /// Injects `faults` and carries out commands until their sender is dropped; then ends every agent.
    ///
    /// Faults of [`InjectionPhase::BeforePlacement`] are in force when this returns, the others before the first `Published`.
    ///
    /// # Errors
    ///
    /// The first fault that cannot be injected, or [`LabClusterError::Thread`].
    pub fn start(
        lab: Lab,
        faults: &[FaultAt],
        agent_command: Vec<OsString>,
        commands: Receiver<PlatformCommand>,
        events: Sender<PlatformEvent>,
    ) -> Result<Self, LabClusterError> {
        let mut delayed_faults = Vec::new();
        let mut cluster = LabCluster::new(lab, agent_command, events.clone());
        for at in faults {
            let node = at.node_in(cluster.lab().spec())?;
            match at.fault.phase() {
                InjectionPhase::BeforePlacement => {
                    cluster.inject_for(at.fault, node, at.lasts)?;
                }
                InjectionPhase::AfterPublication => delayed_faults.push((at.fault, node)),
            }
        }
        let thread = thread::Builder::new()
            .name("lab".to_owned())
            .spawn(move || {
                for command in commands {
                    handle(&mut cluster, command, &mut delayed_faults, &events);
                }
                cluster.remove();
                cluster
            })
            .map_err(LabClusterError::Thread)?;
        Ok(Self { thread })
    }

    /// Waits until the commands' sender is dropped and every agent has ended; `None` if the thread has panicked.
    pub fn join(self) -> Option<LabCluster> {
        self.thread.join().ok()
    }
}

fn handle(
    cluster: &mut LabCluster,
    command: PlatformCommand,
    delayed_faults: &mut Vec<(Fault, Node)>,
    events: &Sender<PlatformEvent>,
) {
    // The receiver is dropped when the run has ended; the event is then dropped too.
    let send = |event| drop(events.send(event));
    match command {
        PlatformCommand::Place(placements) => {
            for placement in placements {
                let agent = placement.agent.clone();
                if let Err(error) = cluster.place(placement) {
                    send(PlatformEvent::AgentFailed {
                        agent,
                        reason: error.to_string(),
                    });
                }
            }
        }
        PlatformCommand::Publish(endpoints) => match publish(cluster, endpoints, delayed_faults) {
            Ok(published) => send(PlatformEvent::Published(published)),
            Err(error) => send(PlatformEvent::Failed(error.to_string())),
        },
        PlatformCommand::SendPlan(plan) => {
            let agent = plan.agent.clone();
            if let Err(error) = cluster.send_plan(plan) {
                send(PlatformEvent::AgentFailed {
                    agent,
                    reason: error.to_string(),
                });
            }
        }
        // The output of local processes costs nothing to read: it is never paused.
        PlatformCommand::PauseLogs | PlatformCommand::ResumeLogs => {}
        PlatformCommand::Remove => {
            cluster.remove();
            send(PlatformEvent::Removed);
        }
    }
}

fn publish(
    cluster: &mut LabCluster,
    endpoints: Endpoints,
    delayed_faults: &mut Vec<(Fault, Node)>,
) -> Result<Published, LabClusterError> {
    cluster.publish(endpoints)?;
    for (fault, node) in delayed_faults.drain(..) {
        cluster.inject(fault, node)?;
    }
    Ok(cluster.published())
}
