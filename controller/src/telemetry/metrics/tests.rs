//! The budget, and what a scraper reads.

use std::sync::Arc;

use super::*;

const CHECK: &str = "default";

/// Where servers may stand, by route.
fn ways() -> Vec<Way> {
    let mut ways = Vec::new();
    for route in Route::ALL {
        for scope in SCOPES {
            let is_there = match route {
                Route::ClusterIpAny => scope == Scope::Any,
                Route::ProberLocal | Route::Hairpin => scope == Scope::SameNode,
                Route::PodIp | Route::ClusterIp | Route::NodePort | Route::HostNetwork => {
                    scope != Scope::Any
                }
            };
            if is_there {
                for family in [Family::Ipv4, Family::Ipv6] {
                    ways.push(Way {
                        route,
                        scope,
                        family,
                    });
                }
            }
        }
    }
    ways
}

/// Everything that can happen to a node happens, `times` times.
fn storm(metrics: &Metrics, node: &NodeName, times: usize) {
    let causes: Vec<Option<CauseName>> = std::iter::once(None)
        .chain([Some(CauseName(None))])
        .chain(Cause::ALL.iter().map(|cause| Some(CauseName(Some(*cause)))))
        .collect();
    for _ in 0..times {
        for way in ways() {
            metrics.path(CHECK, node, way, true);
            for outcome in OutcomeKind::ALL {
                for cause in &causes {
                    let kind = Kind { way, outcome };
                    metrics.handshake(node, kind, *cause, Some(Duration::from_millis(3)));
                }
            }
        }
        metrics.node(CHECK, node, false);
        metrics.first_connectivity(node, Duration::from_secs(2));
    }
}

#[test]
fn a_node_has_no_more_series_than_the_budget_however_often_it_is_probed() {
    let metrics = Metrics::default();
    let node = NodeName::new("node-1");
    storm(&metrics, &node, 1);
    assert_eq!(metrics.series(), SERIES_PER_NODE);
    storm(&metrics, &node, 3);
    assert_eq!(
        metrics.series(),
        SERIES_PER_NODE,
        "series grow with nodes alone"
    );
    let other = NodeName::new("node-2");
    storm(&metrics, &other, 1);
    assert_eq!(metrics.series(), 2 * SERIES_PER_NODE);
}

#[test]
fn a_node_that_is_gone_leaves_no_series() {
    let metrics = Metrics::default();
    let node = NodeName::new("node-1");
    storm(&metrics, &node, 1);
    metrics.gone(CHECK, &node);
    assert_eq!(metrics.series(), 0);
}

#[test]
fn what_two_checks_look_at_is_well_when_it_is_for_both_and_stays_while_one_looks() {
    let metrics = Metrics::default();
    let node = NodeName::new("node-1");
    let way = ways()[0];
    for (check, healthy) in [("default", true), ("other", false)] {
        metrics.node(check, &node, healthy);
        metrics.path(check, &node, way, healthy);
        metrics.agents(check, AgentState::Running, 2);
    }
    metrics.coverage("default", 1, 4);
    metrics.coverage("other", 2, 4);
    assert_eq!(metrics.healths(), [(node.clone(), false)].into());
    assert_eq!(metrics.ways(), [((node.clone(), way), false)].into());
    assert_eq!(metrics.states(), [(AgentState::Running, 4)].into());
    assert_eq!(metrics.covered(), Some(3.0 / 8.0));
    metrics.gone("other", &node);
    assert_eq!(metrics.healths(), [(node.clone(), true)].into());
    assert_eq!(metrics.states(), [(AgentState::Running, 2)].into());
    assert_eq!(metrics.covered(), Some(0.25));
    metrics.gone("default", &node);
    assert_eq!(metrics.series(), 0);
    assert_eq!(metrics.covered(), None);
}

#[test]
fn a_healthy_node_costs_what_the_budget_says() {
    let metrics = Metrics::default();
    let node = NodeName::new("node-1");
    for way in ways() {
        let kind = Kind {
            way,
            outcome: OutcomeKind::Established,
        };
        metrics.handshake(&node, kind, None, Some(Duration::from_micros(200)));
        metrics.path(CHECK, &node, way, true);
    }
    metrics.node(CHECK, &node, true);
    metrics.first_connectivity(&node, Duration::from_secs(2));
    assert_eq!(metrics.series(), 47);
    assert_eq!(lines(&Arc::new(metrics), &node), 51);
}

/// Lines of text that tell of a node.
fn lines(metrics: &Arc<Metrics>, node: &NodeName) -> usize {
    let text = String::from_utf8(expose(metrics, Exposition::Text).unwrap()).unwrap();
    text.lines()
        .filter(|line| line.contains(node.as_str()))
        .count()
}

#[test]
fn a_node_has_no_more_lines_of_text_than_the_budget_however_often_it_is_probed() {
    let metrics = Arc::new(Metrics::default());
    let node = NodeName::new("node-1");
    storm(&metrics, &node, 1);
    assert_eq!(lines(&metrics, &node), LINES_PER_NODE);
    storm(&metrics, &node, 2);
    assert_eq!(lines(&metrics, &node), LINES_PER_NODE);
    metrics.gone(CHECK, &node);
    assert_eq!(lines(&metrics, &node), 0);
}

#[test]
fn five_thousand_healthy_nodes_are_a_scrape_of_some_thirty_megabytes() {
    let metrics = Arc::new(Metrics::default());
    let node = NodeName::new("ip-10-0-100-100.eu-central-1.compute.internal");
    let of_default = [
        Route::PodIp,
        Route::ClusterIp,
        Route::ClusterIpAny,
        Route::ProberLocal,
        Route::Hairpin,
    ];
    for way in ways() {
        if way.family == Family::Ipv4 && of_default.contains(&way.route) {
            let outcome = OutcomeKind::Established;
            metrics.handshake(
                &node,
                Kind { way, outcome },
                None,
                Some(Duration::from_micros(200)),
            );
            metrics.path(CHECK, &node, way, true);
        }
    }
    metrics.node(CHECK, &node, true);
    assert_eq!(lines(&metrics, &node), 36);
    let size = expose(&metrics, Exposition::Text).unwrap().len();
    assert!(size * 5_000 < 35_000_000, "{size} bytes");
}

#[test]
fn a_scraper_of_text_reads_this() {
    let metrics = Arc::new(Metrics::default());
    let node = NodeName::new("node \"1\"");
    let way = Way {
        route: Route::ClusterIp,
        scope: Scope::SameNode,
        family: Family::Ipv4,
    };
    let established = Kind {
        way,
        outcome: OutcomeKind::Established,
    };
    metrics.handshake(&node, established, None, Some(Duration::from_micros(300)));
    let mismatched = Kind {
        way,
        outcome: OutcomeKind::Mismatched,
    };
    metrics.handshake(
        &node,
        mismatched,
        Some(CauseName(Some(Cause::BridgeNetfilterOff))),
        None,
    );
    metrics.path(CHECK, &node, way, false);
    metrics.node(CHECK, &node, false);
    metrics.coverage(CHECK, 3, 6);
    metrics.agents(CHECK, AgentState::Running, 2);
    metrics.first_connectivity(&node, Duration::from_secs(2));
    metrics.drop_spans(3);
    let text = expose(&metrics, Exposition::Text).unwrap();
    insta::assert_snapshot!(String::from_utf8(text).unwrap());
    assert!(!expose(&metrics, Exposition::Protobuf).unwrap().is_empty());
}

#[test]
fn protocol_buffers_are_written_only_for_those_who_ask_for_them() {
    let prometheus = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5";
    assert_eq!(Exposition::accepted(prometheus), Exposition::Protobuf);
    assert_eq!(Exposition::accepted("text/plain"), Exposition::Text);
    assert_eq!(Exposition::accepted(""), Exposition::Text);
}
