//! The packet thread: reads the capture, runs the packet loop, sends crafted segments, and carries out commands.

use std::cell::RefCell;
use std::io::{self, Read as _};
use std::ops::RangeInclusive;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use prober_core::packet::TcpSegment;
use prober_core::packet::family::Family;
use prober_core::packet::observation::Observation;
use prober_core::probe::engine::{Engine as _, Wake};
use prober_core::probe::in_flight::InFlightConfig;
use prober_core::time::Timestamp;
use prober_net::packet_socket::filter::{CaptureFilter, TooManyRanges};
use prober_net::packet_socket::{
    CaptureOptions, FilteredBy, Interfaces, OnRefusedFilter, RingShape, Waker,
};
use prober_net::raw_engine::{RawEngine, RawEngineError};
use prober_net::rst_suppression::{SuppressedPort, SuppressionError};

use crate::engine::commands::PacketCommand;
use crate::engine::events::{EngineEvent, EngineEventSender};
use crate::engine::kernel;
use crate::engine::packet_loop::{LoopState, LoopbackMode, MAX_BATCH_WAIT, PacketLoop, ReadMode};
use crate::local_addresses::LocalAddresses;

/// Source ports of crafted probes.
pub(crate) const CRAFTED_PORTS: RangeInclusive<u16> = 63000..=65535;
/// The longest sleep; the counts of the capture are read as often.
const MAX_SLEEP: Duration = Duration::from_secs(1);

/// Packets of a second that may be read in batches. The ring holds as many of the largest size; with more of them, packets
/// are read as they arrive.
const LIGHT_TRAFFIC: usize = 256;

/// The packet thread cannot work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PacketThreadError {
    /// A socket cannot be opened or used.
    #[error(transparent)]
    Raw(#[from] RawEngineError),
    /// A plan names too many ports.
    #[error(transparent)]
    Ports(#[from] TooManyRanges),
    /// The kernel's random numbers cannot be read.
    #[error("cannot read 16 random bytes from /dev/urandom: {0}; is /dev there?")]
    Random(#[source] io::Error),
    /// The thread cannot be started.
    #[error(
        "cannot start the thread that captures packets: {0}; is the limit of processes reached?"
    )]
    Thread(#[source] io::Error),
}

/// The sockets of the packet thread, opened before privileges are dropped.
#[derive(Debug)]
pub(crate) struct PacketSockets {
    engine: RawEngine,
    key: [u8; 16],
    /// The reason why RST cannot be suppressed here, if so.
    pub(crate) suppression_error: Option<SuppressionError>,
}

/// The handle of a running packet thread.
#[derive(Debug)]
pub(crate) struct PacketThread {
    commands: Sender<PacketCommand>,
    waker: Waker,
    thread: RefCell<Option<JoinHandle<()>>>,
}

impl PacketSockets {
    /// Opens the capture and the sender. Needs `CAP_NET_RAW`.
    pub(crate) fn open(interfaces: Interfaces, ring: RingShape) -> Result<Self, PacketThreadError> {
        let engine = RawEngine::open(CaptureOptions {
            interfaces,
            filter: filter(&[])?,
            ring,
            on_refused_filter: OnRefusedFilter::FilterInUserspace,
        })?;
        let mut key = [0; 16];
        std::fs::File::open("/dev/urandom")
            .and_then(|mut random| random.read_exact(&mut key))
            .map_err(PacketThreadError::Random)?;
        Ok(Self {
            engine,
            key,
            suppression_error: SuppressedPort::reserve(Family::Ipv4, 0).err(),
        })
    }

    /// A limit to report, if the kernel refused the capture's filter.
    pub(crate) fn refused_filter(&self) -> Option<String> {
        match self.engine.filtered() {
            FilteredBy::Kernel => None,
            FilteredBy::Userspace(why) => Some(format!(
                "the kernel refused the capture's filter ({why}): every packet is looked at here instead, and under \
                 heavy traffic some may be lost, which is counted"
            )),
        }
    }

    /// Starts the thread, which reports to `events`.
    pub(crate) fn start(
        self,
        local: &LocalAddresses,
        loopback: LoopbackMode,
        events: EngineEventSender,
    ) -> Result<PacketThread, PacketThreadError> {
        let (commands, receiver) = mpsc::channel();
        let waker = self.engine.waker();
        let config = InFlightConfig {
            key: self.key,
            ports: CRAFTED_PORTS,
            v4: local.v4,
            v6: local.v6,
            mtu: local.mtu,
        };
        let mut packet_loop = PacketLoop::new(config, loopback, receiver, events);
        let mut engine = self.engine;
        let thread = thread::Builder::new()
            .name("packets".to_owned())
            .stack_size(256 << 10)
            .spawn(move || {
                if let Err(error) = run_packet_loop(&mut engine, &mut packet_loop) {
                    packet_loop.send(EngineEvent::PacketThreadFailed(error.to_string()));
                }
            })
            .map_err(PacketThreadError::Thread)?;
        Ok(PacketThread {
            commands,
            waker,
            thread: RefCell::new(Some(thread)),
        })
    }
}

impl PacketThread {
    /// Sends a command, which is carried out before any packet that arrives later is handled.
    pub(crate) fn send(&self, command: PacketCommand) {
        // A thread that has failed has reported it.
        drop(self.commands.send(command));
    }

    /// As [`PacketThread::send`], for a command that cannot wait for the next packet or timer.
    pub(crate) fn send_now(&self, command: PacketCommand) {
        self.send(command);
        self.waker.wake();
    }

    /// Ends the thread; all its events are reported when this returns.
    pub(crate) fn stop(&self) {
        self.send_now(PacketCommand::Stop);
        if let Some(thread) = self.thread.borrow_mut().take() {
            // A thread that has panicked has no more events.
            drop(thread.join());
        }
    }
}

/// The rate of packets.
#[derive(Debug)]
struct Traffic {
    since: Timestamp,
    seen: usize,
    is_light: bool,
}

impl Traffic {
    const fn from(since: Timestamp) -> Self {
        Self {
            since,
            seen: 0,
            is_light: false,
        }
    }

    /// More than [`LIGHT_TRAFFIC`] packets end light traffic at once; a whole second with fewer begins it.
    fn update(&mut self, now: Timestamp) {
        if self.seen > LIGHT_TRAFFIC {
            *self = Self::from(now);
        } else if now.since(self.since) >= Duration::from_secs(1) {
            *self = Self {
                is_light: true,
                ..Self::from(now)
            };
        }
    }
}

/// The filter of the capture: the source ports of both engines, and the ports of the responder.
fn filter(responder: &[u16]) -> Result<CaptureFilter, TooManyRanges> {
    let mut ports = vec![kernel::CONNECT_PORTS, CRAFTED_PORTS];
    ports.extend(responder.iter().map(|port| *port..=*port));
    CaptureFilter::in_ports(ports)
}

fn run_packet_loop(
    engine: &mut RawEngine,
    packet_loop: &mut PacketLoop,
) -> Result<(), PacketThreadError> {
    let mut segments: Vec<TcpSegment> = Vec::new();
    let mut counted_at = engine.now();
    let mut traffic = Traffic::from(counted_at);
    loop {
        let now = engine.now();
        // Packets that arrived while this thread was not scheduled come first: else their probes would be timeouts.
        engine.drain(&mut sink(packet_loop, &mut traffic));
        packet_loop.handle_commands(now);
        if let Some(ports) = packet_loop.take_new_ports() {
            engine.set_filter(filter(&ports)?)?;
        }
        let state = packet_loop.state();
        packet_loop.handle_timeout(now);
        packet_loop.poll_transmit(&mut segments);
        if !segments.is_empty() {
            engine.send(&segments)?;
            segments.clear();
        }
        let is_due = packet_loop.has_due_results(now) || now.since(counted_at) >= MAX_SLEEP;
        if is_due || state == LoopState::Stopping {
            counted_at = now;
            let counts = engine.capture_counts()?;
            packet_loop.handle_capture_counts(counts.packets - counts.drops, counts.drops, now);
            packet_loop.report_results();
        }
        packet_loop.report_server_traces(now);
        if state == LoopState::Stopping {
            return Ok(());
        }
        let latest = now + MAX_SLEEP;
        let until = packet_loop
            .poll_timeout()
            .map_or(latest, |at| at.min(latest));
        let read_mode = if traffic.is_light {
            packet_loop.read_mode()
        } else {
            ReadMode::Prompt
        };
        let wake = match read_mode {
            ReadMode::Prompt => engine.recv(until, &mut sink(packet_loop, &mut traffic)),
            ReadMode::Batched => engine.recv_batch(
                until.min(now + MAX_BATCH_WAIT),
                &mut sink(packet_loop, &mut traffic),
            ),
        }?;
        let woken = engine.now();
        traffic.update(woken);
        match wake {
            Wake::Deadline | Wake::Packets => packet_loop.handle_lateness(woken.since(until)),
            Wake::Interrupted => {}
        }
    }
}

/// Hands packets to the loop, and counts them.
fn sink(packet_loop: &mut PacketLoop, traffic: &mut Traffic) -> impl FnMut(&Observation, &[u8]) {
    |observation, payload| {
        traffic.seen += 1;
        packet_loop.observe(observation, payload);
    }
}
