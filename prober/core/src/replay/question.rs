//! What a replay is asked about: all connections, or some of them.

use std::net::{IpAddr, SocketAddr};

use super::join::Connection;

/// Which connections are judged; all of them by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Only those with this address, and port if there is one, at either end.
    pub about: Option<(IpAddr, Option<u16>)>,
    /// Only those to this address and port of a Service or server.
    pub service: Option<SocketAddr>,
    /// Only those of this client.
    pub client: Option<IpAddr>,
}

impl Question {
    /// Whether it is about all connections.
    pub(super) fn is_everything(self) -> bool {
        self == Self::default()
    }

    /// Whether it is about this connection, before or after any translation.
    pub(super) fn wants(self, connection: &Connection) -> bool {
        let mut legs = connection.views().flat_map(|view| &view.attempt.legs);
        let is_at = |end: SocketAddr, (address, port): (IpAddr, Option<u16>)| {
            end.ip() == address && port.is_none_or(|port| end.port() == port)
        };
        let about = legs.clone().any(|leg| {
            (self.about).is_none_or(|about| is_at(leg.client, about) || is_at(leg.target, about))
        });
        let service = legs
            .clone()
            .any(|leg| self.service.is_none_or(|service| leg.target == service));
        let client = legs.any(|leg| self.client.is_none_or(|client| leg.client.ip() == client));
        about && service && client
    }
}
