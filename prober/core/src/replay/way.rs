//! One direction of a connection: what was sent, what was acknowledged, and what was sent again.

use std::time::Duration;

use crate::packet::{Ip, Seq, Tcp, TcpFlags};
use crate::time::Timestamp;

/// The longest time between copies of one packet whose IP identification does not say: well below the least retransmission
/// timeout, 200 ms (`TCP_RTO_MIN` of Linux).
pub(super) const COPIED_WITHIN: Duration = Duration::from_millis(100);

/// The number of recent segments that a segment may be a copy of.
const RECENT: usize = 6;

/// One direction of a connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Way {
    /// The number after the last one that was sent.
    pub(super) next: Option<Seq>,
    /// The highest number that the other end acknowledged.
    pub(super) acked: Option<Seq>,
    /// Whether the other end acknowledged more than at first.
    pub(super) is_advancing: bool,
    /// Bytes of payload that were sent, retransmissions left out.
    pub(super) bytes: u64,
    /// The segment that is sent again and again.
    pub(super) repeated: Option<Repeated>,
    /// Payload that was skipped and never came.
    pub(super) gap: Option<Gap>,
    /// When its sender closed it.
    pub(super) closed: Option<Timestamp>,
    /// When its sender last sent a segment.
    pub(super) last: Option<Timestamp>,
    /// Whether its sender's last window was zero: then the other end has to wait.
    pub(super) is_full: bool,
    /// The largest payload of a segment, and the number after the first such segment.
    largest: Option<(u32, Seq)>,
    /// The largest payload that the other end acknowledged.
    pub(super) largest_acked: u32,
    /// The hop limits of its segments without RST.
    pub(super) hop_limits: HopLimits,
    recent: Vec<Sent>,
}

/// Up to four hop limits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HopLimits([u8; 4]);

impl HopLimits {
    /// Adds one.
    pub(super) fn add(&mut self, hop_limit: u8) {
        if let Some(place) = (self.0.iter_mut()).find(|place| **place == 0 || **place == hop_limit)
        {
            *place = hop_limit;
        }
    }

    /// Whether it is among them, or there are too many to distinguish.
    pub(super) fn has(self, hop_limit: u8) -> bool {
        self.0.contains(&hop_limit) || !self.0.contains(&0)
    }

    /// Whether there is none.
    pub(super) fn is_empty(self) -> bool {
        self.0 == [0; 4]
    }
}

/// A segment that is sent again and again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Repeated {
    /// Its sequence number.
    pub(super) seq: Seq,
    /// Its payload, bytes.
    pub(super) len: u32,
    /// How often it was sent again.
    pub(super) times: u32,
    /// When it was sent again for the first time.
    pub(super) first: Timestamp,
    /// When it was sent again for the last time.
    pub(super) last: Timestamp,
}

/// Payload that was skipped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gap {
    /// The first missing number.
    pub(super) from: Seq,
    /// The number after the last missing one.
    pub(super) to: Seq,
    /// When the segment after it came.
    pub(super) at: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Timestamp,
    ident: u16,
    seq: Seq,
    ack: Seq,
    flags: TcpFlags,
    len: u32,
}

impl Way {
    /// Whether this segment is a copy of one that was seen before, at another point; remembers it otherwise.
    pub(super) fn is_copy(&mut self, at: Timestamp, ip: &Ip, tcp: &Tcp) -> bool {
        let sent = Sent {
            at,
            ident: ip.ident,
            seq: tcp.seq,
            ack: tcp.ack,
            flags: tcp.flags,
            len: tcp.payload_len,
        };
        let is_copied = self.recent.iter().any(|earlier| {
            let is_same = (earlier.seq, earlier.ack, earlier.flags, earlier.len)
                == (sent.seq, sent.ack, sent.flags, sent.len);
            is_same && is_copied(earlier.ident, sent.ident, earlier.at, at)
        });
        if !is_copied {
            if self.recent.len() >= RECENT {
                self.recent.remove(0);
            }
            self.recent.push(sent);
        }
        is_copied
    }

    /// Forgets what copies are recognized by.
    pub(super) fn forget(&mut self) {
        self.recent = Vec::new();
    }

    /// Adds a segment that is no copy and neither SYN nor RST.
    pub(super) fn send(&mut self, at: Timestamp, ip: &Ip, tcp: &Tcp) {
        self.last = Some(at);
        self.hop_limits.add(ip.hop_limit);
        self.is_full = tcp.window == 0;
        let len = tcp.payload_len;
        let end = tcp.seq.add(len);
        if tcp.flags.has(TcpFlags::FIN) {
            self.closed.get_or_insert(at);
        }
        if len == 0 {
            self.next.get_or_insert(tcp.seq);
            return;
        }
        if self.largest.is_none_or(|(largest, _)| largest < len) {
            self.largest = Some((len, end));
        }
        let next = *self.next.get_or_insert(tcp.seq);
        let is_keep_alive = len <= 1 && tcp.seq.add(1) == next;
        if is_keep_alive {
            return;
        }
        if tcp.seq.is_before(next) {
            self.fill(tcp.seq, end);
            let is_wanted = self.acked.is_none_or(|acked| acked.is_before(end));
            if is_wanted {
                self.repeat(at, tcp.seq, len);
            }
            if next.is_before(end) {
                self.next = Some(end);
            }
            return;
        }
        if next != tcp.seq && self.gap.is_none() {
            self.gap = Some(Gap {
                from: next,
                to: tcp.seq,
                at,
            });
        }
        self.bytes += u64::from(len);
        self.next = Some(end);
    }

    fn repeat(&mut self, at: Timestamp, seq: Seq, len: u32) {
        match &mut self.repeated {
            Some(repeated) if repeated.seq == seq => {
                repeated.times += 1;
                repeated.last = at;
                repeated.len = repeated.len.max(len);
            }
            Some(_) | None => {
                self.repeated = Some(Repeated {
                    seq,
                    len,
                    times: 1,
                    first: at,
                    last: at,
                });
            }
        }
    }

    fn fill(&mut self, from: Seq, end: Seq) {
        if self
            .gap
            .is_some_and(|gap| from.is_before(gap.to) && gap.from.is_before(end))
        {
            self.gap = None;
        }
    }

    /// The other end acknowledges up to this number.
    pub(super) fn acknowledge(&mut self, ack: Seq) {
        if self.acked.is_none_or(|acked| acked.is_before(ack)) {
            self.is_advancing |= self.acked.is_some();
            self.acked = Some(ack);
        }
        if let Some((len, end)) = self.largest
            && !ack.is_before(end)
        {
            self.largest_acked = len;
        }
        if (self.repeated).is_some_and(|repeated| repeated.seq.is_before(ack)) {
            self.repeated = None;
        }
        // What is acknowledged did arrive: the capture lost it.
        if self.gap.is_some_and(|gap| gap.from.is_before(ack)) {
            self.gap = None;
        }
    }
}

/// Whether two packets with the same contents are one packet at two points.
pub(super) fn is_copied(one: u16, other: u16, at: Timestamp, then: Timestamp) -> bool {
    let gap = at.since(then).max(then.since(at));
    if one == other && one != 0 {
        gap <= Duration::from_millis(190)
    } else {
        one == other && gap <= COPIED_WITHIN
    }
}
