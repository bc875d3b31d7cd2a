//! The packet loop: the probes in flight and the server traces of an agent, as a state machine without sockets.
//!
//! It handles commands, packets and timeouts. The only sockets that it holds are those that suppress RST on source ports.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use prober_core::packet::observation::Observation;
use prober_core::packet::{Body, TcpSegment};
use prober_core::plan::{Method, ProbePlan};
use prober_core::probe::in_flight::pacing::{Pace, Pacing};
use prober_core::probe::in_flight::{InFlight, InFlightConfig, LaunchError, ProbeOutput};
use prober_core::probe::outcome::{Exchange, ProbeResult};
use prober_core::probe::server_trace::ServerTraces;
use prober_core::time::Timestamp;
use prober_core::topology::PathId;
use prober_net::rst_suppression::SuppressedPort;

use crate::engine::commands::{PacketCommand, RawPlan};
use crate::engine::events::{EngineEvent, EngineEventSender, PlanId, ProbeEvent};
use capture_loss::CaptureLoss;
use probe_contexts::{ProbeContext, ProbeContexts};
use wakeups::REPORT_DELAY;

pub(crate) use modes::{LoopState, LoopbackMode, ReadMode, needs_rst_suppression};
pub(crate) use wakeups::MAX_BATCH_WAIT;

/// Which probes may be unanswered because the capture lost packets.
mod capture_loss;
/// Modes: whether the loop goes on, how soon it reads packets, and whether loopback counts.
mod modes;
/// What the loop knows of each probe in flight beside its handshake.
mod probe_contexts;
#[cfg(test)]
mod tests;
/// When the loop has something to do, and what can wait to be done together.
mod wakeups;

/// Probes that start between two reads of the capture: a late thread must not overflow its own capture.
const MAX_LAUNCHES: usize = 64;

/// The crafted probes of one plan, and when they are due.
#[derive(Debug)]
struct PlanLaunches {
    id: PlanId,
    probes: Vec<ProbePlan>,
    pacing: Pacing,
    pace: Pace,
    /// Probes that are due and found no free port.
    waiting: VecDeque<usize>,
}

/// The state of the packet thread between two waits.
#[derive(Debug)]
pub(crate) struct PacketLoop {
    commands: Receiver<PacketCommand>,
    events: EngineEventSender,
    in_flight: InFlight,
    server_traces: ServerTraces,
    loopback: LoopbackMode,
    state: LoopState,
    plans: Vec<PlanLaunches>,
    contexts: ProbeContexts,
    capture_loss: CaptureLoss,
    /// The TTL probes in flight of each path and target: sources and plans, in order of their start.
    ttl_probes: BTreeMap<(PathId, SocketAddr), VecDeque<(SocketAddr, PlanId)>>,
    /// The ports of the responder.
    ports: BTreeSet<u16>,
    has_new_ports: bool,
    /// When server traces are due to be reported, if there are any.
    traces_due_at: Option<Timestamp>,
    /// When results are due to be reported, if there are any.
    results_due_at: Option<Timestamp>,
}

impl PacketLoop {
    /// A loop without work.
    pub(crate) fn new(
        config: InFlightConfig,
        loopback: LoopbackMode,
        commands: Receiver<PacketCommand>,
        events: EngineEventSender,
    ) -> Self {
        Self {
            commands,
            events,
            in_flight: InFlight::new(config),
            server_traces: ServerTraces::default(),
            loopback,
            state: LoopState::Running,
            plans: Vec::new(),
            contexts: ProbeContexts::default(),
            capture_loss: CaptureLoss::default(),
            ttl_probes: BTreeMap::new(),
            ports: BTreeSet::new(),
            has_new_ports: false,
            traces_due_at: None,
            results_due_at: None,
        }
    }

    /// Carries out all commands so far. A command that was sent before a packet must be carried out before that packet is
    /// handled, so this is called before each of them.
    pub(crate) fn handle_commands(&mut self, now: Timestamp) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                PacketCommand::StartPlan(plan) => self.start_plan(plan),
                PacketCommand::Abandon => self.abandon(),
                PacketCommand::AbandonAccepted => {
                    self.plans.retain(|plan| plan.id == PlanId::Standing);
                }
                PacketCommand::WatchConnect {
                    id,
                    path,
                    src,
                    dst,
                    deadline,
                    at,
                } => {
                    self.in_flight.watch(path, src, dst, at, deadline);
                    self.track(src, ProbeContext::of(id));
                }
                PacketCommand::ConnectEnded { src, exchange } => {
                    self.in_flight.close(src, exchange, now);
                }
                PacketCommand::ConnectRefused { src, errno } => {
                    self.in_flight.refuse_locally(src, errno, now);
                }
                PacketCommand::NotSent { src, why } => {
                    self.contexts.mark_not_sent(src, why);
                    self.in_flight.close(src, Exchange::NotTried, now);
                }
                PacketCommand::Stop => self.state = LoopState::Stopping,
            }
        }
    }

    fn start_plan(&mut self, plan: RawPlan) {
        let RawPlan {
            id,
            probes,
            ports,
            start,
            pace,
        } = plan;
        let ports: Option<BTreeSet<u16>> = ports.map(|ports| ports.into_iter().collect());
        if let Some(ports) = ports.filter(|ports| *ports != self.ports) {
            self.server_traces.set_ports(ports.iter().copied());
            self.ports = ports;
            self.has_new_ports = true;
        }
        self.plans.push(PlanLaunches {
            id,
            pacing: Pacing::new(&probes, start, pace),
            pace,
            probes,
            waiting: VecDeque::new(),
        });
    }

    /// Ends all probes in flight without an outcome.
    fn abandon(&mut self) {
        self.plans.clear();
        self.in_flight.abandon();
        while self.in_flight.poll_output().is_some() {}
        self.contexts.clear();
        self.ttl_probes.clear();
    }

    /// Starts what is due, and lets time pass for the probes in flight.
    pub(crate) fn handle_timeout(&mut self, now: Timestamp) {
        let mut plans = std::mem::take(&mut self.plans);
        let mut room = MAX_LAUNCHES;
        for plan in &mut plans {
            for item in std::mem::take(&mut plan.waiting) {
                self.launch(plan, item, now);
            }
            while room > 0
                && let Some(due) = plan.pacing.next_at()
                && let Some(item) = plan.pacing.poll(&plan.probes, now)
            {
                room -= 1;
                self.handle_lateness(now.since(due));
                self.launch(plan, item, now);
            }
        }
        plans.retain(|plan| plan.pacing.next_at().is_some() || !plan.waiting.is_empty());
        self.plans = plans;
        self.in_flight.handle_timeout(now);
    }

    fn launch(&mut self, plan: &mut PlanLaunches, item: usize, now: Timestamp) {
        let Some(probe) = plan.probes.get(item) else {
            return;
        };
        match self.in_flight.launch(now, probe) {
            Ok(src) => {
                let suppressed = match probe.method {
                    Method::Exchange { .. } => self.suppress_rst(src),
                    Method::TtlProbe { .. } => {
                        let ttl_probes = self
                            .ttl_probes
                            .entry((probe.path, probe.target))
                            .or_default();
                        ttl_probes.push_back((src, plan.id));
                        self.suppress_rst(src)
                    }
                    Method::Connect { .. } | Method::Syn => None,
                };
                let context = ProbeContext {
                    exchanges: needs_rst_suppression(&probe.method),
                    suppressed,
                    ..ProbeContext::of(plan.id)
                };
                self.track(src, context);
            }
            Err(LaunchError::NoPort { .. }) => plan.waiting.push_back(item),
            Err(error @ (LaunchError::NoAddress { .. } | LaunchError::NotCrafted { .. })) => {
                let why = error.to_string();
                self.report(plan.id, ProbeEvent::Unsent(1, why));
            }
        }
    }

    /// A source belongs to a new probe. The result of its last probe may not be reported yet.
    fn track(&mut self, src: SocketAddr, context: ProbeContext) {
        if self.contexts.contains(src) {
            self.report_results();
        }
        self.contexts.insert(src, context);
    }

    /// Suppresses RST on the port of a probe that has sent nothing yet.
    fn suppress_rst(&self, src: SocketAddr) -> Option<SuppressedPort> {
        let suppressed = modes::suppress_rst(src);
        suppressed
            .map_err(|why| self.send(EngineEvent::Notice(why)))
            .ok()
    }

    /// Handles a packet with its captured payload.
    pub(crate) fn observe(&mut self, observation: &Observation, payload: &[u8]) {
        self.handle_commands(observation.at);
        let is_of_a_server = match &observation.packet.body {
            Body::Tcp(ip, _) if ip.dst.is_loopback() && self.loopback == LoopbackMode::Ignore => {
                return;
            }
            Body::Tcp(_, tcp) => {
                self.ports.contains(&tcp.src_port) || self.ports.contains(&tcp.dst_port)
            }
            Body::Icmp(..) => true,
            Body::Resolution(_) => false,
        };
        self.in_flight.observe(observation, payload);
        if is_of_a_server {
            self.server_traces.observe(observation);
            self.traces_due_at
                .get_or_insert(observation.at + REPORT_DELAY);
        }
    }

    /// Reports that a wait or a launch was late.
    pub(crate) fn handle_lateness(&self, late: Duration) {
        if let Some(event) = EngineEvent::if_late(late) {
            self.send(event);
        }
    }

    /// Appends the segments that are to be sent now.
    pub(crate) fn poll_transmit(&mut self, out: &mut Vec<TcpSegment>) {
        self.in_flight.poll_transmit(out);
    }

    /// Handles the counts of the capture; they are reported before the results that they may explain.
    pub(crate) fn handle_capture_counts(&mut self, received: u64, dropped: u64, now: Timestamp) {
        let has_new_loss = self.capture_loss.update(dropped, now);
        if has_new_loss || self.has_results() {
            self.send(EngineEvent::Capture { received, dropped });
        }
    }

    /// Whether there is a result to report.
    pub(crate) fn has_results(&self) -> bool {
        self.in_flight.has_output()
    }

    /// Reports the results of all probes that have ended.
    pub(crate) fn report_results(&mut self) {
        self.results_due_at = None;
        while let Some(finished) = self.in_flight.poll_output() {
            match finished {
                ProbeOutput::Probe(result) => self.report_result(result),
                ProbeOutput::TtlProbe(ttl_probe) => {
                    let begun = self.ttl_probes.get_mut(&(ttl_probe.path, ttl_probe.target));
                    if let Some((src, id)) = begun.and_then(VecDeque::pop_front) {
                        self.contexts.remove(src);
                        self.report(id, ProbeEvent::TtlProbe(ttl_probe));
                    }
                }
            }
        }
    }

    fn report_result(&mut self, result: Box<ProbeResult>) {
        let Some(context) = self.contexts.remove(result.src) else {
            return;
        };
        let ProbeContext {
            id,
            exchanges: _,
            suppressed,
            not_sent,
        } = context;
        // From here on the kernel may answer on that port again.
        drop(suppressed);
        let event = match not_sent {
            Some(why) => ProbeEvent::Unsent(1, why),
            None if self.capture_loss.hides(&result) => {
                ProbeEvent::Unsent(1, capture_loss::NOTICE.to_owned())
            }
            None => ProbeEvent::Result(result),
        };
        self.report(id, event);
    }

    /// Reports the server traces, if they are due or the loop is stopping.
    pub(crate) fn report_server_traces(&mut self, now: Timestamp) {
        let is_due = self
            .traces_due_at
            .is_some_and(|at| at <= now || self.state == LoopState::Stopping);
        if is_due {
            self.traces_due_at = None;
            let handshakes = self.server_traces.flush(now);
            if !handshakes.is_empty() {
                self.send(EngineEvent::ServerTrace(handshakes));
            }
        }
    }

    /// The ports of the responder, if they have changed since the last call.
    pub(crate) fn take_new_ports(&mut self) -> Option<Vec<u16>> {
        std::mem::take(&mut self.has_new_ports).then(|| self.ports.iter().copied().collect())
    }

    /// Whether the loop goes on; where not, the probes in flight end without an outcome.
    pub(crate) fn state(&mut self) -> LoopState {
        match self.state {
            LoopState::Running => {}
            LoopState::Stopping => {
                self.report_results();
                self.abandon();
            }
        }
        self.state
    }

    fn report(&self, id: PlanId, event: ProbeEvent) {
        self.send(EngineEvent::Probe(id, event));
    }

    /// Reports an event to the main task.
    pub(crate) fn send(&self, event: EngineEvent) {
        self.events.send(event);
    }
}
