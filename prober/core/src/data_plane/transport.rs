//! How packets get from a pod of one node to a pod of another: by the route that policy rules and tables of the first node
//! give them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::program;
use crate::node_facts::{Link, NodeFacts, Resolution, Route};

/// How packets to the pods of another node leave a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Transport {
    /// In the packets of a tunnel between the nodes' own addresses.
    Tunnel {
        /// Its encapsulation.
        tunnel: TunnelKind,
        /// The node's link.
        link: String,
        /// The UDP port, where it has one.
        port: Option<u16>,
        /// The address of the tunnel's other end on the link, where the route names it.
        gateway: Option<IpAddr>,
    },
    /// As they are, by a router or the other node itself.
    Direct {
        /// The node's link.
        link: String,
        /// The next router.
        gateway: Option<IpAddr>,
        /// Whether only the default route leads there: a router beyond knows the pods.
        by_default: bool,
        /// The routing table, where a policy rule chose another than `main`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        table: Option<u32>,
    },
    /// As they are, by a link that policy rules choose for each pod: these in turn.
    ByPod {
        /// The node's links, in order.
        links: Vec<String>,
    },
    /// The node refuses or drops them by its route, or by a policy rule.
    Refused,
    /// The node has no route to them.
    NoRoute,
    /// The evidence does not show it.
    #[default]
    Unknown,
}

/// The encapsulation of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TunnelKind {
    /// VXLAN over UDP (RFC 7348).
    Vxlan,
    /// Geneve over UDP (RFC 8926).
    Geneve,
    /// IP in IP (RFC 2003), also IPv6 in IPv6 and IPv6 in IPv4.
    Ipip,
    /// Generic routing encapsulation (RFC 2784).
    Gre,
    /// WireGuard over UDP.
    Wireguard,
}

impl TunnelKind {
    /// The kind of a link, if it is a tunnel's.
    fn of(link: &Link) -> Option<Self> {
        match link.kind.as_deref()? {
            "vxlan" => Some(Self::Vxlan),
            "geneve" => Some(Self::Geneve),
            "ipip" | "sit" | "ip6tnl" => Some(Self::Ipip),
            "gre" | "gretap" | "ip6gre" | "ip6gretap" => Some(Self::Gre),
            "wireguard" => Some(Self::Wireguard),
            _ => None,
        }
    }

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::Geneve => "geneve",
            Self::Ipip => "ipip",
            Self::Gre => "gre",
            Self::Wireguard => "wireguard",
        }
    }
}

impl Transport {
    /// Whether packets cross in a tunnel.
    pub const fn is_tunnel(&self) -> bool {
        match self {
            Self::Tunnel { .. } => true,
            Self::Direct { .. }
            | Self::ByPod { .. }
            | Self::Refused
            | Self::NoRoute
            | Self::Unknown => false,
        }
    }

    /// The link by which packets leave, where it is known, and the same for all pods.
    pub fn link(&self) -> Option<&str> {
        match self {
            Self::Tunnel { link, .. } | Self::Direct { link, .. } => Some(link),
            Self::ByPod { .. } | Self::Refused | Self::NoRoute | Self::Unknown => None,
        }
    }

    /// What the transports of several pods are in common: packets of none enter a tunnel if some leave as they are, and the
    /// others do not leave.
    pub(super) fn in_common(all: Vec<Self>) -> Self {
        let mut all = all.into_iter();
        let Some(first) = all.next() else {
            return Self::Unknown;
        };
        let rest: Vec<Self> = all.filter(|other| *other != first).collect();
        if rest.is_empty() {
            return first;
        }
        let mut links = BTreeSet::new();
        for one in std::iter::once(first).chain(rest) {
            match one {
                Self::Direct { link, .. } => links.extend([link]),
                Self::ByPod { links: others } => links.extend(others),
                Self::Refused | Self::NoRoute => {}
                Self::Tunnel { .. } | Self::Unknown => return Self::Unknown,
            }
        }
        if links.is_empty() {
            Self::Unknown
        } else {
            Self::ByPod {
                links: links.into_iter().collect(),
            }
        }
    }

    /// A few words; empty where it is not known.
    pub(super) fn summary(&self) -> String {
        match self {
            Self::Tunnel { tunnel, link, .. } => format!("{} {link}", tunnel.as_str()),
            Self::Direct {
                link,
                by_default,
                table,
                ..
            } => match (table, by_default) {
                (None, true) => "the default route".to_owned(),
                (None, false) => format!("routes by {link}"),
                (Some(table), true) => format!("the default route of table {table} by {link}"),
                (Some(table), false) => format!("routes of table {table} by {link}"),
            },
            Self::ByPod { links } => format!("routes of each pod by {}", links.join(" or ")),
            Self::Refused => "a route that refuses".to_owned(),
            Self::NoRoute => "no route".to_owned(),
            Self::Unknown => String::new(),
        }
    }
}

/// The transport of packets that the node of these facts routes so.
pub(super) fn by(facts: &NodeFacts, resolution: Resolution<'_>) -> Transport {
    let route = match resolution {
        Resolution::Route(route) => route,
        Resolution::RefusedByRoute(_) | Resolution::RefusedByRule(_) => return Transport::Refused,
        Resolution::NoRoute => return Transport::NoRoute,
        // A node to which another node's pod is local takes its packets for its own.
        Resolution::Local | Resolution::Unread => return Transport::Unknown,
    };
    let Some(link) = (route.dev.as_deref()).and_then(|dev| facts.link(dev).found()) else {
        return Transport::Unknown;
    };
    // A program that forwards packets may put them into a tunnel that no route shows.
    let is_by_program = program::of(facts).is_some_and(|program| program.redirects_at(link));
    match TunnelKind::of(link) {
        None if is_by_program => tunnel_of_programs(facts).unwrap_or_default(),
        Some(tunnel) => Transport::Tunnel {
            tunnel,
            link: link.name.clone(),
            port: link.vxlan.as_ref().and_then(|vxlan| vxlan.port),
            gateway: route.gateway,
        },
        None => Transport::Direct {
            link: link.name.clone(),
            gateway: route.gateway,
            by_default: route.destination.prefix_len() == 0,
            table: (route.table != Route::MAIN).then_some(route.table),
        },
    }
}

/// The tunnel into which the programs of a node send: its only VXLAN or Geneve link that leaves both ends to each packet
/// (`external`, ip-link(8)).
fn tunnel_of_programs(facts: &NodeFacts) -> Option<Transport> {
    let tunnel = |link: &Link| {
        let (tunnel, port) = match (TunnelKind::of(link)?, &link.vxlan, &link.tunnel) {
            (TunnelKind::Vxlan, Some(ends), _)
                if ends.id == Some(0) && ends.local.is_none() && ends.underlay.is_none() =>
            {
                (TunnelKind::Vxlan, ends.port)
            }
            (TunnelKind::Geneve, _, Some(ends))
                if ends.local.is_none() && ends.remote.is_none() =>
            {
                (TunnelKind::Geneve, ends.port)
            }
            (
                TunnelKind::Vxlan
                | TunnelKind::Geneve
                | TunnelKind::Ipip
                | TunnelKind::Gre
                | TunnelKind::Wireguard,
                ..,
            ) => return None,
        };
        Some(Transport::Tunnel {
            tunnel,
            link: link.name.clone(),
            port,
            gateway: None,
        })
    };
    let mut tunnels = facts.links.iter().flatten().filter_map(tunnel);
    tunnels.next().filter(|_| tunnels.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::super::senders::{Sender, Senders};
    use super::*;
    use crate::node_facts::{Address, Rule, RuleAction, Tunnel, Vxlan};
    use crate::packet::family::Family;
    use crate::topology::NodeName;

    const POD: &str = "10.1.0.7";
    const PEER: &str = "10.2.0.7";

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn route(destination: &str, dev: &str, table: u32) -> Route {
        Route {
            dev: Some(dev.to_owned()),
            table,
            ..Route::main(destination.parse().unwrap())
        }
    }

    /// A node with one default route in `main` and one in table 2, by a second interface, and these rules beside the kernel's.
    fn node(rules: impl IntoIterator<Item = Rule>) -> NodeFacts {
        let links = [("eth0", None), ("eth1", None), ("wg0", Some("wireguard"))];
        NodeFacts {
            links: Some(
                links
                    .map(|(name, kind)| Link {
                        name: name.to_owned(),
                        kind: kind.map(str::to_owned),
                        up: true,
                        ..Link::default()
                    })
                    .into(),
            ),
            addresses: Some(vec![Address {
                prefix: "172.20.0.11/24".parse().unwrap(),
                dev: "eth0".to_owned(),
            }]),
            rules: Some(
                rules
                    .into_iter()
                    .chain(Rule::defaults(Family::Ipv4).iter().cloned())
                    .collect(),
            ),
            routes: Some(vec![
                route("0.0.0.0/0", "eth0", Route::MAIN),
                route("0.0.0.0/0", "eth1", 2),
            ]),
            ..NodeFacts::default()
        }
    }

    fn from(pod: &str, table: u32) -> Rule {
        Rule {
            from: Some(ip(pod).into()),
            ..Rule::lookup(Family::Ipv4, 1536, table)
        }
    }

    /// The transport of the packets of these pods, each with the node's link by which they come in.
    fn transport(facts: &NodeFacts, pods: &[(&str, Option<&str>)]) -> Transport {
        let name = NodeName::new("node-1");
        let mut senders = Senders::default();
        for (address, link) in pods {
            let pod = Sender::Pod {
                address: ip(address),
                link: link.map(str::to_owned),
            };
            senders.insert(&name, Family::Ipv4, pod);
        }
        // What a program of the node sends does not count where pods send.
        let host = Sender::Host {
            address: ip("172.20.0.11"),
        };
        senders.insert(&name, Family::Ipv4, host);
        Transport::in_common(
            senders.views(facts, &name, ip(PEER), |resolution| by(facts, resolution)),
        )
    }

    fn direct(link: &str, table: Option<u32>) -> Transport {
        Transport::Direct {
            link: link.to_owned(),
            gateway: None,
            by_default: true,
            table,
        }
    }

    const ONE: &[(&str, Option<&str>)] = &[(POD, Some("veth1"))];

    #[test]
    fn a_rule_for_the_pod_chooses_the_table() {
        let by_rule = transport(&node([from(POD, 2)]), ONE);
        assert_eq!(by_rule, direct("eth1", Some(2)));
        assert_eq!(by_rule.summary(), "the default route of table 2 by eth1");
        let by_main = transport(&node([from("10.1.0.8", 2)]), ONE);
        assert_eq!(by_main, direct("eth0", None));
        assert_eq!(by_main.summary(), "the default route");
    }

    #[test]
    fn a_rule_for_the_pods_link_needs_that_link_to_be_known() {
        let by_input = Rule {
            input: Some("veth1".to_owned()),
            ..Rule::lookup(Family::Ipv4, 100, 2)
        };
        let facts = node([by_input]);
        assert_eq!(transport(&facts, ONE), direct("eth1", Some(2)));
        let elsewhere = transport(&facts, &[(POD, Some("veth2"))]);
        assert_eq!(elsewhere, direct("eth0", None));
        assert_eq!(transport(&facts, &[(POD, None)]), Transport::Unknown);
    }

    #[test]
    fn pods_with_different_routes_have_each_its_own() {
        let mut facts = node([from(POD, 2)]);
        let both = [(POD, Some("veth1")), ("10.1.0.8", Some("veth2"))];
        let by_pod = transport(&facts, &both);
        assert_eq!(by_pod.summary(), "routes of each pod by eth0 or eth1");
        // Where one has none, the other's packets still leave as they are.
        let blackhole = Route {
            kind: crate::node_facts::RouteKind::Blackhole,
            ..route("10.2.0.0/16", "eth1", 2)
        };
        facts.routes.as_mut().unwrap().push(blackhole);
        let left = Transport::ByPod {
            links: vec!["eth0".to_owned()],
        };
        assert_eq!(transport(&facts, &both), left);
        // Where one enters a tunnel, no sentence fits both.
        let tunnel = route("10.2.0.0/24", "wg0", 2);
        facts.routes.as_mut().unwrap().push(tunnel);
        assert_eq!(transport(&facts, &both), Transport::Unknown);
        let alike = node([from(POD, 2), from("10.1.0.8", 2)]);
        assert_eq!(transport(&alike, &both), direct("eth1", Some(2)));
    }

    #[test]
    fn a_rule_or_a_route_that_refuses_is_a_refusal() {
        let prohibit = Rule {
            action: RuleAction::Prohibit,
            ..from(POD, 0)
        };
        assert_eq!(transport(&node([prohibit]), ONE), Transport::Refused);
        let mut blackhole = node([from(POD, 2)]);
        for route in blackhole.routes.iter_mut().flatten() {
            if route.table == 2 {
                route.kind = crate::node_facts::RouteKind::Blackhole;
            }
        }
        assert_eq!(transport(&blackhole, ONE), Transport::Refused);
    }

    #[test]
    fn a_suppressed_default_route_leaves_the_packet_to_the_tunnel() {
        let better_of_main = Rule {
            suppress_prefix_length: Some(0),
            ..Rule::lookup(Family::Ipv4, 32_764, Route::MAIN)
        };
        let mut facts = node([better_of_main, Rule::lookup(Family::Ipv4, 32_765, 7)]);
        let routes = facts.routes.as_mut().unwrap();
        routes.push(route("0.0.0.0/0", "wg0", 7));
        let by_tunnel = transport(&facts, ONE);
        assert_eq!(
            (by_tunnel.is_tunnel(), by_tunnel.link()),
            (true, Some("wg0"))
        );
        let routes = facts.routes.as_mut().unwrap();
        routes.push(route("10.2.0.0/16", "eth0", Route::MAIN));
        assert_eq!(transport(&facts, ONE).link(), Some("eth0"));
    }

    /// A node of Cilium, whose routes lead to its own device; with these tunnels beside it.
    fn of_programs(tunnels: impl IntoIterator<Item = Link>) -> NodeFacts {
        let mut facts = node([]);
        let links = facts.links.as_mut().unwrap();
        let own = ["cilium_host", "cilium_net"].map(|name| Link {
            name: name.to_owned(),
            kind: Some("veth".to_owned()),
            up: true,
            ..Link::default()
        });
        links.extend(own);
        links.extend(tunnels);
        let routes = facts.routes.as_mut().unwrap();
        routes.push(Route {
            gateway: Some(ip("10.1.0.78")),
            ..route("10.2.0.0/24", "cilium_host", Route::MAIN)
        });
        facts
    }

    fn vxlan(name: &str, ends: Vxlan) -> Link {
        Link {
            name: name.to_owned(),
            kind: Some("vxlan".to_owned()),
            up: true,
            vxlan: Some(ends),
            ..Link::default()
        }
    }

    #[test]
    fn programs_send_into_the_only_tunnel_that_leaves_the_ends_to_them() {
        let external = Vxlan {
            id: Some(0),
            port: Some(8472),
            ..Vxlan::default()
        };
        let fixed = Vxlan {
            id: Some(1),
            local: Some(ip("172.20.0.11")),
            underlay: Some("eth0".to_owned()),
            ..external.clone()
        };
        // The kernel's own link of each namespace with the module `ipip`.
        let fallback = Link {
            name: "tunl0".to_owned(),
            kind: Some("ipip".to_owned()),
            tunnel: Some(Tunnel::default()),
            ..Link::default()
        };
        let own = vxlan("cilium_vxlan", external.clone());
        let other = vxlan("vxlan7", fixed);
        let facts = of_programs([own.clone(), other.clone(), fallback.clone()]);
        let tunnel = transport(&facts, ONE);
        assert_eq!(tunnel.summary(), "vxlan cilium_vxlan");
        assert_eq!(
            tunnel,
            Transport::Tunnel {
                tunnel: TunnelKind::Vxlan,
                link: "cilium_vxlan".to_owned(),
                port: Some(8472),
                gateway: None
            }
        );
        let unknown = of_programs([other, fallback]);
        assert_eq!(transport(&unknown, ONE), Transport::Unknown);
        let two = of_programs([own, vxlan("vxlan8", external)]);
        assert_eq!(transport(&two, ONE), Transport::Unknown);
    }

    #[test]
    fn nothing_is_known_where_rules_were_not_read() {
        let unread = NodeFacts {
            rules: None,
            ..node([])
        };
        assert_eq!(transport(&unread, ONE), Transport::Unknown);
        assert_eq!(transport(&node([]), &[(POD, None)]), direct("eth0", None));
    }
}
