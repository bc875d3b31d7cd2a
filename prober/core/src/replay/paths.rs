//! Turns connections into evidence of paths: from each client address to each target address and port.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::ending::Ending;
use super::host::{Position, undiminished};
use super::join::Connection;
use super::observer::Observer;
use super::probe;
use crate::evidence::{Backend, Evidence, Matrix, PathEvidence, PathTally, Source};
use crate::packet::TcpFlags;
use crate::packet::family::Family;
use crate::packet::observation::{Direction, Observation};
use crate::probe::event::{OutcomeCounts, ServerTrace};
use crate::probe::latency::Latency;
use crate::probe::outcome::{EngineKind, Outcome, ProbeResult};
use crate::time::Timestamp;
use crate::topology::{AccessPath, AgentId, NodeName, Path, PathId};

/// Maximum number of healthy connections kept per path.
const MAX_HEALTHY: usize = 8;

/// Maximum number of failing connections kept per path.
const MAX_FAILING: usize = 500;

/// The connections from one client address to one target address and port.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Its connections, in the order of their SYNs.
    pub(super) connections: Vec<Connection>,
    /// The number of further ones, which were established at once.
    pub(super) more: u64,
}

/// The client's address, and the target's.
pub(super) type GroupKey = (IpAddr, SocketAddr);

/// The evidence of groups, with the path of each.
pub(super) fn matrix(
    observers: &[Observer],
    groups: &BTreeMap<GroupKey, Group>,
) -> (Matrix, BTreeMap<GroupKey, PathId>) {
    let coverage = ServerCoverage::of(groups);
    let mut matrix = Matrix {
        source: Source::Capture,
        ..Matrix::default()
    };
    let mut ids = BTreeMap::new();
    for (key, group) in groups {
        let mut probes = PathProbes::default();
        for connection in &group.connections {
            let Some(observer) = observers.get(connection.client.observer) else {
                continue;
            };
            let client = probe::probe(connection, &observer.tracker.neighbours);
            probes.add(connection, client, &coverage);
        }
        if probes.probes.is_empty() {
            continue;
        }
        let id = PathId(u32::try_from(ids.len()).unwrap_or(u32::MAX));
        let (client, target) = *key;
        let mut path = probes.finish(id, client, target);
        for tally in path.tallies.values_mut() {
            tally.add(&established(group.more), group.more, &Latency::default());
        }
        matrix.paths.insert(id, path);
        ids.insert(*key, id);
    }
    (matrix, ids)
}

/// The probes from one client address to one target address and port.
#[derive(Debug, Default)]
struct PathProbes {
    probes: Vec<Evidence>,
    /// The addresses that answered, or are the target after translation, and whether their answers came without a router in
    /// between; `None` without an answer.
    backends: BTreeMap<SocketAddr, Option<bool>>,
}

impl PathProbes {
    fn add(&mut self, connection: &Connection, client: ProbeResult, coverage: &ServerCoverage) {
        let answer = client.observations.iter().find(|seen| {
            let answers = |flags: TcpFlags| flags.is_syn_ack() || flags.has(TcpFlags::RST);
            seen.direction == Direction::Received
                && seen.packet.tcp().is_some_and(|(_, tcp)| answers(tcp.flags))
        });
        let direct = self.backends.entry(probe::backend(connection)).or_default();
        if let Some(seen) = answer {
            *direct = Some(direct.unwrap_or(true) && is_direct(seen, &client.observations));
        }
        let is_server_alone = connection.client.position == Position::Server;
        let of_server = |view: &&super::join::View| {
            view.position == Position::Server && !view.attempt.packets.is_empty()
        };
        let server = match &connection.server {
            _ if is_server_alone => Some(probe::server_trace(&connection.client)),
            Some(view) => Some(view).filter(of_server).map(probe::server_trace),
            None => coverage.empty_trace(connection),
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
            count(&mut tally, &probe.client);
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

/// When servers were captured, on the clock of each client's observer.
///
/// A missing SYN in a server's capture counts only between two handshakes that both ends observed: otherwise the capture
/// may not have been running.
#[derive(Debug, Default)]
struct ServerCoverage(BTreeMap<(usize, IpAddr), (Timestamp, Timestamp)>);

impl ServerCoverage {
    fn of(groups: &BTreeMap<GroupKey, Group>) -> Self {
        let mut spans = BTreeMap::new();
        for connection in groups.values().flat_map(|group| &group.connections) {
            let server =
                (connection.server.as_ref()).filter(|view| view.position == Position::Server);
            if let Some(server) = server {
                let at = connection.client.attempt.started;
                let target = server.attempt.last_leg().target.ip();
                let span = spans
                    .entry((connection.client.observer, target))
                    .or_insert((at, at));
                *span = (span.0.min(at), span.1.max(at));
            }
        }
        Self(spans)
    }

    /// The empty trace of a handshake whose SYN did not arrive at a captured server.
    fn empty_trace(&self, connection: &Connection) -> Option<ServerTrace> {
        let leg = connection.leg();
        let local = probe::backend(connection);
        let (from, to) = self.0.get(&(connection.client.observer, local.ip()))?;
        let at = connection.client.attempt.started;
        let isn = connection.client.attempt.isn?;
        (*from < at && at < *to).then(|| ServerTrace::empty(isn, leg.client, local))
    }
}

/// The most paths that the models of the diagnosis judge: their work grows with the square of what fails.
const MAX_MODELLED: usize = 200;

/// The paths of connections that the models of the diagnosis can judge: those of which more than the server's end is known, and
/// healthy ones beside them. What is ordinary though late counts as answered at once.
pub(super) fn for_models(
    matrix: &Matrix,
    groups: &BTreeMap<GroupKey, Group>,
    ids: &BTreeMap<GroupKey, PathId>,
) -> Matrix {
    let mut judged = Matrix {
        source: Source::Capture,
        ..Matrix::default()
    };
    let has_loss = super::loss::has_loss(groups);
    let mut room = [MAX_MODELLED; 2];
    for (key, group) in groups {
        let Some((id, path)) = ids
            .get(key)
            .and_then(|id| Some((*id, matrix.paths.get(id)?)))
        else {
            continue;
        };
        let is_lossy = has_loss && super::loss::late(group) > 0;
        let Some(is_failing) = modelled(group, is_lossy) else {
            continue;
        };
        let Some(room) = room
            .get_mut(usize::from(is_failing))
            .filter(|room| **room > 0)
        else {
            continue;
        };
        *room -= 1;
        judged
            .paths
            .insert(id, punctual(path.clone(), group, is_lossy));
    }
    judged
}

/// Whether the models judge a group, and whether as a failing one.
fn modelled(group: &Group, is_lossy: bool) -> Option<bool> {
    let connections = || group.connections.iter();
    if connections().all(|connection| connection.client.position == Position::Server) {
        return None;
    }
    let has_established = connections().any(|connection| connection.ending.is_established());
    let is_theirs = |connection: &Connection| {
        let is_silent = matches!(connection.ending, Ending::Unanswered { .. });
        matches!(connection.ending, Ending::WrongAddress { .. })
            || (is_silent && (connection.server.is_some() || has_established))
    };
    if connections().any(is_theirs) || is_lossy {
        Some(true)
    } else {
        has_established.then_some(false)
    }
}

/// A path without what the models cannot judge, and with what is ordinary though late as if answered at once.
fn punctual(mut path: PathEvidence, group: &Group, is_lossy: bool) -> PathEvidence {
    let has_dead_server = super::loss::has_dead_server(group);
    // Whether the models judge a connection with this ending, whose probe this is.
    let judge = |ending: Ending, probe: &mut ProbeResult| {
        if let Ending::Late { .. } = ending
            && !is_lossy
        {
            make_punctual(probe);
        }
        is_lossy || !has_dead_server || !matches!(ending, Ending::Unanswered { .. })
    };
    let key = |probe: &ProbeResult| (probe.isn.map(|isn| isn.0), probe.started);
    let mut endings = BTreeMap::new();
    let mut tally = PathTally::default();
    for connection in &group.connections {
        let mut probe = probe::without_packets(connection);
        endings.insert(key(&probe), connection.ending);
        if judge(connection.ending, &mut probe) {
            count(&mut tally, &probe);
        }
    }
    path.probes.retain_mut(|probe| {
        let ending = endings.get(&key(&probe.client));
        ending.is_none_or(|ending| judge(*ending, &mut probe.client))
    });
    tally.add(&established(group.more), group.more, &Latency::default());
    path.tallies = BTreeMap::from([(EngineKind::Kernel, tally)]);
    path
}

/// Counts a probe; without a round trip where its handshake is not in the capture.
fn count(tally: &mut PathTally, probe: &ProbeResult) {
    if matches!(probe.outcome, Outcome::Established { connect_ns: 0, .. }) {
        tally.add(&established(1), 1, &Latency::default());
    } else {
        tally.count(probe);
    }
}

/// The counts of this many established connections.
fn established(count: u64) -> OutcomeCounts {
    OutcomeCounts {
        established: count,
        ..OutcomeCounts::default()
    }
}

fn make_punctual(probe: &mut ProbeResult) {
    probe.syns = 1;
    probe.outcome = Outcome::Established {
        rtt_ns: 0,
        connect_ns: 0,
    };
}
