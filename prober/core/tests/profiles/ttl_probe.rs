//! TTL probes: SYNs of one five-tuple with rising TTLs.

use std::net::SocketAddr;

use prober_core::packet::family::Family;
use prober_core::packet::{Checksum, TcpFlags};
use prober_core::probe::event::{TtlProbe, TtlStep, TtlStepAnswer};

use super::packet::{Flow, Icmp, Packet, Stop};
use super::probe::{Network, Reaction, Request};

impl Network<'_> {
    /// SYNs of one five-tuple with rising TTLs, after one that pins the backend.
    pub(crate) fn ttl_probe(&mut self, request: Request, hop_limits: &[u8]) -> TtlProbe {
        let family = Family::of(request.target.ip());
        let src = SocketAddr::new(self.cluster.ip(request.client, family), 63_000);
        let mut flow = Flow {
            client: request.client,
            src,
            target: request.target,
            translated: None,
            is_confirmed: false,
        };
        let syn = Packet::new(src, request.target, TcpFlags::SYN);
        let _pinned = self.walk(&request, 0).deliver_to_server(&mut flow, syn);
        let steps = hop_limits.iter().map(|&hop_limit| TtlStep {
            hop_limit,
            tries: 3,
            answer: self.step(
                &request,
                flow,
                Packet {
                    ttl: hop_limit,
                    ..syn
                },
            ),
            checksum: Checksum::Unknown,
        });
        TtlProbe {
            path: request.path,
            target: request.target,
            steps: steps.collect(),
        }
    }

    fn step(&mut self, request: &Request, mut flow: Flow, syn: Packet) -> TtlStepAnswer {
        let arrived = self.walk(request, 0).deliver_to_server(&mut flow, syn);
        let (answer, is_syn_ack) = match arrived {
            Ok(arrival) => {
                let is_syn_ack = match self.reaction(arrival) {
                    Reaction::SynAck => true,
                    Reaction::Reset | Reaction::ResetByDuplicate => false,
                    Reaction::None => return TtlStepAnswer::Silent,
                };
                let flags = if is_syn_ack {
                    TcpFlags::SYN_ACK
                } else {
                    TcpFlags::RST.with(TcpFlags::ACK)
                };
                let reply = Packet::new(arrival.packet.dst, arrival.packet.src, flags);
                let mut walk = self.walk(request, 0);
                (walk.deliver_to_client(&flow, arrival.at, reply), is_syn_ack)
            }
            Err(Stop::Error(error)) => {
                let Ok(arrival) = self.walk(request, 0).error_to_client(&flow, &error) else {
                    return TtlStepAnswer::Silent;
                };
                let (by, hop_limit) = (arrival.packet.src.ip(), arrival.packet.ttl);
                return match error.what {
                    Icmp::TimeExceeded => TtlStepAnswer::TimeExceeded { by, hop_limit },
                    Icmp::Unreachable(reason) => TtlStepAnswer::Unreachable {
                        by,
                        reason,
                        hop_limit,
                    },
                };
            }
            Err(Stop::ForgedReset { node, is_bridged }) => (
                self.walk(request, 0).forged_reset(&flow, node, is_bridged),
                false,
            ),
            Err(Stop::Dropped | Stop::Returned(_) | Stop::Refused(_)) => {
                return TtlStepAnswer::Silent;
            }
        };
        let Ok(arrival) = answer else {
            return TtlStepAnswer::Silent;
        };
        let (from, hop_limit) = (arrival.packet.src, arrival.packet.ttl);
        if is_syn_ack {
            TtlStepAnswer::SynAck { from, hop_limit }
        } else {
            TtlStepAnswer::Reset { from, hop_limit }
        }
    }
}
