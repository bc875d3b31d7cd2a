//! The connection of a driver after the handshake: ACK, banner, echo, FIN.
//!
//! The part of TCP that a probe needs: it accepts bytes only in order and acknowledges at once, sends as much as the
//! server's window and ten segments allow, and retransmits from the first unacknowledged byte.

use std::net::SocketAddr;
use std::time::Duration;

use super::segments::{segment, timestamps};
use crate::packet::{Seq, Tcp, TcpFlags, TcpOptions, TcpSegment};
use crate::probe::banner::Banner;
use crate::probe::banner::LONGEST_LINE;
use crate::probe::outcome::{Echo, Exchange};
use crate::time::Timestamp;

/// Time until the first retransmission; doubles each time.
const FIRST_RESEND: Duration = Duration::from_millis(300);

/// Maximum time between two retransmissions.
const LONGEST_RESEND: Duration = Duration::from_millis(1200);

/// Maximum number of segments in flight (RFC 6928).
const MAX_SEGMENTS_IN_FLIGHT: u32 = 10;

/// Bytes that the timestamps option takes in each segment.
const TIMESTAMPS_LEN: u32 = 12;

/// The byte of a bulk echo at this offset.
pub const fn pattern(offset: u32) -> u8 {
    // 251 is prime: successive segments differ.
    (offset % 251) as u8
}

/// Progress of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamProgress {
    /// More bytes are expected or due to be sent.
    Running,
    /// The exchange is complete; the server's FIN is awaited.
    Finished,
    /// Both sides closed the connection.
    Closed,
}

/// What the driver waits for.
#[derive(Debug)]
enum StreamPhase {
    /// The line of the banner; holds the bytes received so far.
    Banner(Vec<u8>),
    /// The echo.
    Echo(Banner),
    /// The server's FIN; holds the result of the exchange.
    Closing(Exchange),
}

#[derive(Debug)]
pub(super) struct Stream {
    src: SocketAddr,
    dst: SocketAddr,
    /// Sequence number of the first byte of each direction.
    send_base: Seq,
    receive_base: Seq,
    /// Maximum payload of one segment, bytes.
    max_payload: u32,
    echo_bytes: u32,
    window_scale: u8,
    window: u32,
    /// The newest timestamp of the server, where it sends any.
    peer_timestamp: Option<u32>,
    phase: StreamPhase,
    /// Offsets of sent bytes: acknowledged, next to send, highest ever sent. The FIN counts as one.
    acked: u32,
    sent: u32,
    highest_sent: u32,
    /// In-order bytes received, echo bytes among them, and whether the FIN was received.
    received: u32,
    echoed: u32,
    peer_closed: bool,
    /// Number of all bytes to send, known once the exchange is complete.
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
        // The default without the option is 536, or 1220 for IPv6 (RFC 9293 3.7.1).
        let default = if dst.is_ipv4() { 536 } else { 1220 };
        let options = answer.options;
        let room = u32::from(mss.min(options.mss.unwrap_or(default)));
        Self {
            src,
            dst,
            send_base: isn.add(1),
            receive_base: answer.seq.add(1),
            max_payload: room
                .saturating_sub(options.timestamps.map_or(0, |_| TIMESTAMPS_LEN))
                .max(1),
            echo_bytes,
            // A larger shift counts as 14 (RFC 7323 2.3).
            window_scale: options.window_scale.unwrap_or(0).min(14),
            window: u32::from(answer.window),
            peer_timestamp: options.timestamps.map(|(value, _)| value),
            phase: StreamPhase::Banner(Vec::new()),
            acked: 0,
            sent: 0,
            highest_sent: 0,
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

    /// The next sequence number expected from the server.
    pub(super) fn next_expected(&self) -> Seq {
        self.receive_base
            .add(self.received)
            .add(u32::from(self.peer_closed))
    }

    /// The next sequence number to send.
    pub(super) fn next_to_send(&self) -> Seq {
        self.send_base.add(self.highest_sent)
    }

    pub(super) fn resend_at(&self) -> Option<Timestamp> {
        self.resend_at
    }

    /// Processes a segment without RST.
    pub(super) fn receive(&mut self, tcp: &Tcp, payload: &[u8]) -> StreamProgress {
        if let Some((value, _)) = tcp.options.timestamps {
            self.peer_timestamp = Some(value);
        }
        if tcp.flags.has(TcpFlags::SYN) {
            // A repeated SYN+ACK: the ACK was lost.
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
        // Bytes of the segment that are already received: a retransmission may carry new bytes, too.
        let known = self.next_expected().0.wrapping_sub(tcp.seq.0);
        if known <= tcp.payload_len && !self.peer_closed {
            let fresh = tcp.payload_len - known;
            let from = usize::try_from(known).unwrap_or(usize::MAX);
            self.take(payload.get(from..).unwrap_or_default(), fresh);
            if closes {
                self.peer_closed = true;
                // The server sends no more bytes: the exchange ends with those received.
                self.finish(self.exchange());
            }
        }
        self.progress()
    }

    /// The server reset the connection.
    pub(super) fn reset(&mut self) {
        self.finish(Exchange::Reset);
        self.was_reset = true;
        self.resend_at = None;
    }

    /// Retransmits from the first unacknowledged byte.
    pub(super) fn resend(&mut self, now: Timestamp) {
        self.sent = self.acked;
        self.resend_after = (self.resend_after * 2).min(LONGEST_RESEND);
        self.resend_at = Some(now + self.resend_after);
    }

    /// Appends the segments that are due.
    pub(super) fn poll_transmit(&mut self, now: Timestamp, out: &mut Vec<TcpSegment>) {
        if self.was_reset {
            return;
        }
        let bytes = match &self.phase {
            StreamPhase::Banner(_) => 0,
            StreamPhase::Echo(_) => self.echo_bytes,
            StreamPhase::Closing(_) => self.total,
        };
        let end = bytes + u32::from(self.is_closing());
        let room = self
            .window
            .min(self.max_payload * MAX_SEGMENTS_IN_FLIGHT)
            .max(1);
        while self.sent < end && self.sent - self.acked < room {
            let len = bytes
                .saturating_sub(self.sent)
                .min(self.max_payload)
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
        self.highest_sent = self.highest_sent.max(self.sent);
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

    /// The result of the exchange so far.
    pub(super) fn exchange(&self) -> Exchange {
        match &self.phase {
            StreamPhase::Banner(line) if line.is_empty() => Exchange::NoBanner,
            StreamPhase::Banner(_) => Exchange::InvalidBanner,
            StreamPhase::Echo(banner) => Exchange::BannerReceived {
                banner: banner.clone(),
                echo: Echo::Stalled {
                    sent: self.highest_sent.min(self.echo_bytes),
                    received: self.echoed,
                },
            },
            StreamPhase::Closing(exchange) => exchange.clone(),
        }
    }

    fn acknowledge(&mut self, tcp: &Tcp) {
        let offset = tcp.ack.0.wrapping_sub(self.send_base.0);
        if offset > self.highest_sent {
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

    /// Accepts `len` new bytes in order, of which `bytes` were captured.
    fn take(&mut self, bytes: &[u8], len: u32) {
        self.received = self.received.wrapping_add(len);
        match &mut self.phase {
            StreamPhase::Banner(line) => {
                let held = line.len();
                line.extend(bytes.iter().take(LONGEST_LINE));
                let Some(end) = line.iter().position(|&byte| byte == b'\n') else {
                    if line.len() >= LONGEST_LINE {
                        self.finish(Exchange::InvalidBanner);
                    }
                    return;
                };
                let of_line = u32::try_from(end + 1 - held).unwrap_or(u32::MAX);
                match Banner::parse_line(line.get(..end).unwrap_or_default()) {
                    Err(_) => self.finish(Exchange::InvalidBanner),
                    Ok(banner) => self.phase = StreamPhase::Echo(banner),
                }
                self.count_echo(len.saturating_sub(of_line));
            }
            StreamPhase::Echo(_) => self.count_echo(len),
            StreamPhase::Closing(_) => {}
        }
    }

    fn count_echo(&mut self, len: u32) {
        let StreamPhase::Echo(banner) = &self.phase else {
            return;
        };
        self.echoed = self.echoed.saturating_add(len).min(self.echo_bytes);
        if self.echoed == self.echo_bytes {
            let echo = match self.echo_bytes {
                0 => Echo::NotTried,
                bytes => Echo::Complete { bytes },
            };
            let banner = banner.clone();
            self.finish(Exchange::BannerReceived { banner, echo });
        }
    }

    /// Completes the exchange; the first result stays.
    fn finish(&mut self, exchange: Exchange) {
        match &self.phase {
            StreamPhase::Banner(_) | StreamPhase::Echo(_) => {
                self.phase = StreamPhase::Closing(exchange);
                self.total = self.highest_sent;
            }
            StreamPhase::Closing(_) => {}
        }
    }

    fn progress(&self) -> StreamProgress {
        match &self.phase {
            StreamPhase::Banner(_) | StreamPhase::Echo(_) => StreamProgress::Running,
            StreamPhase::Closing(_) if self.peer_closed && self.acked > self.total => {
                StreamProgress::Closed
            }
            StreamPhase::Closing(_) => StreamProgress::Finished,
        }
    }

    fn is_closing(&self) -> bool {
        matches!(self.phase, StreamPhase::Closing(_))
    }

    fn segment(&self, seq: Seq, flags: TcpFlags, payload: Vec<u8>, now: Timestamp) -> TcpSegment {
        TcpSegment {
            seq,
            ack: self.next_expected(),
            options: TcpOptions {
                timestamps: self.peer_timestamp.map(|echo| (timestamps(now), echo)),
                ..TcpOptions::default()
            },
            payload,
            ..segment(self.src, self.dst, seq, flags)
        }
    }
}
