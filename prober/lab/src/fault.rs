//! Every fault that the lab can inject: its name, the causes expected in the diagnosis, and the steps that inject it.
//!
//! A fault is data: [`Fault::steps`] returns its steps for a node, and [`crate::cluster::LabCluster::inject`] runs them.
//! Firewall rules affect both families; routes, reverse-path filters and sysctls affect IPv4 unless the name ends in `-v6`.

use std::fmt;
use std::time::Duration;

use prober_core::diagnosis::catalogue::Cause;

use crate::data_plane::{DataPlane, Transport};
use crate::topology::{LabSpec, Node};

/// Faults of connection tracking.
mod conntrack;
/// Faults of pods and their processes.
mod endpoint;
/// A fault and its node, as typed.
mod fault_at;
/// Faults that are firewall rules.
mod filter;
/// Faults that lose some packets, or all for some time.
mod loss;
/// Faults of the tunnel between the nodes.
mod overlay;
/// Faults of data planes without a tunnel or a bridge.
mod plain;
/// The parts of a lab that a fault needs.
mod requirement;
/// Faults of routes, sysctls, bridge ports and MTUs.
mod routing;
/// Faults of kube-proxy's rules and of the EndpointSlices.
mod service;
/// A step of a fault.
mod step;
/// The steps of every fault.
mod steps;

pub use endpoint::duplicate_pod_name;
pub use fault_at::{FaultAt, FaultError};
use requirement::Requirement;
pub use requirement::{NotApplicable, RefusedFault};
pub use step::{SliceChange, Step};

/// The time in a run at which a fault is injected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InjectionPhase {
    /// Before any agent is placed: the run finds the node faulty.
    BeforePlacement,
    /// Once agents run and the Services are published: the fault needs them, or a publication would undo it.
    AfterPublication,
}

/// The node on which a fault is injected when the user names none.
#[derive(Clone, Copy)]
enum DefaultNode {
    /// `node-1`.
    First,
    /// `node-2`, where the fault affects traffic from `node-1`.
    Second,
}

macro_rules! faults {
    ($($name:ident = $slug:literal, [$($cause:ident),*], $default_node:ident, $phase:ident, $requirement:ident, $summary:literal;)*) => {
        /// A fault that the lab can inject.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $(#[doc = $summary] $name,)* }

        impl Fault {
            /// Every fault, in the order of `prober lab faults`.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Returns its name on the command line.
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug,)* }
            }

            /// Returns a description in one line.
            pub const fn summary(self) -> &'static str {
                match self { $(Self::$name => $summary,)* }
            }

            /// Returns the causes that a correct report names, and no others.
            ///
            /// It is empty for a harmless fault, for one that ends with the start-up of pods, and where the catalogue has no
            /// cause for it ([`Self::is_harmless`], [`Self::ends_with_start_up`]).
            pub const fn causes(self) -> &'static [Cause] {
                match self { $(Self::$name => &[$(Cause::$cause),*],)* }
            }

            /// Returns the time in a run at which it is injected.
            pub const fn phase(self) -> InjectionPhase {
                match self { $(Self::$name => InjectionPhase::$phase,)* }
            }

            const fn requirement(self) -> Requirement {
                match self { $(Self::$name => Requirement::$requirement,)* }
            }

            const fn default_node_kind(self) -> DefaultNode {
                match self { $(Self::$name => DefaultNode::$default_node,)* }
            }
        }
    };
}

faults! {
    BridgeNetfilterOff = "bridge-netfilter-off", [BridgeNetfilterOff], First, BeforePlacement, Bridge,
        "bridged IPv4 packets skip iptables on the node (net.bridge.bridge-nf-call-iptables=0)";
    BridgeNetfilterOffV6 = "bridge-netfilter-off-v6", [BridgeNetfilterOff], First, BeforePlacement, Bridge,
        "bridged IPv6 packets skip ip6tables on the node (net.bridge.bridge-nf-call-ip6tables=0)";
    ForwardDrop = "forward-drop", [ForwardDrop], First, BeforePlacement, Anything,
        "the node forwards nothing: a DROP at the head of FORWARD";
    ForwardDropEgress = "forward-drop-egress", [ForwardDrop], First, BeforePlacement, Anything,
        "the node drops what its pods send to other nodes";
    ForwardDropEgressNew = "forward-drop-egress-new", [ForwardDrop], First, BeforePlacement, Anything,
        "the node drops new connections of its pods to other nodes; answers and established ones pass";
    ForwardDropIngress = "forward-drop-ingress", [ForwardDrop], First, BeforePlacement, Anything,
        "the node drops what other nodes send to its pods";
    ForwardDropToClient = "forward-drop-to-client", [ForwardDrop], First, BeforePlacement, Anything,
        "the node drops every packet to its client pod";
    ForwardDropReplies = "forward-drop-replies", [ForwardDrop], First, BeforePlacement, Anything,
        "the node drops every packet in the reply direction of its connections";
    ForwardReject = "forward-reject", [ForwardDrop], First, BeforePlacement, Anything,
        "the node refuses what it forwards by ICMP host administratively prohibited, as firewalld does";
    NoEndpoints = "no-endpoints", [NoEndpoints], First, BeforePlacement, Anything,
        "the EndpointSlice of the slot of the node's server is empty";
    RejectReset = "reject-reset", [RejectReset], First, AfterPublication, Anything,
        "the node answers for the Service with a RST instead of translating";
    PolicyRejectReset = "policy-reject-reset", [RejectReset], First, BeforePlacement, Anything,
        "the node answers new connections to its server pod with a forged RST";
    RejectOneEndpoint = "reject-one-endpoint", [RejectReset], First, AfterPublication, Anything,
        "the node answers with a RST for one endpoint behind the balanced port; retransmitted SYNs are balanced again";
    NetworkPolicy = "network-policy", [NetworkPolicy], First, BeforePlacement, Anything,
        "the node drops every new connection to its server pod";
    NetworkPolicyPort = "network-policy-port", [NetworkPolicy], First, BeforePlacement, Anything,
        "the node drops new connections to one port of its server pod";
    NetworkPolicyEgress = "network-policy-egress", [NetworkPolicy], First, BeforePlacement, Anything,
        "the node drops every new connection of its client pod";
    NetworkPolicyEgressAcross = "network-policy-egress-across", [NetworkPolicy], First, BeforePlacement, Anything,
        "the node drops new connections of its client pod to other nodes";
    PolicyRejectIcmp = "policy-reject-icmp", [NetworkPolicy], First, BeforePlacement, Anything,
        "the node answers new connections to its server pod with ICMP administratively prohibited";
    NotListening = "not-listening", [NotListening], First, BeforePlacement, Anything,
        "the node's server listens on no port";
    AcceptQueueFull = "accept-queue-full", [AcceptQueueFull], First, BeforePlacement, Anything,
        "the node's server accepts no connection, and its accept queue is full";
    EndpointFrozen = "endpoint-frozen", [EndpointFrozen], First, AfterPublication, Anything,
        "the node's server process is stopped (SIGSTOP); its kernel still completes handshakes";
    StaleEndpoint = "stale-endpoint", [StaleEndpoint], First, BeforePlacement, Anything,
        "the EndpointSlice of the node's server names an address that no pod has";
    StaleEndpointCross = "stale-endpoint-cross", [StaleEndpoint], Second, BeforePlacement, Anything,
        "the same on the other node: clients of node-1 are sent across the tunnel to an address that no pod has";
    StaleEndpointRecent = "stale-endpoint-recent", [StaleEndpoint], First, BeforePlacement, Bridge,
        "the same for a pod that was deleted a moment ago: its neighbour entry is still valid, so SYNs are flooded, not refused";
    PodVethDown = "pod-veth-down", [StaleEndpoint], First, BeforePlacement, Anything,
        "the server pod's port on the bridge is down";
    StaleRules = "stale-rules", [StaleRules], First, AfterPublication, Anything,
        "the node's kube-proxy stopped before the endpoints changed: its rules lead to the former endpoints, which still run";
    ServiceRulesMissing = "service-rules-missing", [ServiceRulesMissing], First, BeforePlacement, Anything,
        "PREROUTING does not jump to KUBE-SERVICES";
    ServiceRulesMissingChain = "service-rules-missing-chain", [ServiceRulesMissing], First, AfterPublication, Anything,
        "the chain of one Service port is empty";
    KubeProxyDead = "kube-proxy-dead", [ServiceRulesMissing], First, BeforePlacement, Anything,
        "the node's kube-proxy has not run since the node's start: there is no rule of any Service";
    SocketLevelServices = "socket-level-services", [ServiceRulesMissing], First, AfterPublication, Anything,
        "no node has rules for the Service `prober`, as in a cluster that translates inside connect(2)";
    NoLocalEndpoint = "no-local-endpoint", [NoLocalEndpoint], First, BeforePlacement, Anything,
        "the node's server is not ready, so the Service with internalTrafficPolicy Local drops on that node";
    OverlayBlockedIn = "overlay-blocked-in", [OverlayBlocked], First, BeforePlacement, Tunnel,
        "the node drops incoming VXLAN packets (UDP 8472)";
    OverlayBlockedOut = "overlay-blocked-out", [OverlayBlocked], First, BeforePlacement, Tunnel,
        "every other node drops the VXLAN packets of this one";
    OverlayBlockedOutput = "overlay-blocked-output", [OverlayBlocked], First, BeforePlacement, Tunnel,
        "the node drops VXLAN packets in its own OUTPUT chain";
    StaleOverlayNeighbour = "stale-overlay-neighbour", [StaleOverlayNeighbour], First, BeforePlacement, Tunnel,
        "the node has a wrong MAC address for the next node's tunnel device";
    StaleOverlayNeighbourFdb = "stale-overlay-neighbour-fdb", [StaleOverlayNeighbour], First, BeforePlacement, Tunnel,
        "the node sends packets for the next node's tunnel device to an underlay address that no node has";
    BadChecksum = "bad-checksum", [BadChecksum], First, BeforePlacement, Tunnel,
        "TCP checksums of packets are wrong that leave the node by its tunnels, as by a device with a broken offload";
    RouteMissing = "route-missing", [RouteMissing], First, BeforePlacement, OnlyNodeRoute,
        "the node has no route to the next node's pods: packets take the default route";
    RouteMissingUnreachable = "route-missing-unreachable", [RouteMissing], First, BeforePlacement, NodeRoute,
        "the node's route to the next node's pods is of type unreachable";
    RouteMissingBlackhole = "route-missing-blackhole", [RouteMissing], First, BeforePlacement, NodeRoute,
        "the node's route to the next node's pods is of type blackhole";
    OverlayDeviceDown = "overlay-device-down", [RouteMissing], First, BeforePlacement, Tunnel,
        "the node's tunnel device is down, which removes its routes";
    RouteMissingReturn = "route-missing-return", [RouteMissing], Second, BeforePlacement, OnlyNodeRoute,
        "the same on the other node: replies take the default route";
    WrongNextHop = "wrong-next-hop", [WrongNextHop], First, BeforePlacement, PlainRoute,
        "the node's route to the pods of another node leads to a host that takes no packets of pods";
    NextHopUnresolved = "next-hop-unresolved", [WrongNextHop], First, BeforePlacement, PlainRoute,
        "the node's route to the pods of another node leads to an address that no host has";
    EncapsulationMismatch = "encapsulation-mismatch", [EncapsulationMismatch], First, BeforePlacement, Tunnel,
        "the node's tunnel has another UDP port and another VNI than those of the other nodes";
    NoDefaultRoute = "no-default-route", [ServiceRouteMissing], First, BeforePlacement, OwnGateway,
        "the node has no default route and no route to the Services, as one without access to other networks";
    IpForwardOff = "ip-forward-off", [IpForwardOff], First, BeforePlacement, Anything,
        "the node does not forward IPv4 (net.ipv4.ip_forward=0)";
    IpForwardOffV6 = "ip-forward-off-v6", [IpForwardOff], First, BeforePlacement, Anything,
        "the node does not forward IPv6 (net.ipv6.conf.all.forwarding=0)";
    MtuBlackHole = "mtu-black-hole", [MtuBlackHole], First, BeforePlacement, Anything,
        "the underlay silently drops frames over 1400 bytes at the node's port";
    MtuBlackHolePod = "mtu-black-hole-pod", [MtuBlackHole], First, BeforePlacement, Tunnel,
        "pods have an MTU that is too large for the tunnel, and ICMP fragmentation-needed is dropped";
    PacketLoss = "packet-loss", [PacketLoss], First, BeforePlacement, Anything,
        "the node loses 20 % of all TCP packets that it forwards";
    PacketLossSyn = "packet-loss-syn", [PacketLoss], First, BeforePlacement, Anything,
        "the node loses 30 % of the SYNs that it forwards";
    PacketLossReply = "packet-loss-reply", [PacketLoss], First, BeforePlacement, Anything,
        "the node loses 30 % of the SYN+ACKs that it forwards";
    RpFilter = "rp-filter", [RpFilter], First, BeforePlacement, TunnelBypass,
        "other nodes send to this one outside the tunnel, and its strict reverse-path filter drops those packets";
    RpFilterIn = "rp-filter-in", [RpFilter], Second, BeforePlacement, TunnelBypass,
        "the same on the other node: SYNs from node-1 are dropped there";
    HairpinOff = "hairpin-off", [HairpinOff], First, BeforePlacement, Bridge,
        "the server pod's bridge port does not send packets back to the pod (hairpin mode is off)";
    MissingMasquerade = "missing-masquerade", [MissingMasquerade], First, AfterPublication, Anything,
        "KUBE-POSTROUTING is empty on the node";
    ReplyBypassesNat = "reply-bypasses-nat", [ReplyBypassesNat], First, BeforePlacement, Anything,
        "the node does not track replies from port 8080, so their addresses are not translated back";
    InvalidReset = "invalid-reset", [InvalidReset], First, AfterPublication, Anything,
        "one segment of each connection to the node's pods is outside the window, and no rule drops invalid packets";
    SnatPortCollision = "snat-port-collision", [SnatPortCollision], First, AfterPublication, Anything,
        "the node translates the sources of all Service traffic to 16 ports, and other connections to its server have them all";
    DuplicateIp = "duplicate-ip", [DuplicateIp], First, BeforePlacement, SharedLink,
        "a second pod on the node has the server pod's address";
    ConntrackFull = "conntrack-full", [ConntrackFull], First, AfterPublication, Anything,
        "the node's conntrack table is full of assured entries";
    ForwardHeals = "forward-heals", [TransientOutage], First, AfterPublication, Anything,
        "the node forwards no new connection for two seconds in mid-run, then every one again";
    LatePolicy = "late-policy", [], First, BeforePlacement, Anything,
        "the node forwards nothing until two seconds (late-policy:5s: five) after the first packet, like a policy engine that is late";
    LateRules = "late-rules", [], First, BeforePlacement, Anything,
        "the node translates no Service until two seconds (late-rules:5s: five) after the first packet to one, like a late kube-proxy";
    ForwardPolicyDropHarmless = "forward-policy-drop-harmless", [], First, BeforePlacement, AcceptingRules,
        "FORWARD's policy is DROP, but flannel's rules accept the traffic first";
    AsymmetricRouteHarmless = "asymmetric-route-harmless", [], First, BeforePlacement, TunnelBypass,
        "other nodes send to this one outside the tunnel, and no reverse-path filter is on";
    WireDropFromPods = "wire-drop-from-pods", [NetworkBlocked], First, BeforePlacement, PlainPackets,
        "the network drops packets with source addresses of the node's pods; the node's own pass";
    WireDropToPods = "wire-drop-to-pods", [NetworkBlocked], First, BeforePlacement, PlainPackets,
        "the network drops packets with destination addresses of the node's pods; the node's own pass";
    PodRouteMissing = "pod-route-missing", [PodRouteMissing], First, BeforePlacement, PodRoute,
        "the node has no route to its server pod";
    WrongTable = "wrong-table", [RouteMissing], First, BeforePlacement, SecondInterface,
        "the default route of the table for packets from the node's pods is of type blackhole";
    EniDown = "eni-down", [], First, BeforePlacement, SecondInterface,
        "the node's second interface is down, which has the pods' addresses";
    MasqueradeAll = "masquerade-all", [], First, AfterPublication, Anything,
        "the node source-translates all Service traffic (kube-proxy --masquerade-all)";
}

/// The time from the first packet to the end of a fault that ends by itself, where no other was given.
pub const USUAL_DURATION: Duration = Duration::from_secs(2);

/// The lab, the node and the slot for which a fault's steps are made.
#[derive(Debug, Clone, Copy)]
pub struct FaultContext<'a> {
    /// The lab.
    pub spec: &'a LabSpec,
    /// The node on which the fault is injected.
    pub node: Node,
    /// The slot of the test Service that leads, or will lead, to the node's server.
    pub slot: u8,
    /// From the first packet to the end of a fault that ends by itself.
    pub lasts: Duration,
}

impl FaultContext<'_> {
    /// Returns the next node that the node reaches by a route without a tunnel; where there is none, the next node.
    fn route_peer(self) -> Node {
        self.next_by(Transport::NodeRoute)
    }

    /// Returns the next node that the node reaches through a tunnel; where there is none, the next node.
    fn tunnel_peer(self) -> Node {
        self.next_by(Transport::Vxlan)
    }

    /// Returns the next node that the node reaches by this transport; where there is none, the next node.
    fn next_by(self, transport: Transport) -> Node {
        let mut peers: Vec<_> = self.spec.peers_by(transport, self.node).collect();
        // The nodes after this one come first.
        peers.sort_by_key(|peer| (*peer < self.node, *peer));
        let first = peers.first().copied();
        first.unwrap_or_else(|| self.node.next_in(self.spec))
    }
}

impl Fault {
    /// Whether no connection fails because of it.
    pub const fn is_harmless(self) -> bool {
        matches!(
            self,
            Self::ForwardPolicyDropHarmless | Self::AsymmetricRouteHarmless | Self::MasqueradeAll
        )
    }

    /// Whether connections fail because of it only while the pods of a run are new, which a report notes.
    pub const fn ends_with_start_up(self) -> bool {
        matches!(self, Self::LatePolicy | Self::LateRules)
    }

    /// Returns the causes that a correct report names where a fault that ends with start-up lasts longer than any start-up.
    pub const fn causes_if_late(self) -> &'static [Cause] {
        if self.ends_with_start_up() {
            &[Cause::EndpointNotProgrammed]
        } else {
            &[]
        }
    }

    /// Returns an error if this lab lacks what it breaks.
    pub fn check_applies(self, spec: &LabSpec) -> Result<(), NotApplicable> {
        self.requirement()
            .unmet(spec)
            .map_or(Ok(()), |reason| Err(NotApplicable::new(self, spec, reason)))
    }

    /// Iterates over the data planes on which it can be injected, in a lab of their default size.
    pub fn data_planes(self) -> impl Iterator<Item = DataPlane> {
        let requirement = self.requirement();
        let has = move |data_plane: &DataPlane| {
            requirement.unmet(&LabSpec::smallest(*data_plane)).is_none()
        };
        DataPlane::ALL.iter().copied().filter(has)
    }

    /// Returns the node on which it is injected when the user names none.
    pub fn default_node(self, spec: &LabSpec) -> Node {
        match self.default_node_kind() {
            DefaultNode::First => Node::FIRST,
            DefaultNode::Second => Node::FIRST.next_in(spec),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.slug())
    }
}

#[cfg(test)]
mod tests;
