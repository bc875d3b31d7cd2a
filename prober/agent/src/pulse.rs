//! Whether the main task gets its turns: an agent that only answers has no timer of its own to be late for.

use std::time::{Duration, Instant};

use crate::alarm::Alarm;
use crate::news::{News, NewsSender};

/// From one beat to the next.
const BEAT: Duration = Duration::from_millis(500);

/// Tells of each beat that comes late, until nobody listens.
pub(crate) async fn beat(news: NewsSender) {
    let alarm = Alarm::new();
    loop {
        let due = Instant::now() + BEAT;
        alarm.sleep(BEAT).await;
        if let Some(late) = News::of_lateness(due.elapsed())
            && news.send(late).is_err()
        {
            return;
        }
    }
}
