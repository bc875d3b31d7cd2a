//! The exchange after a handshake: the third packet, the banner, the bulk echo.

use prober_core::packet::{Seq, TcpFlags};
use prober_core::probe::banner::Banner;
use prober_core::probe::outcome::{Echo, EngineKind, Exchange};

use super::address::Agent;
use super::observe::{MS, Segment};
use super::packet::{Arrival, Packet, Stop};
use super::probe::Network;
use super::progress::Progress;

/// The size of the bulk echo, bytes.
const ECHO_BYTES: u32 = 8192;
/// The size of a full segment, bytes.
const FULL_SEGMENT: u32 = 1398;
impl Network<'_> {
    /// The third packet, the banner, the bulk echo.
    pub(crate) fn exchange(
        &mut self,
        progress: &mut Progress,
        server: Agent,
        attempt: usize,
    ) -> Exchange {
        let at = progress.at(attempt) + MS;
        let (flow, request) = (progress.flow, progress.request);
        let (next, acked) = (progress.isn.add(1), progress.server_isn.add(1));
        if request.engine == EngineKind::Raw {
            let reset = Packet::new(flow.src, flow.target, TcpFlags::RST);
            self.client_sends(
                progress,
                at,
                reset,
                Segment::new(TcpFlags::RST, next, acked),
            );
            if let Ok(arrival) = self.send_to_server(progress, attempt, reset) {
                progress.server_receives(arrival, at, TcpFlags::RST);
            }
            return Exchange::NotTried;
        }
        let ack = Packet::new(flow.src, flow.target, TcpFlags::ACK);
        self.client_sends(progress, at, ack, Segment::new(TcpFlags::ACK, next, acked));
        let Ok(arrival) = self.send_to_server(progress, attempt, ack) else {
            return Exchange::NoBanner;
        };
        progress.server_receives(arrival, at, TcpFlags::ACK);
        if self
            .cluster
            .pods
            .get(&server)
            .is_some_and(|pod| pod.is_frozen)
        {
            return Exchange::NoBanner;
        }
        let reply = Packet::new(arrival.packet.dst, arrival.packet.src, TcpFlags::ACK);
        let data = |payload_len| Segment {
            payload_len,
            ..Segment::new(TcpFlags::ACK.with(TcpFlags::PSH), acked, next)
        };
        self.server_sends(progress, server, at + MS, reply, data(80));
        let mut walk = self.walk(&request, attempt);
        let Ok(banner) = walk.deliver_to_client(&flow, server, reply) else {
            return Exchange::NoBanner;
        };
        progress.client_receives(banner, at + 2 * MS, data(80));
        let echo = if request.has_echo {
            self.echo(progress, server, attempt, reply)
        } else {
            Echo::NotTried
        };
        Exchange::BannerReceived {
            banner: Banner {
                nonce: 1,
                pod: server.id().pod,
                node: server.id().node,
                peer: arrival.packet.src,
                addresses: Vec::new(),
            },
            echo,
        }
    }

    fn echo(
        &mut self,
        progress: &mut Progress,
        server: Agent,
        attempt: usize,
        reply: Packet,
    ) -> Echo {
        let flow = progress.flow;
        let large = |packet| Packet {
            is_large: true,
            ..packet
        };
        let stalled = Echo::Stalled {
            sent: ECHO_BYTES,
            received: 0,
        };
        let request = Packet::new(flow.src, flow.target, TcpFlags::ACK);
        let segment = Segment {
            payload_len: FULL_SEGMENT,
            ..Segment::new(
                TcpFlags::ACK,
                progress.isn.add(1),
                progress.server_isn.add(81),
            )
        };
        let at = progress.at(attempt) + 3 * MS;
        let Ok(arrival) = self.send_to_server(progress, attempt, large(request)) else {
            self.client_sends(progress, at, request, segment);
            return stalled;
        };
        let node = flow.client.node;
        let answer = Packet {
            is_outside_window: self.cluster.node(node).has_invalid_segments,
            ..large(reply)
        };
        let mut walk = self.walk(&progress.request, attempt);
        let delivered = walk.deliver_to_client(&flow, server, answer);
        let is_intact = (delivered.as_ref()).is_ok_and(|arrival| arrival.packet.src == flow.target);
        if is_intact {
            return Echo::Complete { bytes: ECHO_BYTES };
        }
        self.client_sends(progress, at, request, segment);
        progress.server_receives_data(arrival, at, TcpFlags::ACK, FULL_SEGMENT);
        let back = Segment::new(
            TcpFlags::ACK,
            progress.server_isn.add(81),
            progress.isn.add(1),
        );
        let back = Segment {
            payload_len: FULL_SEGMENT,
            ..back
        };
        self.server_sends(progress, server, at + MS, reply, back);
        if answer.is_outside_window {
            self.reset_untranslated(progress, at + MS, delivered.ok(), back);
            progress.server_receives(arrival, at + 2 * MS, TcpFlags::RST);
        }
        stalled
    }

    /// The client's kernel, or that of the node which has replaced its address, answers a segment of no connection by a RST.
    fn reset_untranslated(
        &mut self,
        progress: &mut Progress,
        at: u64,
        delivered: Option<Arrival>,
        segment: Segment,
    ) {
        let flow = progress.flow;
        self.counts.node(flow.client.node, "ConntrackInvalid");
        if let Some(arrival) = delivered {
            progress.client_receives(arrival, at, segment);
            let reset = Packet::new(flow.src, arrival.packet.src, TcpFlags::RST);
            let answer = Segment::new(TcpFlags::RST, segment.ack, Seq(0));
            self.client_sends(progress, at, reset, answer);
        }
    }

    fn send_to_server(
        &mut self,
        progress: &Progress,
        attempt: usize,
        packet: Packet,
    ) -> Result<Arrival, Stop> {
        let mut flow = progress.flow;
        self.walk(&progress.request, attempt)
            .deliver_to_server(&mut flow, packet)
    }
}
