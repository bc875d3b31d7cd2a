//! Sleeps for the main task at the price of one wake-up.
//!
//! The runtime's own timers lie in a wheel whose coarse slots are sorted into finer ones when their time comes near: a
//! sleep of some hundred milliseconds wakes the thread two or three times. An agent that mostly sleeps is made of that.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, TimerSetTimeFlags};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};
use tokio::net::unix::pipe::Receiver;
use tokio::time::{Instant, sleep};

/// A timer; see the module's documentation.
#[derive(Debug)]
pub(crate) struct SleepTimer(Option<Timer>);

/// A timer of the kernel, and the same as something to be read from (timerfd_create(2)).
#[derive(Debug)]
struct Timer {
    own: TimerFd,
    rings: Receiver,
}

impl SleepTimer {
    /// An timer that is not set, to be made within the runtime. Where the kernel gives no timer, the runtime's has to do.
    pub(crate) fn new() -> Self {
        Self(Timer::open().ok())
    }

    /// Sleeps until then.
    pub(crate) async fn sleep_until(&self, at: Instant) {
        self.sleep(at.saturating_duration_since(Instant::now()))
            .await;
    }

    /// Has who sleeps by it sleep for so long from now on; where the runtime's timer has to do, it wakes as it would have.
    pub(crate) fn postpone(&self, time: Duration) {
        if let Some(timer) = &self.0 {
            // A timer that cannot be set again rings as it was set.
            timer.set(time).ok();
        }
    }

    /// Sleeps for so long.
    pub(crate) async fn sleep(&self, time: Duration) {
        let rung = match &self.0 {
            // A timer that is set to nothing never rings.
            Some(timer) if !time.is_zero() => timer.ring(time).await,
            Some(_) | None => Err(io::ErrorKind::Unsupported.into()),
        };
        if rung.is_err() {
            sleep(time).await;
        }
    }
}

impl Timer {
    fn open() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let own = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        // It is no pipe, but read like one.
        let file = File::from(own.as_fd().try_clone_to_owned()?);
        let rings = Receiver::from_file_unchecked(file)?;
        Ok(Self { own, rings })
    }

    fn set(&self, time: Duration) -> nix::Result<()> {
        let once = Expiration::OneShot(TimeSpec::from_duration(time));
        self.own.set(once, TimerSetTimeFlags::empty())
    }

    async fn ring(&self, time: Duration) -> io::Result<()> {
        self.set(time)?;
        loop {
            self.rings.readable().await?;
            match self.rings.try_read(&mut [0; 8]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read.map(drop),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_rings_each_time_that_it_is_set_and_not_before() {
        let timer = SleepTimer::new();
        assert!(timer.0.is_some());
        for time in [
            Duration::from_millis(5),
            Duration::ZERO,
            Duration::from_millis(90),
        ] {
            let start = Instant::now();
            timer.sleep(time).await;
            assert!(start.elapsed() >= time);
        }
    }

    #[tokio::test]
    async fn who_sleeps_by_it_can_be_let_sleep_on() {
        let timer = SleepTimer::new();
        let start = Instant::now();
        let (time, more) = (Duration::from_millis(20), Duration::from_millis(60));
        tokio::join!(timer.sleep(time), async { timer.postpone(more) });
        assert!(start.elapsed() >= more);
    }
}
