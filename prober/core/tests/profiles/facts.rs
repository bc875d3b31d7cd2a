//! The facts that a node reports of itself, from the same settings that its packets meet.

mod links;
mod routes;

use std::collections::BTreeSet;
use std::net::IpAddr;

use prober_core::node_facts::{
    Address, Counters, FdbEntry, FdbOrigin, KubeProxyMode, Neighbour, NeighbourState, NodeFacts,
    SysctlState, TcDirection, TcFilter,
};
use prober_core::packet::family::Family;
use prober_core::packet::mac::Mac;

use self::links::veth_name;
use super::address::{
    Agent, client, gateway_ip, in_range, node_ip, router_ip, segment, server, service_ip,
    tunnel_ip, tunnel_mac, uplink_mac,
};
use super::cluster::{Cluster, PodLink, StaleNeighbour};
use super::packet::Counts;
use super::profile::{Attachment, GatewayMac, Translation, Transport};

/// The address of the router of each segment.
const ROUTER_MAC: Mac = Mac([0x52, 0x54, 0, 0xff, 0, 1]);

const COUNTERS: [&str; 9] = [
    "IpInAddrErrors",
    "Ip6InAddrErrors",
    "TcpExtIPReversePathFilter",
    "IpFragFails",
    "IpExtInNoRoutes",
    "ConntrackDrop",
    "ConntrackInsertFailed",
    "ConntrackInvalid",
    "IcmpOutRedirects",
];

/// The facts of a node, with its counters so far.
pub(crate) fn facts(cluster: &Cluster, node: u8, counts: &Counts) -> NodeFacts {
    let settings = cluster.node(node);
    let profile = cluster.profile;
    let on = |is_on: bool| Some(SysctlState::Value(i64::from(is_on)));
    // br_netfilter is loaded where kube-proxy's documents ask for it: on nodes with bridges.
    let bridge_nf = match profile.attachment {
        Attachment::Bridge { .. } => on(settings.bridge_nf),
        Attachment::RoutedVeth { .. } if profile.has_docker => on(true),
        Attachment::RoutedVeth { .. } | Attachment::OwnLayer2 => Some(SysctlState::Absent),
    };
    let links = links::links(cluster, node, counts);
    let strict = i64::from(settings.strict_reverse_path);
    let rp_filter = links.iter().map(|link| link.name.clone());
    let rp_filter = rp_filter
        .chain(["default".to_owned()])
        .map(|name| (name, SysctlState::Value(strict)))
        .chain([("all".to_owned(), SysctlState::Value(0))])
        .collect();
    let counters: Counters = COUNTERS
        .into_iter()
        .map(|name| {
            let value = counts.nodes.get(&(node, name)).copied().unwrap_or(0);
            (name.to_owned(), value)
        })
        .collect();
    let (neighbours, fdb) = neighbours(cluster, node);
    NodeFacts {
        kernel: Some("6.18.44".to_owned()),
        bridge_nf_call_iptables: bridge_nf,
        bridge_nf_call_ip6tables: bridge_nf,
        ip_forward: on(settings.forwards),
        ip6_forward: on(settings.forwards),
        rp_filter: Some(rp_filter),
        conntrack_count: Some(if settings.is_conntrack_full {
            262_144
        } else {
            40
        }),
        conntrack_max: Some(262_144),
        counters: Some(counters),
        links: Some(links),
        addresses: Some(addresses(cluster, node)),
        proxy_arp: Some(proxy_arp(cluster, node)),
        proxy_ndp: Some(BTreeSet::new()),
        rules: Some(routes::rules(cluster, node)),
        routes: Some(routes::routes(cluster, node)),
        qdiscs: Some(Vec::new()),
        tc_filters: Some(tc_filters(cluster, node)),
        neighbours: Some(neighbours),
        fdb: Some(fdb),
        kube_proxy: match profile.translation {
            Translation::Iptables => Some(KubeProxyMode::Iptables),
            Translation::Ipvs => Some(KubeProxyMode::Ipvs),
            Translation::TcBpf | Translation::Socket => None,
        },
        ..NodeFacts::default()
    }
}

/// The interface of a node's own address in its pods' range, if it has one.
fn gateway_device(cluster: &Cluster) -> Option<String> {
    match cluster.profile.attachment {
        Attachment::Bridge { name } => Some(name.to_owned()),
        Attachment::OwnLayer2 => Some("shim0".to_owned()),
        Attachment::RoutedVeth { .. } => None,
    }
}

fn addresses(cluster: &Cluster, node: u8) -> Vec<Address> {
    let profile = cluster.profile;
    let mut addresses = Vec::new();
    for &family in &cluster.families {
        let (subnet, host) = match family {
            Family::Ipv4 => (24, 32),
            Family::Ipv6 => (64, 128),
        };
        let mut add = |ip: IpAddr, length: u8, dev: &str| {
            let prefix = format!("{ip}/{length}").parse().unwrap();
            addresses.push(Address {
                prefix,
                dev: dev.to_owned(),
            });
        };
        add(node_ip(profile, node, family), subnet, "eth0");
        let gateway = gateway_ip(profile, node, family);
        if let Some(dev) = gateway_device(cluster) {
            add(gateway, subnet, &dev);
        } else if let Attachment::RoutedVeth { prefix, .. } = profile.attachment
            && gateway != node_ip(profile, node, family)
        {
            for pod in [client(node), server(node)] {
                add(gateway, host, &veth_name(prefix, pod));
            }
        }
        if let Some((link, _)) = profile.vxlan() {
            add(tunnel_ip(node, family), host, link);
        }
        if profile.translation == Translation::Ipvs {
            add(service_ip(family), host, "kube-ipvs0");
        }
    }
    addresses
}

/// The interfaces that answer ARP for everything: the node's ends of the pods' veths, with Calico.
fn proxy_arp(cluster: &Cluster, node: u8) -> BTreeSet<String> {
    match cluster.profile.attachment {
        Attachment::RoutedVeth {
            prefix,
            gateway: GatewayMac::AllEe,
            ..
        } => [client(node), server(node)]
            .map(|pod| veth_name(prefix, pod))
            .into(),
        Attachment::RoutedVeth { .. } | Attachment::Bridge { .. } | Attachment::OwnLayer2 => {
            BTreeSet::new()
        }
    }
}

/// The filters of Calico's BPF data plane. Cilium's programs are attached by TCX, which rtnetlink does not list.
fn tc_filters(cluster: &Cluster, node: u8) -> Vec<TcFilter> {
    let (Translation::TcBpf, Attachment::RoutedVeth { prefix, .. }) =
        (cluster.profile.translation, cluster.profile.attachment)
    else {
        return Vec::new();
    };
    let pods = [client(node), server(node)].map(|pod| veth_name(prefix, pod));
    let devices = pods.into_iter().chain(["eth0".to_owned()]);
    let of = |dev: String| {
        [TcDirection::Ingress, TcDirection::Egress].map(|direction| TcFilter {
            dev: dev.clone(),
            direction,
            kind: "bpf".to_owned(),
            priority: 49_152,
            program: Some("cali_tc_preambl".to_owned()),
            program_id: Some(100),
        })
    };
    devices.flat_map(of).collect()
}

/// The neighbour and forwarding entries.
fn neighbours(cluster: &Cluster, node: u8) -> (Vec<Neighbour>, Vec<FdbEntry>) {
    let profile = cluster.profile;
    let (mut neighbours, mut fdb) = (Vec::new(), Vec::new());
    let entry = |ip, mac, dev: &str, state| Neighbour {
        ip,
        mac: Some(mac),
        dev: dev.to_owned(),
        state,
    };
    if let Attachment::Bridge { .. } = profile.attachment {
        let is_up = |pod: &Agent| cluster.pods[pod].link == PodLink::Up;
        for pod in [client(node), server(node)].into_iter().filter(is_up) {
            fdb.push(FdbEntry {
                mac: pod.mac(),
                dev: veth_name("veth", pod),
                destination: None,
                origin: FdbOrigin::Learned,
            });
        }
    }
    for &family in &cluster.families {
        let router = router_ip(profile, node, family);
        let state = NeighbourState::Reachable;
        neighbours.push(entry(router, ROUTER_MAC, "eth0", state));
        for peer in cluster.numbers().filter(|&peer| peer != node) {
            if segment(profile, peer, family) == segment(profile, node, family) {
                let own = node_ip(profile, peer, family);
                let state = NeighbourState::Reachable;
                neighbours.push(entry(own, uplink_mac(peer), "eth0", state));
            }
            let Transport::Vxlan { link, .. } = profile.transport(node, peer) else {
                continue;
            };
            // Cilium's tunnel has no entries: its program sets the remote address of each packet.
            if profile.translation == Translation::Socket {
                continue;
            }
            let stale = cluster.node(node).stale_neighbours.get(&peer);
            let mac = match stale {
                Some(StaleNeighbour::WrongMac) => Mac([0x0e, 0, 0, 0, 0xff, peer]),
                Some(StaleNeighbour::NoFdbEntry) | None => tunnel_mac(peer),
            };
            let ip = tunnel_ip(peer, family);
            neighbours.push(entry(ip, mac, link, NeighbourState::Permanent));
            if stale != Some(&StaleNeighbour::NoFdbEntry) {
                fdb.push(FdbEntry {
                    mac,
                    dev: link.to_owned(),
                    destination: Some(node_ip(profile, peer, cluster.families[0])),
                    origin: FdbOrigin::Static,
                });
            }
        }
    }
    if profile.is_bridged() {
        for &family in &cluster.families {
            for (pod, last) in [(client(node), 10), (server(node), 20)] {
                let ip = in_range(node, last, family);
                let dev = gateway_device(cluster).unwrap_or_default();
                let mut known = entry(ip, pod.mac(), &dev, NeighbourState::Reachable);
                if cluster.pods[&pod].link != PodLink::Up {
                    (known.mac, known.state) = (None, NeighbourState::Failed);
                }
                neighbours.push(known);
            }
        }
    }
    (neighbours, fdb)
}
