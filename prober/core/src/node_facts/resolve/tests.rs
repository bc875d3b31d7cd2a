//! Tests of route lookups, one for each rule of the kernel.

use proptest::prelude::*;

use super::*;
use crate::node_facts::{Address, Fwmark, Link};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// `PREFIX dev DEV table TABLE`, or with another kind than `dev`.
fn route(destination: &str, dev: &str, table: u32) -> Route {
    Route {
        dev: Some(dev.to_owned()),
        table,
        ..Route::main(destination.parse().unwrap())
    }
}

fn refusing(destination: &str, kind: RouteKind, table: u32) -> Route {
    Route {
        kind,
        table,
        ..Route::main(destination.parse().unwrap())
    }
}

/// The rules of a new namespace, and more.
fn rules(more: impl IntoIterator<Item = Rule>) -> Vec<Rule> {
    let defaults = Rule::defaults(Family::Ipv4).iter().cloned();
    more.into_iter().chain(defaults).collect()
}

fn rule(priority: u32, table: u32) -> Rule {
    Rule::lookup(Family::Ipv4, priority, table)
}

fn facts(routes: impl IntoIterator<Item = Route>, rules: Option<Vec<Rule>>) -> NodeFacts {
    NodeFacts {
        addresses: Some(vec![Address {
            prefix: "10.0.0.1/24".parse().unwrap(),
            dev: "eth0".to_owned(),
        }]),
        routes: Some(routes.into_iter().collect()),
        rules,
        ..NodeFacts::default()
    }
}

/// The interface of the route, or what there is instead.
fn way(facts: &NodeFacts, query: RouteQuery<'_>) -> String {
    match facts.resolve(query) {
        Resolution::Route(route) => route.dev.clone().unwrap_or_default(),
        Resolution::RefusedByRoute(route) => format!("{:?} of table {}", route.kind, route.table),
        Resolution::RefusedByRule(rule) => format!("{:?} of rule {}", rule.action, rule.priority),
        other @ (Resolution::Local | Resolution::NoRoute | Resolution::Unread) => {
            format!("{other:?}")
        }
    }
}

fn from<'a>(source: &str, destination: &str) -> RouteQuery<'a> {
    RouteQuery {
        source: Some(ip(source)),
        ..RouteQuery::to(ip(destination))
    }
}

#[test]
fn the_kernels_own_rules_are_followed() {
    let facts = facts(
        [
            route("10.0.0.0/24", "eth0", Route::MAIN),
            route("0.0.0.0/0", "rescue", Route::DEFAULT),
            route("10.9.0.0/16", "elsewhere", 100),
        ],
        Some(rules([])),
    );
    let to = |text| way(&facts, RouteQuery::to(ip(text)));
    assert_eq!(to("10.0.0.2"), "eth0");
    assert_eq!(
        to("10.0.0.1"),
        "Local",
        "the longest prefix does not count before table local"
    );
    assert_eq!(to("127.0.0.53"), "Local");
    assert_eq!(to("10.9.0.1"), "rescue");
    assert_eq!(to("fd00::1"), "NoRoute");
}

#[test]
fn nothing_is_guessed_where_rules_routes_or_addresses_were_not_read() {
    let query = RouteQuery::to(ip("10.1.0.1"));
    assert_eq!(way(&NodeFacts::default(), query), "Unread");
    let mut facts = facts([route("10.1.0.0/16", "cni0", Route::MAIN)], None);
    assert_eq!(way(&facts, query), "Unread");
    facts.rules = Some(rules([]));
    assert_eq!(way(&facts, query), "cni0");
    facts.addresses = None;
    assert_eq!(way(&facts, query), "Unread");
}

#[test]
fn the_longest_prefix_is_taken_and_then_the_lowest_metric() {
    let with_metric = |dev, metric| Route {
        metric: Some(metric),
        ..route("10.1.0.0/16", dev, Route::MAIN)
    };
    let facts = facts(
        [
            route("0.0.0.0/0", "default", Route::MAIN),
            with_metric("second", 20),
            with_metric("first", 10),
            route("10.1.2.0/24", "longest", Route::MAIN),
        ],
        Some(rules([])),
    );
    let to = |text| way(&facts, RouteQuery::to(ip(text)));
    assert_eq!(to("10.1.2.3"), "longest");
    assert_eq!(to("10.1.3.3"), "first");
    assert_eq!(to("10.2.0.1"), "default");
}

#[test]
fn rules_choose_the_table_by_source_destination_mark_and_interface() {
    let by_source = Rule {
        from: Some("10.1.0.7/32".parse().unwrap()),
        ..rule(1536, 2)
    };
    let by_mark = Rule {
        mark: Some(Fwmark {
            value: 0x80,
            mask: 0x80,
        }),
        ..rule(1024, 3)
    };
    let by_input = Rule {
        input: Some("lxc1".to_owned()),
        to: Some("10.3.0.0/16".parse().unwrap()),
        ..rule(512, 4)
    };
    let facts = facts(
        [
            route("0.0.0.0/0", "eth0", Route::MAIN),
            route("0.0.0.0/0", "eth1", 2),
            route("0.0.0.0/0", "wg0", 3),
            route("10.3.0.0/16", "tunnel", 4),
        ],
        Some(rules([by_source, by_mark, by_input])),
    );
    assert_eq!(way(&facts, from("10.1.0.7", "10.3.0.1")), "eth1");
    assert_eq!(way(&facts, from("10.1.0.8", "10.3.0.1")), "eth0");
    let marked = RouteQuery {
        mark: 0x180,
        ..from("10.1.0.7", "10.3.0.1")
    };
    assert_eq!(way(&facts, marked), "wg0");
    let input = RouteQuery {
        input: Input::Interface("lxc1"),
        ..marked
    };
    assert_eq!(way(&facts, input), "tunnel");
    let from_somewhere = RouteQuery {
        input: Input::Unknown,
        ..input
    };
    assert_eq!(way(&facts, from_somewhere), "Unread");
    let elsewhere = RouteQuery {
        destination: ip("10.4.0.1"),
        ..input
    };
    assert_eq!(way(&facts, elsewhere), "wg0");
}

#[test]
fn a_refusal_ends_the_lookup_and_a_throw_does_not() {
    let tables = [2, 3, 4].map(|table| Rule {
        from: Some(format!("10.1.0.{table}/32").parse().unwrap()),
        ..rule(table, table)
    });
    let prohibit = Rule {
        from: Some("10.1.0.9/32".parse().unwrap()),
        action: RuleAction::Prohibit,
        ..rule(9, 0)
    };
    let facts = facts(
        [
            route("0.0.0.0/0", "eth0", Route::MAIN),
            refusing("0.0.0.0/0", RouteKind::Blackhole, 2),
            route("0.0.0.0/0", "eth1", 3),
            refusing("10.3.0.0/16", RouteKind::Throw, 3),
            refusing("10.3.0.0/16", RouteKind::Local, 4),
        ],
        Some(rules(tables.into_iter().chain([prohibit]))),
    );
    assert_eq!(
        way(&facts, from("10.1.0.2", "10.3.0.1")),
        "Blackhole of table 2"
    );
    assert_eq!(way(&facts, from("10.1.0.3", "10.3.0.1")), "eth0");
    assert_eq!(way(&facts, from("10.1.0.3", "10.4.0.1")), "eth1");
    assert_eq!(way(&facts, from("10.1.0.4", "10.3.0.1")), "Local");
    assert_eq!(
        way(&facts, from("10.1.0.9", "10.3.0.1")),
        "Prohibit of rule 9"
    );
}

#[test]
fn wireguards_rules_leave_the_default_route_to_the_tunnel() {
    // `wg-quick`: all that is not the tunnel's own, but not where `main` knows better than by its default route.
    let not_own = Rule {
        mark: Some(Fwmark {
            value: 51820,
            mask: u32::MAX,
        }),
        is_inverted: true,
        ..rule(32765, 51820)
    };
    let better = Rule {
        suppress_prefix_length: Some(0),
        ..rule(32764, Route::MAIN)
    };
    let facts = facts(
        [
            route("0.0.0.0/0", "eth0", Route::MAIN),
            route("10.2.0.0/16", "cni0", Route::MAIN),
            route("0.0.0.0/0", "wg0", 51820),
        ],
        Some(rules([not_own, better])),
    );
    let to = |text, mark| {
        way(
            &facts,
            RouteQuery {
                mark,
                ..RouteQuery::to(ip(text))
            },
        )
    };
    assert_eq!(to("10.2.0.1", 0), "cni0");
    assert_eq!(to("192.0.2.1", 0), "wg0");
    assert_eq!(to("192.0.2.1", 51820), "eth0");
}

#[test]
fn a_goto_leads_forward_only() {
    let goto = |priority, target| Rule {
        action: RuleAction::Goto(target),
        ..rule(priority, 0)
    };
    let routes = [
        route("0.0.0.0/0", "skipped", 5),
        route("0.0.0.0/0", "target", 6),
    ];
    let jump = |rules: [Rule; 3]| {
        way(
            &facts(routes.clone(), Some(rules.into())),
            RouteQuery::to(ip("10.3.0.1")),
        )
    };
    assert_eq!(jump([goto(10, 30), rule(20, 5), rule(30, 6)]), "target");
    assert_eq!(jump([goto(10, 40), rule(20, 5), rule(30, 6)]), "skipped");
    assert_eq!(jump([goto(10, 10), goto(20, 10), rule(30, 6)]), "target");
}

#[test]
fn a_condition_that_is_not_read_leaves_the_result_open_only_where_it_matters() {
    let of_a_port = |source: &str| Rule {
        from: Some(source.parse().unwrap()),
        has_other_conditions: true,
        ..rule(10, 2)
    };
    let way_by = |rule| {
        let facts = facts(
            [route("0.0.0.0/0", "eth0", Route::MAIN)],
            Some(rules([rule])),
        );
        way(&facts, from("10.1.0.7", "10.3.0.1"))
    };
    assert_eq!(way_by(of_a_port("10.1.0.7/32")), "Unread");
    assert_eq!(way_by(of_a_port("10.1.0.8/32")), "eth0");

    let vrf = Rule {
        action: RuleAction::Vrf,
        ..rule(10, 0)
    };
    let mut facts = facts(
        [route("0.0.0.0/0", "eth0", Route::MAIN)],
        Some(rules([vrf])),
    );
    facts.links = Some(
        [
            ("red", Some("vrf"), None),
            ("eth1", None, Some("red")),
            ("eth0", None, None),
        ]
        .map(|(name, kind, master)| Link {
            name: name.to_owned(),
            kind: kind.map(str::to_owned),
            master: master.map(str::to_owned),
            ..Link::default()
        })
        .into(),
    );
    let by = |input| {
        way(
            &facts,
            RouteQuery {
                input,
                ..from("10.1.0.7", "10.3.0.1")
            },
        )
    };
    assert_eq!(
        (by(Input::Own), by(Input::Interface("eth0"))),
        ("eth0".to_owned(), "eth0".to_owned())
    );
    assert_eq!(by(Input::Interface("eth1")), "Unread");
    assert_eq!(by(Input::Unknown), "Unread");
}

#[test]
fn dead_next_hops_are_passed_over_and_the_others_listed() {
    let mut hops = ["a", "b", "c"].map(|dev| route("10.3.0.0/16", dev, Route::MAIN));
    hops[0].is_dead = true;
    let facts = facts(hops, Some(rules([])));
    let query = RouteQuery::to(ip("10.3.0.1"));
    assert_eq!(way(&facts, query), "b");
    let Resolution::Route(route) = facts.resolve(query) else {
        panic!("there is a route")
    };
    assert_eq!(facts.next_hops(route).len(), 3);
}

fn arbitrary_prefix() -> impl Strategy<Value = ipnet::IpNet> {
    // Few addresses, so that prefixes overlap.
    (
        0u8..4,
        0u8..4,
        prop::sample::select(vec![0u8, 8, 16, 24, 32]),
    )
        .prop_map(|(b, d, length)| {
            let address = std::net::Ipv4Addr::new(10, b, 0, d);
            ipnet::Ipv4Net::new(address, length).unwrap().trunc().into()
        })
}

fn arbitrary_route() -> impl Strategy<Value = Route> {
    let kinds = vec![
        RouteKind::Unicast,
        RouteKind::Unicast,
        RouteKind::Local,
        RouteKind::Blackhole,
        RouteKind::Throw,
        RouteKind::Other(3),
    ];
    (
        arbitrary_prefix(),
        prop::sample::select(kinds),
        prop::sample::select(vec![100, Route::MAIN]),
        prop::option::of(0u32..3),
    )
        .prop_map(|(destination, kind, table, metric)| Route {
            kind,
            table,
            metric,
            ..Route::main(destination)
        })
}

fn arbitrary_rule() -> impl Strategy<Value = Rule> {
    let action = prop_oneof![
        prop::sample::select(vec![100, Route::MAIN, Route::LOCAL, 7]).prop_map(RuleAction::Table),
        (0u32..10).prop_map(RuleAction::Goto),
        prop::sample::select(vec![
            RuleAction::Nop,
            RuleAction::Vrf,
            RuleAction::Blackhole,
            RuleAction::Other(9),
        ]),
    ];
    let conditions = (
        prop::option::of(arbitrary_prefix()),
        prop::option::of(arbitrary_prefix()),
        prop::option::of(any::<(u32, u32)>()),
        any::<(bool, bool)>(),
    );
    (0u32..10, conditions, prop::option::of(0u32..33), action).prop_map(
        |(priority, (from, to, mark, (is_inverted, has_other_conditions)), length, action)| Rule {
            from,
            to,
            mark: mark.map(|(value, mask)| Fwmark { value, mask }),
            is_inverted,
            has_other_conditions,
            suppress_prefix_length: length,
            action,
            ..rule(priority, 0)
        },
    )
}

proptest! {
    #[test]
    fn a_lookup_ends_whatever_the_rules_are(
        routes in prop::collection::vec(arbitrary_route(), 0..8),
        rules in prop::option::of(prop::collection::vec(arbitrary_rule(), 0..8)),
        addresses in any::<[u8; 4]>(),
        mark: u32,
    ) {
        let facts = facts(routes, rules);
        let destination = IpAddr::from([10, addresses[0] % 4, 0, addresses[1] % 4]);
        let source = Some(IpAddr::from([10, addresses[2] % 4, 0, addresses[3] % 4]));
        let input = [Input::Own, Input::Interface("eth0"), Input::Unknown][mark as usize % 3];
        facts.resolve(RouteQuery { source, destination, input, mark });
    }

    #[test]
    fn under_the_kernels_own_rules_table_main_decides(
        routes in prop::collection::vec(arbitrary_route(), 0..8),
        third in 0u8..4,
        last in 0u8..4,
    ) {
        let mut facts = facts(routes.clone(), Some(rules([])));
        facts.addresses = Some(Vec::new());
        let destination = IpAddr::from([10, third, 0, last]);
        let of_main = routes.iter().filter(|route| route.table == Route::MAIN);
        let first = of_main
            .filter(|route| route.destination.contains(&destination))
            .min_by_key(|route| (Reverse(route.destination.prefix_len()), route.metric));
        let expected = match first {
            None => Resolution::NoRoute,
            Some(route) => match route.kind {
                RouteKind::Throw => Resolution::NoRoute,
                RouteKind::Local => Resolution::Local,
                RouteKind::Unicast | RouteKind::Other(_) => Resolution::Route(route),
                RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit => {
                    Resolution::RefusedByRoute(route)
                }
            },
        };
        prop_assert_eq!(facts.resolve(RouteQuery::to(destination)), expected);
    }
}
