//! What the packets thread works on between two waits: the probes in flight, and what this end witnesses.
//!
//! It takes orders and packets, and knows no socket but the ports that it keeps silent.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use prober_core::family::Family;
use prober_core::flight::pacing::Pacing;
use prober_core::flight::{Finished, Flight, FlightConfig, LaunchError};
use prober_core::observation::{Exchange, Observation, ProbeResult};
use prober_core::plan::{Method, ProbePlan};
use prober_core::time::Timestamp;
use prober_core::topology::PathId;
use prober_core::wire::{Body, Segment};
use prober_net::mute::MutedPort;

use crate::news::{News, NewsSender, Progress};

/// What the main task asks of the packets thread.
#[derive(Debug)]
pub(crate) enum Order {
    /// Do the crafted probes of this plan instead of what is under way, and witness on its ports.
    Take(RawPlan),
    /// The kernel is about to connect.
    Watch {
        /// The plan's generation.
        generation: u32,
        /// The path that the probe belongs to.
        path: PathId,
        /// The source that it is bound to.
        src: SocketAddr,
        /// Whom it is going to ask.
        dst: SocketAddr,
        /// How long it waits.
        deadline: Duration,
        /// When.
        at: Timestamp,
    },
    /// The kernel's connection from that source is over.
    Close {
        /// Its source.
        src: SocketAddr,
        /// What came of it after the handshake.
        exchange: Exchange,
    },
    /// The kernel has sent nothing from that source, for that reason.
    Withdraw {
        /// Its source.
        src: SocketAddr,
        /// Why.
        why: String,
    },
    /// Tell what is there, and end.
    Stop,
}

/// What concerns the packets thread of a plan.
#[derive(Debug)]
pub(crate) struct RawPlan {
    /// The plan's generation.
    pub(crate) generation: u32,
    /// The probes with crafted segments.
    pub(crate) probes: Vec<ProbePlan>,
    /// The ports on which this agent answers.
    pub(crate) ports: Vec<u16>,
    /// From when on.
    pub(crate) start: Timestamp,
}

/// Whether the desk goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duty {
    /// It does.
    On,
    /// It was told to stop.
    Off,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Desk {
    orders: Receiver<Order>,
    news: NewsSender,
    flight: Flight,
    duty: Duty,
    generation: u32,
    probes: Vec<ProbePlan>,
    pacing: Option<Pacing>,
    /// Probes that are due and found no free port.
    waiting: VecDeque<usize>,
    muted: BTreeMap<SocketAddr, MutedPort>,
    withdrawn: BTreeMap<SocketAddr, String>,
    /// Ports on which this agent answers, where they are news to the capture.
    new_ports: Option<Vec<u16>>,
    late: Duration,
}

impl Desk {
    /// A desk without work.
    pub(crate) fn new(config: FlightConfig, orders: Receiver<Order>, news: NewsSender) -> Self {
        Self {
            orders,
            news,
            flight: Flight::new(config),
            duty: Duty::On,
            generation: 0,
            probes: Vec::new(),
            pacing: None,
            waiting: VecDeque::new(),
            muted: BTreeMap::new(),
            withdrawn: BTreeMap::new(),
            new_ports: None,
            late: Duration::ZERO,
        }
    }

    /// Does what was ordered until now. An order that was given before a packet left is done before that packet is
    /// looked at, so this comes before each of them.
    pub(crate) fn take_orders(&mut self, now: Timestamp) {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Take(plan) => self.take(plan),
                Order::Watch {
                    generation,
                    path,
                    src,
                    dst,
                    deadline,
                    at,
                } if generation == self.generation => {
                    self.flight.watch(path, src, dst, at, deadline);
                }
                Order::Watch { .. } => {}
                Order::Close { src, exchange } => self.flight.close(src, exchange, now),
                Order::Withdraw { src, why } => {
                    self.withdrawn.insert(src, why);
                    self.flight.close(src, Exchange::NotTried, now);
                }
                Order::Stop => self.duty = Duty::Off,
            }
        }
    }

    fn take(&mut self, plan: RawPlan) {
        self.tell_results();
        self.abandon();
        let RawPlan {
            generation,
            probes,
            ports,
            start,
        } = plan;
        self.generation = generation;
        self.pacing = Some(Pacing::new(&probes, start, start.as_nanos()));
        self.probes = probes;
        self.new_ports = Some(ports);
        self.late = Duration::ZERO;
    }

    /// Ends what is in flight; it has no outcome.
    fn abandon(&mut self) {
        self.pacing = None;
        self.waiting.clear();
        self.flight.abandon();
        while self.flight.poll_result().is_some() {}
        self.muted.clear();
        self.withdrawn.clear();
    }

    /// Starts what is due, and lets time pass for what is in flight.
    pub(crate) fn handle_timeout(&mut self, now: Timestamp) {
        for item in std::mem::take(&mut self.waiting) {
            self.launch(item, now);
        }
        while let Some((item, due)) = self.next_due(now) {
            self.handle_lateness(now.since(due));
            self.launch(item, now);
        }
        self.flight.handle_timeout(now);
    }

    fn next_due(&mut self, now: Timestamp) -> Option<(usize, Timestamp)> {
        let pacing = self.pacing.as_mut()?;
        let due = pacing.next_at()?;
        Some((pacing.poll(&self.probes, now)?, due))
    }

    fn launch(&mut self, item: usize, now: Timestamp) {
        let Some(probe) = self.probes.get(item) else {
            return;
        };
        match self.flight.launch(now, probe) {
            Ok(src) => {
                if needs_silence(&probe.method) {
                    self.mute(src);
                }
            }
            Err(LaunchError::NoPort { .. }) => self.waiting.push_back(item),
            Err(error @ (LaunchError::NoAddress { .. } | LaunchError::NotCrafted { .. })) => {
                self.tell(Progress::Unsent(1, error.to_string()));
            }
        }
    }

    /// Keeps the kernel silent on the port of a probe that has not yet sent anything.
    fn mute(&mut self, src: SocketAddr) {
        match MutedPort::reserve(Family::of(src.ip()), src.port()) {
            Ok(Some(port)) => {
                self.muted.insert(src, port);
            }
            Ok(None) => self.trouble(format!(
                "a crafted probe shares its port {} with another socket, whose kernel may reset it: see ss -tan",
                src.port()
            )),
            Err(error) => self.trouble(error.to_string()),
        }
    }

    /// Takes a packet with its captured payload.
    pub(crate) fn observe(&mut self, observation: &Observation, payload: &[u8]) {
        self.take_orders(observation.at);
        if !is_on_loopback(observation) {
            self.flight.observe(observation, payload);
        }
    }

    /// A wait ended so much later than it should have.
    pub(crate) fn handle_lateness(&mut self, late: Duration) {
        if late > self.late {
            self.late = late;
            self.tell(Progress::Late(late));
        }
    }

    /// Appends what is to be sent now.
    pub(crate) fn poll_transmit(&mut self, out: &mut Vec<Segment>) {
        self.flight.poll_transmit(out);
    }

    /// When there is something to do again.
    pub(crate) fn poll_timeout(&self) -> Option<Timestamp> {
        let due = self.pacing.as_ref().and_then(Pacing::next_at);
        [due, self.flight.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether a result is ready to be told.
    pub(crate) fn has_results(&self) -> bool {
        self.flight.has_result()
    }

    /// Tells what has finished.
    pub(crate) fn tell_results(&mut self) {
        while let Some(finished) = self.flight.poll_result() {
            let progress = match finished {
                Finished::Probe(result) => self.settle(result),
                Finished::Ladder(ladder) => Progress::Ladder(ladder),
            };
            self.tell(progress);
        }
        if self.flight.in_flight() == 0 {
            self.muted.clear();
        }
    }

    fn settle(&mut self, result: Box<ProbeResult>) -> Progress {
        self.muted.remove(&result.src);
        match self.withdrawn.remove(&result.src) {
            Some(why) => Progress::Unsent(1, why),
            None => Progress::Result(result),
        }
    }

    /// The responder's ports since the last call, if there are new ones.
    pub(crate) fn take_new_ports(&mut self) -> Option<Vec<u16>> {
        self.new_ports.take()
    }

    /// Whether it goes on; where not, what is in flight ends without an outcome.
    pub(crate) fn duty(&mut self) -> Duty {
        match self.duty {
            Duty::On => {}
            Duty::Off => self.abandon(),
        }
        self.duty
    }

    fn trouble(&self, text: String) {
        self.send(News::Trouble(text));
    }

    fn tell(&self, progress: Progress) {
        self.send(News::Round(self.generation, progress));
    }

    /// Tells the main task.
    pub(crate) fn send(&self, news: News) {
        // A main task that has ended listens no more.
        drop(self.news.send(news));
    }
}

/// Whether the kernel's RST would spoil the probe.
pub(crate) const fn needs_silence(method: &Method) -> bool {
    match method {
        Method::Exchange { .. } | Method::Ladder { .. } => true,
        Method::Connect { .. } | Method::Syn => false,
    }
}

/// Packets that a pod sends to itself without its interface say nothing about the network.
fn is_on_loopback(observation: &Observation) -> bool {
    match observation.packet.body {
        Body::Tcp(ip, _) | Body::Icmp(ip, _) => ip.dst.is_loopback(),
        Body::Resolution(_) => false,
    }
}
