//! Drives a run against its fleet: the two channels, the clock, and whoever watches.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

/// The wall clock, which also stamps packets.
pub(crate) use prober_agent::host_probe::now;
use prober_core::run::{Phase, PlatformCommand, PlatformEvent, Run, RunResult};

/// How often a watcher is shown the run while nothing happens.
const GLANCE: Duration = Duration::from_millis(100);

/// Runs to the end. `watch` is shown the run after each step.
pub(crate) fn drive(
    mut run: Run,
    commands: &Sender<PlatformCommand>,
    events: &Receiver<PlatformEvent>,
    mut watch: impl FnMut(&Run),
) -> RunResult {
    run.start(now());
    while run.phase() != Phase::Ended {
        step(&mut run, commands, events);
        watch(&run);
    }
    run.finish()
}

/// Obeys, waits for the fleet or the clock, and tells the run.
fn step(run: &mut Run, commands: &Sender<PlatformCommand>, events: &Receiver<PlatformEvent>) {
    while let Some(command) = run.poll_command() {
        if commands.send(command).is_err() {
            run.handle(gone(), now());
        }
    }
    let wait = run
        .poll_timeout()
        .map_or(GLANCE, |at| at.since(now()).min(GLANCE));
    match events.recv_timeout(wait) {
        Ok(event) => run.handle(event, now()),
        Err(RecvTimeoutError::Timeout) => {}
        Err(RecvTimeoutError::Disconnected) => run.handle(PlatformEvent::Removed, now()),
    }
    run.handle_timeout(now());
}

fn gone() -> PlatformEvent {
    PlatformEvent::Failed("the fleet ended before the run did".to_owned())
}
