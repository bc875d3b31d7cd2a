//! Sleeps of the main task that cost one wake-up each.
//!
//! The runtime keeps its timers in a wheel whose coarse slots are sorted into finer ones shortly before they are due: a
//! sleep of some hundred milliseconds wakes the thread two or three times. An agent mostly sleeps, so it uses a timer of
//! the kernel.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, TimerSetTimeFlags};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};
use tokio::net::unix::pipe::Receiver;
use tokio::time::{Instant, sleep};

/// A timer of the kernel, or of the runtime where the kernel gives none.
#[derive(Debug)]
pub(crate) struct SleepTimer(Option<KernelTimer>);

/// A timer of the kernel (timerfd_create(2)), and the same descriptor as something to read from.
#[derive(Debug)]
struct KernelTimer {
    fd: TimerFd,
    expirations: Receiver,
}

impl SleepTimer {
    /// A timer that is not set. Must be called within the runtime.
    pub(crate) fn new() -> Self {
        Self(KernelTimer::open().ok())
    }

    /// Sleeps until a point in time.
    pub(crate) async fn sleep_until(&self, at: Instant) {
        self.sleep(at.saturating_duration_since(Instant::now()))
            .await;
    }

    /// Makes the sleep that is going on last for so long from now on. A timer of the runtime ends as it was set.
    pub(crate) fn postpone(&self, time: Duration) {
        if let Some(timer) = &self.0 {
            // A timer that cannot be set again expires as it was set.
            timer.set(time).ok();
        }
    }

    /// Sleeps for a time.
    pub(crate) async fn sleep(&self, time: Duration) {
        let slept = match &self.0 {
            // A timer that is set to zero never expires.
            Some(timer) if !time.is_zero() => timer.expire(time).await,
            Some(_) | None => Err(io::ErrorKind::Unsupported.into()),
        };
        if slept.is_err() {
            sleep(time).await;
        }
    }
}

impl KernelTimer {
    fn open() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let fd = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        // It is no pipe, but it is read like one.
        let file = File::from(fd.as_fd().try_clone_to_owned()?);
        let expirations = Receiver::from_file_unchecked(file)?;
        Ok(Self { fd, expirations })
    }

    fn set(&self, time: Duration) -> nix::Result<()> {
        let once = Expiration::OneShot(TimeSpec::from_duration(time));
        self.fd.set(once, TimerSetTimeFlags::empty())
    }

    async fn expire(&self, time: Duration) -> io::Result<()> {
        self.set(time)?;
        loop {
            self.expirations.readable().await?;
            match self.expirations.try_read(&mut [0; 8]) {
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
    async fn it_expires_each_time_that_it_is_set_and_not_before() {
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
    async fn a_sleep_can_be_postponed() {
        let timer = SleepTimer::new();
        let start = Instant::now();
        let (time, more) = (Duration::from_millis(20), Duration::from_millis(60));
        tokio::join!(timer.sleep(time), async { timer.postpone(more) });
        assert!(start.elapsed() >= more);
    }
}
