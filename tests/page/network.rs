//! Reports of networks that are made up: healthy, broken and sparse ones, of any number of nodes.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use prober_core::diagnosis::catalogue::Cause;
use prober_core::diagnosis::{Confidence, Exclusion, PathSegment, Remedy, diagnose};
use prober_core::evidence::Source;
use prober_core::node_facts::NodeFacts;
use prober_core::packet::family::Family;
use prober_core::probe::event::OutcomeCounts;
use prober_core::probe::outcome::EngineKind;
use prober_core::probe::tier::Tier;
use prober_core::replay::replay_files;
use prober_core::report::{
    CauseName, Completion, DiagnosisReport, End, EngineUse, Health, Meta, NodeReport, PathReport,
    ProbeReport, REPORT_SCHEMA, Report, RttReport, SampleProbe, UnprobedReport, Verdict,
};
use prober_core::time::Timestamp;
use prober_core::topology::{AccessPath, NodeName, PathId, Scope};

/// A network that is made up.
pub(crate) struct Network {
    /// How many nodes it has.
    pub nodes: u32,
    /// What a node is called.
    pub name: fn(u32) -> String,
}

impl Network {
    pub(crate) fn of(nodes: u32) -> Self {
        Self {
            nodes,
            name: |node| format!("node-{node}"),
        }
    }

    fn end(&self, node: u32, role: &str) -> End {
        let name = (self.name)(node);
        End {
            pod: Some(format!("{name}-{role}")),
            node: Some(NodeName::new(name)),
        }
    }

    fn node(&self, node: u32) -> NodeName {
        NodeName::new((self.name)(node))
    }

    /// Every path of these families, each of them healthy.
    fn paths(&self, families: &[Family]) -> Vec<PathReport> {
        let mut paths = Vec::new();
        let mut add = |client: End, server: End, access_path, scope, family, p50| {
            let id = PathId(u32::try_from(paths.len()).expect("few paths"));
            paths.push(path(
                id,
                (client, server),
                (access_path, scope, family),
                p50,
            ));
        };
        for family in families.iter().copied() {
            for from in 1..=self.nodes {
                let client = || self.end(from, "client");
                for to in 1..=self.nodes {
                    let (scope, p50) = if from == to {
                        (Scope::SameNode, 38.0)
                    } else {
                        (Scope::CrossNode, 81.0 + f64::from(from * to % 7) * 400.0)
                    };
                    for access_path in [
                        AccessPath::PodIp,
                        AccessPath::ClusterIp,
                        AccessPath::NodePort,
                    ] {
                        let server = self.end(to, "server");
                        add(client(), server, access_path, scope, family, p50);
                    }
                }
                let (any, own) = (End::default(), self.end(from, "server"));
                add(
                    client(),
                    any,
                    AccessPath::ClusterIpAny,
                    Scope::Any,
                    family,
                    64.0,
                );
                add(
                    own.clone(),
                    own,
                    AccessPath::Hairpin,
                    Scope::SameNode,
                    family,
                    43.0,
                );
            }
        }
        paths
    }
}

fn outcomes(established: u64, mismatched: u64) -> OutcomeCounts {
    OutcomeCounts {
        established,
        mismatched,
        ..OutcomeCounts::default()
    }
}

fn path(
    id: PathId,
    (client, server): (End, End),
    (access_path, scope, family): (AccessPath, Scope, Family),
    p50: f64,
) -> PathReport {
    let target: SocketAddr = match family {
        Family::Ipv4 => "100.67.30.133:80".parse().expect("an address"),
        Family::Ipv6 => "[fd00:10:96::1d3f:aaaa:bbbb:cccc]:80"
            .parse()
            .expect("an address"),
    };
    PathReport {
        id,
        client,
        server,
        access_path,
        scope,
        family,
        engine: Some(EngineUse::Both),
        target,
        health: Health::Healthy,
        socket_level: false,
        outcomes: outcomes(20, 0),
        unfinished: 0,
        first_syn_success: Some(1.0),
        loss: Some(0.0),
        loss_interval: Some([0.0, 0.16]),
        rtt_us: RttReport {
            p50: Some(p50),
            p99: Some(p50 * 2.0),
            count: 20,
        },
        backends: Vec::new(),
        ttl_probe: None,
        other_port: None,
        probes: Vec::new(),
        probes_omitted: 0,
    }
}

fn report(network: &Network, paths: Vec<PathReport>) -> Report {
    Report {
        schema: REPORT_SCHEMA.to_owned(),
        prober: "0.1.0".to_owned(),
        command: vec!["prober".to_owned(), "run".to_owned(), "--all".to_owned()],
        started: "2026-11-23T19:22:01.000000000Z".to_owned(),
        duration_ms: 3_412,
        source: Source::Run,
        completion: Completion::Complete,
        verdict: Verdict::Healthy,
        exit_status: 0,
        tier: Tier::T2,
        engines: vec![EngineKind::Kernel, EngineKind::Raw],
        socket_level: false,
        diagnoses: Vec::new(),
        paths,
        comparisons: Vec::new(),
        unprobed: Vec::new(),
        connections: None,
        agents: Vec::new(),
        nodes: (1..=network.nodes)
            .map(|node| NodeReport {
                data_plane: None,
                node: network.node(node),
                facts: Some(NodeFacts {
                    kernel: Some(
                        if node % 10 == 7 {
                            "6.8.0-45"
                        } else {
                            "6.1.0-18"
                        }
                        .to_owned(),
                    ),
                    ..NodeFacts::default()
                }),
                grown: None,
                unread: None,
            })
            .collect(),
        notes: Vec::new(),
    }
}

/// Every path works.
pub(crate) fn healthy(network: &Network) -> Report {
    report(network, network.paths(&[Family::Ipv4]))
}

/// Paths from each node to its two neighbours only.
pub(crate) fn sparse(network: &Network) -> Report {
    let mut report = healthy(network);
    let number = |end: &End| {
        let nodes = (1..=network.nodes).map(|node| network.node(node));
        nodes
            .clone()
            .position(|name| end.node.as_ref() == Some(&name))
    };
    report
        .paths
        .retain(|path| match (number(&path.client), number(&path.server)) {
            (Some(from), Some(to)) => from.abs_diff(to) < 2,
            (_, None) | (None, _) => true,
        });
    report
}

/// One node breaks the founding way; beside it a path is late, a path was not probed, a path has no outcome yet, and some
/// could not be probed.
pub(crate) fn broken(network: &Network) -> Report {
    let mut paths = network.paths(&[Family::Ipv4, Family::Ipv6]);
    let bad = network.node(network.nodes.div_ceil(3));
    let mut explained = Vec::new();
    for path in &mut paths {
        let is_bad = path.client.node.as_ref() == Some(&bad) && path.family == Family::Ipv4;
        let (same, any) = (
            path.access_path == AccessPath::ClusterIp && path.scope == Scope::SameNode,
            path.access_path == AccessPath::ClusterIpAny,
        );
        if is_bad && (same || any) {
            path.health = Health::Failing;
            path.outcomes = if same {
                outcomes(0, 20)
            } else {
                outcomes(12, 8)
            };
            path.rtt_us = RttReport::default();
            path.probes = if same { vec![probe()] } else { Vec::new() };
            (path.loss, path.loss_interval) = (Some(0.4), Some([0.22, 0.61]));
            path.first_syn_success = Some(0.6);
            explained.push(path.id);
        }
    }
    let of = |paths: &[PathReport], access_path, family| {
        let found = |path: &PathReport| path.access_path == access_path && path.family == family;
        paths.iter().position(found).expect("there is such a path")
    };
    let late = of(&paths, AccessPath::PodIp, Family::Ipv4);
    paths[late].health = Health::Late;
    paths[late].rtt_us.p50 = Some(160_000.0);
    for (access_path, health) in [
        (AccessPath::PodIp, Health::NotProbed),
        (AccessPath::NodePort, Health::Failing),
    ] {
        let place = of(&paths, access_path, Family::Ipv6);
        let path = &mut paths[place];
        path.health = health;
        path.outcomes = outcomes(0, 0);
        path.unfinished = 105;
        (path.loss, path.loss_interval, path.first_syn_success) = (None, None, None);
        path.rtt_us = RttReport::default();
    }
    let sample = paths.iter().find(|path| !path.probes.is_empty());
    let sample = sample.map(|path| SampleProbe {
        path: path.id,
        probe: 0,
    });
    let unprobed = (1..=network.nodes).map(|node| UnprobedReport {
        client: network.end(node, "client"),
        server: network.end(1, "server"),
        access_path: AccessPath::HostNetwork,
        scope: if node == 1 {
            Scope::SameNode
        } else {
            Scope::CrossNode
        },
        family: Family::Ipv4,
        reason: "no agent may use the host's network".to_owned(),
    });
    let unprobed = unprobed.collect();
    let mut report = report(network, paths);
    report.verdict = Verdict::Faulty;
    report.exit_status = 1;
    report.unprobed = unprobed;
    report.diagnoses = vec![
        diagnosis(Cause::BridgeNetfilterOff, Some(bad), explained, sample),
        diagnosis(Cause::MtuBlackHole, None, Vec::new(), sample),
    ];
    report
}

fn diagnosis(
    cause: Cause,
    node: Option<NodeName>,
    paths: Vec<PathId>,
    sample: Option<SampleProbe>,
) -> DiagnosisReport {
    DiagnosisReport {
        cause: CauseName(Some(cause)),
        meaning: cause.meaning().to_owned(),
        segment: node
            .clone()
            .map_or(PathSegment::Unknown, |node| PathSegment::Node { node }),
        node,
        family: Some(Family::Ipv4),
        confidence: Confidence::Proven,
        tier: Tier::T2,
        paths,
        evidence: vec!["net.bridge.bridge-nf-call-iptables = 0".to_owned()],
        excluded: vec![Exclusion {
            cause: Cause::ForwardDrop,
            because: "the server's end saw every SYN".to_owned(),
        }],
        would_decide: vec!["a capture on the node".to_owned()],
        remedy: vec![Remedy {
            summary: "At once".to_owned(),
            commands: vec![
                "printf 'net.bridge.bridge-nf-call-iptables = 1\\n' > /etc/sysctl.d/99-a-file-with-a-long-name-bridge-nf.conf".to_owned(),
            ],
        }],
        sample,
        conntrack: Vec::new(),
    }
}

/// The replayed report of the founding incident, captured at both ends.
pub(crate) fn replayed() -> Report {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let capture = tests.join("captures/founding-incident-both-ends.pcapng");
    let bytes = fs::read(capture).expect("read a capture");
    let replay = replay_files(&[&bytes]).expect("the capture is one");
    let meta = Meta {
        version: "0.1.0".to_owned(),
        command: vec!["prober".to_owned(), "replay".to_owned()],
        started: Timestamp::from_nanos(1_795_461_721_000_000_000),
        duration: Duration::from_millis(12),
        completion: Completion::Complete,
        notes: replay.notes,
    };
    Report::new(&replay.matrix, &diagnose(&replay.matrix), meta)
}

/// A real probe, seen from both ends, whose client's record ends before the server's.
fn probe() -> ProbeReport {
    let report = replayed();
    let mut probes = report.paths.iter().flat_map(|path| &path.probes);
    let probe = probes.find(|probe| probe.server.is_some());
    let mut probe = probe.expect("both ends saw it").clone();
    probe.client.observations.truncate(4);
    probe
}
