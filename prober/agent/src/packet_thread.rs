//! The packets thread: one loop over the capture, the probes in flight and the main task's orders.

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
use prober_net::filter::{Interest, TooManyRanges};
use prober_net::packet_socket::{
    CaptureOptions, Filtered, Interfaces, OnRefusedFilter, RingShape, Waker,
};
use prober_net::raw_engine::{RawEngine, RawError};
use prober_net::rst_suppression::{MuteError, MutedPort};

use crate::commands::Order;
use crate::events::{News, NewsSender};
use crate::kernel_engine;
use crate::local_addresses::Own;
use crate::packet_loop::{Attention, Desk, Duty, Loopback, PATIENCE};

/// Source ports of crafted probes.
pub(crate) const PORTS: RangeInclusive<u16> = 63000..=65535;
/// The longest sleep: the ring's counters are read as often.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Packets of a second that may be looked at late. The ring holds as many of the largest; a plan that asks for more has
/// them looked at as they come.
const CALM: usize = 256;

/// Packets cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PacketsError {
    /// A socket was refused.
    #[error(transparent)]
    Raw(#[from] RawError),
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

/// The sockets, opened while the privileges are still there.
#[derive(Debug)]
pub(crate) struct Opened {
    engine: RawEngine,
    key: [u8; 16],
    /// Why ports cannot be kept silent here, if so.
    pub(crate) unmuted: Option<MuteError>,
}

/// The packets thread, as the main task knows it.
#[derive(Debug)]
pub(crate) struct Packets {
    orders: Sender<Order>,
    waker: Waker,
    thread: RefCell<Option<JoinHandle<()>>>,
}

impl Opened {
    /// Opens capture and sender. Wants `CAP_NET_RAW`.
    pub(crate) fn open(interfaces: Interfaces, ring: RingShape) -> Result<Self, PacketsError> {
        let engine = RawEngine::open(CaptureOptions {
            interfaces,
            interest: interest(&[])?,
            ring,
            on_refused_filter: OnRefusedFilter::FilterHere,
        })?;
        let mut key = [0; 16];
        std::fs::File::open("/dev/urandom")
            .and_then(|mut random| random.read_exact(&mut key))
            .map_err(PacketsError::Random)?;
        Ok(Self {
            engine,
            key,
            unmuted: MutedPort::reserve(Family::Ipv4, 0).err(),
        })
    }

    /// What it means that the kernel refused the capture's filter, if it did.
    pub(crate) fn refused_filter(&self) -> Option<String> {
        match self.engine.filtered() {
            Filtered::ByKernel => None,
            Filtered::Here(why) => Some(format!(
                "the kernel refused the capture's filter ({why}): every packet is looked at here instead, and under \
                 heavy traffic some may be lost, which is counted"
            )),
        }
    }

    /// Starts the thread, which tells its news to `news`.
    pub(crate) fn start(
        self,
        own: &Own,
        loopback: Loopback,
        news: NewsSender,
    ) -> Result<Packets, PacketsError> {
        let (orders, receiver) = mpsc::channel();
        let waker = self.engine.waker();
        let config = InFlightConfig {
            key: self.key,
            ports: PORTS,
            v4: own.v4,
            v6: own.v6,
            mtu: own.mtu,
        };
        let mut desk = Desk::new(config, loopback, receiver, news);
        let mut engine = self.engine;
        let thread = thread::Builder::new()
            .name("packets".to_owned())
            .stack_size(256 << 10)
            .spawn(move || {
                if let Err(error) = work(&mut engine, &mut desk) {
                    desk.send(News::Failed(error.to_string()));
                }
            })
            .map_err(PacketsError::Thread)?;
        Ok(Packets {
            orders,
            waker,
            thread: RefCell::new(Some(thread)),
        })
    }
}

impl Packets {
    /// Gives an order, which is done before any packet is looked at that comes later.
    pub(crate) fn order(&self, order: Order) {
        // A thread that has failed has said so.
        drop(self.orders.send(order));
    }

    /// As [`Packets::order`], for one that cannot wait for the next packet or timer.
    pub(crate) fn order_now(&self, order: Order) {
        self.order(order);
        self.waker.wake();
    }

    /// Ends the thread; all it had to tell is told when this returns.
    pub(crate) fn stop(&self) {
        self.order_now(Order::Stop);
        if let Some(thread) = self.thread.borrow_mut().take() {
            // A thread that has panicked has told nothing, and there is nothing to add.
            drop(thread.join());
        }
    }
}

/// How many packets there are of late.
#[derive(Debug)]
struct Traffic {
    since: Timestamp,
    seen: usize,
    is_calm: bool,
}

impl Traffic {
    const fn from(since: Timestamp) -> Self {
        Self {
            since,
            seen: 0,
            is_calm: false,
        }
    }

    /// Too many end the calm at once; a whole second of few begins it.
    fn judge(&mut self, now: Timestamp) {
        if self.seen > CALM {
            *self = Self::from(now);
        } else if now.since(self.since) >= Duration::from_secs(1) {
            *self = Self {
                is_calm: true,
                ..Self::from(now)
            };
        }
    }
}

/// Own ports of every engine, and the responder's.
fn interest(responder: &[u16]) -> Result<Interest, TooManyRanges> {
    let mut ports = vec![kernel_engine::PORTS, PORTS];
    ports.extend(responder.iter().map(|port| *port..=*port));
    Interest::in_ports(ports)
}

fn work(engine: &mut RawEngine, desk: &mut Desk) -> Result<(), PacketsError> {
    let mut segments: Vec<TcpSegment> = Vec::new();
    let mut counted_at = engine.now();
    let mut traffic = Traffic::from(counted_at);
    loop {
        let now = engine.now();
        // Whoever was kept waiting since the last look would else take what is in the ring for missing.
        engine.look(&mut sink(desk, &mut traffic));
        desk.take_orders(now);
        if let Some(ports) = desk.take_new_ports() {
            engine.set_interest(interest(&ports)?)?;
        }
        let duty = desk.duty();
        desk.handle_timeout(now);
        desk.poll_transmit(&mut segments);
        if !segments.is_empty() {
            engine.send(&segments)?;
            segments.clear();
        }
        let is_due = desk.has_due_results(now) || now.since(counted_at) >= LONGEST_SLEEP;
        if is_due || duty == Duty::Off {
            counted_at = now;
            let counts = engine.capture_counts()?;
            desk.handle_counts(counts.packets - counts.drops, counts.drops, now);
            desk.tell_results();
        }
        desk.tell_witnessed(now);
        if duty == Duty::Off {
            return Ok(());
        }
        let latest = now + LONGEST_SLEEP;
        let until = desk.poll_timeout().map_or(latest, |at| at.min(latest));
        let attention = if traffic.is_calm {
            desk.attention()
        } else {
            Attention::Prompt
        };
        let wake = match attention {
            Attention::Prompt => engine.recv(until, &mut sink(desk, &mut traffic)),
            Attention::Later => {
                engine.gather(until.min(now + PATIENCE), &mut sink(desk, &mut traffic))
            }
        }?;
        let woken = engine.now();
        traffic.judge(woken);
        match wake {
            Wake::Deadline | Wake::Packets => desk.handle_lateness(woken.since(until)),
            Wake::Called => {}
        }
    }
}

/// Where packets go.
fn sink(desk: &mut Desk, traffic: &mut Traffic) -> impl FnMut(&Observation, &[u8]) {
    |observation, payload| {
        traffic.seen += 1;
        desk.observe(observation, payload);
    }
}
