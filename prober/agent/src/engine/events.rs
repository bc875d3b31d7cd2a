//! Events of the engines, for the main task.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prober_core::node_facts::NodeFacts;
use prober_core::probe::event::{Event, ServerTrace, TtlProbe};
use prober_core::probe::outcome::ProbeResult;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// An event of an engine.
#[derive(Debug)]
pub(crate) enum EngineEvent {
    /// About a probe of this plan.
    Probe(PlanId, ProbeEvent),
    /// A line of the standing rounds.
    Line(Box<Event>),
    /// The facts of the node, read for the plan with this number.
    NodeFacts(u32, FactsResult),
    /// What this end saw of handshakes as a server.
    ServerTrace(Vec<ServerTrace>),
    /// Counts of the capture since its start.
    Capture {
        /// Packets that were captured.
        received: u64,
        /// Packets that the capture lost.
        dropped: u64,
    },
    /// The agent woke up so much later than something was due.
    Late(Duration),
    /// A text for the reader of the log.
    Notice(String),
    /// The packet thread has ended, for this reason.
    PacketThreadFailed(String),
}

/// The plan that a probe belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlanId {
    /// The standing plan.
    Standing,
    /// A plan of a run, by how many plans were accepted before it.
    Accepted(u32),
}

/// The facts of a node, or why they were not read.
pub(crate) type FactsResult = Result<Box<NodeFacts>, String>;

/// An event about the probes of one plan.
#[derive(Debug)]
pub(crate) enum ProbeEvent {
    /// A probe has its outcome.
    Result(Box<ProbeResult>),
    /// A TTL probe has ended.
    TtlProbe(TtlProbe),
    /// So many probes were not sent, for this reason; that says nothing about the network.
    Unsent(u64, String),
}

/// The least lateness that is reported: timers are always a little late.
const MIN_LATENESS: Duration = Duration::from_millis(100);

impl EngineEvent {
    /// An event, if something was late enough to be reported.
    pub(crate) fn if_late(late: Duration) -> Option<Self> {
        (late >= MIN_LATENESS).then_some(Self::Late(late))
    }
}

/// Handshakes that wait for the main task; further ones are dropped. A run of the highest rate has fewer.
const MAX_QUEUED_HANDSHAKES: usize = 32_768;

/// An event for the standing rounds.
#[derive(Debug)]
pub(crate) enum StandingEvent {
    /// About a probe of the standing plan.
    Probe(ProbeEvent),
    /// The agent woke up so much later than something was due.
    Late(Duration),
}

/// The sender of events. Those of standing probes go to the standing rounds, all others to the main task.
#[derive(Clone, Debug)]
pub(crate) struct EngineEventSender {
    main_task: UnboundedSender<EngineEvent>,
    standing: Option<UnboundedSender<StandingEvent>>,
    queued_handshakes: Arc<AtomicUsize>,
}

/// The receiver of the main task's events.
#[derive(Debug)]
pub(crate) struct EngineEventReceiver {
    received: UnboundedReceiver<EngineEvent>,
    queued_handshakes: Arc<AtomicUsize>,
}

/// A channel of events, without standing rounds.
pub(crate) fn engine_events() -> (EngineEventSender, EngineEventReceiver) {
    let (main_task, received) = unbounded_channel();
    let queued_handshakes = Arc::new(AtomicUsize::new(0));
    let sender = EngineEventSender {
        main_task,
        standing: None,
        queued_handshakes: Arc::clone(&queued_handshakes),
    };
    let receiver = EngineEventReceiver {
        received,
        queued_handshakes,
    };
    (sender, receiver)
}

impl EngineEventSender {
    /// From now on sends the events of standing probes to the returned receiver.
    pub(crate) fn receive_standing(&mut self) -> UnboundedReceiver<StandingEvent> {
        let (standing, received) = unbounded_channel();
        self.standing = Some(standing);
        received
    }

    /// Sends an event. Without a receiver the agent has ended, and nothing happens.
    pub(crate) fn send(&self, event: EngineEvent) {
        let to_standing = |event| {
            if let Some(standing) = &self.standing {
                drop(standing.send(event));
            }
        };
        match event {
            EngineEvent::Probe(PlanId::Standing, event) => to_standing(StandingEvent::Probe(event)),
            EngineEvent::Late(late) => {
                to_standing(StandingEvent::Late(late));
                drop(self.main_task.send(EngineEvent::Late(late)));
            }
            EngineEvent::ServerTrace(handshakes) => {
                let queued = self.queued_handshakes.load(Ordering::Relaxed);
                if queued < MAX_QUEUED_HANDSHAKES {
                    (self.queued_handshakes).fetch_add(handshakes.len(), Ordering::Relaxed);
                    drop(self.main_task.send(EngineEvent::ServerTrace(handshakes)));
                }
            }
            event @ (EngineEvent::Probe(PlanId::Accepted(_), _)
            | EngineEvent::Line(_)
            | EngineEvent::NodeFacts(..)
            | EngineEvent::Capture { .. }
            | EngineEvent::Notice(_)
            | EngineEvent::PacketThreadFailed(_)) => drop(self.main_task.send(event)),
        }
    }
}

impl EngineEventReceiver {
    /// Waits for the next event; `None` when there is no sender any more.
    pub(crate) async fn recv(&mut self) -> Option<EngineEvent> {
        let event = self.received.recv().await;
        event.inspect(|event| self.count(event))
    }

    /// The next event, if there is one.
    pub(crate) fn try_recv(&mut self) -> Option<EngineEvent> {
        let event = self.received.try_recv().ok();
        event.inspect(|event| self.count(event))
    }

    fn count(&self, event: &EngineEvent) {
        if let EngineEvent::ServerTrace(handshakes) = event {
            (self.queued_handshakes).fetch_sub(handshakes.len(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use prober_core::packet::Seq;

    use super::*;

    #[test]
    fn handshakes_that_nothing_takes_are_bounded_and_all_else_is_kept() {
        let (sender, mut receiver) = engine_events();
        let end = "192.0.2.1:80".parse().unwrap();
        let trace = ServerTrace::empty(Seq(1), end, end);
        for _ in 0..100 {
            sender.send(EngineEvent::ServerTrace(vec![trace.clone(); 1024]));
            sender.send(EngineEvent::Notice("kept".to_owned()));
        }
        let (mut handshakes, mut notices) = (0, 0);
        while let Some(event) = receiver.try_recv() {
            if let EngineEvent::ServerTrace(traces) = event {
                handshakes += traces.len();
            } else {
                notices += 1;
            }
        }
        assert_eq!((handshakes, notices), (MAX_QUEUED_HANDSHAKES, 100));
        sender.send(EngineEvent::ServerTrace(vec![trace]));
        assert!(receiver.try_recv().is_some());
    }

    #[test]
    fn standing_probes_are_reported_to_the_standing_rounds_and_lateness_to_both() {
        let (mut sender, mut receiver) = engine_events();
        let mut standing = sender.receive_standing();
        let unsent = || ProbeEvent::Unsent(1, String::new());
        sender.send(EngineEvent::Probe(PlanId::Standing, unsent()));
        sender.send(EngineEvent::Probe(PlanId::Accepted(1), unsent()));
        sender.send(EngineEvent::Late(Duration::from_secs(1)));
        assert!(matches!(standing.try_recv(), Ok(StandingEvent::Probe(_))));
        assert!(matches!(standing.try_recv(), Ok(StandingEvent::Late(_))));
        assert!(standing.try_recv().is_err());
        assert!(matches!(
            receiver.try_recv(),
            Some(EngineEvent::Probe(PlanId::Accepted(1), _))
        ));
        assert!(matches!(receiver.try_recv(), Some(EngineEvent::Late(_))));
        assert!(receiver.try_recv().is_none());
    }
}
