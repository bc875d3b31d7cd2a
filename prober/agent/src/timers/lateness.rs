//! Whether the main task gets its turns, in time.

use std::cell::{Cell, OnceCell};
use std::time::Duration;

use tokio::time::Instant;

use crate::events::{News, NewsSender};
use crate::timers::sleep::Alarm;

/// The longest without a turn that is meant to come at some time.
const BEAT: Duration = Duration::from_millis(500);

/// Tells how late the main task is for what it does at its time. An agent that has nothing to do at any time beats.
#[derive(Debug)]
pub(crate) struct Pulse {
    /// Of who beats, where somebody does.
    alarm: OnceCell<Alarm>,
    due: Cell<Instant>,
    news: NewsSender,
}

impl Pulse {
    /// Tells it to `news`.
    pub(crate) fn new(news: NewsSender) -> Self {
        Self {
            alarm: OnceCell::new(),
            due: Cell::new(Instant::now()),
            news,
        }
    }

    /// There was a turn, so much later than it was meant to be. The next beat can wait.
    pub(crate) fn feel(&self, late: Duration) {
        if let Some(late) = News::of_lateness(late) {
            // An agent that has ended listens no more.
            drop(self.news.send(late));
        }
        self.due.set(Instant::now() + BEAT);
        if let Some(alarm) = self.alarm.get() {
            alarm.postpone(BEAT);
        }
    }

    /// WakeupCoalescing for ever.
    pub(crate) async fn beat(&self) {
        let alarm = self.alarm.get_or_init(Alarm::new);
        loop {
            alarm.sleep_until(self.due.get()).await;
            self.feel(self.due.get().elapsed());
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
        let (news, mut told) = unbounded_channel();
        let pulse = Pulse::new(news);
        let all_is_well = timeout(2 * BEAT, async {
            tokio::join!(pulse.beat(), async {
                loop {
                    tokio::time::sleep(BEAT / 5).await;
                    pulse.feel(Duration::ZERO);
                }
            })
        });
        assert!(all_is_well.await.is_err());
        assert!(told.try_recv().is_err());
        let starved = async {
            // Nobody else gets a turn meanwhile.
            std::thread::sleep(2 * BEAT);
            told.recv().await
        };
        let late = tokio::select! {
            () = pulse.beat() => None,
            late = starved => late,
        };
        assert!(
            matches!(late, Some(News::Late(late)) if late >= BEAT / 2),
            "{late:?}"
        );
    }
}
