//! A matrix of a healthy flannel cluster of N nodes, and stories that change the observations at the two ends of some
//! paths. Addresses follow the measured lab.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use prober_core::evidence::{
    AgentEvidence, Backend, Comparison, Evidence, Matrix, NodeEvidence, PathEvidence, PathTally,
};
use prober_core::node_facts::{
    Address, ConntrackEntry, ConntrackReading, Counters, FdbEntry, FdbOrigin, KubeProxyMode, Link,
    LinkCounters, Neighbour, NeighbourState, NodeFacts, Route as RouteFact, Rule, SysctlState,
    Vxlan,
};
use prober_core::packet::family::Family;
use prober_core::packet::mac::Mac;
use prober_core::packet::observation::{Direction, Observation};
use prober_core::packet::{
    Body, Checksum, EthernetAddresses as Frame, Icmp, IcmpKind, Ip, Packet, Quoted, Seq, Tcp,
    TcpFlags, TcpOptions, Unreachable,
};
use prober_core::probe::banner::Banner;
use prober_core::probe::event::{
    EVENT_SCHEMA, Hello, ServerTrace, TtlProbe, TtlStep, TtlStepAnswer,
};
use prober_core::probe::outcome::{
    Echo, EngineKind, Errno, Exchange, Outcome, OutcomeKind, ProbeResult,
};
use prober_core::probe::tier::Tier;
use prober_core::time::Timestamp;
use prober_core::topology::{AccessPath, AgentId, NodeName, Path, PathId, Scope};

pub(crate) const MS: u64 = 1_000_000;

/// The observations at the two ends of a path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Story {
    Healthy,
    /// SYNs leave, nothing arrives.
    Nothing,
    /// SYNs arrive, SYN+ACKs leave and never arrive.
    ReplyLost,
    /// SYNs arrive and are not answered.
    SynIgnored,
    /// The reply comes from the pod's own address; the client refuses it; the server receives the RST or not.
    SynAckFromWrongSource {
        refused: bool,
        hop_limit: u8,
    },
    /// A RST from the pod's own address, sent by the pod or not.
    ResetFromWrongSource {
        sent: bool,
    },
    /// A RST from the target.
    Reset {
        hop_limit: u8,
        mac: Option<Mac>,
        sent: bool,
    },
    /// An ICMP unreachable.
    Icmp {
        by: IpAddr,
        reason: Unreachable,
        hop_limit: u8,
        inner: u8,
        after_ms: u64,
    },
    /// Answered only after this many SYNs: the earlier SYNs are lost, or their SYN+ACKs.
    Late {
        syns: u32,
        lost: Lost,
        started_ms: u64,
    },
    /// The handshake completes, no data follows; the server received the third packet or not.
    NoData {
        completed: bool,
    },
    /// The banner comes, the echo stalls.
    Stalled {
        received: u32,
    },
    /// The banner comes, and the client's data is acknowledged and not echoed.
    Slow,
    /// The banner comes, then a segment from the pod's own address; the client's kernel resets the connection.
    SegmentFromWrongSource,
    /// Another pod's banner.
    Banner(u8),
    /// The own SYN comes back to the own address, or on its way to another.
    OwnSyn {
        to: Option<IpAddr>,
    },
    /// The server receives a RST that the client never sent.
    ClientAddressTaken,
    /// connect() fails at once; no packet is sent.
    RefusedLocally(Errno),
}

/// A step of a TTL probe without an answer.
pub(crate) const SILENT: TtlStepAnswer = TtlStepAnswer::Silent;

/// A router at that distance, with the ClusterIP as its source.
pub(crate) fn exceeded(hop_limit: u8) -> TtlStepAnswer {
    TtlStepAnswer::TimeExceeded {
        by: CLUSTER_IP,
        hop_limit,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    Syn,
    SynAck,
}

pub(crate) fn node(n: u8) -> NodeName {
    NodeName::new(format!("node-{n}"))
}

pub(crate) fn client(n: u8) -> AgentId {
    AgentId::new(format!("node-{n}"), format!("node-{n}-client"))
}

pub(crate) fn server(n: u8) -> AgentId {
    AgentId::new(format!("node-{n}"), format!("node-{n}-server"))
}

fn number(node: &NodeName) -> u8 {
    node.as_str().trim_start_matches("node-").parse().unwrap()
}

pub(crate) fn pod_ip(agent: &AgentId, family: Family) -> IpAddr {
    let n = number(&agent.node);
    let host = if agent.pod.ends_with("client") {
        10
    } else {
        20
    };
    match family {
        Family::Ipv4 => Ipv4Addr::new(100, 96, n, host).into(),
        Family::Ipv6 => Ipv6Addr::new(0xfd00, 0x96, n.into(), 0, 0, 0, 0, host.into()).into(),
    }
}

pub(crate) fn gateway(n: u8, family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => Ipv4Addr::new(100, 96, n, 1).into(),
        Family::Ipv6 => Ipv6Addr::new(0xfd00, 0x96, n.into(), 0, 0, 0, 0, 1).into(),
    }
}

pub(crate) fn vtep(n: u8, family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => Ipv4Addr::new(100, 96, n, 0).into(),
        Family::Ipv6 => Ipv6Addr::new(0xfd00, 0x96, n.into(), 0, 0, 0, 0, 0).into(),
    }
}

pub(crate) fn underlay(n: u8, family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => Ipv4Addr::new(172, 20, 0, 10 + n).into(),
        Family::Ipv6 => Ipv6Addr::new(0xfd00, 0x172, 0, 0, 0, 0, 0, (10 + n).into()).into(),
    }
}

pub(crate) const CLUSTER_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(100, 67, 30, 133));

pub(crate) fn cluster_ip(family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => CLUSTER_IP,
        Family::Ipv6 => Ipv6Addr::new(0xfd00, 0x67, 0, 0, 0, 0, 0, 0x133).into(),
    }
}

pub(crate) fn pod_mac(agent: &AgentId) -> Mac {
    let host = if agent.pod.ends_with("client") {
        10
    } else {
        20
    };
    Mac([0x0a, 0x58, 0x64, 0x60, number(&agent.node), host])
}

pub(crate) fn bridge_mac(n: u8) -> Mac {
    Mac([0x0a, 0x58, 0x64, 0x60, n, 1])
}

pub(crate) fn vtep_mac(n: u8, family: Family) -> Mac {
    Mac([0x0e, 0, 0, 0, if family == Family::Ipv4 { 0 } else { 6 }, n])
}

pub(crate) const fn tunnel(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "flannel.1",
        Family::Ipv6 => "flannel-v6.1",
    }
}

/// A cluster with its matrix.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) matrix: Matrix,
    isn: u32,
}

impl Cluster {
    /// This many nodes, all selected, IPv4.
    pub(crate) fn new(nodes: u8) -> Self {
        Self::of(nodes, &[Family::Ipv4])
    }

    pub(crate) fn dual(nodes: u8) -> Self {
        Self::of(nodes, &[Family::Ipv4, Family::Ipv6])
    }

    fn of(nodes: u8, families: &[Family]) -> Self {
        let mut cluster = Self {
            matrix: Matrix::default(),
            isn: 1000,
        };
        let mut paths = Vec::new();
        for &family in families {
            for c in 1..=nodes {
                for s in 1..=nodes {
                    paths.push((client(c), Some(server(s)), AccessPath::PodIp, family));
                    paths.push((client(c), Some(server(s)), AccessPath::ClusterIp, family));
                }
                paths.push((
                    client(c),
                    Some(server(c)),
                    AccessPath::ClusterIpLocal,
                    family,
                ));
                paths.push((server(c), Some(server(c)), AccessPath::Hairpin, family));
                paths.push((client(c), None, AccessPath::ClusterIpAny, family));
            }
        }
        for (id, (client, to, access_path, family)) in (0..).map(PathId).zip(paths) {
            let path = Path {
                client,
                server: to,
                access_path,
                family,
            };
            let backends = (1..=nodes)
                .map(server)
                .filter(|one| path.server.as_ref().is_none_or(|to| to == one))
                .map(|one| Backend {
                    address: SocketAddr::new(pod_ip(&one, family), 8080),
                    agent: Some(one),
                    ready: true,
                })
                .collect();
            let target = target(&path);
            let evidence = PathEvidence::new(path, target, backends);
            cluster.matrix.paths.insert(id, evidence);
        }
        for n in 1..=nodes {
            for agent in [client(n), server(n)] {
                let hello = Hello {
                    schema: EVENT_SCHEMA.to_owned(),
                    agent: agent.clone(),
                    version: "0".to_owned(),
                    tier: Tier::T1,
                    addresses: families
                        .iter()
                        .map(|&family| pod_ip(&agent, family))
                        .collect(),
                    limits: Vec::new(),
                    at: Timestamp::from_nanos(0),
                    run: None,
                };
                let known = AgentEvidence {
                    hello: Some(hello),
                    has_reported: true,
                    counters: Some((zeroes(), zeroes())),
                    ..AgentEvidence::default()
                };
                cluster.matrix.agents.insert(agent, known);
            }
            let facts = facts(n, nodes, families);
            cluster.matrix.nodes.insert(
                node(n),
                NodeEvidence {
                    before: Some(facts.clone()),
                    during: Some(facts.clone()),
                    after: Some(facts),
                    ..NodeEvidence::default()
                },
            );
        }
        cluster.with_story(|_| true, Story::Healthy)
    }

    /// Adds the path of a second client or server, pod to pod.
    pub(crate) fn compared(
        mut self,
        kind: Comparison,
        [from, to]: [AgentId; 2],
        story: Story,
    ) -> Self {
        let next = self.matrix.paths.keys().next_back().unwrap().0 + 1;
        let target = SocketAddr::new(pod_ip(&to, Family::Ipv4), 8080);
        let backend = Backend {
            agent: Some(to.clone()),
            address: target,
            ready: true,
        };
        let path = Path {
            client: from,
            server: Some(to),
            access_path: AccessPath::PodIp,
            family: Family::Ipv4,
        };
        let evidence = PathEvidence::new(path.clone(), target, vec![backend]);
        self.matrix.paths.insert(PathId(next), evidence);
        self.matrix.comparisons.insert(PathId(next), kind);
        self.with_story(|one| *one == path, story)
    }

    /// The paths that satisfy the condition.
    fn ids(&self, wanted: impl Fn(&Path) -> bool) -> Vec<PathId> {
        let found: Vec<_> = self
            .matrix
            .paths
            .iter()
            .filter(|(_, path)| wanted(&path.path))
            .map(|(id, _)| *id)
            .collect();
        assert!(!found.is_empty(), "the condition meets no path");
        found
    }

    /// Replaces the observations of these paths: two kernel probes, and twenty raw ones in the tally.
    pub(crate) fn with_story(mut self, wanted: impl Fn(&Path) -> bool, story: Story) -> Self {
        for id in self.ids(wanted) {
            let ends = self.ends(id);
            let evidence = self.matrix.paths.get_mut(&id).unwrap();
            evidence.probes.clear();
            evidence.tallies.clear();
            for (at, to) in (0..).zip(ends) {
                self.probe(id, &to, story, at);
            }
        }
        self
    }

    /// Replaces only the probes that a balanced port led to this server.
    pub(crate) fn with_balanced_story(
        mut self,
        from: impl Fn(&Path) -> bool,
        to: &AgentId,
        story: Story,
    ) -> Self {
        for id in self.ids(|path| path.access_path == AccessPath::ClusterIpAny && from(path)) {
            let ends = self.ends(id);
            let evidence = self.matrix.paths.get_mut(&id).unwrap();
            let mut kept = std::mem::take(&mut evidence.probes);
            kept.retain(|probe| match &probe.client.exchange {
                Exchange::BannerReceived { banner, .. } => banner.pod != to.pod,
                Exchange::NotTried
                | Exchange::NoBanner
                | Exchange::InvalidBanner
                | Exchange::Reset => probe.server_agent.as_ref() != Some(to),
            });
            evidence.probes = kept;
            evidence.tallies.clear();
            for (at, end) in (0..).zip(ends) {
                if end == *to {
                    self.probe(id, &end, story, at);
                }
            }
            self.count(id);
        }
        self
    }

    /// The servers of a path's two probes (of twice as many as endpoints for a balanced one).
    fn ends(&self, id: PathId) -> Vec<AgentId> {
        let path = &self.matrix.paths[&id].path;
        if let Some(server) = &path.server {
            return vec![server.clone(); 2];
        }
        let all: Vec<AgentId> = self
            .matrix
            .agents
            .keys()
            .filter(|agent| agent.pod.ends_with("server"))
            .cloned()
            .collect();
        [all.clone(), all].concat()
    }

    fn count(&mut self, id: PathId) {
        let evidence = self.matrix.paths.get_mut(&id).unwrap();
        let mut tally = PathTally::default();
        for probe in &evidence.probes {
            tally.count(&probe.client);
        }
        evidence.tallies.insert(EngineKind::Kernel, tally);
    }

    fn probe(&mut self, id: PathId, to: &AgentId, story: Story, at: u16) {
        self.isn += 1;
        let path = self.matrix.paths[&id].path.clone();
        let scene = Scene {
            src: SocketAddr::new(pod_ip(&path.client, path.family), 40000 + at),
            dst: self.matrix.paths[&id].target,
            path: path.clone(),
            to: to.clone(),
            isn: Seq(self.isn),
        };
        let mut probe = scene.evidence(id, story);
        // A silent probe of a balanced port does not show its server.
        let unseen = probe
            .server
            .as_ref()
            .is_none_or(|server_trace| server_trace.syns == 0);
        if path.server.is_none() && unseen {
            probe.server_agent = None;
        }
        self.matrix.paths.get_mut(&id).unwrap().probes.push(probe);
        self.count(id);
    }

    pub(crate) fn ttl_probe(
        mut self,
        wanted: impl Fn(&Path) -> bool,
        answers: [TtlStepAnswer; 4],
    ) -> Self {
        for id in self.ids(wanted) {
            let path = self.matrix.paths.get_mut(&id).unwrap();
            let steps = [1, 2, 3, 64]
                .into_iter()
                .zip(answers)
                .map(|(hop_limit, answer)| TtlStep {
                    hop_limit,
                    tries: 3,
                    answer,
                    checksum: Checksum::Unknown,
                })
                .collect();
            path.ttl_probe = Some(TtlProbe {
                path: id,
                target: path.target,
                steps,
            });
        }
        self
    }

    pub(crate) fn other_port(
        mut self,
        wanted: impl Fn(&Path) -> bool,
        outcome: OutcomeKind,
    ) -> Self {
        for id in self.ids(wanted) {
            self.matrix.paths.get_mut(&id).unwrap().other_port = Some(outcome);
        }
        self
    }

    /// Changes the facts of a node, in all three readings.
    pub(crate) fn facts(mut self, n: u8, change: impl Fn(&mut NodeFacts)) -> Self {
        let known = self.matrix.nodes.get_mut(&node(n)).unwrap();
        for facts in [&mut known.before, &mut known.during, &mut known.after] {
            change(facts.as_mut().unwrap());
        }
        self
    }

    /// Connection tracking of a node was read to its end, and has an entry in this state (`SYN_SENT`, `SYN_RECV`) for each
    /// probe of these paths, which may be none.
    pub(crate) fn tracks(mut self, n: u8, wanted: impl Fn(&Path) -> bool, state: &str) -> Self {
        let mut entries = Vec::new();
        for evidence in self.matrix.paths.values().filter(|one| wanted(&one.path)) {
            for probe in &evidence.probes {
                let (src, dst) = (probe.client.src, probe.client.dst);
                let backend = probe.server_agent.as_ref();
                let backend = backend.map_or(dst, |server| {
                    SocketAddr::new(pod_ip(server, evidence.path.family), 8080)
                });
                let family = evidence.path.family;
                let (name, number) = match family {
                    Family::Ipv4 => ("ipv4", 2),
                    Family::Ipv6 => ("ipv6", 10),
                };
                let unreplied = if state == "SYN_SENT" {
                    "[UNREPLIED] "
                } else {
                    ""
                };
                let line = format!(
                    "{name}     {number} tcp      6 117 {state} src={} dst={} sport={} dport={} {unreplied}src={} dst={} sport={} dport={} mark=0 zone=0 use=2",
                    src.ip(),
                    dst.ip(),
                    src.port(),
                    dst.port(),
                    backend.ip(),
                    src.ip(),
                    backend.port(),
                    src.port(),
                );
                entries.push(ConntrackEntry::parse(&line).unwrap());
            }
        }
        let after = self
            .matrix
            .nodes
            .get_mut(&node(n))
            .unwrap()
            .after
            .as_mut()
            .unwrap();
        let reading = after.conntrack.get_or_insert_with(|| ConntrackReading {
            entries: Vec::new(),
            is_complete: true,
        });
        reading.entries.extend(entries);
        self
    }

    /// Attaches the pods of a node by routes of their own, without a bridge.
    pub(crate) fn routed(self, n: u8) -> Self {
        self.facts(n, |facts| {
            let links = facts.links.as_mut().unwrap();
            links.retain(|link| link.name != "cni0");
            for link in links.iter_mut().filter(|link| link.master.is_some()) {
                link.master = None;
                link.hairpin = None;
            }
            facts
                .fdb
                .as_mut()
                .unwrap()
                .retain(|entry| entry.destination.is_some());
            let routes = facts.routes.as_mut().unwrap();
            routes.retain(|route| route.dev.as_deref() != Some("cni0"));
            for (agent, dev) in [(client(n), "vethclient"), (server(n), "vethserver")] {
                for family in Family::ALL {
                    let address = pod_ip(&agent, family);
                    routes.push(RouteFact {
                        dev: Some(dev.to_owned()),
                        ..RouteFact::main(address.into())
                    });
                }
            }
        })
    }

    /// Attaches the pods of a node to the network of its uplink, as macvlan does.
    pub(crate) fn macvlan(self, n: u8) -> Self {
        self.facts(n, |facts| {
            let links = facts.links.as_mut().unwrap();
            links.retain(|link| link.name == "eth0");
            facts.fdb = Some(Vec::new());
            for route in facts.routes.as_mut().unwrap() {
                if route.destination.prefix_len() > 0 {
                    route.gateway = None;
                    route.dev = Some("eth0".to_owned());
                }
            }
        })
    }

    /// Adds the bridge of a container runtime with one port, which is no pod's.
    pub(crate) fn docker0(self, n: u8) -> Self {
        self.facts(n, |facts| {
            let links = facts.links.as_mut().unwrap();
            links.push(link("docker0", "bridge", Mac([2, 0x42, 0, 0, 0, n]), 1500));
            let mut port = link("vethdocker", "veth", Mac([2, 0x42, 0, 0, 1, n]), 1500);
            port.master = Some("docker0".to_owned());
            port.hairpin = Some(false);
            links.push(port);
        })
    }

    /// A node's counter grows while failing paths are probed again.
    pub(crate) fn grows(mut self, n: u8, counter: &str, by: u64) -> Self {
        let known = self.matrix.nodes.get_mut(&node(n)).unwrap();
        let counters = known.after.as_mut().unwrap().counters.as_mut().unwrap();
        *counters.0.entry(counter.to_owned()).or_default() += by;
        known
            .during
            .as_mut()
            .unwrap()
            .counters
            .as_mut()
            .unwrap()
            .0
            .entry(counter.to_owned())
            .or_default();
        self
    }

    /// An agent's own counter grows.
    pub(crate) fn agent_grows(mut self, agent: &AgentId, counter: &str, by: u64) -> Self {
        let known = self.matrix.agents.get_mut(agent).unwrap();
        let (before, after) = known.counters.as_mut().unwrap();
        before.0.entry(counter.to_owned()).or_default();
        *after.0.entry(counter.to_owned()).or_default() += by;
        self
    }

    /// Packets through a node's link while failing paths are probed again.
    pub(crate) fn traffic(
        mut self,
        n: u8,
        link: &str,
        sent: u64,
        received: u64,
        dropped: u64,
    ) -> Self {
        let known = self.matrix.nodes.get_mut(&node(n)).unwrap();
        let during = LinkCounters::default();
        let after = LinkCounters {
            tx_packets: sent,
            rx_packets: received,
            tx_dropped: dropped,
            ..during
        };
        for (facts, counters) in [(&mut known.during, during), (&mut known.after, after)] {
            let links = facts.as_mut().unwrap().links.as_mut().unwrap();
            let link = links.iter_mut().find(|one| one.name == link).unwrap();
            link.counters = Some(counters);
        }
        self
    }

    /// Nodes whose pods have Services translated inside connect(2): SYNs go to the backend. Ten crafted SYNs per path, one of
    /// them reported in full, go to the Service and get no answer.
    pub(crate) fn translated_in_connect(mut self, nodes: impl Fn(&NodeName) -> bool) -> Self {
        let ids = self.ids(|path| path.access_path.is_translated() && nodes(&path.client.node));
        for &id in &ids {
            let evidence = self.matrix.paths.get_mut(&id).unwrap();
            let service = evidence.target;
            for probe in &mut evidence.probes {
                let Some(server_trace) = &probe.server else {
                    continue;
                };
                for seen in &mut probe.client.observations {
                    translate(seen, service, server_trace.local);
                }
            }
            let mut tally = PathTally::default();
            tally.outcomes.timeout = 10;
            evidence.tallies.insert(EngineKind::Raw, tally);
            let path = evidence.path.clone();
            let to = path.server.clone().unwrap_or_else(|| server(1));
            self.isn += 1;
            let scene = Scene {
                src: SocketAddr::new(pod_ip(&path.client, path.family), 63_000),
                dst: service,
                path,
                to,
                isn: Seq(self.isn),
            };
            let mut crafted = scene.evidence(id, Story::Nothing);
            crafted.client.engine = EngineKind::Raw;
            self.matrix.paths.get_mut(&id).unwrap().probes.push(crafted);
        }
        for id in ids {
            self.matrix.learn_socket_level(id);
        }
        self
    }

    /// The nodes' facts cannot be read.
    pub(crate) fn without_facts(mut self) -> Self {
        self.matrix.nodes.clear();
        self
    }

    /// Agents without CAP_NET_RAW: outcomes and counters only.
    pub(crate) fn without_packets(mut self) -> Self {
        for path in self.matrix.paths.values_mut() {
            path.ttl_probe = None;
            for probe in &mut path.probes {
                probe.client.observations.clear();
                probe.client.isn = None;
                probe.client.server_isn = None;
                probe.server = None;
                probe.server_agent = None;
                if let Outcome::Mismatched { .. } = probe.client.outcome {
                    probe.client.outcome = Outcome::Timeout;
                }
                if let Outcome::Unreachable { by, .. } = &mut probe.client.outcome {
                    *by = None;
                }
            }
        }
        let ids: Vec<PathId> = self.matrix.paths.keys().copied().collect();
        for id in ids {
            self.count(id);
        }
        for agent in self.matrix.agents.values_mut() {
            agent.hello.as_mut().unwrap().tier = Tier::T0;
        }
        self
    }
}

/// Replaces the Service by the backend.
fn translate(seen: &mut Observation, service: SocketAddr, backend: SocketAddr) {
    match &mut seen.packet.body {
        Body::Tcp(ip, tcp) => {
            if (ip.dst, tcp.dst_port) == (service.ip(), service.port()) {
                (ip.dst, tcp.dst_port) = (backend.ip(), backend.port());
            }
            if (ip.src, tcp.src_port) == (service.ip(), service.port()) {
                (ip.src, tcp.src_port) = (backend.ip(), backend.port());
            }
        }
        Body::Icmp(_, icmp) => {
            if let Some(quoted) = icmp.quoted.as_mut().filter(|quoted| quoted.dst == service) {
                quoted.dst = backend;
            }
        }
        Body::Resolution(_) => {}
    }
}

/// The target of a path.
fn target(path: &Path) -> SocketAddr {
    let slot = |agent: &AgentId| 8100 + u16::from(number(&agent.node));
    match (path.access_path, &path.server) {
        (AccessPath::PodIp, Some(server)) => SocketAddr::new(pod_ip(server, path.family), 8080),
        (AccessPath::ClusterIp | AccessPath::Hairpin, Some(server)) => {
            SocketAddr::new(cluster_ip(path.family), slot(server))
        }
        (AccessPath::ClusterIpLocal, _) => SocketAddr::new(cluster_ip(path.family), 9000),
        _ => SocketAddr::new(cluster_ip(path.family), 80),
    }
}

fn zeroes() -> Counters {
    [
        "TcpOutRsts",
        "TcpExtEmbryonicRsts",
        "TcpExtListenOverflows",
        "TcpExtListenDrops",
    ]
    .map(|name| (name.to_owned(), 0))
    .into_iter()
    .collect()
}

/// The addresses of a node itself.
fn own_addresses(n: u8, family: Family) -> [Address; 3] {
    [
        (gateway(n, family), "cni0"),
        (vtep(n, family), tunnel(family)),
        (underlay(n, family), "eth0"),
    ]
    .map(|(address, dev)| Address {
        prefix: address.into(),
        dev: dev.to_owned(),
    })
}

fn facts(n: u8, nodes: u8, families: &[Family]) -> NodeFacts {
    let on = Some(SysctlState::Value(1));
    let mut links = vec![
        link("cni0", "bridge", bridge_mac(n), 1450),
        link("eth0", "", Mac([0x52, 0x54, 0, 0, 0, n]), 1500),
    ];
    for (last, name) in [(1, "vethclient"), (2, "vethserver")] {
        let mut port = link(name, "veth", Mac([2, 2, 2, 2, n, last]), 1450);
        port.master = Some("cni0".to_owned());
        port.hairpin = Some(true);
        links.push(port);
    }
    let mut routes = Vec::new();
    let mut addresses = Vec::new();
    let mut neighbours = Vec::new();
    let mut fdb = vec![
        fdb(pod_mac(&client(n)), "vethclient", None),
        fdb(pod_mac(&server(n)), "vethserver", None),
    ];
    for &family in families {
        addresses.extend(own_addresses(n, family));
        let mut end = link(tunnel(family), "vxlan", vtep_mac(n, family), 1450);
        end.vxlan = Some(Vxlan {
            id: Some(1),
            port: Some(8472),
            local: Some(underlay(n, family)),
            underlay: Some("eth0".to_owned()),
            learning: Some(false),
        });
        links.push(end);
        let length = if family == Family::Ipv4 { 24 } else { 64 };
        for peer in (1..=nodes).filter(|&peer| peer != n) {
            let prefix = format!("{}/{length}", vtep(peer, family));
            routes.push(RouteFact {
                gateway: Some(vtep(peer, family)),
                dev: Some(tunnel(family).to_owned()),
                ..RouteFact::main(prefix.parse().unwrap())
            });
            neighbours.push(Neighbour {
                ip: vtep(peer, family),
                mac: Some(vtep_mac(peer, family)),
                dev: tunnel(family).to_owned(),
                state: NeighbourState::Permanent,
            });
            fdb.push(self::fdb(
                vtep_mac(peer, family),
                tunnel(family),
                Some(underlay(peer, family)),
            ));
        }
        let prefix = format!("{}/{length}", vtep(n, family));
        routes.push(RouteFact {
            dev: Some("cni0".to_owned()),
            ..RouteFact::main(prefix.parse().unwrap())
        });
    }
    routes.push(RouteFact {
        gateway: Some("172.20.0.1".parse().unwrap()),
        dev: Some("eth0".to_owned()),
        ..RouteFact::main("0.0.0.0/0".parse().unwrap())
    });
    NodeFacts {
        kernel: Some("6.18.44".to_owned()),
        kube_proxy: Some(KubeProxyMode::Iptables),
        bridge_nf_call_iptables: on,
        bridge_nf_call_ip6tables: on,
        ip_forward: on,
        ip6_forward: on,
        rp_filter: Some(
            ["all", "default", "eth0", "cni0", "flannel.1"]
                .map(|name| (name.to_owned(), SysctlState::Value(0)))
                .into_iter()
                .collect(),
        ),
        conntrack_count: Some(40),
        conntrack_max: Some(262_144),
        counters: Some(
            [
                "IpInAddrErrors",
                "Ip6InAddrErrors",
                "TcpExtIPReversePathFilter",
                "IpFragFails",
                "ConntrackDrop",
                "ConntrackInsertFailed",
                "ConntrackInvalid",
                "IcmpOutRedirects",
            ]
            .map(|name| (name.to_owned(), 0))
            .into_iter()
            .collect(),
        ),
        links: Some(links),
        addresses: Some(addresses),
        rules: Some(default_rules()),
        routes: Some(routes),
        neighbours: Some(neighbours),
        fdb: Some(fdb),
        ..NodeFacts::default()
    }
}

/// The policy rules of a new namespace.
fn default_rules() -> Vec<Rule> {
    let all = Family::ALL.into_iter().flat_map(Rule::defaults);
    all.cloned().collect()
}

fn link(name: &str, kind: &str, mac: Mac, mtu: u32) -> Link {
    Link {
        name: name.to_owned(),
        index: 1,
        kind: (!kind.is_empty()).then(|| kind.to_owned()),
        mtu: Some(mtu),
        up: true,
        carrier: true,
        mac: Some(mac),
        ..Link::default()
    }
}

fn fdb(mac: Mac, dev: &str, destination: Option<IpAddr>) -> FdbEntry {
    FdbEntry {
        mac,
        dev: dev.to_owned(),
        destination,
        origin: FdbOrigin::Static,
    }
}

/// One probe of a story.
struct Scene {
    path: Path,
    to: AgentId,
    src: SocketAddr,
    dst: SocketAddr,
    isn: Seq,
}

/// The server's initial sequence number, in every story.
const SERVER_ISN: Seq = Seq(777_000);

impl Scene {
    #[expect(clippy::too_many_lines, reason = "one arm a story")]
    fn evidence(&self, id: PathId, story: Story) -> Evidence {
        let mut client = Vec::new();
        let mut server = Vec::new();
        let mut started = Timestamp::from_nanos(0);
        let mut syns = 1;
        let mut exchange = Exchange::NotTried;
        let silent = |client: &mut Vec<Observation>| {
            for second in 0..3 {
                client.push(self.sent(second * 1000 * MS, TcpFlags::SYN, self.isn, Seq(0)));
            }
        };
        let outcome = match story {
            Story::Healthy => {
                self.handshake(&mut client, &mut server, 0);
                exchange = self.greeting(&self.to, Echo::Complete { bytes: 8192 });
                established(0)
            }
            Story::Banner(n) => {
                self.handshake(&mut client, &mut server, 0);
                exchange =
                    self.greeting(&super::builder::server(n), Echo::Complete { bytes: 8192 });
                established(0)
            }
            Story::Stalled { received } => {
                self.handshake(&mut client, &mut server, 0);
                exchange = self.greeting(
                    &self.to,
                    Echo::Stalled {
                        sent: 8192,
                        received,
                    },
                );
                established(0)
            }
            Story::Slow => {
                self.handshake(&mut client, &mut server, 0);
                let mut data = self.sent(MS, TcpFlags::ACK, self.isn.add(1), SERVER_ISN.add(1));
                let mut acknowledged = self.answer(2 * MS, TcpFlags::ACK, self.dst, self.hops());
                if let (Body::Tcp(_, data), Body::Tcp(_, acknowledged)) =
                    (&mut data.packet.body, &mut acknowledged.packet.body)
                {
                    data.payload_len = 1000;
                    acknowledged.ack = self.isn.add(1001);
                }
                client.extend([data, acknowledged]);
                let echo = Echo::Stalled {
                    sent: 1000,
                    received: 0,
                };
                exchange = self.greeting(&self.to, echo);
                established(0)
            }
            Story::SegmentFromWrongSource => {
                self.handshake(&mut client, &mut server, 0);
                let from = SocketAddr::new(pod_ip(&self.to, self.path.family), 8080);
                let mut data = self.answer(2 * MS, TcpFlags::ACK, from, self.hops());
                let mut reset = self.sent(3 * MS, TcpFlags::RST, self.isn.add(1), Seq(0));
                if let (Body::Tcp(_, data), Body::Tcp(ip, reset)) =
                    (&mut data.packet.body, &mut reset.packet.body)
                {
                    data.payload_len = 1398;
                    (ip.dst, reset.dst_port) = (from.ip(), from.port());
                }
                client.extend([data, reset]);
                server.push(self.refusal(4 * MS));
                exchange = Exchange::Reset;
                established(0)
            }
            Story::NoData { completed } => {
                self.handshake(&mut client, &mut server, 0);
                if !completed {
                    server.truncate(2);
                    client.push(self.answer(1000 * MS, TcpFlags::SYN_ACK, self.dst, 64));
                }
                exchange = Exchange::NoBanner;
                established(0)
            }
            Story::Nothing => {
                silent(&mut client);
                syns = 3;
                Outcome::Timeout
            }
            Story::ReplyLost | Story::ClientAddressTaken => {
                silent(&mut client);
                syns = 3;
                server.push(self.arrives(0));
                server.push(self.replies(0, TcpFlags::SYN_ACK));
                if story == Story::ClientAddressTaken {
                    server.push(self.refusal(MS));
                }
                Outcome::Timeout
            }
            Story::SynIgnored => {
                silent(&mut client);
                syns = 3;
                server.push(self.arrives(0));
                Outcome::Timeout
            }
            Story::SynAckFromWrongSource { refused, hop_limit } => {
                syns = 3;
                let from = SocketAddr::new(pod_ip(&self.to, self.path.family), 8080);
                for second in 0..3 {
                    let at = second * 1000 * MS;
                    client.push(self.sent(at, TcpFlags::SYN, self.isn, Seq(0)));
                    client.push(self.answer(at + MS / 10, TcpFlags::SYN_ACK, from, hop_limit));
                    let mut reset = self.sent(at + MS / 8, TcpFlags::RST, self.isn.add(1), Seq(0));
                    if let Body::Tcp(ip, tcp) = &mut reset.packet.body {
                        ip.dst = from.ip();
                        tcp.dst_port = from.port();
                    }
                    client.push(reset);
                    server.push(self.arrives(at));
                    server.push(self.replies(at, TcpFlags::SYN_ACK));
                    if refused {
                        server.push(self.refusal(at + MS / 4));
                    }
                }
                Outcome::Mismatched { from }
            }
            Story::ResetFromWrongSource { sent } => {
                syns = 3;
                let from = SocketAddr::new(pod_ip(&self.to, self.path.family), 8080);
                for second in 0..3 {
                    let at = second * 1000 * MS;
                    client.push(self.sent(at, TcpFlags::SYN, self.isn, Seq(0)));
                    client.push(self.answer(
                        at + MS / 10,
                        TcpFlags::RST.with(TcpFlags::ACK),
                        from,
                        64,
                    ));
                    if sent {
                        server.push(self.arrives(at));
                        server.push(self.replies(at, TcpFlags::RST.with(TcpFlags::ACK)));
                    }
                }
                Outcome::Mismatched { from }
            }
            Story::Reset {
                hop_limit,
                mac,
                sent,
            } => {
                client.push(self.sent(0, TcpFlags::SYN, self.isn, Seq(0)));
                let mut reset = self.answer(
                    MS / 10,
                    TcpFlags::RST.with(TcpFlags::ACK),
                    self.dst,
                    hop_limit,
                );
                if let (Some(mac), Some(frame)) = (mac, &mut reset.packet.link) {
                    frame.src = mac;
                }
                client.push(reset);
                if sent {
                    server.push(self.arrives(0));
                    server.push(self.replies(0, TcpFlags::RST.with(TcpFlags::ACK)));
                }
                Outcome::Reset {
                    by: self.dst.ip(),
                    hop_limit,
                }
            }
            Story::Icmp {
                by,
                reason,
                hop_limit,
                inner,
                after_ms,
            } => {
                client.push(self.sent(0, TcpFlags::SYN, self.isn, Seq(0)));
                client.push(self.icmp(after_ms * MS, by, reason, hop_limit, inner));
                Outcome::Unreachable {
                    by: Some(by),
                    reason,
                }
            }
            Story::Late {
                syns: sent,
                lost,
                started_ms,
            } => {
                syns = sent;
                started = Timestamp::from_nanos(started_ms * MS);
                let base = started_ms * MS;
                for again in 0..u64::from(sent) {
                    let at = base + again * 1000 * MS;
                    client.push(self.sent(at, TcpFlags::SYN, self.isn, Seq(0)));
                    if lost == Lost::SynAck || again + 1 == u64::from(sent) {
                        server.push(self.arrives(at));
                        server.push(self.replies(at, TcpFlags::SYN_ACK));
                    }
                }
                let last = u64::from(sent - 1) * 1000 * MS;
                client.push(self.answer(base + last + MS / 10, TcpFlags::SYN_ACK, self.dst, 64));
                exchange = self.greeting(&self.to, Echo::Complete { bytes: 8192 });
                established(last)
            }
            Story::RefusedLocally(errno) => {
                syns = 0;
                Outcome::RefusedLocally { errno }
            }
            Story::OwnSyn { to } => {
                syns = 3;
                for second in 0..3 {
                    let at = second * 1000 * MS;
                    client.push(self.sent(at, TcpFlags::SYN, self.isn, Seq(0)));
                    let mut copy = self.sent(at + MS / 10, TcpFlags::SYN, self.isn, Seq(0));
                    copy.direction = if to.is_some() {
                        Direction::Overheard
                    } else {
                        Direction::Received
                    };
                    if let Body::Tcp(ip, tcp) = &mut copy.packet.body {
                        ip.dst = to.unwrap_or(self.src.ip());
                        tcp.dst_port = 8080;
                    }
                    client.push(copy);
                }
                Outcome::Timeout
            }
        };
        let is_sent = syns > 0;
        Evidence {
            client: ProbeResult {
                path: id,
                engine: EngineKind::Kernel,
                src: self.src,
                dst: self.dst,
                started,
                isn: is_sent.then_some(self.isn),
                server_isn: None,
                outcome,
                syns,
                exchange,
                observations: client,
            },
            server_agent: is_sent.then(|| self.to.clone()),
            server: is_sent.then(|| self.server_trace(server)),
        }
    }

    fn greeting(&self, by: &AgentId, echo: Echo) -> Exchange {
        Exchange::BannerReceived {
            banner: Banner {
                nonce: 1,
                pod: by.pod.clone(),
                node: by.node.clone(),
                peer: self.src,
                addresses: Vec::new(),
            },
            echo,
        }
    }

    fn handshake(&self, client: &mut Vec<Observation>, server: &mut Vec<Observation>, at: u64) {
        client.push(self.sent(at, TcpFlags::SYN, self.isn, Seq(0)));
        client.push(self.answer(at + MS / 10, TcpFlags::SYN_ACK, self.dst, self.hops()));
        client.push(self.sent(
            at + MS / 9,
            TcpFlags::ACK,
            self.isn.add(1),
            SERVER_ISN.add(1),
        ));
        server.push(self.arrives(at));
        server.push(self.replies(at, TcpFlags::SYN_ACK));
        let mut ack = self.arrives(at + MS / 8);
        if let Body::Tcp(_, tcp) = &mut ack.packet.body {
            tcp.flags = TcpFlags::ACK;
        }
        server.push(ack);
    }

    fn hops(&self) -> u8 {
        if self.to.node == self.path.client.node {
            64
        } else {
            62
        }
    }

    fn router(&self) -> Mac {
        bridge_mac(number(&self.path.client.node))
    }

    fn next_hop(&self) -> Mac {
        if self.path.access_path == AccessPath::PodIp && self.path.scope() == Scope::SameNode {
            pod_mac(&self.to)
        } else {
            self.router()
        }
    }

    fn sent(&self, at: u64, flags: TcpFlags, seq: Seq, ack: Seq) -> Observation {
        let link = Frame {
            src: pod_mac(&self.path.client),
            dst: Some(self.next_hop()),
        };
        segment(
            at,
            Direction::Sent,
            link,
            self.src,
            self.dst,
            64,
            flags,
            seq,
            ack,
        )
    }

    fn answer(&self, at: u64, flags: TcpFlags, from: SocketAddr, hop_limit: u8) -> Observation {
        let src = if self.to.node == self.path.client.node {
            pod_mac(&self.to)
        } else {
            self.router()
        };
        let link = Frame {
            src,
            dst: Some(pod_mac(&self.path.client)),
        };
        segment(
            at,
            Direction::Received,
            link,
            from,
            self.src,
            hop_limit,
            flags,
            SERVER_ISN,
            self.isn.add(1),
        )
    }

    fn arrives(&self, at: u64) -> Observation {
        let local = SocketAddr::new(pod_ip(&self.to, self.path.family), 8080);
        let link = Frame {
            src: bridge_mac(number(&self.to.node)),
            dst: Some(pod_mac(&self.to)),
        };
        segment(
            at,
            Direction::Received,
            link,
            self.seen_as(),
            local,
            self.arriving_hops(),
            TcpFlags::SYN,
            self.isn,
            Seq(0),
        )
    }

    /// What is left of a SYN's hop limit at the server.
    fn arriving_hops(&self) -> u8 {
        let is_same_node = self.to.node == self.path.client.node;
        if !is_same_node {
            62
        } else if self.path.access_path == AccessPath::PodIp {
            64
        } else {
            63
        }
    }

    /// The client's address at the server: a pod that reaches itself is masqueraded.
    fn seen_as(&self) -> SocketAddr {
        if self.path.access_path == AccessPath::Hairpin {
            let ip = gateway(number(&self.path.client.node), self.path.family);
            SocketAddr::new(ip, 61_000)
        } else {
            self.src
        }
    }

    fn refusal(&self, at: u64) -> Observation {
        let mut reset = self.arrives(at);
        if let Body::Tcp(_, tcp) = &mut reset.packet.body {
            tcp.flags = TcpFlags::RST;
        }
        reset
    }

    fn replies(&self, at: u64, flags: TcpFlags) -> Observation {
        let local = SocketAddr::new(pod_ip(&self.to, self.path.family), 8080);
        let link = Frame {
            src: pod_mac(&self.to),
            dst: Some(bridge_mac(number(&self.to.node))),
        };
        segment(
            at,
            Direction::Sent,
            link,
            local,
            self.src,
            64,
            flags,
            SERVER_ISN,
            self.isn.add(1),
        )
    }

    fn icmp(
        &self,
        at: u64,
        by: IpAddr,
        reason: Unreachable,
        hop_limit: u8,
        inner: u8,
    ) -> Observation {
        let code = match reason {
            Unreachable::Network => 0,
            Unreachable::Host => 1,
            Unreachable::Port => 3,
            Unreachable::Prohibited => 13,
            Unreachable::Other => 2,
        };
        let ip = Ip {
            src: by,
            dst: self.src.ip(),
            hop_limit,
            ident: 0,
        };
        let quoted = Quoted {
            src: self.src,
            dst: self.dst,
            hop_limit: inner,
            seq: self.isn,
            checksum: Checksum::Unknown,
        };
        let icmp = Icmp {
            kind: IcmpKind::Unreachable { reason },
            type_code: (3, code),
            quoted: Some(quoted),
        };
        let link = Frame {
            src: self.router(),
            dst: Some(pod_mac(&self.path.client)),
        };
        Observation {
            at: Timestamp::from_nanos(at),
            direction: Direction::Received,
            packet: Packet {
                link: Some(link),
                body: Body::Icmp(ip, icmp),
            },
        }
    }

    fn server_trace(&self, observations: Vec<Observation>) -> ServerTrace {
        let count = |direction, flags: fn(TcpFlags) -> bool| {
            let seen = |one: &&Observation| {
                one.direction == direction
                    && one.packet.tcp().is_some_and(|(_, tcp)| flags(tcp.flags))
            };
            u32::try_from(observations.iter().filter(seen).count()).unwrap()
        };
        ServerTrace {
            isn: self.isn,
            peer: self.src,
            local: SocketAddr::new(pod_ip(&self.to, self.path.family), 8080),
            syns: count(Direction::Received, TcpFlags::is_syn),
            syn_acks: count(Direction::Sent, TcpFlags::is_syn_ack),
            acks: count(Direction::Received, |flags| flags == TcpFlags::ACK),
            resets_received: count(Direction::Received, |flags| flags.has(TcpFlags::RST)),
            resets_sent: count(Direction::Sent, |flags| flags.has(TcpFlags::RST)),
            observations,
        }
    }
}

const fn established(late_ns: u64) -> Outcome {
    Outcome::Established {
        rtt_ns: MS / 10,
        connect_ns: late_ns + MS / 10,
    }
}

#[expect(clippy::too_many_arguments, reason = "a packet has that many fields")]
fn segment(
    at: u64,
    direction: Direction,
    link: Frame,
    src: SocketAddr,
    dst: SocketAddr,
    hop_limit: u8,
    flags: TcpFlags,
    seq: Seq,
    ack: Seq,
) -> Observation {
    let ip = Ip {
        src: src.ip(),
        dst: dst.ip(),
        hop_limit,
        ident: 0,
    };
    let tcp = Tcp {
        src_port: src.port(),
        dst_port: dst.port(),
        seq,
        ack,
        flags,
        window: 64240,
        options: TcpOptions::default(),
        payload_len: 0,
        checksum: Checksum::Unknown,
    };
    Observation {
        at: Timestamp::from_nanos(at),
        direction,
        packet: Packet {
            link: Some(link),
            body: Body::Tcp(ip, tcp),
        },
    }
}
