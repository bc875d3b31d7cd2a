//! Whether the main task gets its turns, in time.

use std::cell::{Cell, OnceCell};
use std::time::Duration;

use tokio::time::Instant;

use crate::engine::events::{EngineEvent, EngineEventSender};
use crate::timers::sleep::SleepTimer;

/// The longest without a turn that is meant to come at some time.
const INTERVAL: Duration = Duration::from_millis(500);

/// Tells how late the main task is for what it does at its time. An agent that has nothing to do at any time beats.
#[derive(Debug)]
pub(crate) struct LatenessMonitor {
    /// Of who beats, where somebody does.
    timer: OnceCell<SleepTimer>,
    due: Cell<Instant>,
    events: EngineEventSender,
}

impl LatenessMonitor {
    /// Tells it to `events`.
    pub(crate) fn new(events: EngineEventSender) -> Self {
        Self {
            timer: OnceCell::new(),
            due: Cell::new(Instant::now()),
            events,
        }
    }

    /// There was a turn, so much later than it was meant to be. The next beat can wait.
    pub(crate) fn record(&self, late: Duration) {
        if let Some(late) = EngineEvent::if_late(late) {
            // An agent that has ended listens no more.
            drop(self.events.send(late));
        }
        self.due.set(Instant::now() + INTERVAL);
        if let Some(timer) = self.timer.get() {
            timer.postpone(INTERVAL);
        }
    }

    /// WakeupCoalescing for ever.
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
    use tokio::sync::mpsc::unbounded_channel;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn who_has_turns_at_other_times_needs_no_beat_and_who_gets_none_is_told() {
        let (events, mut told) = unbounded_channel();
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
        assert!(told.try_recv().is_err());
        let starved = async {
            // Nobody else gets a turn meanwhile.
            std::thread::sleep(2 * INTERVAL);
            told.recv().await
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
