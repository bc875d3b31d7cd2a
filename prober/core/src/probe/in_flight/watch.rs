//! Connections of the kernel's own: a flight sends nothing for them, and tells what their packets show.

use std::net::SocketAddr;
use std::time::Duration;

use super::{InFlight, Probe};
use crate::probe::handshake::{Handshake, HandshakeConfig, HandshakeRole};
use crate::probe::outcome::{Errno, Exchange};
use crate::time::Timestamp;
use crate::topology::PathId;

impl InFlight {
    /// Watches a connection that the kernel is about to begin from `src`. A probe that was
    /// watched there before is over by that: one port, one connection.
    pub fn watch(
        &mut self,
        path: PathId,
        src: SocketAddr,
        dst: SocketAddr,
        now: Timestamp,
        deadline: Duration,
    ) {
        if let Some(slot) = self.ports.find(src) {
            self.land(slot);
        }
        let call = HandshakeConfig {
            path,
            src,
            dst,
            deadline,
        };
        self.board(
            src,
            Probe::Handshake(Handshake::new(call, HandshakeRole::Observer)),
            now,
        );
    }

    /// Tells what the kernel's socket on `src` got, now that it is closed. Packets that are still
    /// on their way through the capture are awaited for a moment.
    pub fn close(&mut self, src: SocketAddr, exchange: Exchange, now: Timestamp) {
        let Some(slot) = self.ports.find(src) else {
            return;
        };
        if let Some(Probe::Handshake(handshake)) = self.probe(slot) {
            handshake.set_exchange(exchange, now);
        }
        self.settle(slot);
    }

    /// Tells that the kernel refused to connect from `src` at once, and sent no packet.
    pub fn refuse_locally(&mut self, src: SocketAddr, errno: Errno, now: Timestamp) {
        let Some(slot) = self.ports.find(src) else {
            return;
        };
        if let Some(Probe::Handshake(handshake)) = self.probe(slot) {
            handshake.refuse_locally(errno, now);
        }
        self.settle(slot);
    }
}
