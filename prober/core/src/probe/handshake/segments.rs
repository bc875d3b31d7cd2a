//! The segments that a driver sends: those of a Linux client, with sequence numbers of the agent.

use std::net::SocketAddr;

use crate::packet::{Seq, TcpFlags, TcpOptions, TcpSegment};
use crate::time::Timestamp;

/// The hop limit that Linux gives its packets (RFC 1700).
pub(crate) const HOP_LIMIT: u8 = 64;

/// The SYN of a Linux client, with this sequence number.
pub(crate) fn syn(
    src: SocketAddr,
    dst: SocketAddr,
    isn: Seq,
    mss: u16,
    now: Timestamp,
) -> TcpSegment {
    TcpSegment {
        options: TcpOptions::of_linux_syn(mss, timestamps(now)),
        ..segment(src, dst, isn, TcpFlags::SYN)
    }
}

/// A segment without options and payload.
pub(crate) fn segment(src: SocketAddr, dst: SocketAddr, seq: Seq, flags: TcpFlags) -> TcpSegment {
    TcpSegment {
        src,
        dst,
        hop_limit: HOP_LIMIT,
        // Any number but zero, which the kernel would replace (raw(7)).
        ident: ((seq.0 >> 16) as u16) | 1,
        seq,
        ack: Seq(0),
        flags,
        window: 64240,
        options: TcpOptions::default(),
        payload: Vec::new(),
    }
}

/// The value of the timestamps option: milliseconds, as in the kernel (RFC 7323 5.4).
pub(super) fn timestamps(now: Timestamp) -> u32 {
    ((now.as_nanos() / 1_000_000) & 0xffff_ffff) as u32
}
