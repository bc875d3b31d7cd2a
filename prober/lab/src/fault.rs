//! Every way in which the lab can be broken: a name, what must then be named, and the steps that break it.
//!
//! A fault is data: [`Fault::steps`] is pure text for a given place, and [`crate::platform::Fleet::inject`] carries it out.
//! Filters hit both families; routes, reverse-path filters and switches hit IPv4 unless the name ends in `-v6`.

use std::fmt;
use std::str::FromStr;

use prober_core::diagnosis::catalogue::Cause;

use crate::topology::{LabSpec, Node, NodeNameError};

/// Pods and their processes.
mod endpoint;
/// Rules of the firewall.
mod filter;
/// Packets that are lost now and then.
mod loss;
/// The tunnel between the nodes.
mod overlay;
/// Routes, forwarding, bridges, packet sizes.
mod routing;
/// What kube-proxy and the EndpointSlices say.
mod service;
/// What a step is.
mod step;

pub use endpoint::impostor_name;
pub use step::{SliceChange, Step};

/// When a fault takes effect in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Before anything is placed: the node was like that already.
    BeforePlacing,
    /// When agents run and the Services are published: it needs them, or a publication would undo it.
    AfterPublish,
}

/// Where a fault is put unless somebody says otherwise.
#[derive(Clone, Copy)]
enum Home {
    /// On `node-1`.
    First,
    /// On `node-2`, where it meets traffic that comes from `node-1`.
    Second,
}

macro_rules! faults {
    ($($name:ident = $slug:literal, [$($cause:ident),*], $home:ident, $phase:ident, $summary:literal;)*) => {
        /// A way to break the lab.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $(#[doc = $summary] $name,)* }

        impl Fault {
            /// Every fault, in the order in which they are listed.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name on the command line.
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug,)* }
            }

            /// What it does, in one line.
            pub const fn summary(self) -> &'static str {
                match self { $(Self::$name => $summary,)* }
            }

            /// What a diagnosis must name, and nothing else; empty where it harms nothing.
            pub const fn causes(self) -> &'static [Cause] {
                match self { $(Self::$name => &[$(Cause::$cause),*],)* }
            }

            /// When it takes effect in a run.
            pub const fn phase(self) -> Phase {
                match self { $(Self::$name => Phase::$phase,)* }
            }

            const fn home(self) -> Home {
                match self { $(Self::$name => Home::$home,)* }
            }
        }
    };
}

faults! {
    BridgeNetfilterOff = "bridge-netfilter-off", [BridgeNetfilterOff], First, BeforePlacing,
        "bridged IPv4 packets skip iptables on the node (net.bridge.bridge-nf-call-iptables=0)";
    BridgeNetfilterOffV6 = "bridge-netfilter-off-v6", [BridgeNetfilterOff], First, BeforePlacing,
        "bridged IPv6 packets skip ip6tables on the node (net.bridge.bridge-nf-call-ip6tables=0)";
    ForwardDrop = "forward-drop", [ForwardDrop], First, BeforePlacing,
        "the node forwards nothing: a DROP at the head of FORWARD";
    ForwardDropEgress = "forward-drop-egress", [ForwardDrop], First, BeforePlacing,
        "the node drops what its pods send to other nodes";
    ForwardDropIngress = "forward-drop-ingress", [ForwardDrop], First, BeforePlacing,
        "the node drops what other nodes send to its pods";
    ForwardDropToClient = "forward-drop-to-client", [ForwardDrop], First, BeforePlacing,
        "the node drops every packet to its client pod";
    ForwardDropReplies = "forward-drop-replies", [ForwardDrop], First, BeforePlacing,
        "the node drops every packet in the reply direction of its connections";
    NoEndpoints = "no-endpoints", [NoEndpoints], First, BeforePlacing,
        "the EndpointSlice of the slot of the node's server is empty";
    RejectReset = "reject-reset", [RejectReset], First, AfterPublish,
        "the node answers for the Service with a RST instead of translating";
    PolicyRejectReset = "policy-reject-reset", [RejectReset], First, BeforePlacing,
        "the node answers new connections to its server pod with a forged RST";
    RejectOneEndpoint = "reject-one-endpoint", [RejectReset], First, AfterPublish,
        "the node answers with a RST for one endpoint behind the balanced port; its SYNs are balanced anew";
    NetworkPolicy = "network-policy", [NetworkPolicy], First, BeforePlacing,
        "the node drops every new connection to its server pod";
    NetworkPolicyPort = "network-policy-port", [NetworkPolicy], First, BeforePlacing,
        "the node drops new connections to one port of its server pod";
    NetworkPolicyEgress = "network-policy-egress", [NetworkPolicy], First, BeforePlacing,
        "the node drops every new connection of its client pod";
    PolicyRejectIcmp = "policy-reject-icmp", [NetworkPolicy], First, BeforePlacing,
        "the node answers new connections to its server pod with ICMP administratively prohibited";
    NotListening = "not-listening", [NotListening], First, BeforePlacing,
        "the node's server listens on no port";
    AcceptQueueFull = "accept-queue-full", [AcceptQueueFull], First, BeforePlacing,
        "the node's server accepts nothing, and its queue is full";
    EndpointFrozen = "endpoint-frozen", [EndpointFrozen], First, AfterPublish,
        "the node's server process is stopped; its kernel goes on";
    StaleEndpoint = "stale-endpoint", [StaleEndpoint], First, BeforePlacing,
        "the slot of the node's server leads to an address of that node that no pod has";
    StaleEndpointCross = "stale-endpoint-cross", [StaleEndpoint], Second, BeforePlacing,
        "the same on the other node: its clients' peers are led to a dead address across the tunnel";
    StaleEndpointRecent = "stale-endpoint-recent", [StaleEndpoint], First, BeforePlacing,
        "the same for a pod that died a moment ago: its neighbour entry is valid, so SYNs are flooded, not refused";
    PodVethDown = "pod-veth-down", [StaleEndpoint], First, BeforePlacing,
        "the server pod's port on the bridge is down";
    StaleRules = "stale-rules", [StaleRules], First, AfterPublish,
        "kube-proxy of the node stopped before the endpoints moved: its rules lead to the old ones, which live";
    ServiceRulesMissing = "service-rules-missing", [ServiceRulesMissing], First, BeforePlacing,
        "the jump to KUBE-SERVICES is gone from PREROUTING";
    ServiceRulesMissingChain = "service-rules-missing-chain", [ServiceRulesMissing], First, AfterPublish,
        "the chain of one Service port is empty";
    SocketLevelServices = "socket-level-services", [ServiceRulesMissing], First, AfterPublish,
        "no node has rules for the Service `prober`, as where something else translates inside connect(2)";
    NoLocalEndpoint = "no-local-endpoint", [NoLocalEndpoint], First, BeforePlacing,
        "the node's server is not ready, so the Service that stays on the node drops there";
    OverlayBlockedIn = "overlay-blocked-in", [OverlayBlocked], First, BeforePlacing,
        "the node drops VXLAN packets (UDP 8472) that come in";
    OverlayBlockedOut = "overlay-blocked-out", [OverlayBlocked], First, BeforePlacing,
        "every other node drops the VXLAN packets of this one";
    OverlayBlockedOutput = "overlay-blocked-output", [OverlayBlocked], First, BeforePlacing,
        "the node drops VXLAN packets in its own OUTPUT chain";
    StaleOverlayNeighbour = "stale-overlay-neighbour", [StaleOverlayNeighbour], First, BeforePlacing,
        "the node has a wrong hardware address for the next node's tunnel end";
    StaleOverlayNeighbourFdb = "stale-overlay-neighbour-fdb", [StaleOverlayNeighbour], First, BeforePlacing,
        "the node sends what is for the next node's tunnel end to an address that is nobody's";
    RouteMissing = "route-missing", [RouteMissing], First, BeforePlacing,
        "the node's route to the next node's pods is gone: packets take the default route";
    RouteMissingUnreachable = "route-missing-unreachable", [RouteMissing], First, BeforePlacing,
        "the node's route to the next node's pods says unreachable";
    RouteMissingBlackhole = "route-missing-blackhole", [RouteMissing], First, BeforePlacing,
        "the node's route to the next node's pods says blackhole";
    OverlayDeviceDown = "overlay-device-down", [RouteMissing], First, BeforePlacing,
        "the node's tunnel device is down, and its routes with it";
    RouteMissingReturn = "route-missing-return", [RouteMissing], Second, BeforePlacing,
        "the same on the other node: replies take the default route";
    IpForwardOff = "ip-forward-off", [IpForwardOff], First, BeforePlacing,
        "the node does not forward IPv4 (net.ipv4.ip_forward=0)";
    IpForwardOffV6 = "ip-forward-off-v6", [IpForwardOff], First, BeforePlacing,
        "the node does not forward IPv6 (net.ipv6.conf.all.forwarding=0)";
    MtuBlackHole = "mtu-black-hole", [MtuBlackHole], First, BeforePlacing,
        "the underlay drops frames over 1400 bytes at the node's port, without a word";
    MtuBlackHolePod = "mtu-black-hole-pod", [MtuBlackHole], First, BeforePlacing,
        "pods have an MTU that does not fit the tunnel, and ICMP fragmentation-needed is dropped";
    PacketLoss = "packet-loss", [PacketLoss], First, BeforePlacing,
        "the node loses 20 % of all TCP packets that it forwards";
    PacketLossSyn = "packet-loss-syn", [PacketLoss], First, BeforePlacing,
        "the node loses 30 % of the SYNs that it forwards";
    PacketLossReply = "packet-loss-reply", [PacketLoss], First, BeforePlacing,
        "the node loses 30 % of the SYN+ACKs that it forwards";
    RpFilter = "rp-filter", [RpFilter], First, BeforePlacing,
        "other nodes reach this one past the tunnel, and its strict reverse-path filter drops that";
    RpFilterIn = "rp-filter-in", [RpFilter], Second, BeforePlacing,
        "the same on the other node: SYNs from node-1 are dropped on their way in";
    HairpinOff = "hairpin-off", [HairpinOff], First, BeforePlacing,
        "the server pod's bridge port does not send its packets back to it";
    MissingMasquerade = "missing-masquerade", [MissingMasquerade], First, AfterPublish,
        "KUBE-POSTROUTING is empty on the node";
    ReplyBypassesNat = "reply-bypasses-nat", [ReplyBypassesNat], First, BeforePlacing,
        "the node does not track replies from port 8080, so they are not translated back";
    DuplicateIp = "duplicate-ip", [DuplicateIp], First, BeforePlacing,
        "a second pod on the node has the server pod's address";
    ConntrackFull = "conntrack-full", [ConntrackFull], First, AfterPublish,
        "the node's connection table is full of assured entries";
    ForwardHeals = "forward-heals", [TransientOutage], First, AfterPublish,
        "the node forwards nothing for two seconds, then all is well";
    ForwardPolicyDropHarmless = "forward-policy-drop-harmless", [], First, BeforePlacing,
        "FORWARD's policy is DROP, and flannel's rules accept before it";
    AsymmetricRouteHarmless = "asymmetric-route-harmless", [], First, BeforePlacing,
        "other nodes reach this one past the tunnel, and nothing filters reverse paths";
    MasqueradeAll = "masquerade-all", [], First, AfterPublish,
        "the node source-translates all Service traffic (kube-proxy --masquerade-all)";
}

/// The place that a fault's steps are for.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// The lab.
    pub spec: &'a LabSpec,
    /// The broken node.
    pub node: Node,
    /// The slot that leads, or will lead, to the node's server.
    pub slot: u8,
}

impl Fault {
    /// The node that it is put on unless somebody says otherwise.
    pub fn default_node(self, spec: &LabSpec) -> Node {
        match self.home() {
            Home::First => Node::FIRST,
            Home::Second => Node::FIRST.next_of(spec),
        }
    }

    /// What breaks the lab there.
    pub fn steps(self, site: Site<'_>) -> Vec<Step> {
        match self {
            Self::BridgeNetfilterOff => {
                routing::switch(site, "net.bridge.bridge-nf-call-iptables=0")
            }
            Self::BridgeNetfilterOffV6 => {
                routing::switch(site, "net.bridge.bridge-nf-call-ip6tables=0")
            }
            Self::ForwardDrop => filter::forward(site, |_| String::new(), "DROP"),
            Self::ForwardDropEgress => filter::forward(site, filter::out_of_node, "DROP"),
            Self::ForwardDropIngress => filter::forward(site, filter::into_node, "DROP"),
            Self::ForwardDropToClient => filter::forward(site, filter::to_client(site), "DROP"),
            Self::ForwardDropReplies => {
                filter::forward(site, |_| "-m conntrack --ctdir REPLY".to_owned(), "DROP")
            }
            Self::RejectReset => service::reject(site),
            Self::PolicyRejectReset => filter::forward(
                site,
                filter::to_server(site),
                "REJECT --reject-with tcp-reset",
            ),
            Self::RejectOneEndpoint => filter::forward(
                site,
                service::balanced_to_server(site),
                "REJECT --reject-with tcp-reset",
            ),
            Self::NetworkPolicy => filter::forward(site, filter::to_server(site), "DROP"),
            Self::NetworkPolicyPort => filter::forward(site, filter::to_server_port(site), "DROP"),
            Self::NetworkPolicyEgress => filter::forward(site, filter::from_client(site), "DROP"),
            Self::PolicyRejectIcmp => filter::prohibit_server(site),
            Self::NoEndpoints => service::slices(SliceChange::Empty(site.node)),
            Self::StaleEndpoint | Self::StaleEndpointCross => {
                service::slices(SliceChange::Dead(site.node))
            }
            Self::NoLocalEndpoint => service::slices(SliceChange::NotReady(site.node)),
            Self::StaleEndpointRecent => endpoint::recently_dead(site),
            Self::PodVethDown => endpoint::unplugged(site),
            Self::NotListening => endpoint::not_listening(site),
            Self::AcceptQueueFull => endpoint::not_accepting(site),
            Self::EndpointFrozen => endpoint::frozen(site),
            Self::DuplicateIp => endpoint::impostor(site),
            Self::StaleRules => vec![Step::StaleRules(site.node)],
            Self::ServiceRulesMissing => service::jump_lost(site),
            Self::ServiceRulesMissingChain => service::chain_lost(site),
            Self::SocketLevelServices => service::left_to_sockets(site),
            Self::MissingMasquerade => service::masquerade_lost(site),
            Self::MasqueradeAll => service::masquerade_all(site),
            Self::OverlayBlockedIn => overlay::blocked_in(site),
            Self::OverlayBlockedOut => overlay::blocked_out(site),
            Self::OverlayBlockedOutput => overlay::blocked_output(site),
            Self::StaleOverlayNeighbour => overlay::wrong_mac(site),
            Self::StaleOverlayNeighbourFdb => overlay::wrong_host(site),
            Self::RouteMissing | Self::RouteMissingReturn => routing::route_lost(site),
            Self::OverlayDeviceDown => routing::tunnel_down(site),
            Self::RouteMissingUnreachable => routing::route_says(site, "unreachable"),
            Self::RouteMissingBlackhole => routing::route_says(site, "blackhole"),
            Self::IpForwardOff => routing::switch(site, "net.ipv4.ip_forward=0"),
            Self::IpForwardOffV6 => routing::switch(site, "net.ipv6.conf.all.forwarding=0"),
            Self::MtuBlackHole => routing::narrow_underlay(site),
            Self::MtuBlackHolePod => routing::wide_pods(site),
            Self::PacketLoss => loss::random(site, "-p tcp", "0.2"),
            Self::PacketLossSyn => loss::random(site, "-p tcp --tcp-flags SYN,ACK SYN", "0.3"),
            Self::PacketLossReply => {
                loss::random(site, "-p tcp --tcp-flags SYN,ACK SYN,ACK", "0.3")
            }
            Self::RpFilter | Self::RpFilterIn => routing::asymmetric_and_filtered(site),
            Self::AsymmetricRouteHarmless => routing::asymmetric(site),
            Self::HairpinOff => routing::hairpin_off(site),
            Self::ReplyBypassesNat => filter::untracked_replies(site),
            Self::ConntrackFull => loss::full_table(site),
            Self::ForwardHeals => loss::outage(site),
            Self::ForwardPolicyDropHarmless => filter::policy_drop(site),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.slug())
    }
}

/// A fault and where: what `--fault` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultAt {
    /// The fault.
    pub fault: Fault,
    /// The node that was named, if any.
    pub node: Option<Node>,
}

impl FaultAt {
    /// The node that it means in this lab, if the lab has it.
    pub fn node_in(self, spec: &LabSpec) -> Result<Node, crate::topology::UnknownPlace> {
        let node = self.node.unwrap_or_else(|| self.fault.default_node(spec));
        spec.node(&node.name())
    }
}

impl fmt::Display for FaultAt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node {
            Some(node) => write!(out, "{}@{node}", self.fault),
            None => write!(out, "{}", self.fault),
        }
    }
}

/// A text that names no fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// There is no such fault.
    #[error("there is no fault {asked:?}; did you mean {nearest}? `prober lab faults` lists them")]
    Unknown {
        /// What was asked for.
        asked: String,
        /// The most similar one.
        nearest: &'static str,
    },
    /// What follows the `@` is no node.
    #[error(transparent)]
    Node(#[from] NodeNameError),
}

impl FromStr for FaultAt {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (slug, node) = match text.split_once('@') {
            Some((slug, node)) => (slug, Some(node.parse()?)),
            None => (text, None),
        };
        let fault = Fault::ALL
            .iter()
            .copied()
            .find(|fault| fault.slug() == slug)
            .ok_or_else(|| FaultError::Unknown {
                asked: slug.to_owned(),
                nearest: nearest(slug),
            })?;
        Ok(Self { fault, node })
    }
}

fn nearest(asked: &str) -> &'static str {
    Fault::ALL
        .iter()
        .map(|fault| fault.slug())
        .min_by_key(|slug| distance(asked, slug))
        .unwrap_or_default()
}

/// How many letters must be inserted, removed or replaced (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (line, letter) in one.chars().enumerate() {
        let mut diagonal = line;
        let mut left = line + 1;
        let mut next = vec![left];
        for (above, candidate) in row.iter().skip(1).zip(other.chars()) {
            let cost = (*above + 1)
                .min(left + 1)
                .min(diagonal + usize::from(letter != candidate));
            diagonal = *above;
            left = cost;
            next.push(cost);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;
