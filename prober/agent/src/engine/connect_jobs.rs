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

use crate::engine::commands::PacketCommand;
use crate::engine::events::{EngineEvent, EngineEventSender, ProbeEvent};
use crate::engine::kernel::{AfterConnect, BoundSocket, Connector};
use crate::engine::packet_thread::PacketThread;
use crate::timers::lateness::LatenessMonitor;
use crate::timers::sleep::SleepTimer;

/// Connections of this engine at a time: half of its source ports.
const MAX_IN_FLIGHT: usize = 1000;

/// Makes the connections that plans ask for.
#[derive(Debug)]
pub(crate) struct ConnectRunner {
    connector: Connector,
    events: EngineEventSender,
    lateness: Rc<LatenessMonitor>,
    /// Who sees their packets and tells their outcome; without it, connect() does.
    packets: Option<Rc<PacketThread>>,
    servers: Servers,
}

/// Whether targets greet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Servers {
    /// They are responders of ours.
    Responders,
    /// They are anybody: connections are closed at once.
    Foreign,
}

/// The connections of one plan.
#[derive(Debug)]
pub(crate) struct ConnectJobs {
    /// The plan's generation.
    pub(crate) generation: u32,
    /// Its probes that [`after_connect`] knows.
    pub(crate) probes: Vec<ProbePlan>,
    /// From when on.
    pub(crate) start: Timestamp,
    /// How strictly its times are kept.
    pub(crate) pace: Pace,
}

impl ConnectRunner {
    /// Tells results to `events`, or has `packets` do so.
    pub(crate) fn new(
        connector: Connector,
        events: EngineEventSender,
        lateness: Rc<LatenessMonitor>,
        packets: Option<Rc<PacketThread>>,
        servers: Servers,
    ) -> Self {
        Self {
            connector,
            events,
            lateness,
            packets,
            servers,
        }
    }

    /// Makes all connections of a plan; those under way end with this future.
    ///
    /// To be run within a `LocalSet`.
    pub(crate) async fn run(self: Rc<Self>, errands: ConnectJobs) {
        let ConnectJobs {
            generation,
            probes,
            start,
            pace,
        } = errands;
        let mut pacing = Pacing::new(&probes, start, pace);
        let places = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
        let mut under_way = JoinSet::new();
        let timer = SleepTimer::new();
        while let Some(due) = pacing.next_at() {
            timer.sleep(due.since(now())).await;
            self.lateness.record(now().since(due));
            while let Some(item) = pacing.poll(&probes, now()) {
                let Some((probe, after)) = probes
                    .get(item)
                    .and_then(|probe| Some((probe.clone(), after_connect(probe)?)))
                else {
                    continue;
                };
                // Closed never: the semaphore lives as long as this future.
                let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                    return;
                };
                let after = match self.servers {
                    Servers::Responders => after,
                    Servers::Foreign => AfterConnect::Close,
                };
                let own = Rc::clone(&self);
                under_way.spawn_local(async move {
                    own.probe(generation, &probe, after).await;
                    drop(place);
                });
                while under_way.try_join_next().is_some() {}
            }
        }
        while under_way.join_next().await.is_some() {}
    }

    async fn probe(&self, generation: u32, probe: &ProbePlan, after: AfterConnect) {
        let unsent = |error: String| self.tell(generation, ProbeEvent::Unsent(1, error));
        let deadline = Duration::from_millis(probe.deadline_ms.into());
        let bound = match self.connector.bind(probe.target) {
            Ok(bound) => bound,
            Err(error) => return unsent(error.to_string()),
        };
        let BoundSocket { src, dst, .. } = bound;
        let started = now();
        if let Some(packets) = &self.packets {
            packets.send(PacketCommand::WatchConnect {
                generation,
                path: probe.path,
                src,
                dst,
                deadline,
                at: started,
            });
        }
        let connected = self.connector.connect(bound, after, deadline).await;
        match (&self.packets, connected) {
            (Some(packets), Ok(connected)) => {
                let is_heard = connected.is_closed_by_a_segment();
                let order = match connected.outcome {
                    Outcome::RefusedLocally { errno } => {
                        PacketCommand::ConnectRefused { src, errno }
                    }
                    Outcome::Established { .. }
                    | Outcome::Reset { .. }
                    | Outcome::Unreachable { .. }
                    | Outcome::Mismatched { .. }
                    | Outcome::Timeout => {
                        let exchange = connected.exchange;
                        PacketCommand::ConnectEnded { src, exchange }
                    }
                };
                if is_heard {
                    packets.send(order);
                } else {
                    packets.send_now(order);
                }
            }
            (Some(packets), Err(error)) => packets.send_now(PacketCommand::NotSent {
                src,
                why: error.to_string(),
            }),
            (None, Err(error)) => unsent(error.to_string()),
            (None, Ok(connected)) => {
                let result = ProbeResult {
                    path: probe.path,
                    engine: EngineKind::Kernel,
                    src,
                    dst,
                    started,
                    isn: None,
                    server_isn: None,
                    outcome: connected.outcome,
                    syns: connected.syns,
                    exchange: connected.exchange,
                    observations: Vec::new(),
                };
                self.tell(generation, ProbeEvent::Result(Box::new(result)));
            }
        }
    }

    fn tell(&self, generation: u32, progress: ProbeEvent) {
        // An agent that has ended listens no more.
        drop(self.events.send(EngineEvent::Probe(generation, progress)));
    }
}

/// What the kernel engine does for a probe; `None` where it is not its business.
pub(crate) const fn after_connect(probe: &ProbePlan) -> Option<AfterConnect> {
    match probe.method {
        Method::Connect { echo_bytes } => Some(AfterConnect::Exchange { echo_bytes }),
        Method::Syn | Method::Exchange { .. } | Method::TtlProbe { .. } => None,
    }
}
