//! The matrices and reports of the founding incident and of a healthy network, for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Completion, Meta, Report};
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::{Confidence, Diagnosis, Exclusion, PathSegment, Remedy};
use crate::evidence::policies::ApiPolicies;
use crate::evidence::{
    AgentEvidence, Backend, Evidence, Matrix, NodeEvidence, PathEvidence, PathTally, Source,
};
use crate::node_facts::{
    ConntrackEntry, ConntrackReading, Counters, KubeProxyMode, NodeFacts, SysctlState,
};
use crate::packet::family::Family;
use crate::packet::mac::Mac;
use crate::packet::observation::{Direction, Observation};
use crate::packet::{
    Body, Checksum, EthernetAddresses, Ip, Packet, Seq, Tcp, TcpFlags, TcpOptions,
};
use crate::probe::event::{EVENT_SCHEMA, Hello, OutcomeCounts, ServerTrace};
use crate::probe::latency::Latency;
use crate::probe::outcome::{EngineKind, Exchange, Outcome, OutcomeKind, ProbeResult};
use crate::probe::tier::Tier;
use crate::time::Timestamp;
use crate::topology::{AccessPath, AgentId, NodeName, Path, PathId};

const CLIENT: &str = "100.96.54.240:41234";
const SERVICE: &str = "100.67.30.133:80";
const BACKEND: &str = "100.96.54.247:8080";
const CLIENT_ISN: Seq = Seq(2_864_434_397);
/// 2026-11-23 19:22:01 UTC.
const START: u64 = 1_795_461_721_000_000_000;

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn seen(
    micros: u64,
    direction: Direction,
    (src, src_mac): (&str, u8),
    (dst, dst_mac): (&str, u8),
    (flags, seq, ack): (TcpFlags, Seq, Seq),
    hop_limit: u8,
) -> Observation {
    let (src, dst) = (at(src), at(dst));
    let mac = |last| Mac([0x0a, 0x58, 100, 96, 54, last]);
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
        window: 64_860,
        options: TcpOptions::default(),
        payload_len: 0,
        checksum: Checksum::Unknown,
    };
    Observation {
        at: Timestamp::from_nanos(START + micros * 1_000),
        direction,
        packet: Packet {
            link: Some(EthernetAddresses {
                src: mac(src_mac),
                dst: Some(mac(dst_mac)),
            }),
            body: Body::Tcp(ip, tcp),
        },
    }
}

/// One probe of the incident: three SYNs, three answers from the pod's own address, three RSTs.
pub(crate) fn probe() -> Evidence {
    use Direction::{Received, Sent};
    let (client, service, backend, bridge) =
        ((CLIENT, 240), (SERVICE, 1), (BACKEND, 247), (BACKEND, 247));
    let mut at_client = Vec::new();
    let mut at_server = Vec::new();
    for (turn, micros) in [0, 1_003_412, 2_027_390].into_iter().enumerate() {
        let isn = Seq(1_184_213_006 + 15_700_000 * u32::try_from(turn).unwrap());
        let none = Seq(0);
        let syn = (TcpFlags::SYN, CLIENT_ISN, none);
        let syn_ack = (TcpFlags::SYN_ACK, isn, CLIENT_ISN.add(1));
        let rst = (TcpFlags::RST, CLIENT_ISN.add(1), none);
        at_client.extend([
            seen(micros, Sent, client, service, syn, 64),
            seen(micros + 71, Received, backend, client, syn_ack, 64),
            seen(micros + 79, Sent, client, bridge, rst, 64),
        ]);
        let from = (CLIENT, 1);
        at_server.extend([
            seen(micros + 41, Received, from, backend, syn, 63),
            seen(micros + 52, Sent, backend, client, syn_ack, 64),
            seen(micros + 88, Received, client, backend, rst, 64),
        ]);
    }
    Evidence {
        client: ProbeResult {
            path: PathId(1),
            engine: EngineKind::Kernel,
            src: at(CLIENT),
            dst: at(SERVICE),
            started: Timestamp::from_nanos(START),
            isn: Some(CLIENT_ISN),
            server_isn: None,
            outcome: Outcome::Mismatched { from: at(BACKEND) },
            syns: 3,
            exchange: Exchange::NotTried,
            observations: at_client,
        },
        server_agent: Some(AgentId::new("node-1", "server-1")),
        server: Some(ServerTrace {
            isn: CLIENT_ISN,
            peer: at(CLIENT),
            local: at(BACKEND),
            syns: 3,
            syn_acks: 3,
            acks: 0,
            resets_received: 3,
            resets_sent: 0,
            observations: at_server,
        }),
    }
}

fn tally(outcome: OutcomeKind, count: u64, median_us: u64) -> PathTally {
    let mut outcomes = OutcomeCounts::default();
    let mut rtt = Latency::new();
    for number in 0..count {
        outcomes.count(outcome);
        if outcome == OutcomeKind::Established {
            rtt.record(Duration::from_micros(median_us * 4 / 5 + number * 2));
        }
    }
    PathTally {
        outcomes,
        first_syn_success: outcomes.established,
        rtt,
    }
}

fn path(
    client: (&str, &str),
    server: Option<(&str, &str)>,
    access_path: AccessPath,
    median_us: u64,
) -> PathEvidence {
    let agent = |(node, pod)| AgentId::new(node, pod);
    let address = |pod: &str| {
        at(match pod {
            "server-1" => BACKEND,
            "server-2" => "100.96.60.11:8080",
            _ => CLIENT,
        })
    };
    let target = match (access_path, server) {
        (AccessPath::PodIp, Some((_, pod))) => address(pod),
        (AccessPath::PodIp, None) | (AccessPath::ClusterIpAny, _) => at("100.67.30.133:8000"),
        (AccessPath::ClusterIp | AccessPath::Hairpin | AccessPath::HostNetwork, _) => at(SERVICE),
        (AccessPath::NodePort, _) => at("172.20.0.11:30080"),
        (AccessPath::ClusterIpLocal, _) => at("100.67.30.134:80"),
    };
    PathEvidence {
        path: Path {
            client: agent(client),
            server: server.map(agent),
            access_path,
            family: Family::Ipv4,
        },
        target,
        backends: server
            .map(|server| Backend {
                agent: Some(agent(server)),
                address: address(server.1),
                ready: true,
            })
            .into_iter()
            .collect(),
        requested: 0,
        tallies: [EngineKind::Kernel, EngineKind::Raw]
            .map(|engine| (engine, tally(OutcomeKind::Established, 10, median_us)))
            .into(),
        probes: Vec::new(),
        ttl_probe: None,
        other_port: None,
        socket_level: false,
    }
}

/// The matrix of two nodes on which every path works.
pub(crate) fn healthy_matrix() -> Matrix {
    let mut paths = Vec::new();
    for node in ["1", "2"] {
        let here = format!("node-{node}");
        let client = format!("client-{node}");
        let own = format!("server-{node}");
        for other in ["1", "2"] {
            let there = format!("node-{other}");
            let server = format!("server-{other}");
            let median = if node == other { 38 } else { 92 };
            for access_path in [AccessPath::PodIp, AccessPath::ClusterIp] {
                paths.push(path(
                    (&here, &client),
                    Some((&there, &server)),
                    access_path,
                    median,
                ));
            }
        }
        paths.push(path((&here, &client), None, AccessPath::ClusterIpAny, 71));
        paths.push(path(
            (&here, &own),
            Some((&here, &own)),
            AccessPath::Hairpin,
            44,
        ));
    }
    let agent = |(node, pod, address): (&str, &str, &str)| {
        let id = AgentId::new(node, pod);
        let hello = Hello {
            schema: EVENT_SCHEMA.to_owned(),
            agent: id.clone(),
            version: "0.1.0".to_owned(),
            tier: Tier::T1,
            addresses: vec![address.parse::<IpAddr>().unwrap()],
            limits: Vec::new(),
            at: Timestamp::from_nanos(START),
            run: None,
        };
        let evidence = AgentEvidence {
            hello: Some(hello),
            has_reported: true,
            ..AgentEvidence::default()
        };
        (id, evidence)
    };
    Matrix {
        source: Source::Run,
        paths: (0..).map(PathId).zip(paths).collect(),
        comparisons: BTreeMap::new(),
        unprobed: BTreeMap::new(),
        agents: [
            ("node-1", "client-1", "100.96.54.240"),
            ("node-1", "server-1", "100.96.54.247"),
            ("node-2", "client-2", "100.96.60.10"),
            ("node-2", "server-2", "100.96.60.11"),
        ]
        .map(agent)
        .into(),
        nodes: [("node-1", 1), ("node-2", 1)]
            .map(|(name, bridge_nf)| (NodeName::new(name), node(bridge_nf, 0)))
            .into(),
        policies: ApiPolicies::default(),
        socket_level: BTreeSet::new(),
    }
}

fn node(bridge_nf: i64, redirects: u64) -> NodeEvidence {
    let facts = |redirects| NodeFacts {
        kernel: Some("6.1.0-18-amd64".to_owned()),
        bridge_nf_call_iptables: Some(SysctlState::Value(bridge_nf)),
        ip_forward: Some(SysctlState::Value(1)),
        kube_proxy: Some(KubeProxyMode::Iptables),
        counters: Some(Counters::from_iter([(
            "IcmpOutRedirects".to_owned(),
            redirects,
        )])),
        ..NodeFacts::default()
    };
    NodeEvidence {
        before: Some(facts(0)),
        during: None,
        after: Some(facts(redirects)),
        unread: None,
    }
}

/// The entry of [`probe`]: the answer did not pass netfilter.
fn conntrack() -> ConntrackReading {
    let line = "ipv4     2 tcp      6 117 SYN_SENT src=100.96.54.240 dst=100.67.30.133 sport=41234 dport=80 [UNREPLIED] src=100.96.54.247 dst=100.96.54.240 sport=8080 dport=41234 mark=0 zone=0 use=2";
    ConntrackReading {
        entries: vec![ConntrackEntry::parse(line).unwrap()],
        is_complete: true,
    }
}

/// The matrix of the founding incident: node-1's bridge does not pass its packets to netfilter.
pub(crate) fn incident_matrix() -> Matrix {
    let mut matrix = healthy_matrix();
    let mut node_1 = node(0, 30);
    if let Some(facts) = &mut node_1.after {
        facts.conntrack = Some(conntrack());
    }
    matrix.nodes.insert(NodeName::new("node-1"), node_1);
    let same_node = matrix.paths.get_mut(&PathId(1)).unwrap();
    for engine in same_node.tallies.values_mut() {
        *engine = tally(OutcomeKind::Mismatched, 10, 0);
    }
    same_node.probes = vec![probe(); 3];
    let any = matrix.paths.get_mut(&PathId(4)).unwrap();
    for engine in any.tallies.values_mut() {
        *engine = tally(OutcomeKind::Established, 6, 71);
        engine
            .outcomes
            .add(&tally(OutcomeKind::Mismatched, 4, 0).outcomes);
    }
    let mut other = probe();
    other.client.path = PathId(4);
    any.probes = vec![other];
    matrix
}

/// The diagnosis of the founding incident.
pub(crate) fn incident_diagnosis() -> Diagnosis {
    let exclusion = |cause, because: &str| Exclusion {
        cause,
        because: because.to_owned(),
    };
    let lasting = "printf 'br_netfilter\\n' > /etc/modules-load.d/br_netfilter.conf\nprintf 'net.bridge.bridge-nf-call-iptables = 1\\n' > /etc/sysctl.d/99-bridge-nf.conf";
    Diagnosis {
        cause: Some(Cause::BridgeNetfilterOff),
        node: Some(NodeName::new("node-1")),
        segment: PathSegment::Node {
            node: NodeName::new("node-1"),
        },
        family: Some(Family::Ipv4),
        confidence: Confidence::Proven,
        tier: Tier::T2,
        paths: vec![PathId(1), PathId(4)],
        evidence: vec![
            "node-1 says net.bridge.bridge-nf-call-iptables = 0".to_owned(),
            "the SYN+ACK of 20 of 20 probes of cluster-ip came from 100.96.54.247:8080 instead of 100.67.30.133:80, with an undiminished TTL of 64 and the backend's own MAC: it was switched, never routed".to_owned(),
            "pod-ip to the same pod works, cluster-ip to node-2 works, hairpin works".to_owned(),
        ],
        excluded: vec![
            exclusion(
                Cause::ReplyBypassesNat,
                "only replies from node-1's own pods are untranslated; those from node-2 are translated",
            ),
            exclusion(
                Cause::ForwardDrop,
                "the server's end saw every SYN, and the client's end saw every SYN+ACK",
            ),
        ],
        would_decide: Vec::new(),
        remedy: vec![
            Remedy {
                summary: "At once, on node-1".to_owned(),
                commands: vec![
                    "modprobe br_netfilter".to_owned(),
                    "sysctl -w net.bridge.bridge-nf-call-iptables=1".to_owned(),
                ],
            },
            Remedy {
                summary: "So that it lasts across boots".to_owned(),
                commands: lasting.lines().map(str::to_owned).collect(),
            },
        ],
        sample: Some((PathId(1), 0)),
    }
}

/// The metadata of a completed run with the command line `command`.
pub(crate) fn meta(command: &str) -> Meta {
    Meta {
        version: "0.1.0".to_owned(),
        command: command.split(' ').map(str::to_owned).collect(),
        started: Timestamp::from_nanos(START),
        duration: Duration::from_millis(3_412),
        completion: Completion::Complete,
        notes: Vec::new(),
    }
}

/// The report of the founding incident.
pub(crate) fn report() -> Report {
    Report::new(
        &incident_matrix(),
        &[incident_diagnosis()],
        meta("prober run --lab --fault bridge-netfilter-off@node-1"),
    )
}

/// The report of a healthy network.
pub(crate) fn healthy_report() -> Report {
    Report::new(&healthy_matrix(), &[], meta("prober run --lab"))
}
