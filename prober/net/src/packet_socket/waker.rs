//! Wakes a thread that waits for packets.
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;

/// Ends [`super::PacketSocket::wait`] from any other thread. Clones end the same wait (eventfd(2)).
#[derive(Debug, Clone)]
pub struct Waker(Arc<File>);

impl Waker {
    /// A waker that has not been used yet.
    #[expect(unsafe_code, reason = "eventfd(2)")]
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes two integers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just opened it, and nothing else owns it.
        Ok(Self(Arc::new(File::from(unsafe {
            OwnedFd::from_raw_fd(fd)
        }))))
    }

    /// Ends the wait that is under way, or the next one.
    pub fn wake(&self) {
        // It fails only where the counter is at its end, and then the waker was used already.
        drop((&*self.0).write(&1_u64.to_ne_bytes()));
    }

    /// Makes the waker unused again.
    pub(super) fn clear(&self) {
        // Nothing to read means that it is unused.
        drop((&*self.0).read(&mut [0; 8]));
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
