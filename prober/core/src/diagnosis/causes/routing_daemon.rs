//! The program that writes the routes to other nodes' pods, by the protocol of such routes, and the steps in its own words.

use crate::data_plane::Transport;
use crate::diagnosis::Remedy;
use crate::diagnosis::case::Case;
use crate::diagnosis::remedy::step;
use crate::node_facts::Route;
use crate::packet::family::Family;
use crate::topology::NodeName;

/// A routing daemon, by the protocols that it gives its routes (include/uapi/linux/rtnetlink.h; /etc/iproute2/rt_protos).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Daemon {
    /// BIRD, also that of Calico.
    Bird,
    /// FRR, or its zebra.
    Frr,
    /// kube-router, by its own GoBGP.
    KubeRouter,
}

impl Daemon {
    const fn of(protocol: u8) -> Option<Self> {
        match protocol {
            12 => Some(Self::Bird),
            11 | 186..=189 | 192 => Some(Self::Frr),
            17 => Some(Self::KubeRouter),
            _ => None,
        }
    }

    /// The daemon of the routes by which nodes reach each other's pods; `None` where no such route has its protocol.
    pub(crate) fn of_routes(case: &Case<'_>, family: Family) -> Option<Self> {
        let is_to_pods = |route: &&Route| {
            let is_by_router = route.gateway.is_some() && route.destination.prefix_len() > 0;
            let mut nodes = case.nodes().into_iter();
            let has_pods = |node: &NodeName| {
                let pod = case.address_on(node, family);
                pod.is_some_and(|pod| route.destination.contains(&pod))
            };
            is_by_router && nodes.any(has_pods)
        };
        let mut routes = (case.nodes().into_iter())
            .filter_map(|node| case.facts(node))
            .flat_map(|facts| facts.routes.iter().flatten())
            .filter(is_to_pods);
        routes.find_map(|route| Self::of(route.protocol?))
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Bird => "BIRD",
            Self::Frr => "FRR",
            Self::KubeRouter => "kube-router",
        }
    }

    /// A sentence of evidence: what may be wrong with the daemon where a node lacks one of its routes.
    pub(crate) fn sentence(self, from: &NodeName) -> String {
        let name = self.as_str();
        format!(
            "the routes to pods of other nodes are {name}'s: its session on {from} may be down, or the route was not learned"
        )
    }

    /// The steps that show its sessions and routes.
    pub(crate) fn steps(self, node: &NodeName, family: Family) -> Vec<Remedy> {
        let six = match family {
            Family::Ipv4 => "",
            Family::Ipv6 => "6",
        };
        let commands = match self {
            Self::Bird => vec![
                format!(
                    "birdcl{six} show protocols   # on {node}; Calico's is in its calico-node pod"
                ),
                "calicoctl node status".to_owned(),
                format!("birdcl{six} show route"),
            ],
            Self::Frr => vec![
                format!("vtysh -c 'show bgp summary'   # on {node}"),
                "vtysh -c 'show ip route bgp'".to_owned(),
            ],
            Self::KubeRouter => vec![
                format!("gobgp neighbor   # in the kube-router pod of {node}"),
                "gobgp global rib".to_owned(),
            ],
        };
        let name = self.as_str();
        vec![step(
            &format!("See whether {name} has its sessions, and has learned the route."),
            commands,
        )]
    }
}

/// Whether a route to another node's pods is one of its own, by a next router.
pub(crate) const fn gateway_of(transport: &Transport) -> Option<(&str, std::net::IpAddr)> {
    match transport {
        Transport::Direct {
            link,
            gateway: Some(gateway),
            by_default: false,
            ..
        } => Some((link.as_str(), *gateway)),
        Transport::Direct { .. }
        | Transport::Tunnel { .. }
        | Transport::ByPod { .. }
        | Transport::Refused
        | Transport::NoRoute
        | Transport::Unknown => None,
    }
}
