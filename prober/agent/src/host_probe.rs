//! Probes from this host, without an agent or a plan, for `prober probe HOST:PORT`.
//!
//! The targets are any servers, which send no banner: a crafted probe ends with the answer to its SYN, and a connection of
//! the kernel is closed as soon as it is established.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use prober_core::node_facts::NodeFacts;
use prober_core::plan::{Method, ProbePlan};
use prober_core::probe::event::{EVENT_SCHEMA, Event, Hello};
use prober_core::probe::in_flight::pacing::Pace;
use prober_core::probe::tier::Tier;
use prober_core::topology::{AgentId, PathId};
use prober_net::node_facts::read_facts;
pub use prober_net::packet_socket::now;
use prober_net::packet_socket::{Interfaces, RingShape};
use prober_net::route_lookup::{ResolvedRoute, RouteLookupError, look_up_route};
use tokio::task::LocalSet;

use crate::engine::commands::{PacketCommand, RawPlan};
use crate::engine::connect_jobs::{ConnectJobs, ConnectRunner, Servers};
use crate::engine::events::{EngineEvent, EngineEventReceiver, PlanId, ProbeEvent, engine_events};
use crate::engine::kernel::Connector;
use crate::engine::packet_loop::LoopbackMode;
use crate::engine::packet_thread::{PacketSockets, PacketThreadError};
use crate::event_lines::tally::Tallies;
use crate::local_addresses::LocalAddresses;
use crate::timers::lateness::LatenessMonitor;

/// The only plan.
const PLAN: PlanId = PlanId::Accepted(1);

/// How to probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostProbe {
    /// How many probes each target gets.
    pub count: u32,
    /// The time between two probes of a target.
    pub interval: Duration,
    /// The time after which a probe without an answer has failed.
    pub deadline: Duration,
    /// The engine that sends them.
    pub engine: HostEngine,
}

/// The engine that sends the probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostEngine {
    /// Crafted SYNs. Needs `CAP_NET_RAW`.
    Raw,
    /// connect(); its packets are captured where that is allowed.
    Kernel,
    /// As [`HostEngine::Kernel`], which does what an application does.
    Auto,
}

/// How the probes from a host ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostProbeEnd {
    /// Every probe has an outcome, or could not be sent.
    Complete,
    /// SIGINT (Ctrl-C) came first.
    Interrupted,
}

/// The targets cannot be probed.
#[derive(Debug, thiserror::Error)]
pub enum HostProbeError {
    /// The kernel has no route to a target.
    #[error(transparent)]
    Route(#[from] RouteLookupError),
    /// Crafted probes were requested and cannot be sent.
    #[error(
        "cannot probe with crafted packets: {0}; or use --engine kernel, which needs no privilege"
    )]
    CraftedPackets(String),
    /// The event loop could not be started.
    #[error("cannot start the event loop: {0}; is the limit of open files (ulimit -n) reached?")]
    Loop(#[source] std::io::Error),
}

/// Probes targets from this host. The first event is a `hello`, which lists what cannot be seen; each probe is an event,
/// and the last events are a tally for each target. The path of a target is its index in `targets`. Ctrl-C ends the probes
/// early, with the tallies so far.
///
/// Targets behind the same interface are probed at the same time, others one after the other: on a node the same packet
/// passes several interfaces, and must be captured only once.
pub fn probe_from_host(
    targets: &[SocketAddr],
    how: &HostProbe,
    sink: &mut dyn FnMut(Event),
) -> Result<HostProbeEnd, HostProbeError> {
    let mut groups: Vec<(ResolvedRoute, Vec<ProbePlan>)> = Vec::new();
    for (place, target) in (0..).zip(targets) {
        let route = look_up_route(target.ip())?;
        let probe = how.probe(PathId(place), *target);
        match groups.iter_mut().find(|(known, _)| *known == route) {
            Some((_, probes)) => probes.push(probe),
            None => groups.push((route, vec![probe])),
        }
    }
    let facts = read_facts();
    let mut tallies = Tallies::default();
    let mut ended = HostProbeEnd::Complete;
    for (place, (route, probes)) in groups.into_iter().enumerate() {
        let opened = PacketSockets::open(Interfaces::One(route.interface), RingShape::SMALL);
        let opened = match (opened, how.engine) {
            (Ok(opened), _) => Ok(opened),
            (Err(error), HostEngine::Raw) => {
                return Err(HostProbeError::CraftedPackets(error.to_string()));
            }
            (Err(error), HostEngine::Kernel | HostEngine::Auto) => Err(error),
        };
        if place == 0 {
            sink(hello(&facts, &opened));
        }
        ended = probe_group(
            &local_addresses(&facts, route),
            opened.ok(),
            probes,
            &mut tallies,
            sink,
        )?;
        if ended == HostProbeEnd::Interrupted {
            break;
        }
    }
    tallies.take().into_iter().for_each(sink);
    Ok(ended)
}

impl HostProbe {
    fn probe(&self, path: PathId, target: SocketAddr) -> ProbePlan {
        ProbePlan {
            path,
            method: match self.engine {
                HostEngine::Raw => Method::Syn,
                HostEngine::Kernel | HostEngine::Auto => Method::Connect { echo_bytes: 0 },
            },
            target,
            count: self.count,
            start_ms: 0,
            interval_ms: millis(self.interval),
            deadline_ms: millis(self.deadline),
        }
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

fn hello(facts: &NodeFacts, opened: &Result<PacketSockets, PacketThreadError>) -> Event {
    Event::Hello(Hello {
        schema: EVENT_SCHEMA.to_owned(),
        agent: AgentId::new("here", "here"),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        tier: if opened.is_ok() { Tier::T1 } else { Tier::T0 },
        addresses: LocalAddresses::of(facts).addresses,
        limits: match opened {
            Ok(opened) => opened.refused_filter().into_iter().collect(),
            Err(error) => vec![format!(
                "tier T0, only the results of connect() are known: {error}"
            )],
        },
        at: now(),
        run: None,
    })
}

/// The source address and the MTU of packets that take this route.
fn local_addresses(facts: &NodeFacts, route: ResolvedRoute) -> LocalAddresses {
    let mut local = LocalAddresses {
        v4: None,
        v6: None,
        ..LocalAddresses::of(facts)
    };
    match route.source {
        IpAddr::V4(v4) => local.v4 = Some(v4),
        IpAddr::V6(v6) => local.v6 = Some(v6),
    }
    let mut links = facts.links.iter().flatten();
    if let Some(mtu) = links
        .find(|link| link.index == route.interface)
        .and_then(|link| link.mtu)
    {
        local.mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
    }
    local
}

fn probe_group(
    local: &LocalAddresses,
    opened: Option<PacketSockets>,
    probes: Vec<ProbePlan>,
    tallies: &mut Tallies,
    sink: &mut dyn FnMut(Event),
) -> Result<HostProbeEnd, HostProbeError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(HostProbeError::Loop)?;
    let (events, received) = engine_events();
    let packets = opened
        .map(|opened| opened.start(local, LoopbackMode::Capture, events.clone()))
        .transpose()
        .map_err(|error| HostProbeError::CraftedPackets(error.to_string()))?
        .map(Rc::new);
    let connector = Connector::new(now().as_nanos());
    let connects = Rc::new(ConnectRunner::new(
        connector,
        events.clone(),
        Rc::new(LatenessMonitor::new(events)),
        packets.clone(),
        Servers::Foreign,
    ));
    let outstanding = probes.iter().map(|probe| u64::from(probe.count)).sum();
    let start = now();
    let (kernel, raw) = probes
        .into_iter()
        .partition(|probe| matches!(probe.method, Method::Connect { .. }));
    let done = LocalSet::new().block_on(&runtime, async {
        if let Some(packets) = &packets {
            packets.send_now(PacketCommand::StartPlan(RawPlan {
                id: PLAN,
                probes: raw,
                ports: Some(Vec::new()),
                start,
                pace: Pace::Even,
            }));
        }
        let probing = tokio::task::spawn_local(connects.run(ConnectJobs {
            id: PLAN,
            probes: kernel,
            start,
            pace: Pace::Even,
        }));
        let done = tokio::select! {
            done = report(received, outstanding, tallies, sink) => done.map(|()| HostProbeEnd::Complete),
            signal = tokio::signal::ctrl_c() => {
                signal.map(|()| HostProbeEnd::Interrupted).map_err(HostProbeError::Loop)
            }
        };
        probing.abort();
        done
    });
    if let Some(packets) = packets {
        packets.stop();
    }
    done
}

/// Reports results until none is outstanding.
async fn report(
    mut received: EngineEventReceiver,
    mut outstanding: u64,
    tallies: &mut Tallies,
    sink: &mut dyn FnMut(Event),
) -> Result<(), HostProbeError> {
    while outstanding > 0
        && let Some(event) = received.recv().await
    {
        match event {
            EngineEvent::Probe(_, ProbeEvent::Result(result)) => {
                outstanding -= 1;
                drop(tallies.count((*result).clone()));
                sink(Event::Probe(result));
            }
            EngineEvent::Probe(_, ProbeEvent::Unsent(probes, text)) => {
                outstanding = outstanding.saturating_sub(probes);
                sink(Event::Notice { text });
            }
            EngineEvent::Probe(_, ProbeEvent::TtlProbe(ttl_probe)) => {
                outstanding -= 1;
                sink(Event::TtlProbe(ttl_probe));
            }
            EngineEvent::Late(_)
            | EngineEvent::Line(_)
            | EngineEvent::NodeFacts(..)
            | EngineEvent::ServerTrace(_) => {}
            EngineEvent::Capture { received, dropped } => {
                if dropped > 0 {
                    sink(Event::Capture { received, dropped });
                }
            }
            EngineEvent::Notice(text) => sink(Event::Notice { text }),
            EngineEvent::PacketThreadFailed(why) => {
                return Err(HostProbeError::CraftedPackets(why));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use prober_core::probe::outcome::{EngineKind, Exchange, OutcomeKind, ProbeResult};

    use super::*;

    fn probed(
        targets: &[SocketAddr],
        engine: HostEngine,
        count: u32,
    ) -> (Vec<Event>, Vec<ProbeResult>) {
        let how = HostProbe {
            count,
            interval: Duration::from_millis(10),
            deadline: Duration::from_secs(1),
            engine,
        };
        let mut events = Vec::new();
        probe_from_host(targets, &how, &mut |event| events.push(event)).unwrap();
        let results = events.iter().filter_map(|event| match event {
            Event::Probe(result) => Some((**result).clone()),
            Event::Hello(_)
            | Event::PlanAccepted { .. }
            | Event::PlanRefused { .. }
            | Event::Tally(_)
            | Event::ServerTrace { .. }
            | Event::TtlProbe(_)
            | Event::Reached { .. }
            | Event::Counters { .. }
            | Event::Capture { .. }
            | Event::Done { .. }
            | Event::Starved { .. }
            | Event::StandingFailure(_)
            | Event::Alert
            | Event::Facts(_)
            | Event::Notice { .. } => None,
        });
        let results = results.collect();
        (events, results)
    }

    /// A port of the loopback that is open, and one that is closed.
    fn open_and_closed(address: &str) -> (TcpListener, [SocketAddr; 2]) {
        let open = TcpListener::bind((address, 0)).unwrap();
        let closed = TcpListener::bind((address, 0))
            .unwrap()
            .local_addr()
            .unwrap();
        let targets = [open.local_addr().unwrap(), closed];
        (open, targets)
    }

    #[test]
    fn each_engine_distinguishes_open_and_closed_ports_of_this_host_in_each_family() {
        for address in ["127.0.0.1", "::1"] {
            let (_listener, targets) = open_and_closed(address);
            for (engine, kind) in [
                (HostEngine::Raw, EngineKind::Raw),
                (HostEngine::Kernel, EngineKind::Kernel),
                (HostEngine::Auto, EngineKind::Kernel),
            ] {
                let (events, results) = probed(&targets, engine, 5);
                assert!(
                    matches!(events.first(), Some(Event::Hello(hello)) if hello.tier == Tier::T1)
                );
                assert_eq!(results.len(), 10, "{address} {engine:?}: {events:#?}");
                for result in results {
                    let expected = match result.path {
                        PathId(0) => OutcomeKind::Established,
                        PathId(_) => OutcomeKind::Reset,
                    };
                    assert_eq!(result.outcome.kind(), expected, "{result:#?}");
                    assert_eq!((result.engine, result.syns), (kind, 1));
                    assert_eq!(result.exchange, Exchange::NotTried);
                    assert!(result.isn.is_some());
                }
                let tallies = events
                    .iter()
                    .filter(|event| matches!(event, Event::Tally(_)));
                assert_eq!(tallies.count(), 2);
            }
        }
    }
}
