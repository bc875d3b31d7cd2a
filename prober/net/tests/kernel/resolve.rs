//! Route lookups by the facts, compared with those of the kernel (`ip route get`).
use prober_core::node_facts::{Input, NodeFacts, Resolution, RouteQuery};
use prober_net::node_facts::read_facts;

use crate::namespace::{Namespace, address};

/// A node with a table for each of some sources, marks and interfaces, as cloud networks and WireGuard have them.
fn node() -> Option<Namespace> {
    let node = Namespace::new()?;
    for name in ["eth0", "eth1", "wg0", "pod0"] {
        node.ip(&format!("link add {name} type veth peer name {name}-peer"));
        node.ip(&format!("link set {name}-peer up"));
        node.ip(&format!("link set {name} up"));
    }
    for line in [
        "addr add 172.20.0.11/24 dev eth0",
        "addr add 172.21.0.11/24 dev eth1",
        "addr add 10.9.0.1/32 dev wg0",
        "-6 addr add fd20::11/64 dev eth0 nodad",
        "-6 addr add fd21::11/64 dev eth1 nodad",
        "route add default via 172.20.0.1",
        "route add 10.1.0.7/32 dev pod0",
        "route add 10.2.0.0/16 via 172.20.0.12",
        "route add 10.2.7.0/24 via 172.20.0.13 metric 20",
        "route add 10.2.7.0/24 via 172.20.0.14 metric 10",
        "route add blackhole 10.5.0.0/16",
        "route add unreachable 10.6.0.0/16",
        "route add prohibit 10.7.0.0/16",
        "route add default via 172.21.0.1 table 2",
        "route add throw 10.2.0.0/16 table 2",
        "route add default dev wg0 table 51820",
        "route add local 10.8.0.0/16 dev lo table 100",
        "rule add pref 512 to 10.1.0.7 lookup main",
        "rule add pref 600 iif pod0 to 10.3.0.0/16 prohibit",
        "rule add pref 1024 fwmark 0x200/0xf00 lookup 100",
        "rule add pref 1536 from 10.1.0.7 lookup 2",
        "rule add pref 1537 from 172.21.0.11 lookup 2",
        "rule add pref 1600 fwmark 0x7 goto 2000",
        "rule add pref 1700 fwmark 0x7 lookup 2",
        "rule add pref 2000 fwmark 0x7 nop",
        "rule add pref 32764 lookup main suppress_prefixlength 0",
        "rule add pref 32765 not fwmark 0xca6c lookup 51820",
        "-6 route add default via fd20::1",
        "-6 route add fd30::/64 via fd20::12",
        "-6 route add blackhole fd35::/64",
        "-6 route add throw fd30::/64 table 2",
        "-6 route add default via fd21::1 table 2",
        "-6 rule add pref 1537 from fd21::11 lookup 2",
    ] {
        node.ip(line);
    }
    node.sysctl("net/ipv4/ip_forward", "1");
    node.sysctl("net/ipv6/conf/all/forwarding", "1");
    for name in ["all", "pod0", "wg0"] {
        node.sysctl(&format!("net/ipv4/conf/{name}/rp_filter"), "0");
    }
    Some(node)
}

/// `via GATEWAY dev DEV` as far as there is one, `local`, or `refused`.
fn by_kernel(node: &Namespace, destination: &str, arguments: &str) -> String {
    let text = node.output("ip", &format!("route get {destination} {arguments}"));
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.contains(&"Error:") || words.contains(&"answers:") {
        return "refused".to_owned();
    }
    if words.first() == Some(&"local") {
        return "local".to_owned();
    }
    let after = |name| {
        let at = words.iter().position(|word| *word == name);
        at.and_then(|at| words.get(at + 1)).copied().unwrap_or("?")
    };
    if words.contains(&"via") {
        format!("via {} dev {}", after("via"), after("dev"))
    } else {
        format!("dev {}", after("dev"))
    }
}

fn by_facts(facts: &NodeFacts, query: RouteQuery<'_>) -> String {
    match facts.resolve(query) {
        Resolution::Local => "local".to_owned(),
        Resolution::Route(route) => {
            let dev = route.dev.as_deref().unwrap_or("?");
            match route.gateway {
                Some(gateway) => format!("via {gateway} dev {dev}"),
                None => format!("dev {dev}"),
            }
        }
        Resolution::RefusedByRoute(_) | Resolution::RefusedByRule(_) | Resolution::NoRoute => {
            "refused".to_owned()
        }
        Resolution::Unread => "unread".to_owned(),
    }
}

#[test]
fn the_facts_lead_where_the_kernel_does() {
    let Some(node) = node() else { return };
    let facts = node.run(read_facts);
    let destinations = [
        "10.1.0.7",
        "10.2.0.9",
        "10.2.7.9",
        "10.3.0.1",
        "10.5.0.1",
        "10.6.0.1",
        "10.7.0.1",
        "10.8.0.1",
        "172.20.0.99",
        "172.20.0.11",
        "127.0.0.5",
        "192.0.2.1",
        "fd30::9",
        "fd35::1",
        "fd99::1",
        "fd20::11",
    ];
    let sources = [
        (None, None),
        (Some("172.21.0.11"), None),
        (Some("10.1.0.7"), Some("pod0")),
        (Some("10.1.0.9"), Some("pod0")),
        (Some("fd21::11"), None),
    ];
    let mut compared = Vec::new();
    for destination in destinations {
        for (source, input) in sources {
            let is_same_family = source
                .is_none_or(|source| address(source).is_ipv4() == address(destination).is_ipv4());
            // A packet from another host to a loopback address or from an own address is a martian: no matter of routes.
            let is_martian =
                input.is_some() && (destination.starts_with("127.") || Some(destination) == source);
            if !is_same_family || is_martian {
                continue;
            }
            for mark in [0, 7, 0x200, 0xca6c] {
                let mut arguments = vec![format!("mark {mark}")];
                for (name, value) in [("from", source), ("iif", input)] {
                    if let Some(value) = value {
                        arguments.push(format!("{name} {value}"));
                    }
                }
                let arguments = arguments.join(" ");
                let query = RouteQuery {
                    source: source.map(address),
                    destination: address(destination),
                    input: input.map_or(Input::Own, Input::Interface),
                    mark,
                };
                let kernel = by_kernel(&node, destination, &arguments);
                assert_eq!(
                    by_facts(&facts, query),
                    kernel,
                    "ip route get {destination} {arguments}"
                );
                compared.push(kernel);
            }
        }
    }
    assert!(compared.len() > 100);
    compared.sort();
    compared.dedup();
    let all = [
        "dev eth0",
        "dev pod0",
        "dev wg0",
        "local",
        "refused",
        "via 172.20.0.14 dev eth0",
        "via 172.21.0.1 dev eth1",
    ];
    for one in all {
        assert!(
            compared.iter().any(|kernel| kernel == one),
            "{one} is not among {compared:?}"
        );
    }
}
