//! Data planes as data: how pods are attached, how packets get from node to node, and what translates Services.
//!
//! The behaviour was measured on real kernels and clusters, unless a comment says otherwise.

use prober_core::packet::family::Family;

/// How a pod is connected to its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attachment {
    /// A veth in a bridge of the node, which is the pods' gateway.
    Bridge { name: &'static str },
    /// A veth with a /32 route at the node's end.
    RoutedVeth {
        /// The first letters of the name of the node's end.
        prefix: &'static str,
        gateway: GatewayMac,
        /// Where packets to an unused address of the node's own range go.
        unused: UnusedAddress,
    },
    /// A device of the pod's own on the nodes' layer-2 segment (macvlan): other pods are neighbours, and only packets to
    /// Services pass the node, by a device of the node's on the same segment.
    OwnLayer2,
}

/// The Ethernet address of a routed pod's gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GatewayMac {
    /// Calico: `ee:ee:ee:ee:ee:ee`, on every veth.
    AllEe,
    /// The address of the veth's other end.
    Veth,
}

/// The fate of packets to an address of the node's own range that no pod has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnusedAddress {
    /// The default route takes them away from the node; its router drops them.
    DefaultRoute,
    /// A blackhole route of the node's range drops them in silence (Calico's blocks).
    Blackhole,
    /// A route of type unreachable refuses them.
    Unreachable,
}

/// How packets get from the pods of one node to those of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// In VXLAN over UDP, by this link.
    Vxlan { link: &'static str, port: u16 },
    /// With the other node as the next hop, on the nodes' own segment.
    Direct,
    /// With a top-of-rack router as the next hop: one more hop, which answers expired TTLs.
    Fabric,
}

/// The transport of every ordered pair of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transports {
    Same(Transport),
    /// Direct between nodes of one subnet; in VXLAN between subnets. Two nodes make a subnet.
    CrossSubnet {
        link: &'static str,
        port: u16,
    },
}

/// What translates the addresses of Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Translation {
    /// Chains of netfilter's `nat` table.
    Iptables,
    /// IP virtual servers, with every ClusterIP on `kube-ipvs0`.
    Ipvs,
    /// BPF at the pods' veths: packets of pods pass neither conntrack nor netfilter, and ICMP errors keep their sources.
    TcBpf,
    /// BPF inside connect(2), as Cilium does: packets of pods have a backend's address from the start. Crafted packets to a
    /// Service are not translated.
    Socket,
}

/// A data plane.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a property of its own"
)]
pub(crate) struct Profile {
    pub(crate) name: &'static str,
    /// The families that its pods can have; the faults are tested in the first.
    pub(crate) families: &'static [Family],
    pub(crate) attachment: Attachment,
    pub(crate) transports: Transports,
    pub(crate) translation: Translation,
    /// The node replaces the source of everything that it translates (`--masquerade-all`).
    pub(crate) masquerades_all: bool,
    /// Pods' packets follow a table of their own by an `ip rule` per pod (a second network interface of the cloud).
    pub(crate) policy_routing: bool,
    /// Whether the receiving node decrements the TTL: Cilium's tunnel delivers to the pod in one hop.
    pub(crate) receiver_decrements: bool,
    /// Whether an IPv4 packet whose TTL is used up is answered. The BPF programs of Cilium and Calico drop it in silence.
    pub(crate) answers_expired_ttl: bool,
    /// Docker's bridge, with a container on one port.
    pub(crate) has_docker: bool,
    /// Whether NetworkPolicies can be enforced.
    pub(crate) enforces_policies: bool,
}

const DUAL: &[Family] = &[Family::Ipv4, Family::Ipv6];
const V4: &[Family] = &[Family::Ipv4];
const V6: &[Family] = &[Family::Ipv6];

const FLANNEL: Transports = Transports::Same(Transport::Vxlan {
    link: "flannel.1",
    port: 8472,
});
const CNI0: Attachment = Attachment::Bridge { name: "cni0" };

const FLANNEL_VXLAN: Profile = Profile {
    name: "flannel-vxlan",
    families: DUAL,
    attachment: CNI0,
    transports: FLANNEL,
    translation: Translation::Iptables,
    masquerades_all: false,
    policy_routing: false,
    receiver_decrements: true,
    answers_expired_ttl: true,
    has_docker: false,
    enforces_policies: true,
};

/// Every profile.
pub(crate) static ALL: [Profile; 11] = [
    FLANNEL_VXLAN,
    Profile {
        name: "flannel-host-gw",
        transports: Transports::Same(Transport::Direct),
        ..FLANNEL_VXLAN
    },
    // flannel with DirectRouting. A pair of nodes of one subnet leaves the vxlan link unused.
    Profile {
        name: "vxlan-cross-subnet",
        transports: Transports::CrossSubnet {
            link: "flannel.1",
            port: 8472,
        },
        ..FLANNEL_VXLAN
    },
    Profile {
        name: "calico-bgp",
        families: DUAL,
        attachment: Attachment::RoutedVeth {
            prefix: "cali",
            gateway: GatewayMac::AllEe,
            unused: UnusedAddress::Blackhole,
        },
        transports: Transports::Same(Transport::Fabric),
        ..FLANNEL_VXLAN
    },
    // An unused address is refused here, so that the sources of ICMP errors are shown; not measured.
    Profile {
        name: "calico-ebpf",
        families: V4,
        attachment: Attachment::RoutedVeth {
            prefix: "cali",
            gateway: GatewayMac::AllEe,
            unused: UnusedAddress::Unreachable,
        },
        transports: Transports::Same(Transport::Direct),
        translation: Translation::TcBpf,
        answers_expired_ttl: false,
        ..FLANNEL_VXLAN
    },
    Profile {
        name: "cilium",
        families: V4,
        attachment: Attachment::RoutedVeth {
            prefix: "lxc",
            gateway: GatewayMac::Veth,
            unused: UnusedAddress::Blackhole,
        },
        transports: Transports::Same(Transport::Vxlan {
            link: "cilium_vxlan",
            port: 8472,
        }),
        translation: Translation::Socket,
        receiver_decrements: false,
        answers_expired_ttl: false,
        ..FLANNEL_VXLAN
    },
    Profile {
        name: "ipvs",
        translation: Translation::Ipvs,
        ..FLANNEL_VXLAN
    },
    Profile {
        name: "vpc-cni",
        families: V4,
        attachment: Attachment::RoutedVeth {
            prefix: "eni",
            gateway: GatewayMac::Veth,
            unused: UnusedAddress::DefaultRoute,
        },
        transports: Transports::Same(Transport::Direct),
        policy_routing: true,
        ..FLANNEL_VXLAN
    },
    // Replies return by the node only because it replaces the sources of what it translates; not measured.
    Profile {
        name: "macvlan",
        families: V4,
        attachment: Attachment::OwnLayer2,
        transports: Transports::Same(Transport::Direct),
        masquerades_all: true,
        enforces_policies: false,
        ..FLANNEL_VXLAN
    },
    // The shape of kind.
    Profile {
        name: "ptp",
        attachment: Attachment::RoutedVeth {
            prefix: "veth",
            gateway: GatewayMac::Veth,
            unused: UnusedAddress::DefaultRoute,
        },
        transports: Transports::Same(Transport::Direct),
        has_docker: true,
        ..FLANNEL_VXLAN
    },
    Profile {
        name: "ipv6-only",
        families: V6,
        ..FLANNEL_VXLAN
    },
];

/// The profile of this name.
pub(crate) fn named(name: &str) -> &'static Profile {
    ALL.iter().find(|profile| profile.name == name).unwrap()
}

impl Profile {
    /// The transport from the pods of one node to those of another.
    pub(crate) const fn transport(&self, from: u8, to: u8) -> Transport {
        match self.transports {
            Transports::Same(transport) => transport,
            Transports::CrossSubnet { link, port } => {
                if subnet(from) == subnet(to) {
                    Transport::Direct
                } else {
                    Transport::Vxlan { link, port }
                }
            }
        }
    }

    /// The vxlan link of its nodes, with its UDP port.
    pub(crate) const fn vxlan(&self) -> Option<(&'static str, u16)> {
        match self.transports {
            Transports::Same(Transport::Vxlan { link, port })
            | Transports::CrossSubnet { link, port } => Some((link, port)),
            Transports::Same(Transport::Direct | Transport::Fabric) => None,
        }
    }

    /// Whether pods' packets pass conntrack and the chains of netfilter.
    pub(crate) const fn uses_netfilter(&self) -> bool {
        match self.translation {
            Translation::Iptables | Translation::Ipvs => true,
            Translation::TcBpf | Translation::Socket => false,
        }
    }

    /// Whether pods are ports of a bridge.
    pub(crate) const fn is_bridged(&self) -> bool {
        match self.attachment {
            Attachment::Bridge { .. } => true,
            Attachment::RoutedVeth { .. } | Attachment::OwnLayer2 => false,
        }
    }

    /// Whether pods are routed by host routes to veths.
    pub(crate) const fn is_routed(&self) -> bool {
        match self.attachment {
            Attachment::RoutedVeth { .. } => true,
            Attachment::Bridge { .. } | Attachment::OwnLayer2 => false,
        }
    }

    /// Whether pods are neighbours of each other across nodes.
    pub(crate) const fn is_layer_2(&self) -> bool {
        match self.attachment {
            Attachment::OwnLayer2 => true,
            Attachment::Bridge { .. } | Attachment::RoutedVeth { .. } => false,
        }
    }
}

/// The number of a node's subnet: two nodes in each.
pub(crate) const fn subnet(node: u8) -> u8 {
    (node - 1) / 2
}
