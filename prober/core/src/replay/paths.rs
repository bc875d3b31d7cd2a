//! Turns handshakes into evidence of paths: from each client address to each target address and port.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::Observer;
use super::flow::Flow;
use super::join::JoinedHandshake;
use super::position::undiminished;
use crate::evidence::{Backend, Evidence, Matrix, PathEvidence, PathTally, Source};
use crate::packet::family::Family;
use crate::packet::observation::{Direction, Observation};
use crate::packet::{Body, TcpFlags};
use crate::probe::event::ServerTrace;
use crate::probe::handshake::{Handshake, HandshakeConfig, HandshakeRole};
use crate::probe::outcome::{EngineKind, Outcome, ProbeResult};
use crate::time::Timestamp;
use crate::topology::{AccessPath, AgentId, NodeName, Path, PathId};

/// Deadline of a handshake: time for three SYNs of every common retransmission schedule, and a margin.
const DEADLINE: Duration = Duration::from_secs(5);

/// Maximum number of healthy connections kept per path.
const MAX_HEALTHY: usize = 8;

/// Maximum number of failing connections kept per path.
const MAX_FAILING: usize = 500;

/// A client that fails on this many ports of one host, and succeeds on none, is a port scanner.
const SCAN_MIN_PORTS: usize = 10;

/// The probes from one client address to one target address and port.
#[derive(Debug, Default)]
struct PathProbes {
    probes: Vec<Evidence>,
    /// The addresses that answered, or are the target after translation, and whether their answers came without a router in
    /// between; `None` without an answer.
    backends: BTreeMap<SocketAddr, Option<bool>>,
}

/// Builds the matrix; adds notes on undecided connections.
pub(super) fn matrix(
    observers: &[Observer<'_>],
    handshakes: Vec<JoinedHandshake>,
    notes: &mut Vec<String>,
) -> Matrix {
    let coverage = ServerCoverage::of(&handshakes);
    let mut probes_by_path: BTreeMap<(IpAddr, SocketAddr), PathProbes> = BTreeMap::new();
    let mut undecided = 0;
    for joined in handshakes {
        let Some(observer) = observers.get(joined.observer) else {
            continue;
        };
        let Some(client) = replay_handshake(&joined.client, observer) else {
            undecided += 1;
            continue;
        };
        let key = (joined.client.client.ip(), joined.client.target);
        probes_by_path
            .entry(key)
            .or_default()
            .add(&joined, client, &coverage);
    }
    if undecided > 0 {
        notes.push(format!(
            "connections that were unanswered when the capture ended: {undecided}, not judged, since an answer may have come"
        ));
    }
    leave_out_scans(&mut probes_by_path, notes);
    let mut matrix = Matrix {
        source: Source::Capture,
        ..Matrix::default()
    };
    for (number, ((client, target), probes)) in (0..).zip(probes_by_path) {
        let id = PathId(number);
        matrix.paths.insert(id, probes.finish(id, client, target));
    }
    matrix
}

/// Replays a flow; `None` where the capture ends before its outcome is certain.
fn replay_handshake(flow: &Flow, observer: &Observer<'_>) -> Option<ProbeResult> {
    let mut handshake = Handshake::new(
        HandshakeConfig {
            path: PathId(0),
            src: flow.client,
            dst: flow.target,
            deadline: DEADLINE,
        },
        HandshakeRole::Observer,
    );
    handshake.start(flow.started);
    for seen in &flow.packets {
        handshake.observe(seen, &[]);
    }
    let ends = flow.started + DEADLINE;
    let start = observer
        .packets
        .partition_point(|captured| captured.at < flow.started);
    let resolutions = observer
        .packets
        .iter()
        .skip(start)
        .take_while(|captured| captured.at <= ends)
        .filter(|captured| matches!(captured.packet.body, Body::Resolution(_)));
    for captured in resolutions.take(16) {
        handshake.note(&Observation {
            at: captured.at,
            direction: captured.direction.unwrap_or(Direction::Overheard),
            packet: captured.packet,
        });
    }
    handshake.handle_timeout(observer.until);
    let result = handshake.finish();
    let silent = result.outcome == Outcome::Timeout;
    (!silent || observer.until >= ends).then_some(result)
}

impl PathProbes {
    fn add(&mut self, joined: &JoinedHandshake, client: ProbeResult, coverage: &ServerCoverage) {
        let answer = client.observations.iter().find(|seen| {
            let answers = |flags: TcpFlags| flags.is_syn_ack() || flags.has(TcpFlags::RST);
            seen.direction == Direction::Received
                && seen.packet.tcp().is_some_and(|(_, tcp)| answers(tcp.flags))
        });
        let backend = match client.outcome {
            Outcome::Mismatched { from } => from,
            Outcome::Established { .. }
            | Outcome::Reset { .. }
            | Outcome::Unreachable { .. }
            | Outcome::RefusedLocally { .. }
            | Outcome::Timeout => joined.translated.unwrap_or(joined.client.target),
        };
        let direct = self.backends.entry(backend).or_default();
        if let Some(seen) = answer {
            *direct = Some(direct.unwrap_or(true) && is_direct(seen, &client.observations));
        }
        let server = match &joined.server {
            Some(flow) => Some(server_trace(flow)),
            None => coverage.empty_trace(joined),
        };
        self.probes.push(Evidence {
            client,
            server_agent: server.as_ref().map(|seen| agent(seen.local.ip())),
            server,
        });
    }

    fn finish(mut self, id: PathId, client: IpAddr, target: SocketAddr) -> PathEvidence {
        let client_agent = agent(client);
        let found = std::mem::take(&mut self.backends);
        // A server without a router in between is on the client's own node.
        let placed = |address: SocketAddr| AgentId {
            node: match found.get(&address) {
                Some(Some(true)) => client_agent.node.clone(),
                Some(Some(false) | None) | None => agent(address.ip()).node,
            },
            pod: address.ip().to_string(),
        };
        let translated = found.keys().any(|address| *address != target);
        let backends: Vec<Backend> = found
            .iter()
            .filter(|(address, _)| !translated || **address != target)
            .map(|(&address, direct)| Backend {
                agent: direct.map(|_| placed(address)),
                address,
                ready: true,
            })
            .collect();
        let server = match backends.as_slice() {
            [only] => only.agent.clone(),
            _ => None,
        };
        for probe in &mut self.probes {
            probe.client.path = id;
            let backend = probe.server.as_ref().map(|seen| seen.local);
            probe.server_agent = backend.map(&placed);
        }
        let mut tally = PathTally::default();
        for probe in &self.probes {
            tally.count(&probe.client);
        }
        let (mut healthy, mut failing) = (0, 0);
        self.probes.retain(|probe| {
            let (count, most) = if probe.client.is_first_syn_success() {
                (&mut healthy, MAX_HEALTHY)
            } else {
                (&mut failing, MAX_FAILING)
            };
            *count += 1;
            *count <= most
        });
        let path = Path {
            client: client_agent,
            server,
            access_path: if translated {
                AccessPath::ClusterIp
            } else {
                AccessPath::PodIp
            },
            family: Family::of(client),
        };
        PathEvidence {
            tallies: BTreeMap::from([(EngineKind::Kernel, tally)]),
            probes: self.probes,
            ..PathEvidence::new(path, target, backends)
        }
    }
}

/// The agent of an address: captures have neither pods nor nodes.
fn agent(address: IpAddr) -> AgentId {
    AgentId {
        node: NodeName::new(format!("the node hosting {address}")),
        pod: address.to_string(),
    }
}

/// Whether an answer came directly from its sender: no router decremented its hop limit, and it does not come from the
/// router that the client sent its SYN to.
fn is_direct(answer: &Observation, all: &[Observation]) -> bool {
    let Some((ip, tcp)) = answer.packet.tcp() else {
        return false;
    };
    let first_hop = all.iter().find_map(|seen| {
        let (sent, _) = seen.packet.tcp()?;
        (seen.direction == Direction::Sent).then_some((sent.dst, seen.packet.link?.dst?))
    });
    let from_router = match (first_hop, answer.packet.link) {
        // The target itself may be the next hop.
        (Some((dst, router)), Some(link)) => {
            link.src == router && (dst != ip.src || tcp.flags.has(TcpFlags::RST))
        }
        (Some(_) | None, Some(_) | None) => false,
    };
    undiminished(ip.hop_limit) && !from_router
}

/// The trace of the server's end.
fn server_trace(flow: &Flow) -> ServerTrace {
    let mut handshake = ServerTrace {
        isn: flow.isn,
        peer: flow.client,
        local: flow.target,
        syns: 0,
        syn_acks: 0,
        acks: 0,
        resets_received: 0,
        resets_sent: 0,
        observations: flow.packets.clone(),
    };
    for seen in &flow.packets {
        let Some((_, tcp)) = seen.packet.tcp() else {
            continue;
        };
        let reset = tcp.flags.has(TcpFlags::RST);
        match seen.direction {
            Direction::Received if reset => handshake.resets_received += 1,
            Direction::Received if tcp.flags.is_syn() => handshake.syns += 1,
            Direction::Received => handshake.acks += 1,
            Direction::Sent if reset => handshake.resets_sent += 1,
            Direction::Sent if tcp.flags.is_syn_ack() => handshake.syn_acks += 1,
            Direction::Sent | Direction::Overheard => {}
        }
    }
    handshake
}

/// When servers were captured, on the clock of each client's observer.
///
/// A missing SYN in a server's capture counts only between two handshakes that both ends observed: otherwise the capture
/// may not have been running.
#[derive(Debug, Default)]
struct ServerCoverage(BTreeMap<(usize, IpAddr), (Timestamp, Timestamp)>);

impl ServerCoverage {
    fn of(handshakes: &[JoinedHandshake]) -> Self {
        let mut spans = BTreeMap::new();
        for joined in handshakes {
            if let Some(server) = &joined.server {
                let at = joined.client.started;
                let span = spans
                    .entry((joined.observer, server.target.ip()))
                    .or_insert((at, at));
                *span = (span.0.min(at), span.1.max(at));
            }
        }
        Self(spans)
    }

    /// The empty trace of a handshake whose SYN did not arrive at a captured server.
    fn empty_trace(&self, joined: &JoinedHandshake) -> Option<ServerTrace> {
        let local = joined.translated.unwrap_or(joined.client.target);
        let (from, to) = self.0.get(&(joined.observer, local.ip()))?;
        let at = joined.client.started;
        (*from < at && at < *to)
            .then(|| ServerTrace::empty(joined.client.isn, joined.client.client, local))
    }
}

/// Leaves out port scans: clients that failed on many ports of one host and reached none.
fn leave_out_scans(
    probes_by_path: &mut BTreeMap<(IpAddr, SocketAddr), PathProbes>,
    notes: &mut Vec<String>,
) {
    let fails = |path: &PathProbes| {
        let established =
            |probe: &Evidence| matches!(probe.client.outcome, Outcome::Established { .. });
        !path.probes.iter().any(established)
    };
    let mut failed: BTreeMap<(IpAddr, IpAddr), usize> = BTreeMap::new();
    for ((client, target), path) in probes_by_path.iter() {
        if fails(path) {
            *failed.entry((*client, target.ip())).or_default() += 1;
        }
    }
    for ((client, host), ports) in failed {
        if ports < SCAN_MIN_PORTS {
            continue;
        }
        probes_by_path
            .retain(|(from, target), path| (*from, target.ip()) != (client, host) || !fails(path));
        notes.push(format!(
            "{client} failed on all {ports} ports of {host} that it tried: a port scan, not judged"
        ));
    }
}
