//! How late the main task wakes up.

use std::cell::{Cell, OnceCell};
use std::time::Duration;

use tokio::time::Instant;

use crate::engine::events::{EngineEvent, EngineEventSender};
use crate::timers::sleep::SleepTimer;

/// The time between two measurements of an agent without other timers.
const INTERVAL: Duration = Duration::from_millis(500);

/// Reports how late the main task wakes up for what is due. It wakes up by itself where nothing else is due.
#[derive(Debug)]
pub(crate) struct LatenessMonitor {
    /// The timer of [`LatenessMonitor::run`], while that runs.
    timer: OnceCell<SleepTimer>,
    due: Cell<Instant>,
    events: EngineEventSender,
}

impl LatenessMonitor {
    /// Reports to `events`.
    pub(crate) fn new(events: EngineEventSender) -> Self {
        Self {
            timer: OnceCell::new(),
            due: Cell::new(Instant::now()),
            events,
        }
    }

    /// The main task woke up, so much later than it was due. The next measurement can wait.
    pub(crate) fn record(&self, late: Duration) {
        if let Some(late) = EngineEvent::if_late(late) {
            self.events.send(late);
        }
        self.due.set(Instant::now() + INTERVAL);
        if let Some(timer) = self.timer.get() {
            timer.postpone(INTERVAL);
        }
    }

    /// Measures for ever.
    pub(crate) async fn run(&self) {
        let timer = self.timer.get_or_init(SleepTimer::new);
        loop {
            timer.sleep_until(self.due.get()).await;
            self.record(self.due.get().elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::engine::events::engine_events;

    #[tokio::test]
    async fn a_task_that_is_on_time_is_not_reported_and_one_that_is_blocked_is() {
        let (events, mut reports) = engine_events();
        let lateness = LatenessMonitor::new(events);
        let all_is_well = timeout(2 * INTERVAL, async {
            tokio::join!(lateness.run(), async {
                loop {
                    tokio::time::sleep(INTERVAL / 5).await;
                    lateness.record(Duration::ZERO);
                }
            })
        });
        assert!(all_is_well.await.is_err());
        assert!(reports.try_recv().is_none());
        let starved = async {
            // Blocks the only thread.
            std::thread::sleep(2 * INTERVAL);
            reports.recv().await
        };
        let late = tokio::select! {
            () = lateness.run() => None,
            late = starved => late,
        };
        assert!(
            matches!(late, Some(EngineEvent::Late(late)) if late >= INTERVAL / 2),
            "{late:?}"
        );
    }
}
