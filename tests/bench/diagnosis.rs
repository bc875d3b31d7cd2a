//! The time to diagnose runs of ever more probes: it must grow as their number does.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use prober_core::diagnosis::diagnose;
use prober_core::evidence::{AgentEvidence, Evidence, Matrix, NodeEvidence, PathEvidence};
use prober_core::node_facts::NodeFacts;
use prober_core::packet::family::Family;
use prober_core::packet::observation::{Direction, Observation};
use prober_core::packet::{Seq, TcpFlags, TcpOptions, TcpSegment};
use prober_core::probe::event::ServerTrace;
use prober_core::probe::outcome::{EngineKind, Exchange, Outcome, ProbeResult};
use prober_core::simulation;
use prober_core::time::Timestamp;
use prober_core::topology::{AccessPath, AgentId, Path, PathId};

/// Number of probes of each path.
const PROBES: u16 = 5;
/// Number of other nodes that each node probes.
const PEERS: u32 = 3;
/// The node whose pods' answers bypass NAT (the founding fault).
const BYPASSED: u32 = 2;
/// The node that receives nothing from other nodes.
const DEAF: u32 = 11;

/// The time of one diagnosis.
#[derive(Debug)]
pub(crate) struct Diagnosing {
    probes: u32,
    diagnoses: usize,
    took: Duration,
}

impl fmt::Display for Diagnosing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            probes,
            diagnoses,
            took,
        } = self;
        let each = took.as_secs_f64() * 1e6 / f64::from(*probes);
        let millis = took.as_secs_f64() * 1e3;
        write!(
            f,
            "{probes} probes: {millis:.0} ms, {each:.1} us each, {diagnoses} diagnoses"
        )
    }
}

/// Diagnoses a run of this many nodes: forty probes from each.
pub(crate) fn measure(nodes: u32) -> Diagnosing {
    let matrix = matrix(nodes);
    let counts = matrix.paths.values().map(|path| path.probes.len());
    let probes = u32::try_from(counts.sum::<usize>()).unwrap_or(u32::MAX);
    let begun = Instant::now();
    let diagnoses = diagnose(&matrix).len();
    Diagnosing {
        probes,
        diagnoses,
        took: begun.elapsed(),
    }
}

fn matrix(nodes: u32) -> Matrix {
    let mut matrix = Matrix::default();
    for node in 0..nodes {
        for agent in [client(node), server(node)] {
            let evidence = AgentEvidence {
                has_reported: true,
                ..AgentEvidence::default()
            };
            matrix.agents.insert(agent, evidence);
        }
        let facts = NodeFacts {
            addresses: Some(Vec::new()),
            ..NodeFacts::default()
        };
        let evidence = NodeEvidence {
            after: Some(facts),
            ..NodeEvidence::default()
        };
        matrix.nodes.insert(client(node).node, evidence);
        for peer in 0..=PEERS {
            let other = (node + peer) % nodes;
            for access_path in [AccessPath::PodIp, AccessPath::ClusterIp] {
                let id = PathId(u32::try_from(matrix.paths.len()).unwrap_or(u32::MAX));
                let evidence = path(id, node, other, access_path);
                matrix.paths.insert(id, evidence);
            }
        }
    }
    matrix
}

fn path(id: PathId, node: u32, other: u32, access_path: AccessPath) -> PathEvidence {
    let from = SocketAddr::new(address(node, 10), 40_000);
    let backend = SocketAddr::new(address(other, 20), 8080);
    let target = if access_path == AccessPath::ClusterIp {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 43, 0, 1)), 9000)
    } else {
        backend
    };
    let is_bypassed = node == other && node == BYPASSED && target != backend;
    let is_deaf = node != other && other == DEAF;
    let path = Path {
        client: client(node),
        server: Some(server(other)),
        access_path,
        family: Family::Ipv4,
    };
    let mut evidence = PathEvidence {
        requested: PROBES.into(),
        ..PathEvidence::new(path, target, Vec::new())
    };
    for number in 0..PROBES {
        let from = SocketAddr::new(from.ip(), from.port() + number);
        let answered = if is_bypassed { backend } else { target };
        let (outcome, answer) = if is_deaf {
            (Outcome::Timeout, None)
        } else if is_bypassed {
            (Outcome::Mismatched { from: backend }, Some(answered))
        } else {
            let (rtt_ns, connect_ns) = (100_000, 100_000);
            (Outcome::Established { rtt_ns, connect_ns }, Some(answered))
        };
        let syn = packet(0, Direction::Sent, from, target, TcpFlags::SYN);
        let syn_ack = answer.map(|source| {
            packet(
                100_000,
                Direction::Received,
                source,
                from,
                TcpFlags::SYN_ACK,
            )
        });
        let client = ProbeResult {
            path: id,
            engine: EngineKind::Raw,
            src: from,
            dst: target,
            started: Timestamp::from_nanos(0),
            isn: Some(Seq(1000)),
            server_isn: None,
            outcome,
            syns: 1,
            exchange: Exchange::NotTried,
            observations: [Some(syn), syn_ack].into_iter().flatten().collect(),
        };
        let tally = evidence.tallies.entry(client.engine).or_default();
        tally.count(&client);
        let mut trace = ServerTrace::empty(Seq(1000), from, backend);
        if !is_deaf {
            (trace.syns, trace.syn_acks) = (1, 1);
        }
        evidence.probes.push(Evidence {
            client,
            server_agent: Some(server(other)),
            server: Some(trace),
        });
    }
    evidence
}

fn packet(
    at: u64,
    direction: Direction,
    src: SocketAddr,
    dst: SocketAddr,
    flags: TcpFlags,
) -> Observation {
    let segment = TcpSegment {
        src,
        dst,
        hop_limit: 64,
        ident: 0,
        seq: Seq(1000),
        ack: Seq(1001),
        flags,
        window: 64_240,
        options: TcpOptions::default(),
        payload: Vec::new(),
    };
    Observation {
        at: Timestamp::from_nanos(at),
        direction,
        packet: simulation::packet(&segment),
    }
}

fn client(node: u32) -> AgentId {
    AgentId::new(format!("node-{node}"), format!("node-{node}-client"))
}

fn server(node: u32) -> AgentId {
    AgentId::new(format!("node-{node}"), format!("node-{node}-server"))
}

/// The address of a pod: each node has a /24.
fn address(node: u32, pod: u8) -> IpAddr {
    let [_, high, middle, low] = node.to_be_bytes();
    let [second, third] = [high.wrapping_add(128).wrapping_add(middle), low];
    IpAddr::V4(Ipv4Addr::new(10, second, third, pod))
}
