//! A run on a simulated cluster: every path probed by both engines, the failing ones probed again, all joined to a matrix.

use std::net::SocketAddr;

use prober_core::evidence::{
    AgentEvidence, Backend, Comparison, Evidence, Matrix, NodeEvidence, PathEvidence,
};
use prober_core::node_facts::{Counters, NodeFacts};
use prober_core::packet::family::Family;
use prober_core::probe::event::{EVENT_SCHEMA, Hello};
use prober_core::probe::outcome::{EngineKind, OutcomeKind};
use prober_core::probe::tier::Tier;
use prober_core::time::Timestamp;
use prober_core::topology::{AccessPath, Path, PathId, Scope};

use super::address::{
    Agent, OTHER_RESPONDER, RESPONDER, Role, ServicePort, client, host, node_name, server,
    unused_ip,
};
use super::cluster::Cluster;
use super::conntrack::{Tables, requests};
use super::facts::facts;
use super::packet::Counts;
use super::probe::{Network, Request};
use super::progress::empty_trace;

/// connect() probes of a path with one server; a balanced one has more.
const CONNECTS: usize = 4;
/// Crafted probes of a path.
const CRAFTED: usize = 4;
/// Healthy probes of an engine that are reported in full.
const REPORTED: usize = 2;

/// One path, by numbers.
#[derive(Clone, Copy, Debug)]
struct Way {
    client: Agent,
    server: Option<Agent>,
    access_path: AccessPath,
    family: Family,
}

/// Every path of a cluster, in the order of a report.
fn ways(cluster: &Cluster) -> Vec<Way> {
    let mut ways = Vec::new();
    for &family in &cluster.families {
        let mut add = |client, server, access_path| {
            ways.push(Way {
                client,
                server,
                access_path,
                family,
            });
        };
        for from in cluster.numbers() {
            for to in cluster.numbers() {
                add(client(from), Some(server(to)), AccessPath::PodIp);
                add(client(from), Some(server(to)), AccessPath::ClusterIp);
                add(host(from), Some(server(to)), AccessPath::HostNetwork);
            }
            add(client(from), Some(server(from)), AccessPath::ClusterIpLocal);
            add(client(from), None, AccessPath::ClusterIpAny);
            add(server(from), Some(server(from)), AccessPath::Hairpin);
        }
    }
    ways
}

impl Way {
    fn target(self, cluster: &Cluster) -> SocketAddr {
        let slot = |server: Agent| ServicePort::Slot(server.node).address(self.family);
        match (self.access_path, self.server) {
            (AccessPath::PodIp, Some(server)) => {
                SocketAddr::new(cluster.ip(server, self.family), RESPONDER)
            }
            (AccessPath::ClusterIpAny, _) | (_, None) => ServicePort::Any.address(self.family),
            (AccessPath::ClusterIpLocal, Some(_)) => ServicePort::Local.address(self.family),
            (
                AccessPath::ClusterIp
                | AccessPath::Hairpin
                | AccessPath::NodePort
                | AccessPath::HostNetwork,
                Some(server),
            ) => slot(server),
        }
    }

    /// The endpoints that may answer, according to the API.
    fn backends(self, cluster: &Cluster) -> Vec<Backend> {
        let of = |server: Agent, ready| Backend {
            agent: Some(server.id()),
            address: SocketAddr::new(cluster.ip(server, self.family), RESPONDER),
            ready,
        };
        let Some(expected) = self.server else {
            let all = cluster.numbers().map(server);
            return all.map(|server| of(server, true)).collect();
        };
        let has_slot = self.access_path.needs_slot();
        if has_slot && cluster.dead_slots.contains(&expected.node) {
            return vec![Backend {
                agent: None,
                address: SocketAddr::new(unused_ip(expected.node, self.family), RESPONDER),
                ready: true,
            }];
        }
        let is_empty = has_slot && cluster.empty_slots.contains(&expected.node);
        let is_away = self.access_path == AccessPath::ClusterIpLocal
            && cluster.without_local.contains(&expected.node);
        vec![of(expected, !is_empty && !is_away)]
    }

    fn evidence(self, cluster: &Cluster) -> PathEvidence {
        let path = Path {
            client: self.client.id(),
            server: self.server.map(Agent::id),
            access_path: self.access_path,
            family: self.family,
        };
        PathEvidence::new(path, self.target(cluster), self.backends(cluster))
    }
}

/// Runs all probes on a cluster.
pub(crate) fn run(cluster: &Cluster) -> Matrix {
    let mut counts = Counts::default();
    let before = counts.clone();
    let mut network = Network {
        cluster,
        counts: &mut counts,
        tables: Tables::default(),
        isn: 0,
    };
    let ways = ways(cluster);
    let mut matrix = Matrix {
        policies: cluster.policies.clone(),
        ..Matrix::default()
    };
    for (at, way) in ways.iter().enumerate() {
        let id = PathId(u32::try_from(at).unwrap());
        let mut evidence = way.evidence(cluster);
        initial(&mut network, id, *way, &mut evidence);
        matrix.paths.insert(id, evidence);
    }
    learn_socket_level(&mut matrix);
    let during = network.counts.clone();
    let compared = comparisons(cluster, &ways, &matrix);
    for (id, way) in (0..).map(PathId).zip(&ways) {
        follow_up(&mut network, id, *way, &ways, &mut matrix);
    }
    let next = u32::try_from(ways.len()).unwrap();
    for (id, (kind, way)) in (next..).map(PathId).zip(compared) {
        let mut evidence = way.evidence(cluster);
        compare(&mut network, id, way, &mut evidence);
        matrix.paths.insert(id, evidence);
        matrix.comparisons.insert(id, kind);
    }
    learn_socket_level(&mut matrix);
    let tables = network.tables;
    add_agents(cluster, &mut matrix, &counts);
    let requests = requests(cluster, &matrix);
    for node in cluster.numbers() {
        let request = requests.get(&node_name(node));
        let after = NodeFacts {
            conntrack: request.map(|request| tables.reading(node, request)),
            ..facts(cluster, node, &counts)
        };
        let known = NodeEvidence {
            before: Some(facts(cluster, node, &before)),
            during: Some(facts(cluster, node, &during)),
            after: Some(after),
            ..NodeEvidence::default()
        };
        matrix.nodes.insert(node_name(node), known);
    }
    matrix
}

fn learn_socket_level(matrix: &mut Matrix) {
    let ids: Vec<PathId> = matrix.paths.keys().copied().collect();
    for id in ids {
        matrix.learn_socket_level(id);
    }
}

/// The probes of the initial round: connections, then crafted handshakes.
fn initial(network: &mut Network<'_>, id: PathId, way: Way, evidence: &mut PathEvidence) {
    let connects = if way.server.is_none() {
        CONNECTS * 2
    } else {
        CONNECTS
    };
    let crafted = if way.client.role == Role::Host {
        0
    } else {
        CRAFTED
    };
    let stagger = u64::from(id.0) * 7 % 60;
    for (engine, count, interval) in [
        (EngineKind::Kernel, connects, 400),
        (EngineKind::Raw, crafted, 50),
    ] {
        for number in 0..count {
            let request = Request {
                path: id,
                client: way.client,
                target: evidence.target,
                engine,
                number,
                start_ms: stagger + interval * u64::try_from(number).unwrap(),
                has_echo: engine == EngineKind::Kernel,
            };
            add(evidence, network.probe(request));
        }
    }
}

/// The second look at a failing path between pods: new connections, a TTL probe, the other port of its server.
fn follow_up(network: &mut Network<'_>, id: PathId, way: Way, ways: &[Way], matrix: &mut Matrix) {
    let Some(evidence) = matrix.paths.get(&id) else {
        return;
    };
    if evidence.is_clean() || !way.access_path.stays_among_pods() {
        return;
    }
    let worst = evidence.worst();
    let has_sibling = ways
        .iter()
        .zip(matrix.paths.values())
        .any(|(other, known)| {
            other.access_path == AccessPath::ClusterIp
                && other.client == way.client
                && other.family == way.family
                && !known.is_clean()
        });
    let is_redundant = has_sibling
        && matches!(
            way.access_path,
            AccessPath::ClusterIpAny | AccessPath::ClusterIpLocal
        );
    let evidence = matrix.paths.get_mut(&id).unwrap();
    let request = Request {
        path: id,
        client: way.client,
        target: evidence.target,
        engine: EngineKind::Kernel,
        number: 101,
        start_ms: 20_000,
        has_echo: false,
    };
    if matches!(worst, Some(OutcomeKind::Timeout) | None) {
        for number in [101, 102] {
            add(evidence, network.probe(Request { number, ..request }));
        }
    }
    if evidence.counts(EngineKind::Raw) && !is_redundant {
        let hop_limits: &[u8] = if worst == Some(OutcomeKind::Mismatched) {
            &[1]
        } else {
            &[1, 2, 3, 64]
        };
        let request = Request {
            engine: EngineKind::Raw,
            ..request
        };
        evidence.ttl_probe = Some(network.ttl_probe(request, hop_limits));
    }
    if let Some(server) = way
        .server
        .filter(|_| way.access_path != AccessPath::Hairpin)
    {
        let ip = network.cluster.ip(server, way.family);
        let target = SocketAddr::new(ip, OTHER_RESPONDER);
        let other = network.probe(Request { target, ..request });
        evidence.other_port = Some(other.client.outcome.kind());
    }
}

/// A second client on the node of each one whose paths to other nodes have no answer, and a second server likewise.
fn comparisons(cluster: &Cluster, ways: &[Way], matrix: &Matrix) -> Vec<(Comparison, Way)> {
    let all = || {
        let known = ways.iter().zip(matrix.paths.values());
        known.filter(|(way, evidence)| {
            matches!(way.access_path, AccessPath::PodIp | AccessPath::ClusterIp)
                && evidence.path.scope() == Scope::CrossNode
        })
    };
    let is_unanswered = |evidence: &PathEvidence| {
        let outcomes = evidence.total().outcomes;
        outcomes.timeout == outcomes.total()
    };
    let mut found = Vec::new();
    for &family in &cluster.families {
        let unanswered = |is_at: &dyn Fn(&Way) -> bool| {
            let at = || all().filter(|(way, _)| way.family == family && is_at(way));
            let first = at().next().map(|(way, _)| *way);
            let is_none_answered = at().all(|(_, evidence)| is_unanswered(evidence));
            first.filter(|_| is_none_answered)
        };
        for node in cluster.numbers() {
            if let Some(way) = unanswered(&|way| way.client == client(node)) {
                let client = server(node);
                found.push((Comparison::SecondClient, Way { client, ..way }));
            }
        }
        for node in cluster.numbers() {
            if let Some(way) = unanswered(&|way| way.server == Some(server(node))) {
                let server = Some(client(node));
                found.push((Comparison::SecondServer, Way { server, ..way }));
            }
        }
    }
    found
}

/// The probes of a comparison: connections, then crafted handshakes.
fn compare(network: &mut Network<'_>, id: PathId, way: Way, evidence: &mut PathEvidence) {
    for engine in [EngineKind::Kernel, EngineKind::Raw] {
        for number in 0..CONNECTS {
            let request = Request {
                path: id,
                client: way.client,
                target: evidence.target,
                engine,
                number,
                start_ms: 20_000 + 50 * u64::try_from(number).unwrap(),
                has_echo: false,
            };
            add(evidence, network.probe(request));
        }
    }
}

/// Counts a probe, and keeps it unless it is one of many healthy ones.
fn add(evidence: &mut PathEvidence, mut probe: Evidence) {
    evidence.requested += 1;
    let engine = probe.client.engine;
    let tally = evidence.tallies.entry(engine).or_default();
    let is_good = probe.client.is_first_syn_success();
    tally.count(&probe.client);
    let reported = evidence.probes.iter().filter(|known| {
        known.client.engine == engine && known.client.is_first_syn_success() && known.is_carried()
    });
    if is_good && probe.is_carried() && reported.count() >= REPORTED {
        return;
    }
    if probe.server.is_none() {
        let mut live = evidence
            .backends
            .iter()
            .filter_map(|backend| backend.agent.clone());
        probe.server = empty_trace(&probe.client);
        let fixed = evidence.path.server.clone();
        let only = live.next().filter(|_| live.next().is_none());
        probe.server_agent = fixed.or(only).filter(|_| probe.server.is_some());
    }
    evidence.probes.push(probe);
}

fn add_agents(cluster: &Cluster, matrix: &mut Matrix, counts: &Counts) {
    let of = |agent: Agent, grown: bool| -> Counters {
        let names = [
            "TcpOutRsts",
            "TcpExtListenOverflows",
            "TcpExtListenDrops",
            "TcpInCsumErrors",
        ];
        let value = |name: &'static str| {
            let grown = counts.pods.get(&(agent, name)).filter(|_| grown);
            (name.to_owned(), grown.copied().unwrap_or(0))
        };
        names.into_iter().map(value).collect()
    };
    for node in cluster.numbers() {
        for agent in [client(node), server(node), host(node)] {
            let addresses = cluster
                .families
                .iter()
                .map(|&family| cluster.ip(agent, family));
            let hello = Hello {
                schema: EVENT_SCHEMA.to_owned(),
                agent: agent.id(),
                version: "0".to_owned(),
                tier: if agent.role == Role::Host {
                    Tier::T0
                } else {
                    Tier::T1
                },
                addresses: addresses.collect(),
                limits: Vec::new(),
                at: Timestamp::from_nanos(0),
                run: None,
            };
            let is_frozen = cluster.pods.get(&agent).is_some_and(|pod| pod.is_frozen);
            let known = AgentEvidence {
                hello: Some(hello),
                has_reported: !is_frozen,
                counters: Some((of(agent, false), of(agent, true))),
                ..AgentEvidence::default()
            };
            matrix.agents.insert(agent.id(), known);
        }
    }
}
