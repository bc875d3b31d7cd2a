//! The settings of a cluster that a packet meets. A healthy cluster has their defaults; a fault changes some.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use prober_core::evidence::policies::ApiPolicies;
use prober_core::packet::family::Family;

use super::address::{self, Agent, RESPONDER, Role, ServicePort, client, server, unused_ip};
use super::profile::Profile;

/// A cluster: its profile, its nodes (numbered from 1), and the network between them.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) profile: &'static Profile,
    pub(crate) families: Vec<Family>,
    nodes: Vec<Node>,
    pub(crate) pods: BTreeMap<Agent, Pod>,
    /// What the network between nodes drops.
    pub(crate) wire: Vec<WireDrop>,
    /// The policies in the API.
    pub(crate) policies: ApiPolicies,
    /// Slots that lead to an unused address, according to the API.
    pub(crate) dead_slots: BTreeSet<u8>,
    /// Slots without an endpoint.
    pub(crate) empty_slots: BTreeSet<u8>,
    /// Nodes whose server is not ready: their own port has no endpoint.
    pub(crate) without_local: BTreeSet<u8>,
}

/// The settings of a node.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a setting of its own"
)]
pub(crate) struct Node {
    /// `net.bridge.bridge-nf-call-iptables` and `-ip6tables`.
    pub(crate) bridge_nf: bool,
    /// `net.ipv4.ip_forward` and `net.ipv6.conf.all.forwarding`.
    pub(crate) forwards: bool,
    /// Rules of netfilter's FORWARD chain.
    pub(crate) forward_chain: Vec<Filter>,
    /// NetworkPolicies, by whatever enforces them.
    pub(crate) policies: Vec<Filter>,
    pub(crate) is_conntrack_full: bool,
    /// Strict reverse-path filtering, and routes to the peers' pods by another interface than their packets arrive on.
    pub(crate) strict_reverse_path: bool,
    /// NOTRACK for the packets of servers: no translation is undone.
    pub(crate) untracked_replies: bool,
    /// A segment of each connection to its pods is outside the window, and FORWARD has no rule that drops invalid packets.
    pub(crate) has_invalid_segments: bool,
    /// The source of packets that must return by this node is replaced.
    pub(crate) masquerades: bool,
    /// Other connections have every port that the node may choose for a replaced source.
    pub(crate) has_no_source_port: bool,
    pub(crate) has_service_rules: bool,
    /// Slots whose rules lead to an old backend.
    pub(crate) stale_slots: BTreeMap<u8, OldBackend>,
    /// Routes to peers' pods that are not as they should be.
    pub(crate) routes: BTreeMap<u8, BrokenRoute>,
    pub(crate) has_default_route: bool,
    /// Pods whose host route is gone.
    pub(crate) lost_pod_routes: BTreeSet<Agent>,
    /// The table that the pods' `ip rule` selects has a blackhole as its default route.
    pub(crate) is_pod_table_blackhole: bool,
    pub(crate) stale_neighbours: BTreeMap<u8, StaleNeighbour>,
    /// Pods' links have a larger MTU than the way to other nodes, and ICMP "packet too big" is filtered.
    pub(crate) drops_large: bool,
    /// Every second probe loses its first packet here.
    pub(crate) is_lossy: bool,
    /// Everything of pods is dropped until then, milliseconds.
    pub(crate) down_until_ms: u64,
}

/// An old backend that a node's rules lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OldBackend {
    /// An address that no pod has any more.
    Unused,
    /// The server of another node.
    ServerOf(u8),
    /// None: the rules are from before the first endpoint.
    Missing,
}

/// The state of a route to a peer's pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BrokenRoute {
    /// The next matching route is used: the default route, if there is one.
    Absent,
    Blackhole,
    Unreachable,
}

/// A wrong entry for a peer's tunnel end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StaleNeighbour {
    /// The peer receives frames to another address, and drops them (`SKB_DROP_REASON_OTHERHOST`).
    WrongMac,
    /// The tunnel has no remote address for them.
    NoFdbEntry,
}

/// The settings of a pod.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a setting of its own"
)]
pub(crate) struct Pod {
    pub(crate) is_listening: bool,
    pub(crate) has_full_accept_queue: bool,
    pub(crate) is_frozen: bool,
    pub(crate) link: PodLink,
    /// Another pod on the same segment has its address and wins every resolution.
    pub(crate) is_duplicated: bool,
    /// The hairpin flag of its bridge port.
    pub(crate) hairpin: bool,
}

/// The state of a pod's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PodLink {
    Up,
    /// Some of the probes last until the pod's address is found unresolved.
    Down,
    /// None does.
    DownUnanswered,
}

/// A rule that drops or rejects.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filter {
    pub(crate) from: Ends,
    pub(crate) to: Ends,
    pub(crate) port: Option<u16>,
    /// Packets of established connections pass.
    pub(crate) only_new: bool,
    pub(crate) verdict: Verdict,
}

/// The ends that a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    Any,
    Pod(Agent),
    /// All pods of a node.
    PodsOf(u8),
    /// Everything else.
    NotPodsOf(u8),
}

/// The verdict of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Drop,
    RejectReset,
    RejectProhibited,
}

/// What the network between nodes drops.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WireDrop {
    /// The node of the sender; `None` for every node.
    pub(crate) from: Option<u8>,
    /// The node of the receiver.
    pub(crate) to: Option<u8>,
    pub(crate) what: Dropped,
}

/// Which packets the network drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropped {
    Everything,
    /// Behind the top-of-rack router of the sender.
    BehindRouter,
    /// Packets whose source is a pod's address.
    FromPods,
    /// Packets whose destination is a pod's address.
    ToPods,
    /// First packets of connections between pods.
    NewOfPods,
    /// Tunnel packets.
    Tunnel,
    /// Packets above the size that fits.
    Large,
    /// The first packet of every second probe.
    Share,
}

/// Where a node's rules lead a Service's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// To this backend.
    Leads(SocketAddr),
    /// Nowhere: refused.
    NoEndpoint,
    /// Nowhere on this node: dropped by design.
    NoLocalEndpoint,
    /// There is none.
    Missing,
}

impl Cluster {
    /// A healthy cluster of the first of the profile's families.
    pub(crate) fn new(profile: &'static Profile, nodes: u8) -> Self {
        let pod = Pod {
            is_listening: true,
            has_full_accept_queue: false,
            is_frozen: false,
            link: PodLink::Up,
            is_duplicated: false,
            hairpin: true,
        };
        let node = Node {
            bridge_nf: profile.is_bridged(),
            forwards: true,
            forward_chain: Vec::new(),
            policies: Vec::new(),
            is_conntrack_full: false,
            strict_reverse_path: false,
            untracked_replies: false,
            has_invalid_segments: false,
            masquerades: true,
            has_no_source_port: false,
            has_service_rules: true,
            stale_slots: BTreeMap::new(),
            routes: BTreeMap::new(),
            has_default_route: true,
            lost_pod_routes: BTreeSet::new(),
            is_pod_table_blackhole: false,
            stale_neighbours: BTreeMap::new(),
            drops_large: false,
            is_lossy: false,
            down_until_ms: 0,
        };
        Self {
            profile,
            families: vec![profile.families[0]],
            nodes: vec![node; usize::from(nodes)],
            pods: (1..=nodes)
                .flat_map(|node| [client(node), server(node)])
                .map(|agent| (agent, pod.clone()))
                .collect(),
            wire: Vec::new(),
            policies: ApiPolicies::default(),
            dead_slots: BTreeSet::new(),
            empty_slots: BTreeSet::new(),
            without_local: BTreeSet::new(),
        }
    }

    /// The same with every family of the profile.
    pub(crate) fn dual(profile: &'static Profile, nodes: u8) -> Self {
        Self {
            families: profile.families.to_vec(),
            ..Self::new(profile, nodes)
        }
    }

    /// The numbers of its nodes.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u8> + use<> {
        1..=u8::try_from(self.nodes.len()).unwrap()
    }

    pub(crate) fn node(&self, node: u8) -> &Node {
        &self.nodes[usize::from(node - 1)]
    }

    pub(crate) fn node_mut(&mut self, node: u8) -> &mut Node {
        &mut self.nodes[usize::from(node - 1)]
    }

    pub(crate) fn pod_mut(&mut self, pod: Agent) -> &mut Pod {
        self.pods.get_mut(&pod).unwrap()
    }

    pub(crate) fn ip(&self, agent: Agent, family: Family) -> IpAddr {
        agent.ip(self.profile, family)
    }

    /// The pod with this address.
    pub(crate) fn pod_at(&self, ip: IpAddr) -> Option<Agent> {
        let family = Family::of(ip);
        let mut pods = self.pods.keys().copied();
        pods.find(|pod| self.ip(*pod, family) == ip)
    }

    /// The node whose range has this address: a pod's, or an unused one.
    pub(crate) fn range_of(&self, ip: IpAddr) -> Option<u8> {
        let family = Family::of(ip);
        let of_range = |node: &u8| unused_ip(*node, family) == ip;
        self.pod_at(ip)
            .map(|pod| pod.node)
            .or_else(|| self.numbers().find(of_range))
    }

    /// The node with this address of its own, on whichever of its devices.
    pub(crate) fn node_at(&self, ip: IpAddr) -> Option<u8> {
        let family = Family::of(ip);
        let is_own = |node: &u8| {
            address::node_ip(self.profile, *node, family) == ip
                || address::in_range(*node, 0, family) == ip
                || address::in_range(*node, 1, family) == ip
        };
        self.numbers().find(is_own)
    }

    /// Where a node's rules lead a port of the Service, for the `turn`-th new connection.
    pub(crate) fn rule(&self, node: u8, port: ServicePort, family: Family, turn: usize) -> Rule {
        let settings = self.node(node);
        if !settings.has_service_rules {
            return Rule::Missing;
        }
        let of = |agent| Rule::Leads(SocketAddr::new(self.ip(agent, family), RESPONDER));
        match port {
            ServicePort::Slot(slot) if self.empty_slots.contains(&slot) => Rule::NoEndpoint,
            ServicePort::Slot(slot) => match settings.stale_slots.get(&slot) {
                Some(OldBackend::ServerOf(other)) => of(server(*other)),
                Some(OldBackend::Missing) => Rule::NoEndpoint,
                Some(OldBackend::Unused) => {
                    Rule::Leads(SocketAddr::new(unused_ip(slot, family), RESPONDER))
                }
                None if self.dead_slots.contains(&slot) => {
                    Rule::Leads(SocketAddr::new(unused_ip(slot, family), RESPONDER))
                }
                None => of(server(slot)),
            },
            ServicePort::Any => {
                let at = turn % self.nodes.len();
                of(server(u8::try_from(at).unwrap() + 1))
            }
            ServicePort::Local if self.without_local.contains(&node) => Rule::NoLocalEndpoint,
            ServicePort::Local => of(server(node)),
        }
    }
}

impl Filter {
    /// Whether a packet from one address to another meets this rule.
    pub(crate) fn matches(
        &self,
        cluster: &Cluster,
        from: SocketAddr,
        to: SocketAddr,
        is_new: bool,
    ) -> bool {
        (is_new || !self.only_new)
            && self.port.is_none_or(|port| port == to.port())
            && self.from.contains(cluster, from.ip())
            && self.to.contains(cluster, to.ip())
    }
}

impl Ends {
    fn contains(self, cluster: &Cluster, ip: IpAddr) -> bool {
        let pod = cluster
            .pod_at(ip)
            .filter(|pod| matches!(pod.role, Role::Client | Role::Server));
        match self {
            Self::Any => true,
            Self::Pod(one) => pod == Some(one),
            Self::PodsOf(node) => pod.is_some_and(|pod| pod.node == node),
            Self::NotPodsOf(node) => pod.is_none_or(|pod| pod.node != node),
        }
    }
}
