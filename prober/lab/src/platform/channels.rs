//! The fleet behind two channels: commands in, events out, on a thread of its own.

use std::ffi::OsString;
use std::sync::mpsc::{Receiver, Sender};
use std::thread::{self, JoinHandle};

use prober_core::run::{Endpoints, PlatformCommand, PlatformEvent, Published};

use super::{Fleet, FleetError};
use crate::fault::{Fault, FaultAt, Phase};
use crate::network::Lab;
use crate::topology::Node;

/// A lab as a fleet behind two channels.
#[derive(Debug)]
pub struct LabPlatform {
    thread: JoinHandle<Fleet>,
}

impl LabPlatform {
    /// Breaks the lab as asked and obeys commands until their sender is gone; then ends every agent.
    ///
    /// Faults of [`Phase::BeforePlacing`] are in force when this returns, the others before the first `Published`.
    pub fn start(
        lab: Lab,
        faults: &[FaultAt],
        agent_command: Vec<OsString>,
        commands: Receiver<PlatformCommand>,
        events: Sender<PlatformEvent>,
    ) -> Result<Self, FleetError> {
        let mut later = Vec::new();
        let mut fleet = Fleet::new(lab, agent_command, events.clone());
        for at in faults {
            let node = at.node_in(fleet.lab.spec())?;
            match at.fault.phase() {
                Phase::BeforePlacing => fleet.inject(at.fault, node)?,
                Phase::AfterPublish => later.push((at.fault, node)),
            }
        }
        let thread = thread::Builder::new()
            .name("lab".to_owned())
            .spawn(move || {
                for command in commands {
                    obey(&mut fleet, command, &mut later, &events);
                }
                fleet.remove();
                fleet
            })
            .map_err(FleetError::Thread)?;
        Ok(Self { thread })
    }

    /// Waits until the commands' sender is gone and every agent has ended.
    pub fn join(self) -> Option<Fleet> {
        self.thread.join().ok()
    }
}

fn obey(
    fleet: &mut Fleet,
    command: PlatformCommand,
    later: &mut Vec<(Fault, Node)>,
    events: &Sender<PlatformEvent>,
) {
    // A run that has stopped listening has ended: nobody is left to tell.
    let tell = |event| drop(events.send(event));
    match command {
        PlatformCommand::Place(placements) => {
            for placement in placements {
                let agent = placement.agent.clone();
                if let Err(error) = fleet.place(placement) {
                    tell(PlatformEvent::AgentFailed {
                        agent,
                        reason: error.to_string(),
                    });
                }
            }
        }
        PlatformCommand::Publish(endpoints) => match publish(fleet, endpoints, later) {
            Ok(published) => tell(PlatformEvent::Published(published)),
            Err(error) => tell(PlatformEvent::Failed(error.to_string())),
        },
        PlatformCommand::SendPlan(plan) => {
            let agent = plan.agent.clone();
            if let Err(error) = fleet.send_plan(plan) {
                tell(PlatformEvent::AgentFailed {
                    agent,
                    reason: error.to_string(),
                });
            }
        }
        // Whoever is read costs nothing here.
        PlatformCommand::PauseLogs | PlatformCommand::ResumeLogs => {}
        PlatformCommand::Remove => {
            fleet.remove();
            tell(PlatformEvent::Removed);
        }
    }
}

fn publish(
    fleet: &mut Fleet,
    endpoints: Endpoints,
    later: &mut Vec<(Fault, Node)>,
) -> Result<Published, FleetError> {
    fleet.publish(endpoints)?;
    for (fault, node) in later.drain(..) {
        fleet.inject(fault, node)?;
    }
    Ok(fleet.published())
}
