//! The rate of crafted handshakes of one thread, and whether it receives every answer.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use anyhow::Context as _;
use prober_core::packet::TcpSegment;
use prober_core::packet::family::Family;
use prober_core::packet::observation::Direction;
use prober_core::plan::{Method, ProbePlan};
use prober_core::probe::engine::Engine as _;
use prober_core::probe::in_flight::{InFlight, InFlightConfig, ProbeOutput};
use prober_core::probe::outcome::{Exchange, Outcome, ProbeResult};
use prober_core::topology::PathId;
use prober_net::packet_socket::filter::CaptureFilter;
use prober_net::packet_socket::{CaptureOptions, Interfaces, OnRefusedFilter, RingShape};
use prober_net::raw_engine::RawEngine;
use prober_net::route_lookup::look_up_route;
use prober_net::rst_suppression::SuppressedPorts;

/// Maximum number of unanswered SYNs. A core queues a thousand packets between two interfaces
/// (`net.core.netdev_max_backlog`) and drops the next; each of these is queued as a SYN or as the RST after it.
const UNANSWERED: u32 = 400;

/// SYNs per call of the kernel.
const AT_ONCE: u32 = 64;

/// Where the handshakes end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// SYN, SYN+ACK, RST.
    HalfOpen,
    /// SYN, SYN+ACK, ACK, banner, FIN both ways.
    Exchange,
}

impl Kind {
    /// A handshake keeps its port for 20 ms after its end, so the rate is at most fifty times their number.
    const fn ports(self) -> RangeInclusive<u16> {
        match self {
            Self::HalfOpen => 20_000..=35_999,
            // Each needs a socket that suppresses the kernel's RST.
            Self::Exchange => 40_000..=43_999,
        }
    }

    /// The method in a plan.
    pub(crate) const fn method(self) -> Method {
        match self {
            Self::HalfOpen => Method::Syn,
            Self::Exchange => Method::Exchange { echo_bytes: 0 },
        }
    }

    pub(crate) fn is_answered(self, result: &ProbeResult) -> bool {
        let established = matches!(result.outcome, Outcome::Established { .. });
        match self {
            Self::HalfOpen => established,
            Self::Exchange => {
                established && matches!(result.exchange, Exchange::BannerReceived { .. })
            }
        }
    }
}

/// The measured rate.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rate {
    /// Answered handshakes per second.
    pub(crate) per_second: f64,
    /// Number of handshakes that their first SYN established.
    pub(crate) answered: u32,
    /// Number of handshakes started.
    pub(crate) sent: u32,
    /// Packets that the capture lost.
    pub(crate) drops: u64,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            per_second,
            answered,
            sent,
            drops,
        } = self;
        write!(f, "{per_second:.0} {answered} {sent} {drops}")
    }
}

/// The engine and the probes in flight of a measurement.
pub(crate) fn open(
    target: SocketAddr,
    ports: RangeInclusive<u16>,
    ring: RingShape,
) -> anyhow::Result<(RawEngine, InFlight)> {
    let route = look_up_route(target.ip())?;
    let IpAddr::V4(own) = route.source else {
        anyhow::bail!("there is no IPv4 source address for {target}");
    };
    let engine = RawEngine::open(CaptureOptions {
        interfaces: Interfaces::One(route.interface),
        filter: CaptureFilter::in_ports(vec![ports.clone()])?,
        ring,
        on_refused_filter: OnRefusedFilter::Fail,
    })?;
    let flight = InFlight::new(InFlightConfig {
        key: [7; 16],
        ports,
        v4: Some(own),
        v6: None,
        mtu: 1500,
    });
    Ok((engine, flight))
}

/// Runs `count` handshakes as fast as they are answered.
pub(crate) fn measure(kind: Kind, target: SocketAddr, count: u32) -> anyhow::Result<Rate> {
    let ports = kind.ports();
    let (mut engine, mut flight) = open(target, ports.clone(), RingShape::LARGE)?;
    let _suppressed = match kind {
        Kind::HalfOpen => None,
        Kind::Exchange => Some(
            SuppressedPorts::reserve(&[Family::Ipv4], ports.clone(), ports.len())
                .context("raise ulimit -n")?,
        ),
    };
    let plan = ProbePlan {
        path: PathId(0),
        method: kind.method(),
        target,
        count,
        start_ms: 0,
        interval_ms: 0,
        deadline_ms: 3000,
    };
    let mut rate = Rate::default();
    let mut segments: Vec<TcpSegment> = Vec::new();
    let (mut sent, mut completed, mut finished) = (0, 0, 0);
    let start = engine.now();
    let mut end = start;
    while finished < count {
        let now = engine.now();
        flight.handle_timeout(now);
        let before = sent;
        while sent < count
            && sent - before < AT_ONCE
            && sent.saturating_sub(completed) < UNANSWERED
            && flight.launch(now, &plan).is_ok()
        {
            sent += 1;
        }
        flight.poll_transmit(&mut segments);
        engine.send(&segments)?;
        segments.clear();
        while let Some(ProbeOutput::Probe(result)) = flight.poll_output() {
            finished += 1;
            if kind.is_answered(&result) && result.is_first_syn_success() {
                rate.answered += 1;
                let last = result.observations.last().map(|observation| observation.at);
                end = end.max(last.unwrap_or(end));
            }
        }
        let until = if sent > before {
            now
        } else {
            flight.poll_timeout().unwrap_or(now).max(now)
        };
        engine.recv(until, &mut |observation, payload| {
            let answers = observation.direction == Direction::Received
                && observation
                    .packet
                    .tcp()
                    .is_some_and(|(_, tcp)| tcp.flags.is_syn_ack());
            completed += u32::from(answers);
            flight.observe(observation, payload);
        })?;
    }
    rate.sent = sent;
    rate.drops = engine.capture_counts()?.drops;
    rate.per_second = f64::from(rate.answered) / end.since(start).as_secs_f64();
    Ok(rate)
}
