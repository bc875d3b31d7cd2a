//! The loop that drives a run against its platform: commands to it, events from it, and timeouts.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prober_core::run::{Phase, PlatformCommand, PlatformEvent, Run, RunResult};
use prober_core::time::{Timestamp, nanos};

/// The longest time between two calls of `on_step` while no event arrives.
const MAX_WAIT: Duration = Duration::from_millis(100);

/// Reads the wall clock, which also gives packets their timestamps.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp::from_nanos(nanos(since.unwrap_or_default()))
}

/// Drives the run to its end and returns its result.
///
/// The run's commands go to `commands`, and the platform's events come from `events`. `on_step` is called after each
/// event, each timeout of the run, and each [`MAX_WAIT`] without either.
pub(crate) fn drive(
    mut run: Run,
    commands: &Sender<PlatformCommand>,
    events: &Receiver<PlatformEvent>,
    mut on_step: impl FnMut(&Run),
) -> RunResult {
    run.start(now());
    while run.phase() != Phase::Ended {
        step(&mut run, commands, events);
        on_step(&run);
    }
    run.finish()
}

/// Sends the run's commands, waits for one event or timeout, and handles it.
///
/// If the platform has ended, the run receives [`platform_ended`] for each command, and `Removed` instead of an event.
fn step(run: &mut Run, commands: &Sender<PlatformCommand>, events: &Receiver<PlatformEvent>) {
    while let Some(command) = run.poll_command() {
        if commands.send(command).is_err() {
            run.handle(platform_ended(), now());
        }
    }
    let wait = run
        .poll_timeout()
        .map_or(MAX_WAIT, |at| at.since(now()).min(MAX_WAIT));
    match events.recv_timeout(wait) {
        Ok(event) => run.handle(event, now()),
        Err(RecvTimeoutError::Timeout) => {}
        Err(RecvTimeoutError::Disconnected) => run.handle(PlatformEvent::Removed, now()),
    }
    run.handle_timeout(now());
}

/// Returns the event of a platform that ended before the run.
fn platform_ended() -> PlatformEvent {
    PlatformEvent::Failed("the platform ended before the run".to_owned())
}
