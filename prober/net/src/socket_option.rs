//! Socket options that neither std nor the wrapped crates know.
use std::ffi::c_int;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sets an option with a number as its value (setsockopt(2)).
pub(crate) fn set(
    socket: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    value: c_int,
) -> io::Result<()> {
    set_value(socket, level, name, &value)
}

/// Requests the ring of a packet socket (`PACKET_RX_RING`).
pub(crate) fn set_ring(socket: BorrowedFd<'_>, ring: &libc::tpacket_req3) -> io::Result<()> {
    set_value(socket, libc::SOL_PACKET, libc::PACKET_RX_RING, ring)
}

/// `T` is a number or a plain C struct of numbers.
#[expect(unsafe_code, reason = "the kernel reads the value through a pointer")]
fn set_value<T: Copy>(
    socket: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    value: &T,
) -> io::Result<()> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "option values are a few bytes"
    )]
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the pointer and the length describe one live value, which the kernel only reads.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const *value).cast(),
            length,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The counters of a packet ring since the last call (`PACKET_STATISTICS`, which resets them).
#[expect(unsafe_code, reason = "the kernel writes the value through a pointer")]
pub(crate) fn packet_statistics(socket: BorrowedFd<'_>) -> io::Result<libc::tpacket_stats_v3> {
    let mut value = libc::tpacket_stats_v3 {
        tp_packets: 0,
        tp_drops: 0,
        tp_freeze_q_cnt: 0,
    };
    #[expect(clippy::cast_possible_truncation, reason = "twelve bytes")]
    let mut length = size_of::<libc::tpacket_stats_v3>() as libc::socklen_t;
    let (level, name) = (libc::SOL_PACKET, libc::PACKET_STATISTICS);
    let pointer = (&raw mut value).cast();
    // SAFETY: the pointer and the length describe one live value of plain integers, which the kernel fills.
    let done =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, pointer, &raw mut length) };
    if done == 0 {
        Ok(value)
    } else {
        Err(io::Error::last_os_error())
    }
}
