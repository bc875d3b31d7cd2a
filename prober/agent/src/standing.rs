//! The rounds of a standing agent, beside the plans of runs: a task that drives the state machine of prober-core.
//!
//! It owns what lasts as long as the agent: the readiness gate, the responder of a server, and the metrics. Its probes go
//! through the same engines as those of runs; it receives their results, and the main task writes its lines.

mod clock;
mod metrics_server;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use prober_core::plan::standing::StandingPlan;
use prober_core::plan::{
    AcceptMode, AllowedTargets, OTHER_RESPONDER_PORT, RESPONDER_PORT, ResponderPlan,
};
use prober_core::probe::event::Event;
use prober_core::probe::in_flight::pacing::Pace;
use prober_core::standing::StandingRole;
use prober_core::standing::agent::{Crafting, Gate, StandingAgent, StandingOutput};
use prober_net::packet_socket::now;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::AgentConfig;
use crate::engine::commands::{PacketCommand, RawPlan};
use crate::engine::connect_jobs::{ConnectJobs, ConnectRunner, after_connect};
use crate::engine::events::{EngineEvent, EngineEventSender, PlanId, ProbeEvent, StandingEvent};
use crate::engine::packet_thread::PacketThread;
use crate::plan::file::{ChangeDetection, PlanFile};
use crate::plan::watch;
use crate::readiness_gate::ReadinessGate;
use crate::responder::Responder;
use crate::timers::sleep::SleepTimer;
use clock::SteadyClock;

/// A sleep that a change ends: nothing is due.
const NOTHING_DUE: Duration = Duration::from_hours(1);

/// The standing rounds, before they run.
#[derive(Debug)]
pub(crate) struct StandingRounds {
    agent: Rc<RefCell<StandingAgent>>,
    clock: SteadyClock,
    started_for: AllowedTargets,
    plan: PlanFile,
    readiness_gate: ReadinessGate,
    /// Of a server.
    responder: Option<Responder>,
    metrics_port: Option<u16>,
    connects: Rc<ConnectRunner>,
    packets: Option<Rc<PacketThread>>,
    events: EngineEventSender,
    connect_tasks: JoinSet<()>,
    end: oneshot::Receiver<()>,
}

/// What the main task knows of the standing rounds. They end when it is dropped.
#[derive(Debug)]
pub(crate) struct StandingHandle {
    agent: Rc<RefCell<StandingAgent>>,
    role: StandingRole,
    end: oneshot::Sender<()>,
}

impl StandingHandle {
    /// What plans may probe now.
    pub(crate) fn allowed_targets(&self) -> AllowedTargets {
        self.agent.borrow().allowed_targets()
    }

    /// The ports that this agent answers on.
    pub(crate) fn ports(&self) -> Vec<u16> {
        match self.role {
            StandingRole::Client => Vec::new(),
            StandingRole::Server => vec![RESPONDER_PORT, OTHER_RESPONDER_PORT],
        }
    }

    /// Ends the rounds.
    pub(crate) fn end(self) {
        // They may have ended already.
        self.end.send(()).ok();
    }
}

impl StandingRounds {
    /// The rounds of this configuration, from which the standing plan's file is taken; `None` if it has none.
    pub(crate) fn new(
        config: &mut AgentConfig,
        connects: &Rc<ConnectRunner>,
        packets: Option<&Rc<PacketThread>>,
        events: &EngineEventSender,
    ) -> Option<(Self, StandingHandle)> {
        let standing = config.standing.as_mut()?;
        let plan = standing.plan.take()?;
        let clock = SteadyClock::start();
        let crafting = match packets {
            Some(_) => Crafting::Possible,
            None => Crafting::Impossible,
        };
        let agent = Rc::new(RefCell::new(StandingAgent::new(
            config.agent.clone(),
            standing.role,
            crafting,
            config.allowed.clone(),
            clock.now(),
        )));
        let responder = match standing.role {
            StandingRole::Client => None,
            StandingRole::Server => Some(Responder::new(
                config.agent.clone(),
                config.local.one_of_each_family(),
            )),
        };
        let (end, ended) = oneshot::channel();
        let handle = StandingHandle {
            agent: Rc::clone(&agent),
            role: standing.role,
            end,
        };
        let rounds = Self {
            agent,
            clock,
            started_for: config.allowed.clone(),
            plan,
            readiness_gate: ReadinessGate::new(config.readiness_port),
            responder,
            metrics_port: standing.metrics_port,
            connects: Rc::clone(connects),
            packets: packets.map(Rc::clone),
            events: events.clone(),
            connect_tasks: JoinSet::new(),
            end: ended,
        };
        Some((rounds, handle))
    }

    /// Probes round after round until the handle is dropped.
    pub(crate) async fn run(mut self, mut received: UnboundedReceiver<StandingEvent>) {
        let mut watch = watch::watch(self.plan.path()).ok();
        let metrics = self.metrics_port.map(|port| {
            metrics_server::serve(
                port,
                Rc::clone(&self.agent),
                self.clock,
                self.events.clone(),
            )
        });
        // Aborted with this task.
        let mut servers = JoinSet::new();
        if let Some(metrics) = metrics {
            servers.spawn_local(metrics);
        }
        self.answer(0).await;
        let mut next_check = Instant::now();
        let (check, timer) = (SleepTimer::new(), SleepTimer::new());
        loop {
            let due = self.agent.borrow().poll_timeout();
            let until_due = due.map_or(NOTHING_DUE, |at| at.since(self.clock.now()));
            tokio::select! {
                _ = &mut self.end => return,
                Some(event) = received.recv() => {
                    self.handle(event);
                    while let Ok(event) = received.try_recv() {
                        self.handle(event);
                    }
                }
                changed = watch::next_change(&mut watch) => {
                    if changed.is_none() {
                        watch = None;
                    }
                    next_check = Instant::now();
                }
                () = check.sleep_until(next_check) => {
                    self.check_plan().await;
                    let detection = if watch.is_some() { ChangeDetection::Watched } else { ChangeDetection::Polled };
                    next_check = Instant::now() + self.plan.poll_interval(detection);
                }
                () = timer.sleep(until_due) => {
                    self.agent.borrow_mut().handle_timeout(self.clock.now());
                }
            }
            self.carry_out().await;
            while self.connect_tasks.try_join_next().is_some() {}
        }
    }

    fn handle(&self, event: StandingEvent) {
        let mut agent = self.agent.borrow_mut();
        let steady = self.clock.now();
        match event {
            StandingEvent::Late(late) => agent.handle_lateness(late, steady),
            StandingEvent::Probe(ProbeEvent::Result(result)) => {
                let age = now().since(result.started);
                agent.handle_result(result, age, steady);
            }
            StandingEvent::Probe(ProbeEvent::Unsent(probes, why)) => {
                agent.handle_unsent(probes, steady);
                self.events.send(EngineEvent::Notice(why));
            }
            // None is sent.
            StandingEvent::Probe(ProbeEvent::TtlProbe(_)) => {}
        }
    }

    /// Reads the plan's file, if it has changed.
    async fn check_plan(&mut self) {
        let read = match self.plan.read_if_changed() {
            Ok(None) => None,
            Ok(Some(text)) => Some(
                StandingPlan::parse(text, &self.started_for).map_err(|error| error.to_string()),
            ),
            Err(error) => Some(Err(error.to_string())),
        };
        let steady = self.clock.now();
        match read {
            None if !self.plan.has_text() => {
                self.plan.forget_text();
                self.agent.borrow_mut().set_plan(None, steady);
            }
            None => {}
            Some(Ok(plan)) => {
                let nonce = plan.nonce;
                self.agent.borrow_mut().set_plan(Some(plan), steady);
                self.answer(nonce).await;
            }
            Some(Err(reason)) => {
                self.agent.borrow_mut().refuse_plan();
                let reason = reason.chars().take(2_000).collect();
                let refused = Event::PlanRefused { reason };
                self.events.send(EngineEvent::Line(Box::new(refused)));
            }
        }
    }

    /// Answers with this nonce, if this is a server.
    async fn answer(&mut self, nonce: u64) {
        let plan = ResponderPlan {
            ports: vec![RESPONDER_PORT, OTHER_RESPONDER_PORT],
            accept: AcceptMode::Running,
        };
        let Some(responder) = &mut self.responder else {
            return;
        };
        for refused in responder.apply(&plan, nonce).await {
            self.events.send(EngineEvent::Notice(refused.to_string()));
        }
    }

    /// Carries out what the state machine puts out.
    async fn carry_out(&mut self) {
        let mut probes = Vec::new();
        loop {
            let output = self.agent.borrow_mut().poll_output();
            match output {
                None => break,
                Some(StandingOutput::Probe(probe)) => probes.push(probe),
                Some(StandingOutput::Line(line)) => {
                    self.events.send(EngineEvent::Line(Box::new(line)));
                }
                Some(StandingOutput::Gate(Gate::Closed)) => {
                    self.readiness_gate.close();
                }
                Some(StandingOutput::Gate(Gate::Open)) => {
                    for refused in self.readiness_gate.open().await {
                        self.events.send(EngineEvent::Notice(refused.to_string()));
                    }
                }
            }
        }
        if probes.is_empty() {
            return;
        }
        let start = now();
        let (kernel, raw): (Vec<_>, Vec<_>) =
            (probes.into_iter()).partition(|probe| after_connect(probe).is_some());
        if let Some(packets) = self.packets.as_ref().filter(|_| !raw.is_empty()) {
            packets.send_now(PacketCommand::StartPlan(RawPlan {
                id: PlanId::Standing,
                probes: raw,
                ports: None,
                start,
                pace: Pace::Even,
            }));
        }
        let connects = Rc::clone(&self.connects).run(ConnectJobs {
            id: PlanId::Standing,
            probes: kernel,
            start,
            pace: Pace::Even,
        });
        self.connect_tasks.spawn_local(connects);
    }
}
