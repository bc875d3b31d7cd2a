//! The main task of an agent: an event loop that takes plans, starts probes and writes event lines.

mod engine_events;
mod node_facts_reader;
/// The lines that are written at intervals or at the end of a plan.
mod reporting;
mod runs_beside_standing;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use prober_core::plan::{LogReading, Method, Plan, ProbePlan, SERVICES_PATIENCE};
use prober_core::probe::event::Event;
use prober_core::probe::in_flight::pacing::Pace;
use prober_net::node_facts::read_counters;
use prober_net::packet_socket::now;
use tokio::runtime::Runtime;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, timeout};

use crate::config::AgentConfig;
use crate::engine::commands::{PacketCommand, RawPlan};
use crate::engine::connect_jobs::{ConnectJobs, ConnectRunner, Servers, after_connect};
use crate::engine::events::{EngineEventReceiver, EngineEventSender, PlanId, engine_events};
use crate::engine::kernel::Connector;
use crate::engine::packet_loop::{LoopbackMode, needs_rst_suppression};
use crate::engine::packet_thread::{PacketSockets, PacketThread};
use crate::event_lines::writer::{EventWriter, WriterEnd};
use crate::plan::file::ChangeDetection;
use crate::plan::progress::PlanProgress;
use crate::plan::wait_for_services::{self, Waited};
use crate::plan::watch;
use crate::readiness_gate::ReadinessGate;
use crate::responder::Responder;
use crate::signals::Signals;
use crate::standing::{StandingHandle, StandingRounds};
use crate::timers::lateness::LatenessMonitor;
use crate::timers::sleep::SleepTimer;
use reporting::shortened;

/// The interval of tallies in the first seconds of a plan: by them a run decides which paths to probe again.
const TALLY_INTERVAL_YOUNG: Duration = Duration::from_millis(250);
/// The interval of tallies afterwards: the plans of a canary last.
const TALLY_INTERVAL: Duration = Duration::from_secs(5);
/// The interval of tallies while nothing reads the log: an alert writes all that was counted since the last tally.
const TALLY_INTERVAL_UNATTENDED: Duration = Duration::from_secs(20);
/// The time that an agent which ends gives the reader of its output to take the last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct MainTask {
    config: AgentConfig,
    writer: EventWriter,
    responder: Responder,
    connects: Rc<ConnectRunner>,
    packets: Option<Rc<PacketThread>>,
    readiness_gate: ReadinessGate,
    /// Whether a reader follows the log while the plan lasts.
    log_reading: LogReading,
    /// The reason why crafted connections end after the handshake in this agent, if they do.
    half_open: Option<String>,
    capture: Option<Event>,
    events: EngineEventSender,
    /// The run and generation of the last plan that was accepted.
    accepted: Option<(String, u32)>,
    /// The plans under way, by how many were accepted before.
    plans: BTreeMap<u32, PlanProgress>,
    /// The run that the first line was last written for.
    greeted: Option<String>,
    /// How many plans were accepted.
    accepted_plans: u32,
    /// The rounds of a standing agent, beside the plans.
    standing: Option<StandingHandle>,
    /// When the last plan was accepted.
    accepted_at: Instant,
    /// The longest delay of anything timed since the last `starved` line.
    max_lateness: Duration,
    /// The kernel probes under way.
    connect_tasks: JoinSet<()>,
    /// Notices that were written: each text is written once.
    noticed: BTreeSet<String>,
}

/// The result of reading the plan's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PlanCheck {
    /// The file has not changed, or its plan is not accepted.
    Unchanged,
    /// A plan was accepted.
    Accepted,
}

/// Runs the agent until SIGTERM, SIGINT or the end of the reader of its output.
pub(crate) fn serve(
    runtime: &Runtime,
    signals: Signals,
    mut config: AgentConfig,
    opened: Option<PacketSockets>,
    (writer, writer_end): (EventWriter, WriterEnd),
) -> anyhow::Result<()> {
    let (mut events, received) = engine_events();
    let standing_events = config.standing.as_ref().map(|_| events.receive_standing());
    let half_open = opened
        .as_ref()
        .and_then(|opened| opened.suppression_error.as_ref().map(ToString::to_string));
    let packets = opened
        .map(|opened| opened.start(&config.local, LoopbackMode::Ignore, events.clone()))
        .transpose()?
        .map(Rc::new);
    let connector = Connector::new(now().as_nanos());
    let lateness = Rc::new(LatenessMonitor::new(events.clone()));
    let connects = ConnectRunner::new(
        connector,
        events.clone(),
        Rc::clone(&lateness),
        packets.clone(),
        Servers::Responders,
    );
    let connects = Rc::new(connects);
    let tasks = LocalSet::new();
    let standing = standing_events.and_then(|received| {
        let (rounds, handle) =
            StandingRounds::new(&mut config, &connects, packets.as_ref(), &events)?;
        tasks.spawn_local(async move { rounds.run(received).await });
        Some(handle)
    });
    // Standing rounds have a gate and a responder of their own.
    let readiness_port = config.readiness_port.filter(|_| standing.is_none());
    let main_task = MainTask {
        responder: Responder::new(config.agent.clone(), Vec::new()),
        readiness_gate: ReadinessGate::new(readiness_port),
        log_reading: match standing {
            Some(_) => LogReading::Unattended,
            None => LogReading::Attended,
        },
        standing,
        accepted_plans: 0,
        greeted: None,
        config,
        writer,
        connects,
        packets,
        half_open,
        capture: None,
        events,
        accepted: None,
        plans: BTreeMap::new(),
        accepted_at: Instant::now(),
        max_lateness: Duration::ZERO,
        connect_tasks: JoinSet::new(),
        noticed: BTreeSet::new(),
    };
    tasks.spawn_local(async move { lateness.run().await });
    tasks.block_on(runtime, main_task.run(signals, received, writer_end))
}

impl MainTask {
    async fn run(
        mut self,
        mut signals: Signals,
        mut received: EngineEventReceiver,
        mut writer_end: WriterEnd,
    ) -> anyhow::Result<()> {
        // Where the folder cannot be watched, the file is polled more often.
        let mut watch = watch::watch(self.config.plan.path()).ok();
        let mut next_check = Instant::now();
        let mut next_tally = Instant::now();
        let (check, tally) = (SleepTimer::new(), SleepTimer::new());
        loop {
            tokio::select! {
                () = signals.any() => break,
                // The reader of the output is gone, so there is nothing left to do.
                _ = &mut writer_end => return Ok(()),
                Some(event) = received.recv() => {
                    self.handle_engine_event(event)?;
                    while let Some(event) = received.try_recv() {
                        self.handle_engine_event(event)?;
                    }
                    self.finish_plans();
                }
                changed = watch::next_change(&mut watch) => {
                    if changed.is_none() {
                        watch = None;
                    }
                    next_check = Instant::now();
                }
                () = check.sleep_until(next_check) => {
                    if self.check_plan().await == PlanCheck::Accepted {
                        next_tally = Instant::now() + self.tally_interval();
                    }
                    self.end_unattended_run().await;
                    let detection = if watch.is_some() { ChangeDetection::Watched } else { ChangeDetection::Polled };
                    next_check = Instant::now() + self.config.plan.poll_interval(detection);
                }
                () = tally.sleep_until(next_tally), if self.has_counts() => {
                    self.write_tallies();
                    next_tally = Instant::now() + self.tally_interval();
                }
            }
        }
        if let Some(standing) = self.standing.take() {
            standing.end();
        }
        self.connect_tasks.shutdown().await;
        if let Some(packets) = &self.packets {
            packets.stop();
        }
        while let Some(event) = received.try_recv() {
            self.handle_engine_event(event)?;
        }
        self.write_tallies();
        drop(self.writer);
        match timeout(FLUSH_TIMEOUT, writer_end).await {
            Ok(Ok(Err(error))) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(error).context("cannot write event lines to standard output")
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn check_plan(&mut self) -> PlanCheck {
        let allowed = match &self.standing {
            Some(standing) => standing.allowed_targets(),
            None => self.config.allowed.clone(),
        };
        let config = &mut self.config;
        let mut run = None;
        let plan = match config.plan.read_if_changed() {
            Ok(None) => return PlanCheck::Unchanged,
            Ok(Some(text)) => {
                run = Plan::run_of(text);
                Plan::parse(text, &config.agent, &allowed).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        let plan = plan.and_then(|plan| match &config.run {
            Some(run) if plan.run != *run => Err(format!(
                "the plan is of run '{}', this agent was started for run '{run}': is the plan's file an old one?",
                plan.run
            )),
            Some(_) | None => Ok(plan),
        });
        let plan = plan.and_then(|plan| match self.check_standing_bounds(&plan) {
            Ok(()) => Ok(plan),
            Err(error) => Err(error.to_string()),
        });
        self.greet(run);
        match plan {
            Err(reason) => self.writer.write(&Event::PlanRefused {
                reason: shortened(reason),
            }),
            Ok(plan) if self.is_accepted(&plan) => {}
            Ok(plan) => {
                self.accept(plan).await;
                return PlanCheck::Accepted;
            }
        }
        PlanCheck::Unchanged
    }

    fn is_accepted(&self, plan: &Plan) -> bool {
        let accepted = self.accepted.as_ref();
        accepted.is_some_and(|(run, generation)| *run == plan.run && *generation >= plan.generation)
    }

    async fn accept(&mut self, plan: Plan) {
        let is_of_another_run = self
            .accepted
            .as_ref()
            .is_some_and(|(run, _)| *run != plan.run);
        if is_of_another_run || self.log_reading == LogReading::Unattended {
            self.abandon().await;
        }
        self.log_reading = plan.log_reading;
        let own_ports = self.standing.as_ref().map(StandingHandle::ports);
        let traced_ports = if let Some(ports) = own_ports.filter(|ports| !ports.is_empty()) {
            ports
        } else {
            if self.standing.is_none() {
                self.open_readiness_gate().await;
            }
            // A standing client answers as long as a run has it: it stands in for its node's server in comparisons. A run that reads `plan-accepted` may rely on the listeners.
            for refused in self.responder.apply(&plan.responder, plan.nonce).await {
                self.notice(refused.to_string());
            }
            plan.responder.ports.clone()
        };
        let Waited {
            reached,
            unanswered,
        } = wait_for_services::wait_until_reachable(&plan.wait_for_services, &plan.wait_for_pods)
            .await;
        if !reached.is_empty() {
            self.writer.write(&Event::Reached { targets: reached });
        }
        if !unanswered.is_empty() {
            let unanswered: Vec<String> = unanswered.iter().map(ToString::to_string).collect();
            self.notice(format!(
                "no answer from {} for {} s before its first probe",
                unanswered.join(" and "),
                SERVICES_PATIENCE.as_secs()
            ));
        }
        let generation = plan.generation;
        self.accepted = Some((plan.run.clone(), generation));
        self.accepted_at = Instant::now();
        self.writer.write(&Event::PlanAccepted { generation });
        let number = self.accepted_plans;
        self.accepted_plans = number.wrapping_add(1);
        self.read_facts(number, &plan).await;
        let mut progress = PlanProgress::new(&plan, read_counters());
        let start = now();
        let (kernel, raw): (Vec<_>, Vec<_>) = plan
            .probes
            .into_iter()
            .partition(|probe| after_connect(probe).is_some());
        if let Some(packets) = self.packets.clone() {
            packets.send_now(PacketCommand::StartPlan(RawPlan {
                id: PlanId::Accepted(number),
                probes: self.without_exchanges(raw),
                ports: Some(traced_ports),
                start,
                pace: Pace::Coalesced,
            }));
        } else if !raw.is_empty() {
            let probes = raw.iter().map(|probe| u64::from(probe.count)).sum();
            progress.end_without_result(probes);
            self.notice(format!(
                "{probes} probes with crafted packets were not sent: this agent is of tier T0 (see the limits of its \
                 first line)"
            ));
        }
        self.plans.insert(number, progress);
        self.connect_tasks
            .spawn_local(Rc::clone(&self.connects).run(ConnectJobs {
                id: PlanId::Accepted(number),
                probes: kernel,
                start,
                pace: Pace::Coalesced,
            }));
        self.finish_plans();
    }

    /// Ends all plans under way: their run is over, or their log was not read.
    async fn abandon(&mut self) {
        self.write_tallies();
        self.plans.clear();
        self.connect_tasks.shutdown().await;
        if let Some(packets) = &self.packets {
            packets.send(match self.standing {
                Some(_) => PacketCommand::AbandonAccepted,
                None => PacketCommand::Abandon,
            });
        }
    }

    /// Replaces connections with banner and echo by half-open probes where RST cannot be suppressed.
    fn without_exchanges(&mut self, mut probes: Vec<ProbePlan>) -> Vec<ProbePlan> {
        let Some(why) = self.half_open.clone() else {
            return probes;
        };
        if probes
            .iter()
            .any(|probe| needs_rst_suppression(&probe.method))
        {
            self.notice(why);
        }
        for probe in &mut probes {
            match probe.method {
                Method::Exchange { .. } => probe.method = Method::Syn,
                Method::Connect { .. } | Method::Syn | Method::TtlProbe { .. } => {}
            }
        }
        probes
    }
}
