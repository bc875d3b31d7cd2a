//! All probes in flight of one agent: ports, demultiplexing, deadlines, results.
//!
//! A packet finds its probe by the local port, never by the peer's address: an answer from the
//! wrong address is exactly what is looked for. An ICMP error finds it by the source port that it
//! quotes. Thousands fit on one thread; nothing is searched, and no probe costs more than a slot,
//! a timer and the packets that it has seen.
//!
//! The order of calls: `launch` or `watch`; then in turns `handle_timeout`, `poll_transmit`,
//! `observe`, `poll_result`, and again at `poll_timeout`. See `engine::drive`.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::packet::family::Family;
use crate::packet::observation::{Direction, Observation};
use crate::plan::{Method, ProbePlan};
use crate::probe::event::TtlProbe;
use crate::probe::handshake::{Goal, Handshake, HandshakeConfig, HandshakeRole, Timer};
use crate::probe::isn::IsnGenerator;
use crate::probe::outcome::{Outcome, ProbeResult};
use crate::time::Timestamp;

use crate::packet::{Body, Seq, TcpFlags, TcpSegment};

pub use config::{InFlightConfig, LaunchError};

use neighbours::Neighbours;
use ports::Ports;
use timers::Timers;
use ttl_probe::ActiveTtlProbe;

/// What a flight is told, and why it refuses a probe.
mod config;
/// Neighbour resolutions that were seen of late.
mod neighbours;
/// When the probes of a plan are due.
pub mod pacing;
/// Which probe a local port belongs to.
mod ports;
#[cfg(test)]
mod tests;
/// Which probe is to be woken when.
mod timers;
/// The TTL ladder: one five-tuple asked with one hop limit after the other.
mod ttl_probe;
/// The beats that patient probes ride on.
mod wakeup_coalescing;
/// Connections of the kernel's own.
mod watch;

/// What came out of a flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeOutput {
    /// A handshake.
    Probe(Box<ProbeResult>),
    /// A TTL ladder.
    TtlProbe(TtlProbe),
}

/// One of the probes in flight.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are handshakes, which so lie in their slots and are allocated by nobody"
)]
enum Probe {
    Handshake(Handshake),
    ActiveTtlProbe(Box<ActiveTtlProbe>),
}

/// All probes in flight; see the module's documentation.
#[derive(Debug)]
pub struct InFlight {
    config: InFlightConfig,
    cookies: IsnGenerator,
    /// Handshakes that were begun, the rungs of ladders included.
    begun: u64,
    slots: Vec<Option<Probe>>,
    free: Vec<u32>,
    ports: Ports,
    timers: Timers,
    neighbours: Neighbours,
    transmit: Vec<TcpSegment>,
    finished: VecDeque<ProbeOutput>,
}

impl InFlight {
    /// A flight without probes.
    pub fn new(config: InFlightConfig) -> Self {
        Self {
            cookies: IsnGenerator::new(config.key),
            ports: Ports::new(config.ports.clone()),
            config,
            begun: 0,
            slots: Vec::new(),
            free: Vec::new(),
            timers: Timers::default(),
            neighbours: Neighbours::default(),
            transmit: Vec::new(),
            finished: VecDeque::new(),
        }
    }

    /// Starts one probe of a plan that is sent as crafted segments; gives its source.
    pub fn launch(&mut self, now: Timestamp, plan: &ProbePlan) -> Result<SocketAddr, LaunchError> {
        let target = plan.target;
        let goal = match &plan.method {
            Method::Connect { .. } => return Err(LaunchError::NotCrafted { target }),
            Method::Syn => Some(Goal::HalfOpen),
            Method::Exchange { echo_bytes } => Some(Goal::Exchange {
                echo_bytes: *echo_bytes,
            }),
            Method::TtlProbe { .. } => None,
        };
        let (ip, mss) = self.own_end(target)?;
        let Some(port) = self.ports.take(target) else {
            return Err(LaunchError::NoPort {
                target,
                ports: self.config.ports.len(),
            });
        };
        let call = HandshakeConfig {
            path: plan.path,
            src: SocketAddr::new(ip, port),
            dst: target,
            deadline: Duration::from_millis(u64::from(plan.deadline_ms)),
        };
        let isn = self.next_isn(&call);
        let probe = match (goal, &plan.method) {
            (None, Method::TtlProbe { hop_limits, tries }) => {
                let rungs: Vec<_> = hop_limits
                    .iter()
                    .map(|&hop_limit| (hop_limit, self.next_isn(&call)))
                    .collect();
                Probe::ActiveTtlProbe(Box::new(ActiveTtlProbe::new(
                    call, isn, mss, &rungs, *tries,
                )))
            }
            (goal, _) => {
                let goal = goal.unwrap_or(Goal::HalfOpen);
                Probe::Handshake(Handshake::new(
                    call,
                    HandshakeRole::Driver { isn, mss, goal },
                ))
            }
        };
        self.board(call.src, probe, now);
        Ok(call.src)
    }

    /// Takes a packet with its captured payload.
    pub fn observe(&mut self, observation: &Observation, payload: &[u8]) {
        let received;
        let mut observation = observation;
        let slot = match &observation.packet.body {
            Body::Tcp(ip, tcp) => {
                // Whatever its direction: a SYN that was flooded or sent back has us as its source.
                let (src, dst) = (
                    SocketAddr::new(ip.src, tcp.src_port),
                    SocketAddr::new(ip.dst, tcp.dst_port),
                );
                if observation.direction == Direction::Sent && tcp.flags.has(TcpFlags::RST) {
                    self.spare_reset(src, dst, tcp.seq);
                }
                let addressed = self.owner(dst);
                if addressed.is_some() && observation.direction == Direction::Sent {
                    // The other end is on this host as well: what it sends over the loopback is received at once.
                    received = Observation {
                        direction: Direction::Received,
                        ..*observation
                    };
                    observation = &received;
                }
                addressed.or_else(|| self.owner(src))
            }
            Body::Icmp(_, icmp) => icmp.quoted.and_then(|quoted| self.owner(quoted.src)),
            Body::Resolution(_) => {
                self.neighbours.push(observation);
                None
            }
        };
        let Some(slot) = slot else {
            return;
        };
        match self.probe(slot) {
            Some(Probe::Handshake(handshake)) => handshake.observe(observation, payload),
            Some(Probe::ActiveTtlProbe(climb)) => climb.observe(observation),
            None => {}
        }
        self.settle(slot);
    }

    /// Lets what is due happen.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        while let Some(slot) = self.timers.pop_due(now) {
            match self.probe(slot) {
                Some(Probe::Handshake(handshake)) => handshake.handle_timeout(now),
                Some(Probe::ActiveTtlProbe(climb)) => climb.handle_timeout(now),
                None => {}
            }
            self.settle(slot);
        }
    }

    /// When `handle_timeout` is to be called next.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.timers.next()
    }

    /// As `poll_timeout`, without the probes that only linger: to end them later changes nothing but when their results
    /// are ready, since what comes after their time is not recorded in any case.
    pub fn poll_urgent(&self) -> Option<Timestamp> {
        self.timers.next_urgent()
    }

    /// Appends what is to be sent now.
    pub fn poll_transmit(&mut self, out: &mut Vec<TcpSegment>) {
        out.append(&mut self.transmit);
    }

    /// The next result, if one is ready.
    pub fn poll_result(&mut self) -> Option<ProbeOutput> {
        self.finished.pop_front()
    }

    /// Whether a result is ready.
    pub fn has_result(&self) -> bool {
        !self.finished.is_empty()
    }

    /// How many probes are in flight.
    pub fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether nothing is in flight, to be sent or to be taken.
    pub fn is_idle(&self) -> bool {
        self.in_flight() == 0 && self.transmit.is_empty() && self.finished.is_empty()
    }

    /// Ends every probe as far as it came, and resets what it opened.
    pub fn abandon(&mut self) {
        for slot in 0..u32::try_from(self.slots.len()).unwrap_or(u32::MAX) {
            match self.probe(slot) {
                Some(Probe::Handshake(handshake)) => handshake.abandon(),
                Some(Probe::ActiveTtlProbe(climb)) => climb.abandon(),
                None => {}
            }
            self.settle(slot);
            self.land(slot);
        }
    }

    /// Where a port is not muted the kernel resets a SYN+ACK by itself, with the same number, and the capture shows
    /// it next: then ours, which would be the same packet again, need not be sent. Only the segment queued last is
    /// looked at, so nothing is searched.
    fn spare_reset(&mut self, src: SocketAddr, dst: SocketAddr, seq: Seq) {
        self.transmit.pop_if(|queued| {
            queued.flags == TcpFlags::RST && (queued.src, queued.dst, queued.seq) == (src, dst, seq)
        });
    }

    fn own_end(&self, target: SocketAddr) -> Result<(IpAddr, u16), LaunchError> {
        // The segment is what the MTU leaves beside the IP and TCP headers (RFC 9293 3.7.1).
        let (ip, headers) = match target {
            SocketAddr::V4(_) => (self.config.v4.map(IpAddr::V4), 40),
            SocketAddr::V6(_) => (self.config.v6.map(IpAddr::V6), 60),
        };
        let family = Family::of(target.ip());
        let ip = ip.ok_or(LaunchError::NoAddress { target, family })?;
        Ok((ip, self.config.mtu.saturating_sub(headers)))
    }

    fn next_isn(&mut self, call: &HandshakeConfig) -> Seq {
        self.begun += 1;
        self.cookies.isn(call.src, call.dst, self.begun)
    }

    /// Gives a probe its slot, and starts it there.
    fn board(&mut self, src: SocketAddr, probe: Probe, now: Timestamp) {
        let slot = if let Some(slot) = self.free.pop() {
            slot
        } else {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        };
        if let Some(place) = place(&mut self.slots, slot) {
            match place.insert(probe) {
                Probe::Handshake(handshake) => handshake.start(now),
                Probe::ActiveTtlProbe(climb) => climb.start(now),
            }
        }
        self.ports.assign(src, slot);
        self.settle(slot);
    }

    /// The slot of the probe whose own end this is.
    fn owner(&self, end: SocketAddr) -> Option<u32> {
        let slot = self.ports.find(end)?;
        let probe = self.slots.get(usize::try_from(slot).ok()?)?.as_ref()?;
        (probe.src() == end).then_some(slot)
    }

    fn probe(&mut self, slot: u32) -> Option<&mut Probe> {
        place(&mut self.slots, slot)?.as_mut()
    }

    /// After anything happened to a probe: takes what it sends, and its result or its next timer.
    fn settle(&mut self, slot: u32) {
        let Some(Some(probe)) = place(&mut self.slots, slot) else {
            return;
        };
        let (done, next) = match probe {
            Probe::Handshake(handshake) => {
                handshake.poll_transmit(&mut self.transmit);
                (handshake.is_done(), handshake.poll_timeout())
            }
            Probe::ActiveTtlProbe(climb) => {
                climb.poll_transmit(&mut self.transmit);
                let next = climb.poll_timeout();
                (climb.is_done(), next.map(|at| (at, Timer::Resend)))
            }
        };
        if done {
            self.land(slot);
        } else if let Some((at, timer)) = next {
            self.timers.arm(slot, at, timer);
        }
    }

    /// Takes a probe out, done or not.
    fn land(&mut self, slot: u32) {
        let Some(place) = place(&mut self.slots, slot) else {
            return;
        };
        let (src, finished) = match place {
            Some(Probe::Handshake(handshake)) => {
                let needs_no_neighbour = matches!(
                    handshake.outcome(),
                    Some(Outcome::Established { .. } | Outcome::RefusedLocally { .. })
                );
                if !needs_no_neighbour {
                    for resolution in self.neighbours.since(handshake.started()) {
                        handshake.note(resolution);
                    }
                }
                let result = Box::new(handshake.finish());
                (result.src, ProbeOutput::Probe(result))
            }
            Some(Probe::ActiveTtlProbe(climb)) => {
                (climb.src(), ProbeOutput::TtlProbe(climb.finish()))
            }
            None => return,
        };
        *place = None;
        self.ports.release(src);
        self.timers.disarm(slot);
        self.free.push(slot);
        self.finished.push_back(finished);
    }
}

fn place(slots: &mut [Option<Probe>], slot: u32) -> Option<&mut Option<Probe>> {
    slots.get_mut(usize::try_from(slot).ok()?)
}

impl Probe {
    fn src(&self) -> SocketAddr {
        match self {
            Self::Handshake(handshake) => handshake.src(),
            Self::ActiveTtlProbe(climb) => climb.src(),
        }
    }
}
