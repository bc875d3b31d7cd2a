//! The catalogue of causes: each one's slug and one-line meaning.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::suggestion::{closest, did_you_mean};

macro_rules! causes {
    ($($(#[$doc:meta])* $name:ident = $slug:literal, $meaning:literal;)*) => {
        /// An entry of the catalogue.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Cause { $(#[doc = $meaning] $name,)* }

        impl Cause {
            /// Every cause.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name in JSON, flags, metrics and text.
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug,)* }
            }

            /// What it means, in one line.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }

            /// The text of its page.
            pub(super) const fn page_text(self) -> &'static str {
                match self { $(Self::$name => include_str!(concat!("pages/", $slug, ".md")),)* }
            }
        }
    };
}

causes! {
    BridgeNetfilterOff = "bridge-netfilter-off",
        "Bridged replies bypass netfilter on this node, so a Service's translation is not undone between pods of one node.";
    ReplyBypassesNat = "reply-bypasses-nat",
        "Replies are not matched to their connection's translation and come from the pod's own address.";
    InvalidReset = "invalid-reset",
        "Connection tracking calls a segment invalid and does not translate it back, which resets the connection.";
    SnatPortCollision = "snat-port-collision",
        "The node finds no free source port for a connection that it translates, and drops its first packets.";
    ForwardDrop = "forward-drop",
        "The node's FORWARD chain drops pod traffic.";
    NetworkPolicy = "network-policy",
        "A filter blocks one pod or port while its neighbours pass.";
    NoEndpoints = "no-endpoints",
        "The Service port has no endpoint, and the node rejects what is sent to it.";
    RejectReset = "reject-reset",
        "A rule on a node answers with a forged RST; the backend never saw the SYN.";
    NotListening = "not-listening",
        "The backend pod has no listener on the port.";
    StaleEndpoint = "stale-endpoint",
        "The Service leads to an address that no pod has, or to a pod that is cut off from its node.";
    StaleRules = "stale-rules",
        "The node's Service rules still lead to an endpoint that the API no longer names.";
    ServiceRulesMissing = "service-rules-missing",
        "The node does not translate the Service's address at all.";
    ServiceRouteMissing = "service-route-missing",
        "A node has no route that covers the Service's address, so its own connections to it fail at once.";
    NoLocalEndpoint = "no-local-endpoint",
        "The Service keeps traffic on the node, and the node has no ready endpoint: dropped by design.";
    OverlayBlocked = "overlay-blocked",
        "The overlay's own packets (VXLAN over UDP) do not reach the other node.";
    StaleOverlayNeighbour = "stale-overlay-neighbour",
        "A node sends overlay packets to a wrong MAC or host for its peer.";
    RouteMissing = "route-missing",
        "A node has no usable route to the other node's pods.";
    EncapsulationMismatch = "encapsulation-mismatch",
        "A node puts packets for another node's pods into a tunnel whose port or network identifier that node does not have.";
    WrongNextHop = "wrong-next-hop",
        "A node's route to another node's pods leads to a router that is not that node, or that does not resolve.";
    IpForwardOff = "ip-forward-off",
        "The node does not forward packets between its interfaces.";
    NetworkBlocked = "network-blocked",
        "The network between two nodes drops packets that pods of one send to pods of the other.";
    BadChecksum = "bad-checksum",
        "Packets of pods get to another node with a wrong checksum, and the kernels there drop them.";
    PodRouteMissing = "pod-route-missing",
        "A node has no route to one of its own pods.";
    MtuBlackHole = "mtu-black-hole",
        "Full-sized packets are lost on the path while small ones pass.";
    PacketLoss = "packet-loss",
        "A share of all packets is lost on the path.";
    RpFilter = "rp-filter",
        "Reverse-path filtering drops packets whose return route differs from their path in.";
    HairpinOff = "hairpin-off",
        "The bridge port does not send a pod's packets back to it, so the pod cannot reach itself through its Service.";
    MissingMasquerade = "missing-masquerade",
        "Traffic that must be source-translated leaves with a source that cannot be answered.";
    AcceptQueueFull = "accept-queue-full",
        "The backend does not accept connections fast enough, and its kernel drops new ones.";
    EndpointFrozen = "endpoint-frozen",
        "The backend's kernel completes handshakes, but its process does not answer.";
    DuplicateIp = "duplicate-ip",
        "Two pods have the same address.";
    ConntrackFull = "conntrack-full",
        "The node's connection table is full, and new connections are dropped.";
    TransientOutage = "transient-outage",
        "Everything through the node was silent and came back at the same instant: rules or links were being restored.";
    EndpointNotProgrammed = "endpoint-not-programmed",
        "An agent of the node was late for new pods: their paths opened long after the pods were ready.";
}

impl Cause {
    /// Whether the packets of a capture can show it without facts of nodes and of the API: a capture
    /// has addresses only, from which the nodes are inferred.
    pub const fn shows_in_packets(self) -> bool {
        match self {
            Self::BridgeNetfilterOff
            | Self::ReplyBypassesNat
            | Self::PacketLoss
            | Self::TransientOutage
            | Self::AcceptQueueFull => true,
            // Timeouts and errors are the same for every cause and place. In traffic that is not a
            // probe, a RST, a silent server and a stalled transfer are ordinary; and the expected
            // backend is known only from the API.
            Self::ForwardDrop
            | Self::NetworkPolicy
            | Self::OverlayBlocked
            | Self::NetworkBlocked
            | Self::BadChecksum
            | Self::PodRouteMissing
            | Self::EndpointNotProgrammed
            | Self::StaleOverlayNeighbour
            | Self::RouteMissing
            | Self::EncapsulationMismatch
            | Self::WrongNextHop
            | Self::IpForwardOff
            | Self::RpFilter
            | Self::ConntrackFull
            | Self::NoEndpoints
            | Self::StaleEndpoint
            | Self::ServiceRulesMissing
            | Self::ServiceRouteMissing
            | Self::NoLocalEndpoint
            | Self::DuplicateIp
            | Self::HairpinOff
            | Self::MissingMasquerade
            | Self::RejectReset
            | Self::NotListening
            | Self::EndpointFrozen
            | Self::MtuBlackHole
            | Self::StaleRules
            | Self::InvalidReset
            | Self::SnatPortCollision => false,
        }
    }
}

impl Cause {
    /// Whether it is over where every path works since: no other cause is shown by failures that ended.
    pub(super) const fn ends_by_itself(self) -> bool {
        matches!(self, Self::TransientOutage | Self::EndpointNotProgrammed)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.slug())
    }
}

/// Text that names no cause.
#[derive(Debug, thiserror::Error)]
#[error("there is no cause '{name}'{}; `prober explain` lists them", did_you_mean(*.closest))]
pub struct UnknownCause {
    name: String,
    closest: Option<&'static str>,
}

impl std::str::FromStr for Cause {
    type Err = UnknownCause;

    fn from_str(text: &str) -> Result<Self, UnknownCause> {
        Self::ALL
            .iter()
            .copied()
            .find(|cause| cause.slug().eq_ignore_ascii_case(text))
            .ok_or_else(|| UnknownCause {
                name: text.to_owned(),
                closest: closest(text, Self::ALL.iter().map(|cause| cause.slug())),
            })
    }
}
