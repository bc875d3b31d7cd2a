//! Whether a talk that stalled was held up by the way or by the process at the other end.

use crate::evidence::Evidence;
use crate::observation::{Direction, Observation};
use crate::wire::{Seq, TcpFlags};

/// Whether the client said something and no byte of either end waits for its acknowledgement: the way has carried all
/// there was, and what is missing was never sent. Kernels acknowledge what a process has yet to read.
pub(super) fn is_all_acknowledged(probe: &Evidence) -> bool {
    let Some(server) = &probe.server else {
        return false;
    };
    let client = Said::by(&probe.client.observations);
    let answers = Said::by(&server.observations);
    client.until.is_some() && client.is_acknowledged() && answers.is_acknowledged()
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
