//! Whether the path carried the exchange after a handshake: an echo may also be held up by the process at the other end.

use super::Evidence;
use crate::packet::observation::{Direction, Observation};
use crate::packet::{Seq, TcpFlags};
use crate::probe::outcome::{Echo, Exchange};

impl Evidence {
    /// Whether the banner came and the way carried what followed, or nothing was to be said.
    pub fn is_carried(&self) -> bool {
        match &self.client.exchange {
            Exchange::NotTried => true,
            Exchange::NoBanner | Exchange::InvalidBanner | Exchange::Reset => false,
            Exchange::BannerReceived { .. } => !self.is_stalled(),
        }
    }

    /// Whether the echo stayed away, and not because the server's process was slow to send it.
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

    /// Whether the client said something and no byte of either end waits for its acknowledgement: the way has carried all
    /// there was, and what is missing was never sent. Kernels acknowledge what a process has yet to read.
    fn is_all_acknowledged(&self) -> bool {
        let Some(server) = &self.server else {
            return false;
        };
        let client = Said::by(&self.client.observations);
        let answers = Said::by(&server.observations);
        client.until.is_some() && client.is_acknowledged() && answers.is_acknowledged()
    }
}

/// How far one end got.
#[derive(Debug, Default)]
struct Said {
    /// The number behind the last byte that it sent.
    until: Option<Seq>,
    /// The highest number that was acknowledged to it.
    acknowledged: Option<Seq>,
}

impl Said {
    fn by(observations: &[Observation]) -> Self {
        let mut said = Self::default();
        for observation in observations {
            let Some((_, tcp)) = observation.packet.tcp() else {
                continue;
            };
            match observation.direction {
                Direction::Sent if tcp.payload_len > 0 => {
                    said.until = Some(later(said.until, tcp.seq.add(tcp.payload_len)));
                }
                Direction::Received if tcp.flags.has(TcpFlags::ACK) => {
                    said.acknowledged = Some(later(said.acknowledged, tcp.ack));
                }
                Direction::Sent | Direction::Received | Direction::Overheard => {}
            }
        }
        said
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
