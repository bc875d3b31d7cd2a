//! Node facts of namespaces with known settings.
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use prober_core::node_facts::{
    ConntrackEntry, ConntrackReading, ConntrackRequest, FdbOrigin, Lookup, NeighbourState,
    NodeFacts, PortState, Resolution, RouteKind, RouteQuery, RouteScope, RuleAction, SysctlState,
    TcDirection,
};
use prober_core::packet::family::Family;
use prober_core::packet::mac::Mac;
use prober_net::node_facts::{
    ConntrackTable, read_counters, read_facts, read_facts_with_conntrack,
};

use crate::namespace::{Namespace, Pair, address};

fn facts(namespace: &Namespace) -> NodeFacts {
    let facts = namespace.run(read_facts);
    assert_eq!(facts.unread, [], "everything can be read");
    facts
}

/// Whether this machine has the module whose sysctl is read.
fn has_bridge_netfilter() -> bool {
    std::path::Path::new("/proc/sys/net/bridge").exists()
}

#[test]
fn the_bridge_netfilter_sysctl_is_that_of_the_calling_threads_namespace() {
    let (Some(off), Some(on)) = (Namespace::new(), Namespace::new()) else {
        return;
    };
    assert!(has_bridge_netfilter(), "load br_netfilter");
    off.sysctl("net/bridge/bridge-nf-call-iptables", "0");
    off.sysctl("net/bridge/bridge-nf-call-ip6tables", "0");
    on.sysctl("net/bridge/bridge-nf-call-iptables", "1");
    for family in [Family::Ipv4, Family::Ipv6] {
        assert_eq!(facts(&off).bridge_nf(family), Some(SysctlState::Value(0)));
        assert_eq!(facts(&on).bridge_nf(family), Some(SysctlState::Value(1)));
    }
}

#[test]
fn without_the_module_the_sysctl_is_absent_which_is_not_zero() {
    let Some(without) = Namespace::new() else {
        return;
    };
    // An empty folder over the module's own, mounted for this thread alone, is like a module that is not loaded.
    without.run(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS | nix::sched::CloneFlags::CLONE_NEWNS)
            .unwrap();
    });
    if has_bridge_netfilter() {
        without.command("mount", "--make-rprivate /");
        without.command("mount", "-t tmpfs none /proc/sys/net/bridge");
    }
    assert_eq!(
        facts(&without).bridge_nf(Family::Ipv4),
        Some(SysctlState::Absent)
    );
    assert_eq!(
        facts(&without).bridge_nf(Family::Ipv6),
        Some(SysctlState::Absent)
    );
}

#[test]
fn links_are_read_with_their_other_ends_and_names() {
    let (Some(node), Some(pod)) = (Namespace::new(), Namespace::new()) else {
        return;
    };
    node.ip("link add pod-a type veth peer name eth0");
    node.ip("link property add dev pod-a altname pod-a-by-another-name");
    node.ip("link add pod-b type veth peer name b0");
    node.ip("link add link pod-b name macvlan0 type macvlan mode private");
    node.ip("link add cni0 type bridge");
    node.ip("link set pod-a master cni0");
    node.ip(&format!("link set eth0 netns {}", pod.path()));
    node.ip("link set cni0 up");
    node.ip("link set pod-a up");
    node.sysctl("net/ipv4/conf/pod-a/proxy_arp", "1");
    node.sysctl("net/ipv6/conf/cni0/proxy_ndp", "1");
    let (node, pod) = (facts(&node), facts(&pod));

    let port = node.link("pod-a").found().unwrap();
    let end = pod.link("eth0").found().unwrap();
    let (there, back) = (port.peer.unwrap(), end.peer.unwrap());
    assert_eq!((there.index, back.index), (end.index, port.index));
    assert!(there.netns.is_some() && back.netns.is_some());
    assert_eq!(port.alt_names, ["pod-a-by-another-name"]);
    assert_eq!(port.port_state, Some(PortState::Disabled), "no carrier");
    let macvlan = node.link("macvlan0").found().unwrap();
    assert_eq!(macvlan.mode.as_deref(), Some("private"));
    let parent = macvlan.parent.unwrap();
    let below = node.link("pod-b").found().unwrap();
    assert_eq!((parent.index, parent.netns), (below.index, None));
    assert_eq!(
        node.proxy_arp.unwrap().into_iter().collect::<Vec<_>>(),
        ["pod-a"]
    );
    assert_eq!(
        node.proxy_ndp.unwrap().into_iter().collect::<Vec<_>>(),
        ["cni0"]
    );
    assert_eq!(pod.proxy_arp.unwrap().len(), 0);
}

#[test]
fn queueing_disciplines_are_read_with_their_drops_and_filters() {
    let Some(pair) = Pair::new() else { return };
    pair.client.command(
        "tc",
        "qdisc add dev eth0 root tbf rate 8kbit burst 200b latency 1ms",
    );
    pair.client.command("tc", "qdisc add dev eth0 clsact");
    let filter = "filter add dev eth0 egress prio 7 bpf bytecode";
    let is_added = pair.client.run(|| {
        std::process::Command::new("tc")
            .args(filter.split(' '))
            .arg("1,6 0 0 4294967295")
            .status()
            .is_ok_and(|status| status.success())
    });
    assert!(is_added, "tc {filter}");
    pair.client.run(|| {
        let socket = std::net::UdpSocket::bind((Pair::CLIENT, 0)).unwrap();
        for _ in 0..5 {
            // The discipline drops it: longer than its burst.
            drop(socket.send_to(&[0; 1000], (Pair::SERVER, 9)));
        }
    });
    let facts = facts(&pair.client);
    let qdiscs = facts.qdiscs.unwrap();
    let kinds: Vec<_> = qdiscs
        .iter()
        .map(|qdisc| (qdisc.dev.as_str(), qdisc.kind.as_str()))
        .collect();
    assert_eq!(kinds, [("eth0", "tbf"), ("eth0", "clsact")]);
    assert!(qdiscs[0].dropped >= 5);
    assert_eq!(qdiscs[1].dropped, 0);
    let [filter] = &facts.tc_filters.unwrap()[..] else {
        panic!("one filter")
    };
    assert_eq!(
        (
            filter.dev.as_str(),
            filter.direction,
            filter.kind.as_str(),
            filter.priority
        ),
        ("eth0", TcDirection::Egress, "bpf", 7)
    );
}

/// A node with the links of flannel and the bridge plugin, and with some odd routes.
fn flannel_node() -> Option<NodeFacts> {
    let node = Namespace::new()?;
    for line in [
        "link add up0 type veth peer name wire",
        "link set wire up",
        "addr add 172.20.0.11/24 dev up0",
        "link set up0 up",
        "link add cni0 type bridge nf_call_iptables 1",
        "addr add 100.96.1.1/24 dev cni0",
        "link set cni0 mtu 1450 up",
        "link add pod-a type veth peer name a0",
        "link add pod-b type veth peer name b0",
        "link set pod-a master cni0 up",
        "link set pod-b master cni0 up",
        "link set pod-a type bridge_slave hairpin on",
        "link add flannel.1 type vxlan id 1 dstport 8472 local 172.20.0.11 dev up0 nolearning",
        "addr add 100.96.1.0/32 dev flannel.1",
        "link set flannel.1 up",
        "route add 100.96.2.0/24 via 100.96.2.0 dev flannel.1 onlink",
        "neigh add 100.96.2.0 lladdr 02:aa:00:00:00:02 dev flannel.1 nud permanent",
        "route add blackhole 100.96.3.0/24",
        "route add unreachable 100.96.4.0/24",
        "route add prohibit 100.96.5.0/24",
        "route add throw 100.96.6.0/24",
        "route add 100.96.2.9/32 dev cni0",
        "route add 100.97.0.0/16 nexthop via 172.20.0.1 dev up0 nexthop via 172.20.0.2 dev up0",
    ] {
        node.ip(line);
    }
    node.command(
        "bridge",
        "fdb add 02:aa:00:00:00:02 dev flannel.1 dst 172.20.0.12 self permanent",
    );
    node.command(
        "bridge",
        "fdb add 02:bb:00:00:00:01 dev pod-b master static",
    );
    node.sysctl("net/ipv4/ip_forward", "1");
    node.sysctl("net/ipv4/conf/up0/rp_filter", "2");
    Some(facts(&node))
}

#[test]
fn links_are_read_with_their_ports_bridges_and_tunnels() {
    let Some(facts) = flannel_node() else { return };

    let link = |name| {
        facts
            .link(name)
            .found()
            .cloned()
            .unwrap_or_else(|| panic!("{name} is listed"))
    };
    assert_eq!(
        (
            link("pod-a").hairpin,
            link("pod-b").hairpin,
            link("cni0").hairpin
        ),
        (Some(true), Some(false), None)
    );
    assert_eq!(link("pod-a").master.as_deref(), Some("cni0"));
    assert_eq!(link("pod-a").kind.as_deref(), Some("veth"));
    assert_eq!(link("cni0").mtu, Some(1450));
    assert!(link("cni0").up && !link("a0").up);
    assert_eq!(
        link("cni0")
            .bridge
            .and_then(|bridge| bridge.nf_call_iptables),
        Some(true)
    );
    let vxlan = link("flannel.1").vxlan.unwrap();
    assert_eq!(
        (vxlan.id, vxlan.port, vxlan.learning),
        (Some(1), Some(8472), Some(false))
    );
    assert_eq!(
        (vxlan.local, vxlan.underlay.as_deref()),
        (Some(address("172.20.0.11")), Some("up0"))
    );
    assert_eq!(facts.link("cni1"), Lookup::Absent);
}

#[test]
fn routes_neighbours_forwarding_entries_and_sysctls_are_read() {
    let Some(facts) = flannel_node() else { return };
    let best = |text| facts.resolve(RouteQuery::to(address(text)));
    let route = |text| {
        let Resolution::Route(route) = best(text) else {
            panic!("{text} has a route")
        };
        route.clone()
    };
    let remote = route("100.96.2.10");
    assert_eq!(
        (remote.kind, remote.dev.as_deref()),
        (RouteKind::Unicast, Some("flannel.1"))
    );
    assert_eq!(remote.gateway, Some(address("100.96.2.0")));
    assert_eq!(route("100.96.2.9").dev.as_deref(), Some("cni0"));
    for (text, kind) in [
        ("100.96.3.1", RouteKind::Blackhole),
        ("100.96.4.1", RouteKind::Unreachable),
        ("100.96.5.1", RouteKind::Prohibit),
    ] {
        let Resolution::RefusedByRoute(route) = best(text) else {
            panic!("{text} is refused by a route")
        };
        assert_eq!(route.kind, kind);
    }
    assert_eq!(best("100.96.6.1"), Resolution::NoRoute);
    let hops = route("100.97.1.1");
    assert_eq!(facts.next_hops(&hops).len(), 2, "one for each next hop");
    assert_eq!(best("8.8.8.8"), Resolution::NoRoute);

    let vtep = Mac([2, 0xaa, 0, 0, 0, 2]);
    let neighbour = facts.neighbour(address("100.96.2.0")).found().unwrap();
    assert_eq!(
        (neighbour.mac, neighbour.state),
        (Some(vtep), NeighbourState::Permanent)
    );
    let entry = facts.fdb(vtep).unwrap()[0].clone();
    assert_eq!(
        (entry.dev.as_str(), entry.destination),
        ("flannel.1", Some(address("172.20.0.12")))
    );
    let port = facts.fdb(Mac([2, 0xbb, 0, 0, 0, 1])).unwrap()[0].clone();
    assert_eq!(
        (port.dev.as_str(), port.origin),
        ("pod-b", FdbOrigin::Static)
    );

    assert_eq!(
        facts
            .address(address("172.20.0.11"))
            .found()
            .map(|found| found.dev.as_str()),
        Some("up0")
    );
    assert_eq!(facts.forwarding(Family::Ipv4), Some(SysctlState::Value(1)));
    assert_eq!(facts.rp_filter_in_force("up0"), Some(2));
    assert!(facts.kernel.is_some());
}

#[test]
fn routes_and_rules_are_read_with_what_a_resolution_needs() {
    let Some(node) = Namespace::new() else { return };
    for line in [
        "link add up0 type veth peer name wire",
        "link set wire up",
        "link set up0 up",
        "addr add 172.20.0.11/24 dev up0",
        "-6 addr add fd20::11/64 dev up0 nodad",
        "route add 10.3.0.0/16 via 172.20.0.1 src 172.20.0.11 mtu 1400 table 77",
        "route add 10.4.0.0/16 nexthop via 172.20.0.1 weight 3 nexthop via 172.20.0.2",
        "-6 route add fd30::/64 from fd20::/64 via fd20::1",
        "rule add pref 100 from 10.1.0.0/16 to 10.3.0.0/16 iif up0 oif wire fwmark 0x10/0xf0 lookup 77",
        "rule add pref 200 not from 10.1.0.7 goto 300",
        "rule add pref 300 lookup main suppress_prefixlength 0",
        "rule add pref 400 fwmark 0/0x1 prohibit",
        "rule add pref 500 uidrange 1-2 lookup 77",
        "-6 rule add pref 600 from fd20::/64 unreachable",
    ] {
        node.ip(line);
    }
    let facts = facts(&node);
    let routes = |destination| {
        let routes = facts.routes.iter().flatten();
        routes
            .filter(|route| route.destination.to_string() == destination)
            .collect::<Vec<_>>()
    };
    let [route] = routes("10.3.0.0/16")[..] else {
        panic!("one route")
    };
    assert_eq!((route.table, route.mtu), (77, Some(1400)));
    assert_eq!(route.preferred_source, Some(address("172.20.0.11")));
    assert_eq!(route.scope, Some(RouteScope::Universe));
    let [link] = routes("172.20.0.0/24")[..] else {
        panic!("one route")
    };
    assert_eq!((link.scope, link.gateway), (Some(RouteScope::Link), None));
    let weights: Vec<_> = routes("10.4.0.0/16").iter().map(|hop| hop.weight).collect();
    assert_eq!(weights, [Some(3), Some(1)]);
    let [by_source] = routes("fd30::/64")[..] else {
        panic!("one route")
    };
    assert_eq!(
        by_source.source.map(|source| source.to_string()).as_deref(),
        Some("fd20::/64")
    );

    let rules = facts.rules.as_ref().unwrap();
    let rule = |priority| {
        let mut found = rules.iter().filter(|rule| rule.priority == priority);
        found.next().cloned().unwrap()
    };
    let first = rule(100);
    assert_eq!(first.from.unwrap().to_string(), "10.1.0.0/16");
    assert_eq!(first.to.unwrap().to_string(), "10.3.0.0/16");
    assert_eq!(
        (first.input.as_deref(), first.output.as_deref()),
        (Some("up0"), Some("wire"))
    );
    let mark = first.mark.unwrap();
    assert_eq!((mark.value, mark.mask), (0x10, 0xf0));
    assert_eq!(first.action, RuleAction::Table(77));
    assert_eq!(
        (rule(200).is_inverted, rule(200).action),
        (true, RuleAction::Goto(300))
    );
    assert_eq!(rule(300).suppress_prefix_length, Some(0));
    let zero = rule(400).mark.unwrap();
    assert_eq!(
        (zero.value, zero.mask, rule(400).action),
        (0, 1, RuleAction::Prohibit)
    );
    assert!(rule(500).has_other_conditions);
    assert_eq!(
        (rule(600).family, rule(600).action),
        (Family::Ipv6, RuleAction::Unreachable)
    );
    let others = rules.iter().filter(|rule| rule.priority != 500);
    assert!(others.clone().all(|rule| !rule.has_other_conditions));
    for family in [Family::Ipv4, Family::Ipv6] {
        for rule in prober_core::node_facts::Rule::defaults(family) {
            assert!(rules.contains(rule), "{rule:?}");
        }
    }
}

#[test]
fn counters_grow_in_the_namespace_of_the_event_and_in_no_other() {
    let Some(pair) = Pair::new() else { return };
    let read = || (pair.client.run(read_facts), pair.server.run(read_facts));
    let (client, server) = read();
    // There is no listener: the server's kernel answers RST.
    let refused = pair
        .client
        .run(|| TcpStream::connect((Pair::SERVER, 9)).unwrap_err().kind());
    assert_eq!(refused, std::io::ErrorKind::ConnectionRefused);
    let (client_after, server_after) = read();
    let client = NodeFacts::delta(&client, &client_after).unwrap();
    let server = NodeFacts::delta(&server, &server_after).unwrap();
    assert_eq!(
        (client.get("TcpOutRsts"), server.get("TcpOutRsts")),
        (Some(0), Some(1))
    );
    assert_eq!(
        (client.get("TcpAttemptFails"), server.get("TcpAttemptFails")),
        (Some(1), Some(0))
    );
}

#[test]
fn the_counters_that_a_diagnosis_uses_exist() {
    let Some(alone) = Namespace::new() else {
        return;
    };
    let counters = alone.run(read_counters);
    for name in [
        "IpInAddrErrors",
        "IpInHdrErrors",
        "IpOutNoRoutes",
        "IpExtInNoRoutes",
        "IpFragFails",
        "IpOutDiscards",
        "IcmpOutRedirects",
        "IcmpOutDestUnreachs",
        "IcmpInDestUnreachs",
        "TcpOutRsts",
        "TcpExtEmbryonicRsts",
        "TcpExtListenOverflows",
        "TcpExtListenDrops",
        "TcpExtIPReversePathFilter",
        "TcpExtTCPSynRetrans",
        "TcpInCsumErrors",
        "UdpInCsumErrors",
        "Ip6InAddrErrors",
        "Ip6FragFails",
        "Icmp6OutRedirects",
    ] {
        assert_eq!(counters.get(name), Some(0), "{name} of a new namespace");
    }
}

/// The words of a line that do not change from one reading to the next: all but the timeout and the number of references.
fn lasting(entry: &ConntrackEntry) -> Vec<String> {
    let words = entry.line.split_whitespace().map(str::to_owned);
    let timeout = entry.timeout.map(|seconds| seconds.to_string());
    words
        .filter(|word| Some(word) != timeout.as_ref() && !word.starts_with("use="))
        .collect()
}

#[test]
fn ctnetlink_and_the_file_have_the_same_entries() {
    let Some(node) = Namespace::new() else { return };
    // A rule that needs connection tracking switches it on in this namespace.
    let rules = "add table inet t; add chain inet t c { type filter hook input priority 0; }; \
                 add rule inet t c ct state established counter; \
                 add chain inet t o { type filter hook output priority -150; }; \
                 add rule inet t o ip daddr 10.9.9.9 ct mark set 0x4000";
    for line in [
        "addr add 10.1.0.1/32 dev lo",
        "-6 addr add fd00:10::1/128 dev lo nodad",
        "link add up0 type veth peer name wire",
        "link set wire up",
        "link set up0 up",
        "route add 10.9.0.0/16 dev up0",
    ] {
        node.ip(line);
    }
    let readings = node.run(move || {
        let nft = std::process::Command::new("nft")
            .arg(rules)
            .output()
            .unwrap();
        assert!(nft.status.success(), "{nft:?}");
        let listeners = ["10.1.0.1:0", "[fd00:10::1]:0"].map(|at| TcpListener::bind(at).unwrap());
        let ends = listeners.each_ref().map(|end| end.local_addr().unwrap());
        let connected = ends.map(|end| TcpStream::connect(end).unwrap());
        // Nothing answers there: the SYN has passed netfilter, and waits for its neighbour.
        let silent = SocketAddr::from(([10, 9, 9, 9], 9));
        assert!(TcpStream::connect_timeout(&silent, Duration::from_millis(50)).is_err());
        let request = ConntrackRequest {
            clients: ends.map(|end| end.ip()).into(),
            targets: ends.into_iter().chain([silent]).collect(),
        };
        let read = |table: ConntrackTable| {
            let facts = read_facts_with_conntrack(&table, &request);
            facts
                .conntrack
                .unwrap_or_else(|| panic!("{:?}", facts.unread))
        };
        let by_file = read(ConntrackTable::open());
        let by_ctnetlink = read(ConntrackTable::by_ctnetlink());
        let none = ConntrackRequest {
            clients: ["10.1.0.2".parse().unwrap()].into(),
            ..request
        };
        let others = read_facts_with_conntrack(&ConntrackTable::by_ctnetlink(), &none).conntrack;
        assert_eq!(others.unwrap().entries, []);
        drop(connected);
        [by_file, by_ctnetlink]
    });
    let [by_file, by_ctnetlink] = &readings;
    assert_eq!((by_file.entries.len(), by_file.is_complete), (3, true));
    let sorted = |reading: &ConntrackReading| {
        let mut lines: Vec<_> = reading.entries.iter().map(lasting).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(by_ctnetlink), sorted(by_file));
    assert!(by_ctnetlink.is_complete);
    let [unreplied, ..] = &by_ctnetlink.entries[..] else {
        panic!("there are entries")
    };
    assert!(!unreplied.is_replied && unreplied.line.contains("mark=16384"));
}
