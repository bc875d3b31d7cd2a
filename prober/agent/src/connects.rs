//! The kernel probes of one plan, each at its time.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prober_core::observation::{EngineKind, ProbeResult};
use prober_core::plan::{Method, Plan, ProbePlan};
use prober_core::time::{Timestamp, nanos};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::kernel::{Bound, DialError, Dialer, Dialled, Talk};
use crate::news::{News, NewsSender, Progress};
use crate::schedule::Schedule;

/// Connections of this engine at a time.
const MOST_IN_FLIGHT: usize = 2000;

/// Makes the connections that plans ask for.
#[derive(Debug)]
pub(crate) struct Connects {
    dialer: Dialer,
    news: NewsSender,
}

/// One connection to be made.
#[derive(Debug)]
struct Errand {
    generation: u32,
    probe: ProbePlan,
    talk: Talk,
}

impl Connects {
    /// Tells results to `news`.
    pub(crate) fn new(dialer: Dialer, news: NewsSender) -> Self {
        Self { dialer, news }
    }

    /// Makes all connections of a plan; those under way end with this future.
    ///
    /// To be run within a `LocalSet`.
    pub(crate) async fn run(self: Rc<Self>, plan: Rc<Plan>) {
        let entries = plan.probes.iter().enumerate();
        let kernel = entries.filter(|(_, probe)| talk_of(probe).is_some());
        let mut schedule = Schedule::new(kernel);
        let places = Arc::new(Semaphore::new(MOST_IN_FLIGHT));
        let mut under_way = JoinSet::new();
        let started = Instant::now();
        while let Some(due) = schedule.next_due() {
            sleep_until(started + due).await;
            self.tell(plan.generation, Progress::Late((started + due).elapsed()));
            while let Some((_, entry)) = schedule.pop(started.elapsed()) {
                let Some(probe) = plan.probes.get(entry) else {
                    continue;
                };
                let Some(talk) = talk_of(probe) else { continue };
                let errand = Errand {
                    generation: plan.generation,
                    probe: probe.clone(),
                    talk,
                };
                // Closed never: the semaphore lives as long as this future.
                let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                    return;
                };
                let own = Rc::clone(&self);
                under_way.spawn_local(async move {
                    own.go(&errand).await;
                    drop(place);
                });
                while under_way.try_join_next().is_some() {}
            }
        }
        while under_way.join_next().await.is_some() {}
    }

    async fn go(&self, errand: &Errand) {
        let progress = match self.probe(errand).await {
            Ok(result) => Progress::Result(Box::new(result)),
            Err(error) => Progress::Unsent(1, error.to_string()),
        };
        self.tell(errand.generation, progress);
    }

    async fn probe(&self, errand: &Errand) -> Result<ProbeResult, DialError> {
        let deadline = Duration::from_millis(errand.probe.deadline_ms.into());
        let bound = self.dialer.bind(errand.probe.target)?;
        let Bound { src, dst, .. } = bound;
        let started = now();
        let Dialled {
            outcome,
            exchange,
            retransmits,
        } = self
            .dialer
            .dial(bound, errand.talk, Instant::now() + deadline)
            .await?;
        Ok(ProbeResult {
            path: errand.probe.path,
            engine: EngineKind::Kernel,
            src,
            dst,
            started,
            isn: None,
            server_isn: None,
            outcome,
            syns: retransmits + 1,
            exchange,
            observations: Vec::new(),
        })
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
        Method::Syn | Method::Exchange { .. } | Method::Ladder { .. } => None,
    }
}

/// The time on the clock that also stamps packets.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp::from_nanos(since.map_or(0, nanos))
}
