//! The driver's connection after the handshake: ACK, banner, echo, FIN.
//!
//! As little of TCP as a probe needs: it takes bytes only in order and acknowledges at once;
//! it sends as much as the other side's window and ten segments allow; what is not acknowledged
//! is sent again from there.

use std::net::SocketAddr;
use std::time::Duration;

use super::segments::{segment, timestamps};
use crate::packet::{Seq, Tcp, TcpFlags, TcpOptions, TcpSegment};
use crate::probe::banner::Banner;
use crate::probe::banner::LONGEST_LINE;
use crate::probe::outcome::{Echo, Exchange};
use crate::time::Timestamp;

/// Until what was not acknowledged is sent again the first time; doubled each time after.
const FIRST_RESEND: Duration = Duration::from_millis(300);

/// The longest between two attempts.
const LONGEST_RESEND: Duration = Duration::from_millis(1200);

/// Segments in flight (RFC 6928).
const FLIGHT: u32 = 10;

/// Bytes that the timestamps option takes in each segment.
const TIMESTAMPS_LEN: u32 = 12;

/// The byte of a bulk echo at an offset.
pub const fn pattern(offset: u32) -> u8 {
    // 251 is prime: no segment looks like its neighbour.
    (offset % 251) as u8
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Something is still to be said.
    Running,
    /// All is said; the other side's FIN is awaited.
    Settled,
    /// Both sides have closed.
    Closed,
}

/// What is being waited for.
#[derive(Debug)]
enum Phase {
    /// The banner's line, of which this has come.
    Greeting(Vec<u8>),
    /// The echo.
    Echoing(Banner),
    /// The other side's FIN; this is what came of the connection.
    Farewell(Exchange),
}

#[derive(Debug)]
pub(super) struct Stream {
    src: SocketAddr,
    dst: SocketAddr,
    /// Number of the first byte of each direction.
    send_base: Seq,
    receive_base: Seq,
    /// Bytes of payload in one segment.
    largest: u32,
    echo_bytes: u32,
    window_scale: u8,
    window: u32,
    /// The other side's newest timestamp, where it sends any.
    peer_time: Option<u32>,
    phase: Phase,
    /// Offsets of the own bytes: acknowledged, sent, most ever sent. The FIN counts as one.
    acked: u32,
    sent: u32,
    most: u32,
    /// In-order bytes received, of which these are echo; and whether the FIN was among them.
    received: u32,
    echoed: u32,
    peer_closed: bool,
    /// Own bytes in all, known once nothing more is to be said.
    total: u32,
    was_reset: bool,
    ack_due: bool,
    resend_at: Option<Timestamp>,
    resend_after: Duration,
}

impl Stream {
    /// The connection that this SYN+ACK opens.
    pub(super) fn open(
        src: SocketAddr,
        dst: SocketAddr,
        isn: Seq,
        mss: u16,
        echo_bytes: u32,
        answer: &Tcp,
    ) -> Self {
        // Without the option 536 is assumed, or 1220 for IPv6 (RFC 9293 3.7.1).
        let default = if dst.is_ipv4() { 536 } else { 1220 };
        let options = answer.options;
        let room = u32::from(mss.min(options.mss.unwrap_or(default)));
        Self {
            src,
            dst,
            send_base: isn.add(1),
            receive_base: answer.seq.add(1),
            largest: room
                .saturating_sub(options.timestamps.map_or(0, |_| TIMESTAMPS_LEN))
                .max(1),
            echo_bytes,
            // Larger shifts count as 14 (RFC 7323 2.3).
            window_scale: options.window_scale.unwrap_or(0).min(14),
            window: u32::from(answer.window),
            peer_time: options.timestamps.map(|(value, _)| value),
            phase: Phase::Greeting(Vec::new()),
            acked: 0,
            sent: 0,
            most: 0,
            received: 0,
            echoed: 0,
            peer_closed: false,
            total: 0,
            was_reset: false,
            ack_due: true,
            resend_at: None,
            resend_after: FIRST_RESEND,
        }
    }

    /// The next number that the other side should send.
    pub(super) fn next_expected(&self) -> Seq {
        self.receive_base
            .add(self.received)
            .add(u32::from(self.peer_closed))
    }

    /// The next number that the own side will send.
    pub(super) fn next_to_send(&self) -> Seq {
        self.send_base.add(self.most)
    }

    pub(super) fn resend_at(&self) -> Option<Timestamp> {
        self.resend_at
    }

    /// Takes a segment that is no RST.
    pub(super) fn hear(&mut self, tcp: &Tcp, payload: &[u8]) -> Progress {
        if let Some((value, _)) = tcp.options.timestamps {
            self.peer_time = Some(value);
        }
        if tcp.flags.has(TcpFlags::SYN) {
            // Its SYN+ACK again: the ACK was lost.
            self.ack_due = true;
            return self.progress();
        }
        if tcp.flags.has(TcpFlags::ACK) {
            self.acknowledge(tcp);
        }
        let closes = tcp.flags.has(TcpFlags::FIN);
        if tcp.payload_len > 0 || closes {
            self.ack_due = true;
        }
        // How far the segment begins before what is awaited: a repetition brings what follows it.
        let known = self.next_expected().0.wrapping_sub(tcp.seq.0);
        if known <= tcp.payload_len && !self.peer_closed {
            let fresh = tcp.payload_len - known;
            let from = usize::try_from(known).unwrap_or(usize::MAX);
            self.take(payload.get(from..).unwrap_or_default(), fresh);
            if closes {
                self.peer_closed = true;
                // It says no more: what has come is all.
                self.settle(self.exchange());
            }
        }
        self.progress()
    }

    /// The connection was reset by the other side.
    pub(super) fn reset(&mut self) {
        self.settle(Exchange::Reset);
        self.was_reset = true;
        self.resend_at = None;
    }

    /// Goes back to what was not acknowledged.
    pub(super) fn resend(&mut self, now: Timestamp) {
        self.sent = self.acked;
        self.resend_after = (self.resend_after * 2).min(LONGEST_RESEND);
        self.resend_at = Some(now + self.resend_after);
    }

    /// Appends what the connection has to send.
    pub(super) fn poll_transmit(&mut self, now: Timestamp, out: &mut Vec<TcpSegment>) {
        if self.was_reset {
            return;
        }
        let bytes = match &self.phase {
            Phase::Greeting(_) => 0,
            Phase::Echoing(_) => self.echo_bytes,
            Phase::Farewell(_) => self.total,
        };
        let end = bytes + u32::from(self.is_leaving());
        let room = self.window.min(self.largest * FLIGHT).max(1);
        while self.sent < end && self.sent - self.acked < room {
            let len = bytes
                .saturating_sub(self.sent)
                .min(self.largest)
                .min(room - (self.sent - self.acked));
            let mut flags = TcpFlags::ACK;
            if len > 0 {
                flags = flags.with(TcpFlags::PSH);
            }
            let closes = self.sent + len == bytes && end > bytes;
            if closes {
                flags = flags.with(TcpFlags::FIN);
            }
            let payload = (self.sent..self.sent + len).map(pattern).collect();
            out.push(self.segment(self.send_base.add(self.sent), flags, payload, now));
            self.sent += len + u32::from(closes);
            self.ack_due = false;
        }
        self.most = self.most.max(self.sent);
        if self.ack_due {
            self.ack_due = false;
            out.push(self.segment(self.next_to_send(), TcpFlags::ACK, Vec::new(), now));
        }
        if self.acked >= self.sent {
            self.resend_at = None;
        } else if self.resend_at.is_none() {
            self.resend_at = Some(now + self.resend_after);
        }
    }

    /// What came of the connection so far.
    pub(super) fn exchange(&self) -> Exchange {
        match &self.phase {
            Phase::Greeting(line) if line.is_empty() => Exchange::NoBanner,
            Phase::Greeting(_) => Exchange::Foreign,
            Phase::Echoing(banner) => Exchange::Greeted {
                banner: banner.clone(),
                echo: Echo::Stalled {
                    sent: self.most.min(self.echo_bytes),
                    received: self.echoed,
                },
            },
            Phase::Farewell(exchange) => exchange.clone(),
        }
    }

    fn acknowledge(&mut self, tcp: &Tcp) {
        let offset = tcp.ack.0.wrapping_sub(self.send_base.0);
        if offset > self.most {
            return;
        }
        self.window = u32::from(tcp.window) << self.window_scale;
        if offset > self.acked {
            self.acked = offset;
            self.sent = self.sent.max(offset);
            self.resend_at = None;
            self.resend_after = FIRST_RESEND;
        }
    }

    /// Takes `len` new bytes in order, of which `bytes` were captured.
    fn take(&mut self, bytes: &[u8], len: u32) {
        self.received = self.received.wrapping_add(len);
        match &mut self.phase {
            Phase::Greeting(line) => {
                let held = line.len();
                line.extend(bytes.iter().take(LONGEST_LINE));
                let Some(end) = line.iter().position(|&byte| byte == b'\n') else {
                    if line.len() >= LONGEST_LINE {
                        self.settle(Exchange::Foreign);
                    }
                    return;
                };
                let of_line = u32::try_from(end + 1 - held).unwrap_or(u32::MAX);
                match Banner::parse_line(line.get(..end).unwrap_or_default()) {
                    Err(_) => self.settle(Exchange::Foreign),
                    Ok(banner) => self.phase = Phase::Echoing(banner),
                }
                self.count_echo(len.saturating_sub(of_line));
            }
            Phase::Echoing(_) => self.count_echo(len),
            Phase::Farewell(_) => {}
        }
    }

    fn count_echo(&mut self, len: u32) {
        let Phase::Echoing(banner) = &self.phase else {
            return;
        };
        self.echoed = self.echoed.saturating_add(len).min(self.echo_bytes);
        if self.echoed == self.echo_bytes {
            let echo = match self.echo_bytes {
                0 => Echo::NotTried,
                bytes => Echo::Complete { bytes },
            };
            let banner = banner.clone();
            self.settle(Exchange::Greeted { banner, echo });
        }
    }

    /// Nothing more is to be said; the first to say so decides what came of it.
    fn settle(&mut self, exchange: Exchange) {
        match &self.phase {
            Phase::Greeting(_) | Phase::Echoing(_) => {
                self.phase = Phase::Farewell(exchange);
                self.total = self.most;
            }
            Phase::Farewell(_) => {}
        }
    }

    fn progress(&self) -> Progress {
        match &self.phase {
            Phase::Greeting(_) | Phase::Echoing(_) => Progress::Running,
            Phase::Farewell(_) if self.peer_closed && self.acked > self.total => Progress::Closed,
            Phase::Farewell(_) => Progress::Settled,
        }
    }

    fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Farewell(_))
    }

    fn segment(&self, seq: Seq, flags: TcpFlags, payload: Vec<u8>, now: Timestamp) -> TcpSegment {
        TcpSegment {
            seq,
            ack: self.next_expected(),
            options: TcpOptions {
                timestamps: self.peer_time.map(|echo| (timestamps(now), echo)),
                ..TcpOptions::default()
            },
            payload,
            ..segment(self.src, self.dst, seq, flags)
        }
    }
}
