//! The kernel probes of one plan, each at its time.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use prober_core::plan::{Method, ProbePlan};
use prober_core::probe::in_flight::pacing::{Pace, Pacing};
use prober_core::probe::outcome::{EngineKind, Outcome, ProbeResult};
use prober_core::time::Timestamp;
use prober_net::packet_socket::now;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::commands::Order;
use crate::events::{News, NewsSender, Progress};
use crate::kernel_engine::{Bound, Dialer, Talk};
use crate::packet_thread::Packets;
use crate::timers::lateness::Pulse;
use crate::timers::sleep::Alarm;

/// Connections of this engine at a time: half of its source ports.
const MOST_IN_FLIGHT: usize = 1000;

/// Makes the connections that plans ask for.
#[derive(Debug)]
pub(crate) struct Connects {
    dialer: Dialer,
    news: NewsSender,
    pulse: Rc<Pulse>,
    /// Who sees their packets and tells their outcome; without it, connect() does.
    packets: Option<Rc<Packets>>,
    greeting: Greeting,
}

/// Whether targets greet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// They are responders of ours.
    Banner,
    /// They are anybody: connections are closed at once.
    None,
}

/// The connections of one plan.
#[derive(Debug)]
pub(crate) struct Errands {
    /// The plan's generation.
    pub(crate) generation: u32,
    /// Its probes that [`talk_of`] knows.
    pub(crate) probes: Vec<ProbePlan>,
    /// From when on.
    pub(crate) start: Timestamp,
    /// How strictly its times are kept.
    pub(crate) pace: Pace,
}

impl Connects {
    /// Tells results to `news`, or has `packets` do so.
    pub(crate) fn new(
        dialer: Dialer,
        news: NewsSender,
        pulse: Rc<Pulse>,
        packets: Option<Rc<Packets>>,
        greeting: Greeting,
    ) -> Self {
        Self {
            dialer,
            news,
            pulse,
            packets,
            greeting,
        }
    }

    /// Makes all connections of a plan; those under way end with this future.
    ///
    /// To be run within a `LocalSet`.
    pub(crate) async fn run(self: Rc<Self>, errands: Errands) {
        let Errands {
            generation,
            probes,
            start,
            pace,
        } = errands;
        let mut pacing = Pacing::new(&probes, start, pace);
        let places = Arc::new(Semaphore::new(MOST_IN_FLIGHT));
        let mut under_way = JoinSet::new();
        let alarm = Alarm::new();
        while let Some(due) = pacing.next_at() {
            alarm.sleep(due.since(now())).await;
            self.pulse.feel(now().since(due));
            while let Some(item) = pacing.poll(&probes, now()) {
                let Some((probe, talk)) = probes
                    .get(item)
                    .and_then(|probe| Some((probe.clone(), talk_of(probe)?)))
                else {
                    continue;
                };
                // Closed never: the semaphore lives as long as this future.
                let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                    return;
                };
                let talk = match self.greeting {
                    Greeting::Banner => talk,
                    Greeting::None => Talk::Nothing,
                };
                let own = Rc::clone(&self);
                under_way.spawn_local(async move {
                    own.probe(generation, &probe, talk).await;
                    drop(place);
                });
                while under_way.try_join_next().is_some() {}
            }
        }
        while under_way.join_next().await.is_some() {}
    }

    async fn probe(&self, generation: u32, probe: &ProbePlan, talk: Talk) {
        let unsent = |error: String| self.tell(generation, Progress::Unsent(1, error));
        let deadline = Duration::from_millis(probe.deadline_ms.into());
        let bound = match self.dialer.bind(probe.target) {
            Ok(bound) => bound,
            Err(error) => return unsent(error.to_string()),
        };
        let Bound { src, dst, .. } = bound;
        let started = now();
        if let Some(packets) = &self.packets {
            packets.order(Order::Watch {
                generation,
                path: probe.path,
                src,
                dst,
                deadline,
                at: started,
            });
        }
        let dialled = self.dialer.dial(bound, talk, deadline).await;
        match (&self.packets, dialled) {
            (Some(packets), Ok(dialled)) => {
                let is_heard = dialled.is_closed_by_a_segment();
                let order = match dialled.outcome {
                    Outcome::RefusedLocally { errno } => Order::Refuse { src, errno },
                    Outcome::Established { .. }
                    | Outcome::Reset { .. }
                    | Outcome::Unreachable { .. }
                    | Outcome::Mismatched { .. }
                    | Outcome::Timeout => {
                        let exchange = dialled.exchange;
                        Order::Close { src, exchange }
                    }
                };
                if is_heard {
                    packets.order(order);
                } else {
                    packets.order_now(order);
                }
            }
            (Some(packets), Err(error)) => packets.order_now(Order::Withdraw {
                src,
                why: error.to_string(),
            }),
            (None, Err(error)) => unsent(error.to_string()),
            (None, Ok(dialled)) => {
                let result = ProbeResult {
                    path: probe.path,
                    engine: EngineKind::Kernel,
                    src,
                    dst,
                    started,
                    isn: None,
                    server_isn: None,
                    outcome: dialled.outcome,
                    syns: dialled.syns,
                    exchange: dialled.exchange,
                    observations: Vec::new(),
                };
                self.tell(generation, Progress::Result(Box::new(result)));
            }
        }
    }

    fn tell(&self, generation: u32, progress: Progress) {
        // An agent that has ended listens no more.
        drop(self.news.send(News::Round(generation, progress)));
    }
}

/// What the kernel engine does for a probe; `None` where it is not its business.
pub(crate) const fn talk_of(probe: &ProbePlan) -> Option<Talk> {
    match probe.method {
        Method::Connect { echo_bytes } => Some(Talk::Banner { echo_bytes }),
        Method::Syn | Method::Exchange { .. } | Method::TtlProbe { .. } => None,
    }
}
