//! A lab that stays up: agents answer in every server pod, and a second terminal may break it.

use std::process::ExitCode;
use std::sync::mpsc::{self, Sender};

use anyhow::Context as _;
use prober_core::run::{Endpoints, FleetEvent, Placement};
use prober_core::topology::{AgentId, Role};
use prober_lab::fleet::{agent_id, responder_plan};
use prober_lab::isolate::{self, Side};
use prober_lab::topology;
use prober_lab::{Fault, FaultAt, Fleet, Lab, LabSpec};

use super::control::{Asked, Line, Request};
use crate::run::agent_command;
use crate::show;

/// What the keeper of a lab wakes up for.
enum Wake {
    /// A second terminal asks something.
    Asked(Asked),
    /// Ctrl-C.
    Ended,
}

/// Keeps a lab up until Ctrl-C.
pub(super) fn up(spec: &LabSpec, faults: &[FaultAt], line: &Line) -> anyhow::Result<ExitCode> {
    for fault in faults {
        fault.node_in(spec)?;
    }
    let (wakes, woken) = mpsc::channel();
    let ended = wakes.clone();
    ctrlc::set_handler(move || drop(ended.send(Wake::Ended))).context("take over Ctrl-C")?;
    match isolate::enter()? {
        Side::Ended(status) => return Ok(status),
        Side::Inside => {}
    }
    line.listen(move |asked| drop(wakes.send(Wake::Asked(asked))))?;
    let lab = Lab::up(spec).context("build the lab")?;
    let mut fleet = Fleet::new(lab, agent_command()?, listener()?);
    serve(&mut fleet)?;
    for fault in faults {
        inject(&mut fleet, *fault)?;
    }
    show::text(&greeting(spec, faults))?;
    for wake in woken {
        match wake {
            Wake::Asked(asked) => {
                let answer = obey(&mut fleet, &asked.request);
                asked.answer(answer);
            }
            Wake::Ended => break,
        }
    }
    line.forget();
    fleet.remove();
    Ok(ExitCode::SUCCESS)
}

/// What agents say by themselves is nobody's business here, but somebody must take it.
fn listener() -> anyhow::Result<Sender<FleetEvent>> {
    let (events, heard) = mpsc::channel();
    std::thread::Builder::new()
        .name("agents".to_owned())
        .spawn(move || heard.into_iter().for_each(drop))
        .context("start the thread that hears the agents")?;
    Ok(events)
}

/// A responder in every server pod, and the Services that lead to them.
fn serve(fleet: &mut Fleet) -> anyhow::Result<()> {
    let servers: Vec<AgentId> = fleet
        .lab()
        .spec()
        .nodes()
        .map(|node| agent_id(topology::server(node)))
        .collect();
    for agent in &servers {
        fleet
            .place(&Placement {
                agent: agent.clone(),
                role: Role::Server,
            })
            .with_context(|| format!("start the agent of {agent}"))?;
        fleet.send_plan(responder_plan(agent))?;
    }
    fleet.publish(Endpoints {
        slots: servers.clone(),
        any: servers,
    })?;
    Ok(())
}

fn obey(fleet: &mut Fleet, request: &Request) -> anyhow::Result<String> {
    match request {
        Request::Inject(fault) => inject(fleet, *fault),
        Request::Heal => {
            let count = fleet.faults().len();
            fleet.heal()?;
            Ok(format!("healed: {count} faults undone"))
        }
        Request::Find(place) => {
            let spec = fleet.lab().spec();
            if spec.node(place).is_err() {
                spec.pod(place)?;
            }
            Ok(format!("{place} is there"))
        }
    }
}

fn inject(fleet: &mut Fleet, at: FaultAt) -> anyhow::Result<String> {
    let node = at.node_in(fleet.lab().spec())?;
    fleet.inject(at.fault, node)?;
    Ok(format!(
        "{} on {node}: {}",
        at.fault,
        Fault::summary(at.fault)
    ))
}

fn greeting(spec: &LabSpec, faults: &[FaultAt]) -> String {
    let nodes: Vec<String> = spec.nodes().map(topology::Node::name).collect();
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    let state = if faults.is_empty() {
        "healthy".to_owned()
    } else {
        format!("broken by {}", faults.join(", "))
    };
    format!(
        "The lab is up and {state}: {}, each with the pods NODE-client and NODE-server.\n\
         From another terminal:\n  \
         prober lab shell node-1-client -- prober probe 100.67.30.133:80\n  \
         prober lab inject bridge-netfilter-off@node-1\n  \
         prober lab heal\n\
         Ctrl-C takes it down; nothing is left.\n",
        nodes.join(", ")
    )
}
