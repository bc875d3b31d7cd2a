//! Whether the path carried the exchange after a handshake: an echo may also be held up by the process at the other end.

use super::Evidence;
use crate::packet::observation::{Direction, Observation};
use crate::packet::{Seq, TcpFlags};
use crate::probe::outcome::{Echo, Exchange};

impl Evidence {
    /// Whether the banner came and the path carried the bytes after it, or no exchange was planned.
    pub fn is_carried(&self) -> bool {
        match &self.client.exchange {
            Exchange::NotTried => true,
            Exchange::NoBanner | Exchange::InvalidBanner | Exchange::Reset => false,
            Exchange::BannerReceived { .. } => !self.is_stalled(),
        }
    }

    /// Whether the echo is missing, and not because the server process was slow to send it.
    pub fn is_stalled(&self) -> bool {
        match &self.client.exchange {
            Exchange::BannerReceived {
                echo: Echo::Stalled { .. },
                ..
            } => !self.is_all_acknowledged(),
            Exchange::NotTried
            | Exchange::NoBanner
            | Exchange::InvalidBanner
            | Exchange::Reset
            | Exchange::BannerReceived { .. } => false,
        }
    }

    /// Whether the last bytes that the client sent did not arrive: they have no acknowledgement, and the server's end did not
    /// observe them.
    pub fn is_request_lost(&self) -> bool {
        let sent = SentBytes::by(&self.client.observations);
        let Some(until) = sent.until.filter(|_| !sent.is_acknowledged()) else {
            return false;
        };
        let server = self.server.iter().flat_map(|server| &server.observations);
        let mut received = server.filter(|seen| seen.direction == Direction::Received);
        !received.any(|seen| {
            let tcp = seen.packet.tcp();
            tcp.is_some_and(|(_, tcp)| tcp.payload_len > 0 && tcp.seq.add(tcp.payload_len) == until)
        })
    }

    /// Whether the client sent data and no byte of either end is unacknowledged: the path has carried every byte that was
    /// sent, and the server has not sent the missing ones. Kernels acknowledge bytes that a process has yet to read.
    fn is_all_acknowledged(&self) -> bool {
        let Some(server) = &self.server else {
            return false;
        };
        let client = SentBytes::by(&self.client.observations);
        let answers = SentBytes::by(&server.observations);
        client.until.is_some() && client.is_acknowledged() && answers.is_acknowledged()
    }
}

/// The progress of one end.
#[derive(Debug, Default)]
struct SentBytes {
    /// The sequence number after the last byte that it sent.
    until: Option<Seq>,
    /// The highest acknowledgement number that it received.
    acknowledged: Option<Seq>,
}

impl SentBytes {
    fn by(observations: &[Observation]) -> Self {
        let mut sent = Self::default();
        for observation in observations {
            let Some((_, tcp)) = observation.packet.tcp() else {
                continue;
            };
            match observation.direction {
                Direction::Sent if tcp.payload_len > 0 => {
                    sent.until = Some(later(sent.until, tcp.seq.add(tcp.payload_len)));
                }
                Direction::Received if tcp.flags.has(TcpFlags::ACK) => {
                    sent.acknowledged = Some(later(sent.acknowledged, tcp.ack));
                }
                Direction::Sent | Direction::Received | Direction::Overheard => {}
            }
        }
        sent
    }

    fn is_acknowledged(&self) -> bool {
        match (self.until, self.acknowledged) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(until), Some(acknowledged)) => !acknowledged.is_before(until),
        }
    }
}

fn later(one: Option<Seq>, other: Seq) -> Seq {
    one.filter(|one| other.is_before(*one)).unwrap_or(other)
}
