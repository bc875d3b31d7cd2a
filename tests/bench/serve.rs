//! The server of complete handshakes: a responder of crafted segments, faster than a loop of accept(2), which would be
//! the bottleneck of the measurement.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use prober_core::packet::family::Family;
use prober_core::packet::observation::Direction;
use prober_core::probe::engine::Engine as _;
use prober_core::simulation::server::{Server, ServerBehaviour};
use prober_net::packet_socket::filter::CaptureFilter;
use prober_net::packet_socket::{CaptureOptions, Interfaces, OnRefusedFilter, RingShape};
use prober_net::raw_engine::RawEngine;
use prober_net::rst_suppression::SuppressedPort;

/// Maximum sleep.
const LONGEST: Duration = Duration::from_secs(1);

/// Sends a banner to every client of `at`, until it is killed.
pub(crate) fn serve(at: SocketAddr) -> anyhow::Result<()> {
    let _suppressed = SuppressedPort::reserve(Family::of(at.ip()), at.port())?
        .with_context(|| format!("port {} is in use", at.port()))?;
    let mut engine = RawEngine::open(CaptureOptions {
        interfaces: Interfaces::All,
        filter: CaptureFilter::in_ports(vec![at.port()..=at.port()])?,
        ring: RingShape::LARGE,
        on_refused_filter: OnRefusedFilter::Fail,
    })?;
    let mut server = Server::new(at, ServerBehaviour::Healthy);
    let mut replies = Vec::new();
    loop {
        let now = engine.now();
        server.handle_timeout(now, &mut replies);
        engine.send(&replies)?;
        replies.clear();
        let latest = now + LONGEST;
        let until = server.poll_timeout().map_or(latest, |at| at.min(latest));
        engine.recv(
            until,
            &mut |observation, payload| match observation.direction {
                Direction::Received => {
                    server.observe(observation.at, &observation.packet, payload, &mut replies);
                }
                Direction::Sent | Direction::Overheard => {}
            },
        )?;
    }
}
