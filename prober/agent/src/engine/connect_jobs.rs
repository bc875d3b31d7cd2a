//! Makes the connections of the kernel engine, each when it is due.

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
use crate::engine::events::{EngineEvent, EngineEventSender, PlanId, ProbeEvent};
use crate::engine::kernel::{AfterConnect, BoundSocket, Connector};
use crate::engine::packet_thread::PacketThread;
use crate::timers::lateness::LatenessMonitor;
use crate::timers::sleep::SleepTimer;

/// Connections at the same time: half of the source ports.
const MAX_IN_FLIGHT: usize = 1000;

/// Makes the connections of plans.
#[derive(Debug)]
pub(crate) struct ConnectRunner {
    connector: Connector,
    events: EngineEventSender,
    lateness: Rc<LatenessMonitor>,
    /// Captures the packets of the connections and reports their outcomes; without it, the result of connect() is reported.
    packets: Option<Rc<PacketThread>>,
    servers: Servers,
}

/// What the targets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Servers {
    /// Responders of this program, which send a banner.
    Responders,
    /// Any servers: a connection is closed as soon as it is established.
    Foreign,
}

/// The connections of one plan.
#[derive(Debug)]
pub(crate) struct ConnectJobs {
    /// The plan.
    pub(crate) id: PlanId,
    /// The probes for which [`after_connect`] returns something.
    pub(crate) probes: Vec<ProbePlan>,
    /// The time that the plan counts from.
    pub(crate) start: Timestamp,
    /// How exactly the times of the plan are kept.
    pub(crate) pace: Pace,
}

impl ConnectRunner {
    /// Reports results to `events`, or lets `packets` report them.
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

    /// Makes all connections of a plan; dropping the future ends those under way.
    ///
    /// Must be run within a `LocalSet`.
    pub(crate) async fn run(self: Rc<Self>, jobs: ConnectJobs) {
        let ConnectJobs {
            id,
            probes,
            start,
            pace,
        } = jobs;
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
                // The semaphore is never closed: it lives as long as this future.
                let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                    return;
                };
                let after = match self.servers {
                    Servers::Responders => after,
                    Servers::Foreign => AfterConnect::Close,
                };
                let runner = Rc::clone(&self);
                under_way.spawn_local(async move {
                    runner.probe(id, &probe, after).await;
                    drop(place);
                });
                while under_way.try_join_next().is_some() {}
            }
        }
        while under_way.join_next().await.is_some() {}
    }

    async fn probe(&self, id: PlanId, probe: &ProbePlan, after: AfterConnect) {
        let unsent = |error: String| self.report(id, ProbeEvent::Unsent(1, error));
        let deadline = Duration::from_millis(probe.deadline_ms.into());
        let bound = match self.connector.bind(probe.target) {
            Ok(bound) => bound,
            Err(error) => return unsent(error.to_string()),
        };
        let BoundSocket { src, dst, .. } = bound;
        let started = now();
        if let Some(packets) = &self.packets {
            packets.send(PacketCommand::WatchConnect {
                id,
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
                let wakes_the_thread = connected.is_closed_by_a_segment();
                let command = match connected.outcome {
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
                if wakes_the_thread {
                    packets.send(command);
                } else {
                    packets.send_now(command);
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
                self.report(id, ProbeEvent::Result(Box::new(result)));
            }
        }
    }

    fn report(&self, id: PlanId, event: ProbeEvent) {
        self.events.send(EngineEvent::Probe(id, event));
    }
}

/// What the kernel engine does on an established connection of a probe; `None` for crafted probes.
pub(crate) const fn after_connect(probe: &ProbePlan) -> Option<AfterConnect> {
    match probe.method {
        Method::Connect { echo_bytes } => Some(AfterConnect::Exchange { echo_bytes }),
        Method::Syn | Method::Exchange { .. } | Method::TtlProbe { .. } => None,
    }
}
