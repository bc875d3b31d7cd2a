//! What the packets thread works on between two waits: the probes in flight, and what this end witnesses.
//!
//! It takes orders and packets, and knows no socket but the ports that it keeps silent.

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
use prober_net::rst_suppression::MutedPort;

use crate::commands::{Order, RawPlan};
use crate::events::{News, NewsSender, Progress};
use capture_loss::Blindness;
use owners::{Owned, Owners};
use waiting::GATHER;

pub(crate) use modes::{Attention, Duty, Loopback, needs_silence};
pub(crate) use waiting::PATIENCE;

/// Whose answers the capture may have lost.
mod capture_loss;
/// How a desk works.
mod modes;
/// Whose the source ports in flight are.
mod owners;
#[cfg(test)]
mod tests;
/// When a desk has something to do again.
mod waiting;

/// Most probes that start between two looks at the packets: who was kept waiting must not flood its own capture.
const BURST: usize = 64;

/// The crafted probes of one plan.
#[derive(Debug)]
struct Round {
    generation: u32,
    probes: Vec<ProbePlan>,
    pacing: Pacing,
    pace: Pace,
    /// Probes that are due and found no free port.
    waiting: VecDeque<usize>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Desk {
    orders: Receiver<Order>,
    news: NewsSender,
    flight: InFlight,
    witnesses: ServerTraces,
    loopback: Loopback,
    duty: Duty,
    rounds: Vec<Round>,
    owners: Owners,
    blindness: Blindness,
    /// Whose ladders of a target are in flight, in order of their start.
    ladders: BTreeMap<(PathId, SocketAddr), VecDeque<(SocketAddr, u32)>>,
    /// Ports on which this agent answers.
    ports: BTreeSet<u16>,
    has_new_ports: bool,
    /// When what was witnessed is to be told, if anything was.
    tell_at: Option<Timestamp>,
    /// When results are to be told, if there are any.
    results_at: Option<Timestamp>,
}

impl Desk {
    /// A desk without work.
    pub(crate) fn new(
        config: InFlightConfig,
        loopback: Loopback,
        orders: Receiver<Order>,
        news: NewsSender,
    ) -> Self {
        Self {
            orders,
            news,
            flight: InFlight::new(config),
            witnesses: ServerTraces::default(),
            loopback,
            duty: Duty::On,
            rounds: Vec::new(),
            owners: Owners::default(),
            blindness: Blindness::default(),
            ladders: BTreeMap::new(),
            ports: BTreeSet::new(),
            has_new_ports: false,
            tell_at: None,
            results_at: None,
        }
    }

    /// Does what was ordered until now. An order that was given before a packet left is done before that packet is
    /// looked at, so this comes before each of them.
    pub(crate) fn take_orders(&mut self, now: Timestamp) {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Take(plan) => self.take(plan),
                Order::Forget => self.abandon(),
                Order::Watch {
                    generation,
                    path,
                    src,
                    dst,
                    deadline,
                    at,
                } => {
                    self.flight.watch(path, src, dst, at, deadline);
                    self.own(src, Owned::of(generation));
                }
                Order::Close { src, exchange } => self.flight.close(src, exchange, now),
                Order::Refuse { src, errno } => self.flight.refuse_locally(src, errno, now),
                Order::Withdraw { src, why } => {
                    self.owners.withdraw(src, why);
                    self.flight.close(src, Exchange::NotTried, now);
                }
                Order::Stop => self.duty = Duty::Off,
            }
        }
    }

    fn take(&mut self, plan: RawPlan) {
        let RawPlan {
            generation,
            probes,
            ports,
            start,
            pace,
        } = plan;
        let ports: BTreeSet<u16> = ports.into_iter().collect();
        if ports != self.ports {
            self.witnesses.listen(ports.iter().copied());
            self.ports = ports;
            self.has_new_ports = true;
        }
        self.rounds.push(Round {
            generation,
            pacing: Pacing::new(&probes, start, pace),
            pace,
            probes,
            waiting: VecDeque::new(),
        });
    }

    /// Ends what is in flight; it has no outcome.
    fn abandon(&mut self) {
        self.rounds.clear();
        self.flight.abandon();
        while self.flight.poll_result().is_some() {}
        self.owners.clear();
        self.ladders.clear();
    }

    /// Starts what is due, and lets time pass for what is in flight.
    pub(crate) fn handle_timeout(&mut self, now: Timestamp) {
        let mut rounds = std::mem::take(&mut self.rounds);
        let mut room = BURST;
        for round in &mut rounds {
            for item in std::mem::take(&mut round.waiting) {
                self.launch(round, item, now);
            }
            while room > 0
                && let Some(due) = round.pacing.next_at()
                && let Some(item) = round.pacing.poll(&round.probes, now)
            {
                room -= 1;
                self.handle_lateness(now.since(due));
                self.launch(round, item, now);
            }
        }
        rounds.retain(|round| round.pacing.next_at().is_some() || !round.waiting.is_empty());
        self.rounds = rounds;
        self.flight.handle_timeout(now);
    }

    fn launch(&mut self, round: &mut Round, item: usize, now: Timestamp) {
        let Some(probe) = round.probes.get(item) else {
            return;
        };
        match self.flight.launch(now, probe) {
            Ok(src) => {
                let muted = match probe.method {
                    Method::Exchange { .. } => self.mute(src),
                    Method::TtlProbe { .. } => {
                        let ladders = self.ladders.entry((probe.path, probe.target)).or_default();
                        ladders.push_back((src, round.generation));
                        self.mute(src)
                    }
                    Method::Connect { .. } | Method::Syn => None,
                };
                let owned = Owned {
                    talks: needs_silence(&probe.method),
                    muted,
                    ..Owned::of(round.generation)
                };
                self.own(src, owned);
            }
            Err(LaunchError::NoPort { .. }) => round.waiting.push_back(item),
            Err(error @ (LaunchError::NoAddress { .. } | LaunchError::NotCrafted { .. })) => {
                let why = error.to_string();
                self.tell(round.generation, Progress::Unsent(1, why));
            }
        }
    }

    /// A source is another probe's from now on. What it was before is over, and may not be told yet.
    fn own(&mut self, src: SocketAddr, owned: Owned) {
        if self.owners.have(src) {
            self.tell_results();
        }
        self.owners.insert(src, owned);
    }

    /// Keeps the kernel silent on the port of a probe that has not yet sent anything.
    fn mute(&self, src: SocketAddr) -> Option<MutedPort> {
        let muted = modes::silence(src);
        muted.map_err(|why| self.send(News::Trouble(why))).ok()
    }

    /// Takes a packet with its captured payload.
    pub(crate) fn observe(&mut self, observation: &Observation, payload: &[u8]) {
        self.take_orders(observation.at);
        let is_witnessed = match &observation.packet.body {
            Body::Tcp(ip, _) if ip.dst.is_loopback() && self.loopback == Loopback::Ignored => {
                return;
            }
            Body::Tcp(_, tcp) => {
                self.ports.contains(&tcp.src_port) || self.ports.contains(&tcp.dst_port)
            }
            Body::Icmp(..) => true,
            Body::Resolution(_) => false,
        };
        self.flight.observe(observation, payload);
        if is_witnessed {
            self.witnesses.observe(observation);
            self.tell_at.get_or_insert(observation.at + GATHER);
        }
    }

    /// A wait ended so much later than it should have.
    pub(crate) fn handle_lateness(&self, late: Duration) {
        if let Some(news) = News::of_lateness(late) {
            self.send(news);
        }
    }

    /// Appends what is to be sent now.
    pub(crate) fn poll_transmit(&mut self, out: &mut Vec<TcpSegment>) {
        self.flight.poll_transmit(out);
    }

    /// The capture says how complete its packets are. Before the results, so that who waits for the last of them knows.
    pub(crate) fn handle_counts(&mut self, received: u64, dropped: u64, now: Timestamp) {
        let has_lost = self.blindness.see(dropped, now);
        if has_lost || self.has_results() {
            self.send(News::Capture { received, dropped });
        }
    }

    /// Whether a result is ready to be told.
    pub(crate) fn has_results(&self) -> bool {
        self.flight.has_result()
    }

    /// Tells what has finished.
    pub(crate) fn tell_results(&mut self) {
        self.results_at = None;
        while let Some(finished) = self.flight.poll_result() {
            match finished {
                ProbeOutput::Probe(result) => self.tell_result(result),
                ProbeOutput::TtlProbe(ladder) => {
                    let begun = self.ladders.get_mut(&(ladder.path, ladder.target));
                    if let Some((src, generation)) = begun.and_then(VecDeque::pop_front) {
                        self.owners.remove(src);
                        self.tell(generation, Progress::TtlProbe(ladder));
                    }
                }
            }
        }
    }

    fn tell_result(&mut self, result: Box<ProbeResult>) {
        let Some(owned) = self.owners.remove(result.src) else {
            return;
        };
        let Owned {
            generation,
            talks: _,
            muted,
            withdrawn,
        } = owned;
        // From here on the kernel may answer on that port again.
        drop(muted);
        let progress = match withdrawn {
            Some(why) => Progress::Unsent(1, why),
            None if self.blindness.hides(&result) => {
                Progress::Unsent(1, capture_loss::WHY.to_owned())
            }
            None => Progress::Result(result),
        };
        self.tell(generation, progress);
    }

    /// Tells what was witnessed, if it has waited long enough or there is no later.
    pub(crate) fn tell_witnessed(&mut self, now: Timestamp) {
        let is_due = self
            .tell_at
            .is_some_and(|at| at <= now || self.duty == Duty::Off);
        if is_due {
            self.tell_at = None;
            let handshakes = self.witnesses.flush(now);
            if !handshakes.is_empty() {
                self.send(News::ServerTrace(handshakes));
            }
        }
    }

    /// The responder's ports, if they are new since the last call.
    pub(crate) fn take_new_ports(&mut self) -> Option<Vec<u16>> {
        std::mem::take(&mut self.has_new_ports).then(|| self.ports.iter().copied().collect())
    }

    /// Whether it goes on; where not, what is in flight ends without an outcome.
    pub(crate) fn duty(&mut self) -> Duty {
        match self.duty {
            Duty::On => {}
            Duty::Off => {
                self.tell_results();
                self.abandon();
            }
        }
        self.duty
    }

    fn tell(&self, generation: u32, progress: Progress) {
        self.send(News::Round(generation, progress));
    }

    /// Tells the main task.
    pub(crate) fn send(&self, news: News) {
        // A main task that has ended listens no more.
        drop(self.news.send(news));
    }
}
