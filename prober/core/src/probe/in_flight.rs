//! All probes in flight of one agent: ports, demultiplexing, deadlines, outputs. Longer than other files, since probes
//! sent here and connections of the kernel share all of its state.
//!
//! A packet belongs to the probe of its local port. The address of the peer does not matter, since answers from a wrong
//! address must be found. An ICMP error belongs to the probe of the source port that it quotes. One thread handles
//! thousands of probes: every lookup takes constant time, and a probe costs a slot, a timer and its recorded packets.
//!
//! Call `launch` or `watch`, then repeat `handle_timeout`, `poll_transmit`, `observe` and `poll_output`, again at the
//! time of `poll_timeout`. `engine::drive` does so.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::packet::family::Family;
use crate::packet::observation::{Direction, Observation};
use crate::packet::{Body, Seq, TcpFlags, TcpSegment};
use crate::plan::{Method, ProbePlan};
use crate::probe::event::TtlProbe;
use crate::probe::handshake::{Goal, Handshake, HandshakeConfig, HandshakeRole, Timer};
use crate::probe::isn::IsnGenerator;
use crate::probe::outcome::{Errno, Exchange, Outcome, ProbeResult};
use crate::time::Timestamp;
use crate::topology::PathId;

use neighbours::Neighbours;
use ports::Ports;
use timers::Timers;
use ttl_probe::ActiveTtlProbe;

/// Recent neighbour resolutions.
mod neighbours;
/// The schedule of the probes of a plan.
pub mod pacing;
/// The probe of each local port.
mod ports;
#[cfg(test)]
mod tests;
/// The timer of each probe.
mod timers;
/// SYNs of one five-tuple with rising hop limits.
mod ttl_probe;
/// Common wake-ups of probes that can wait.
mod wakeup_coalescing;

/// Addresses, ports and secrets of the probes of one agent.
#[derive(Clone, Debug)]
pub struct InFlightConfig {
    /// The secret key of the sequence numbers, from the kernel's random numbers.
    pub key: [u8; 16],
    /// The source ports of crafted probes. Nothing else in this network namespace may use them. For full handshakes and TTL
    /// probes, the RSTs of the kernel must be suppressed on them.
    pub ports: RangeInclusive<u16>,
    /// The agent's IPv4 address, if any.
    pub v4: Option<Ipv4Addr>,
    /// The agent's IPv6 address, if any.
    pub v6: Option<Ipv6Addr>,
    /// The MTU of the interface, bytes.
    pub mtu: u16,
}

/// Why a probe was not launched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    /// Every port of the range is in flight.
    #[error(
        "cannot probe {target}: all {ports} source ports are in use; launch it again when another probe ends"
    )]
    NoPort {
        /// The target.
        target: SocketAddr,
        /// Number of ports in the range.
        ports: usize,
    },
    /// The agent has no address of the target's family.
    #[error("cannot probe {target}: this agent has no {family} address; is the pod dual-stack?")]
    NoAddress {
        /// The target.
        target: SocketAddr,
        /// The missing family.
        family: Family,
    },
    /// The method is connect(), which `InFlight::watch` observes.
    #[error(
        "cannot launch a connect() probe of {target} as crafted segments: connect, and observe the connection"
    )]
    NotCrafted {
        /// The target.
        target: SocketAddr,
    },
}

/// The result of a probe that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeOutput {
    /// A handshake.
    Probe(Box<ProbeResult>),
    /// A TTL probe.
    TtlProbe(TtlProbe),
}

/// One of the probes in flight.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are handshakes, which need no allocation of their own this way"
)]
enum Probe {
    Handshake(Handshake),
    TtlProbe(Box<ActiveTtlProbe>),
}

/// All probes in flight of one agent.
#[derive(Debug)]
pub struct InFlight {
    config: InFlightConfig,
    isn_generator: IsnGenerator,
    /// Number of handshakes started, the steps of TTL probes included.
    handshakes_started: u64,
    slots: Vec<Option<Probe>>,
    free: Vec<u32>,
    ports: Ports,
    timers: Timers,
    neighbours: Neighbours,
    transmit: Vec<TcpSegment>,
    outputs: VecDeque<ProbeOutput>,
}

impl InFlight {
    /// No probes in flight.
    pub fn new(config: InFlightConfig) -> Self {
        Self {
            isn_generator: IsnGenerator::new(config.key),
            ports: Ports::new(config.ports.clone()),
            config,
            handshakes_started: 0,
            slots: Vec::new(),
            free: Vec::new(),
            timers: Timers::default(),
            neighbours: Neighbours::default(),
            transmit: Vec::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Starts one crafted probe of a plan; returns its source address and port.
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
        let (ip, mss) = self.source_and_mss(target)?;
        let Some(port) = self.ports.take(target) else {
            return Err(LaunchError::NoPort {
                target,
                ports: self.config.ports.len(),
            });
        };
        let config = HandshakeConfig {
            path: plan.path,
            src: SocketAddr::new(ip, port),
            dst: target,
            deadline: Duration::from_millis(u64::from(plan.deadline_ms)),
        };
        let isn = self.next_isn(&config);
        let probe = match (goal, &plan.method) {
            (None, Method::TtlProbe { hop_limits, tries }) => {
                let steps: Vec<_> = hop_limits
                    .iter()
                    .map(|&hop_limit| (hop_limit, self.next_isn(&config)))
                    .collect();
                Probe::TtlProbe(Box::new(ActiveTtlProbe::new(
                    config, isn, mss, &steps, *tries,
                )))
            }
            (goal, _) => {
                let goal = goal.unwrap_or(Goal::HalfOpen);
                Probe::Handshake(Handshake::new(
                    config,
                    HandshakeRole::Driver { isn, mss, goal },
                ))
            }
        };
        self.insert(config.src, probe, now);
        Ok(config.src)
    }

    /// Observes a connection that the kernel is about to open from `src`. An earlier probe of this port ends: a port has
    /// one connection at a time.
    pub fn watch(
        &mut self,
        path: PathId,
        src: SocketAddr,
        dst: SocketAddr,
        now: Timestamp,
        deadline: Duration,
    ) {
        if let Some(slot) = self.ports.find(src) {
            self.complete(slot);
        }
        let config = HandshakeConfig {
            path,
            src,
            dst,
            deadline,
        };
        self.insert(
            src,
            Probe::Handshake(Handshake::new(config, HandshakeRole::Observer)),
            now,
        );
    }

    /// Reports that the kernel's socket on `src` is closed, and what it received. The probe waits a moment for packets that
    /// are still in the capture.
    pub fn close(&mut self, src: SocketAddr, exchange: Exchange, now: Timestamp) {
        let Some(slot) = self.ports.find(src) else {
            return;
        };
        if let Some(Probe::Handshake(handshake)) = self.probe(slot) {
            handshake.socket_closed(exchange, now);
        }
        self.update(slot);
    }

    /// Reports that the kernel refused connect() from `src` at once, without a packet.
    pub fn refuse_locally(&mut self, src: SocketAddr, errno: Errno, now: Timestamp) {
        let Some(slot) = self.ports.find(src) else {
            return;
        };
        if let Some(Probe::Handshake(handshake)) = self.probe(slot) {
            handshake.refuse_locally(errno, now);
        }
        self.update(slot);
    }

    /// Processes a packet with its captured payload.
    pub fn observe(&mut self, observation: &Observation, payload: &[u8]) {
        let received;
        let mut observation = observation;
        let slot = match &observation.packet.body {
            Body::Tcp(ip, tcp) => {
                // In any direction: a SYN that is flooded or sent back has an own source.
                let (src, dst) = (
                    SocketAddr::new(ip.src, tcp.src_port),
                    SocketAddr::new(ip.dst, tcp.dst_port),
                );
                if observation.direction == Direction::Sent && tcp.flags.has(TcpFlags::RST) {
                    self.drop_duplicate_reset(src, dst, tcp.seq);
                }
                let addressed = self.slot_of(dst);
                if addressed.is_some() && observation.direction == Direction::Sent {
                    // Both ends are on this host: a packet sent over loopback is received at once.
                    received = Observation {
                        direction: Direction::Received,
                        ..*observation
                    };
                    observation = &received;
                }
                addressed.or_else(|| self.slot_of(src))
            }
            Body::Icmp(_, icmp) => icmp.quoted.and_then(|quoted| self.slot_of(quoted.src)),
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
            Some(Probe::TtlProbe(ttl_probe)) => ttl_probe.observe(observation),
            None => {}
        }
        self.update(slot);
    }

    /// Handles the timers that are due.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        while let Some(slot) = self.timers.pop_due(now) {
            match self.probe(slot) {
                Some(Probe::Handshake(handshake)) => handshake.handle_timeout(now),
                Some(Probe::TtlProbe(ttl_probe)) => ttl_probe.handle_timeout(now),
                None => {}
            }
            self.update(slot);
        }
    }

    /// When to call `handle_timeout` next.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.timers.next()
    }

    /// As `poll_timeout`, without the probes that only linger. Handling these later only delays their outputs, since packets
    /// after their time are not recorded.
    pub fn poll_urgent(&self) -> Option<Timestamp> {
        self.timers.next_urgent()
    }

    /// Appends the segments to send now.
    pub fn poll_transmit(&mut self, out: &mut Vec<TcpSegment>) {
        out.append(&mut self.transmit);
    }

    /// The next output, if one is ready.
    pub fn poll_output(&mut self) -> Option<ProbeOutput> {
        self.outputs.pop_front()
    }

    /// Whether an output is ready.
    pub fn has_output(&self) -> bool {
        !self.outputs.is_empty()
    }

    /// Number of probes in flight.
    pub fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether no probe is in flight, no segment waits to be sent, and no output is ready.
    pub fn is_idle(&self) -> bool {
        self.in_flight() == 0 && self.transmit.is_empty() && self.outputs.is_empty()
    }

    /// Ends every probe with its result so far, and resets open connections.
    pub fn abandon(&mut self) {
        for slot in 0..u32::try_from(self.slots.len()).unwrap_or(u32::MAX) {
            match self.probe(slot) {
                Some(Probe::Handshake(handshake)) => handshake.abandon(),
                Some(Probe::TtlProbe(ttl_probe)) => ttl_probe.abandon(),
                None => {}
            }
            self.update(slot);
            self.complete(slot);
        }
    }

    /// Drops a queued RST that the kernel already sent. Without RST suppression on a port, the kernel resets a SYN+ACK with
    /// the same number, and its RST is the next packet of the capture. Compares the last queued segment only.
    fn drop_duplicate_reset(&mut self, src: SocketAddr, dst: SocketAddr, seq: Seq) {
        self.transmit.pop_if(|queued| {
            queued.flags == TcpFlags::RST && (queued.src, queued.dst, queued.seq) == (src, dst, seq)
        });
    }

    fn source_and_mss(&self, target: SocketAddr) -> Result<(IpAddr, u16), LaunchError> {
        // The MSS is the MTU without the IP and TCP headers (RFC 9293 3.7.1).
        let (ip, headers) = match target {
            SocketAddr::V4(_) => (self.config.v4.map(IpAddr::V4), 40),
            SocketAddr::V6(_) => (self.config.v6.map(IpAddr::V6), 60),
        };
        let family = Family::of(target.ip());
        let ip = ip.ok_or(LaunchError::NoAddress { target, family })?;
        Ok((ip, self.config.mtu.saturating_sub(headers)))
    }

    fn next_isn(&mut self, config: &HandshakeConfig) -> Seq {
        self.handshakes_started += 1;
        self.isn_generator
            .isn(config.src, config.dst, self.handshakes_started)
    }

    /// Inserts a probe into a free slot, and starts it.
    fn insert(&mut self, src: SocketAddr, probe: Probe, now: Timestamp) {
        let slot = if let Some(slot) = self.free.pop() {
            slot
        } else {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        };
        if let Some(entry) = slot_mut(&mut self.slots, slot) {
            match entry.insert(probe) {
                Probe::Handshake(handshake) => handshake.start(now),
                Probe::TtlProbe(ttl_probe) => ttl_probe.start(now),
            }
        }
        self.ports.assign(src, slot);
        self.update(slot);
    }

    /// The slot of the probe with this local address and port.
    fn slot_of(&self, end: SocketAddr) -> Option<u32> {
        let slot = self.ports.find(end)?;
        let probe = self.slots.get(usize::try_from(slot).ok()?)?.as_ref()?;
        (probe.src() == end).then_some(slot)
    }

    fn probe(&mut self, slot: u32) -> Option<&mut Probe> {
        slot_mut(&mut self.slots, slot)?.as_mut()
    }

    /// Updates a probe after an input: collects its segments, and its output or its next timer.
    fn update(&mut self, slot: u32) {
        let Some(Some(probe)) = slot_mut(&mut self.slots, slot) else {
            return;
        };
        let (done, next) = match probe {
            Probe::Handshake(handshake) => {
                handshake.poll_transmit(&mut self.transmit);
                (handshake.is_done(), handshake.poll_timeout())
            }
            Probe::TtlProbe(ttl_probe) => {
                ttl_probe.poll_transmit(&mut self.transmit);
                let next = ttl_probe.poll_timeout();
                (ttl_probe.is_done(), next.map(|at| (at, Timer::Resend)))
            }
        };
        if done {
            self.complete(slot);
        } else if let Some((at, timer)) = next {
            self.timers.arm(slot, at, timer);
        }
    }

    /// Removes a probe and queues its output, done or not.
    fn complete(&mut self, slot: u32) {
        let Some(entry) = slot_mut(&mut self.slots, slot) else {
            return;
        };
        let (src, output) = match entry {
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
            Some(Probe::TtlProbe(ttl_probe)) => {
                (ttl_probe.src(), ProbeOutput::TtlProbe(ttl_probe.finish()))
            }
            None => return,
        };
        *entry = None;
        self.ports.release(src);
        self.timers.disarm(slot);
        self.free.push(slot);
        self.outputs.push_back(output);
    }
}

fn slot_mut(slots: &mut [Option<Probe>], slot: u32) -> Option<&mut Option<Probe>> {
    slots.get_mut(usize::try_from(slot).ok()?)
}

impl Probe {
    fn src(&self) -> SocketAddr {
        match self {
            Self::Handshake(handshake) => handshake.src(),
            Self::TtlProbe(ttl_probe) => ttl_probe.src(),
        }
    }
}
