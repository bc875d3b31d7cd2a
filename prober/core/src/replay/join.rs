//! Joins the flows of several observers into handshakes, whose two ends share the sequence number.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::flow::Flow;
use super::position::ObserverPosition;
use crate::packet::observation::{Direction, Observation};

/// One handshake, observed at its client's end, and maybe at its server's.
#[derive(Debug)]
pub(super) struct JoinedHandshake {
    /// The index of the observer at the client's end.
    pub(super) observer: usize,
    /// The flow at the client's end, or at the observer nearest to it.
    pub(super) client: Flow,
    /// The flow at the server's end.
    pub(super) server: Option<Flow>,
    /// The destination of the SYN after translation, if an observer has it.
    pub(super) translated: Option<SocketAddr>,
}

/// The handshakes of all captures.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    /// In the order of observers and SYNs.
    pub(super) handshakes: Vec<JoinedHandshake>,
    /// Number of handshakes with only the server's end.
    pub(super) server_only: usize,
}

/// Joins flows, each with the index of its observer.
pub(super) fn join(flows: Vec<(usize, Flow)>) -> Handshakes {
    let mut by_number: BTreeMap<u32, Vec<(usize, Flow)>> = BTreeMap::new();
    for (observer, flow) in flows {
        by_number
            .entry(flow.isn.0)
            .or_default()
            .push((observer, flow));
    }
    let mut joined = Handshakes::default();
    for views in by_number.into_values() {
        join_one_number(views, &mut joined);
    }
    joined
        .handshakes
        .sort_by_key(|handshake| (handshake.observer, handshake.client.started));
    joined
}

/// Joins flows with the same number: one handshake, or a port scan with one number for all of its SYNs.
fn join_one_number(mut views: Vec<(usize, Flow)>, joined: &mut Handshakes) {
    // Nearest to the client first; hop limits only ever fall.
    views.sort_by_key(|(observer, flow)| {
        (
            flow.position,
            u8::MAX - flow.hop_limit,
            *observer,
            flow.started,
        )
    });
    let first = joined.handshakes.len();
    let clients = views
        .iter()
        .filter(|(_, flow)| flow.position == ObserverPosition::Client);
    let is_scan = clients.count() > 1;
    for (observer, flow) in views {
        let seeds = joined.handshakes.get_mut(first..).unwrap_or_default();
        let mut fitting = seeds.iter_mut().filter(|seed| {
            flow.position != ObserverPosition::Client
                && (!is_scan || seed.client.client.port() == flow.client.port())
        });
        match (fitting.next(), fitting.next()) {
            (Some(only), None) => only.add(observer, flow),
            (Some(_), Some(_)) => {}
            (None, _) if flow.position == ObserverPosition::Server => joined.server_only += 1,
            (None, _) => joined.handshakes.push(JoinedHandshake {
                observer,
                client: flow,
                server: None,
                translated: None,
            }),
        }
    }
}

impl JoinedHandshake {
    /// Adds a flow at an observer further along the path.
    fn add(&mut self, observer: usize, flow: Flow) {
        if flow.target != self.client.target {
            self.translated = Some(flow.target);
        }
        match flow.position {
            ObserverPosition::Server if self.server.is_none() => self.server = Some(flow),
            // A bridge floods a frame to all of its ports while it does not know the right one:
            // the client's end then observes its own translated SYN.
            ObserverPosition::InTransit
                if observer == self.observer
                    && self.client.position == ObserverPosition::Client =>
            {
                let overheard = flow.packets.into_iter().map(|seen| Observation {
                    direction: Direction::Overheard,
                    ..seen
                });
                self.client.packets.extend(overheard);
                self.client.packets.sort_by_key(|seen| seen.at);
            }
            ObserverPosition::Server | ObserverPosition::InTransit | ObserverPosition::Client => {}
        }
    }
}
