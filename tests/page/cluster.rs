//! States of the page of clusters that are made up, of any number of nodes.

use std::sync::Arc;
use std::time::Duration;

use controller::page::state::{
    CheckView, ControllerView, FailureReport, Grouping, NodeHealth, NodeView, OutageView,
    PageState, PairView, Reading,
};
use prober_core::packet::family::Family;
use prober_core::report::render::html::fingerprint::{CellPath, CellState, Fingerprint};
use prober_core::time::Timestamp;
use prober_core::topology::{AccessPath, NodeName, Scope};

use crate::network::{Network, broken};

/// When the states were read.
pub(crate) fn read_at() -> Timestamp {
    Timestamp::from_nanos(1_795_461_721_000_000_000)
}

/// A cluster.
#[derive(Clone, Copy)]
pub(crate) struct Cluster {
    /// How many nodes it has.
    pub nodes: usize,
    /// How many of them fail.
    pub failing: usize,
    /// What a node is called.
    pub name: fn(usize) -> String,
}

impl Cluster {
    /// Of these nodes two fail, or one of two.
    pub(crate) fn of(nodes: usize) -> Self {
        Self {
            nodes,
            failing: nodes / 2,
            name: |node| {
                format!(
                    "ip-10-{}-{}.eu-central-1.compute.internal",
                    node / 250,
                    node % 250
                )
            },
        }
        .with_failing(2)
    }

    pub(crate) fn with_failing(self, most: usize) -> Self {
        Self {
            failing: most.min(self.nodes / 2),
            ..self
        }
    }

    /// The state of the page.
    pub(crate) fn state(self) -> PageState {
        let outages: Vec<OutageView> = (0..self.failing).map(|place| self.outage(place)).collect();
        let ended = (0..self.nodes.min(3)).map(|node| OutageView {
            end: Some(ago(30 * 60)),
            ended_because: "its paths work again".to_owned(),
            since: ago(5 * 3_600),
            id: format!("ended-{node}"),
            report: None,
            fingerprint: Fingerprint::default(),
            ..self.outage(node)
        });
        let nodes: Vec<NodeView> = (0..self.nodes)
            .map(|node| self.node(node, &outages))
            .collect();
        let working = nodes
            .iter()
            .filter(|node| node.health == NodeHealth::Working);
        PageState {
            controller: ControllerView {
                identity: "prober-controller-7d9f_0123".to_owned(),
                leads: true,
                version: "0.1.0".to_owned(),
            },
            checks: vec![CheckView {
                name: "default".to_owned(),
                interval: "10s".to_owned(),
                nodes: self.nodes,
                measured: self.nodes - self.nodes / 40,
                working: working.count(),
                pairs: 12,
                cycle: "1m0s".to_owned(),
                slots: self.nodes.min(56),
                ..CheckView::default()
            }],
            pairs: self.pairs(),
            ended: ended.collect(),
            nodes,
            outages,
        }
    }

    /// The state, as it was read.
    pub(crate) fn reading(self) -> Reading {
        Reading {
            at: read_at(),
            version: 1,
            state: Arc::new(self.state()),
        }
    }

    /// The node of an outage.
    fn failing_node(self, place: usize) -> usize {
        place * 7 % self.nodes
    }

    fn node(self, number: usize, outages: &[OutageView]) -> NodeView {
        let name = (self.name)(number);
        let of_node: Vec<String> = (outages.iter())
            .filter(|outage| outage.node.as_ref() == Some(&name))
            .map(|outage| outage.id.clone())
            .collect();
        let health = match number % 40 {
            _ if !of_node.is_empty() => NodeHealth::Failing,
            37 => NodeHealth::Alerting,
            38 => NodeHealth::Starting,
            39 => NodeHealth::NotMeasured,
            _ => NodeHealth::Working,
        };
        let value = |grouping| match grouping {
            Grouping::Zone => format!("eu-central-1{}", ["a", "b", "c"][number % 3]),
            Grouping::Pool => ["general", "spot"][usize::from(number.is_multiple_of(7))].to_owned(),
            Grouping::InstanceType => "m6i.large".to_owned(),
            Grouping::Kernel => {
                ["6.1.0-18", "6.8.0-45"][usize::from(number.is_multiple_of(7))].to_owned()
            }
            Grouping::OsImage => "Debian GNU/Linux 12 (bookworm)".to_owned(),
            Grouping::Kubelet => "v1.33.1".to_owned(),
        };
        NodeView {
            check: "default".to_owned(),
            health,
            why: match health {
                NodeHealth::NotMeasured => {
                    "it is not Ready: Kubelet stopped posting node status".to_owned()
                }
                NodeHealth::Failing
                | NodeHealth::Alerting
                | NodeHealth::Starting
                | NodeHealth::Working => String::new(),
            },
            alerting_since: (health == NodeHealth::Alerting).then(|| ago(12)),
            groups: Grouping::ALL
                .into_iter()
                .map(|one| (one, value(one)))
                .collect(),
            outages: of_node,
            name,
        }
    }

    fn outage(self, place: usize) -> OutageView {
        let name = (self.name)(self.failing_node(place));
        let node = NodeName::new(name.clone());
        let report = (place == 0).then(|| FailureReport {
            report: Arc::new(broken(&Network::of(2))),
            diagnosis: 0,
        });
        OutageView {
            id: format!("{place:016x}"),
            check: "default".to_owned(),
            cause: "bridge-netfilter-off".to_owned(),
            meaning:
                "Bridged packets bypass iptables, so replies within a node keep the pod's address."
                    .to_owned(),
            confidence: "proven".to_owned(),
            place: format!("within {name}"),
            since: ago(4 * 60 + 10),
            end: None,
            ended_because: String::new(),
            kinds: vec![
                "cluster-ip, same-node".to_owned(),
                "cluster-ip-any, any".to_owned(),
            ],
            paths: 2,
            nodes: vec![name.clone()],
            node_count: 1,
            fingerprint: fingerprint(&node),
            report,
            node: Some(name),
        }
    }

    fn pairs(self) -> Vec<PairView> {
        if self.nodes > 12 {
            return Vec::new();
        }
        let pair = |client: usize, server: usize, failing: &[&str]| PairView {
            client: (self.name)(client),
            server: (self.name)(server),
            failing: failing.iter().map(|one| (*one).to_owned()).collect(),
            working: 3,
        };
        match self.nodes {
            0 | 1 => Vec::new(),
            _ => vec![
                pair(0, 0, &["cluster-ip"]),
                pair(0, 1, &[]),
                pair(1, 0, &[]),
            ],
        }
    }
}

fn ago(seconds: u64) -> Timestamp {
    Timestamp::from_nanos(read_at().as_nanos() - 1_000_000_000 * seconds)
}

/// What the founding fault looks like.
fn fingerprint(node: &NodeName) -> Fingerprint {
    let other = NodeName::new("other");
    let mut fingerprint = Fingerprint::new(Some(node.clone()));
    for access_path in [
        AccessPath::PodIp,
        AccessPath::ClusterIp,
        AccessPath::NodePort,
    ] {
        for (client, server, scope) in [
            (node, node, Scope::SameNode),
            (node, &other, Scope::CrossNode),
            (&other, node, Scope::CrossNode),
        ] {
            let fails = scope == Scope::SameNode && access_path == AccessPath::ClusterIp;
            let path = CellPath {
                client: Some(client),
                server: Some(server),
                access_path,
                scope,
                family: Family::Ipv4,
            };
            fingerprint.add(
                path,
                if fails {
                    CellState::Fails
                } else {
                    CellState::Works
                },
            );
        }
    }
    fingerprint
}

/// Long enough that its data is not current any more.
pub(crate) const STALE: Duration = Duration::from_mins(5);
