//! The limits of series and lines, and the text that a scraper reads.

use std::sync::Arc;

use super::*;

const CHECK: &str = "default";

/// Every class of paths.
fn paths() -> Vec<PathClass> {
    let mut paths = Vec::new();
    for access_path in AccessPath::ALL {
        for scope in SCOPES {
            let is_there = match access_path {
                AccessPath::ClusterIpAny => scope == Scope::Any,
                AccessPath::ClusterIpLocal | AccessPath::Hairpin => scope == Scope::SameNode,
                AccessPath::PodIp
                | AccessPath::ClusterIp
                | AccessPath::NodePort
                | AccessPath::HostNetwork => scope != Scope::Any,
            };
            if is_there {
                for family in [Family::Ipv4, Family::Ipv6] {
                    paths.push(PathClass {
                        access_path,
                        scope,
                        family,
                    });
                }
            }
        }
    }
    paths
}

/// A node with every outcome and cause on every path, `times` times.
fn storm(metrics: &Metrics, node: &NodeName, times: usize) {
    let causes: Vec<Option<CauseName>> = std::iter::once(None)
        .chain([Some(CauseName(None))])
        .chain(Cause::ALL.iter().map(|cause| Some(CauseName(Some(*cause)))))
        .collect();
    for _ in 0..times {
        for path in paths() {
            metrics.path(CHECK, node, path, true);
            for outcome in OutcomeKind::ALL {
                for cause in &causes {
                    let kind = HandshakeClass { path, outcome };
                    metrics.handshake(node, kind, *cause, Some(Duration::from_millis(3)));
                }
            }
        }
        metrics.node(CHECK, node, Some(false));
        let slugs =
            (Cause::ALL.iter().map(|cause| cause.slug())).chain(["unknown", "agent-silent"]);
        let of_node = slugs.map(|cause| open_outage(Some(node), cause));
        let mut open = metrics.outages();
        open.extend(of_node);
        metrics.set_outages(CHECK, open);
        let mut not_measured = metrics.not_measured();
        not_measured.insert(node.clone(), "no-pod");
        metrics.set_not_measured(CHECK, not_measured);
    }
}

fn open_outage(node: Option<&NodeName>, cause: &'static str) -> OpenOutage {
    OpenOutage {
        node: node.cloned(),
        cause,
        confidence: "proven",
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
fn the_paths_of_a_node_that_recovers_work() {
    let metrics = Metrics::default();
    let node = NodeName::new("node-1");
    for path in paths() {
        metrics.path(CHECK, &node, path, false);
    }
    metrics.node(CHECK, &node, Some(false));
    assert!(metrics.paths().values().all(|works| !works));
    metrics.node(CHECK, &node, Some(true));
    assert!(metrics.paths().values().all(|works| *works));
}

#[test]
fn a_removed_node_has_no_series() {
    let metrics = Metrics::default();
    let node = NodeName::new("node-1");
    storm(&metrics, &node, 1);
    metrics.remove_node(CHECK, &node);
    assert_eq!(metrics.series(), 0);
}

#[test]
fn a_node_is_healthy_if_all_checks_say_so_and_stays_while_one_probes_it() {
    let metrics = Metrics::default();
    let node = NodeName::new("node-1");
    let path = paths()[0];
    for (check, healthy) in [("default", true), ("other", false)] {
        metrics.path(check, &node, path, healthy);
        metrics.node(check, &node, Some(healthy));
        metrics.agents(check, AgentState::Working, 2);
    }
    metrics.coverage("default", 1, 4);
    metrics.coverage("other", 2, 4);
    assert_eq!(metrics.healths(), [(node.clone(), false)].into());
    assert_eq!(metrics.paths(), [((node.clone(), path), false)].into());
    assert_eq!(metrics.states(), [(AgentState::Working, 4)].into());
    assert_eq!(metrics.covered(), Some(3.0 / 8.0));
    metrics.remove_node("other", &node);
    assert_eq!(metrics.healths(), [(node.clone(), true)].into());
    assert_eq!(metrics.paths(), [((node.clone(), path), true)].into());
    metrics.remove_check("other");
    assert_eq!(metrics.states(), [(AgentState::Working, 2)].into());
    assert_eq!(metrics.covered(), Some(0.25));
    metrics.node("default", &node, None);
    assert_eq!(metrics.healths(), [].into(), "absent where it is not known");
    metrics.remove_node("default", &node);
    assert_eq!(metrics.series(), 0);
    metrics.remove_check("default");
    assert_eq!(metrics.covered(), None);
}

#[test]
fn an_outage_is_there_while_a_check_has_it() {
    let metrics = Metrics::default();
    let node = NodeName::new("node-1");
    let proven = open_outage(Some(&node), "hairpin-off");
    let of_no_node = open_outage(None, "unknown");
    let both = BTreeSet::from([proven.clone(), of_no_node.clone()]);
    metrics.set_outages("default", both.clone());
    metrics.set_outages("other", [proven.clone()].into());
    assert_eq!(metrics.outages(), both, "one series for both checks");
    metrics.set_outages("default", [of_no_node.clone()].into());
    assert_eq!(metrics.outages(), both);
    metrics.remove_check("other");
    assert_eq!(metrics.outages(), [of_no_node].into());
    metrics.set_outages("default", [proven].into());
    metrics.set_not_measured("default", [(node.clone(), "no-pod")].into());
    metrics.remove_node("default", &node);
    assert_eq!(
        metrics.outages(),
        BTreeSet::new(),
        "of a node that has left"
    );
    assert_eq!(metrics.not_measured(), BTreeMap::new());
}

#[test]
fn a_node_that_works_has_the_documented_number_of_series() {
    let metrics = Metrics::default();
    let node = NodeName::new("node-1");
    for path in paths() {
        let kind = HandshakeClass {
            path,
            outcome: OutcomeKind::Established,
        };
        metrics.handshake(&node, kind, None, Some(Duration::from_micros(200)));
        metrics.path(CHECK, &node, path, true);
    }
    metrics.node(CHECK, &node, Some(true));
    assert_eq!(metrics.series(), 46);
    assert_eq!(lines(&Arc::new(metrics), &node), 51);
}

/// Lines of text about a node.
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
    metrics.remove_node(CHECK, &node);
    assert_eq!(lines(&metrics, &node), 0);
}

#[test]
fn five_thousand_working_nodes_are_a_small_scrape() {
    let metrics = Arc::new(Metrics::default());
    for number in 0..5_000 {
        let node = NodeName::new(format!("ip-10-0-{number}.eu-central-1.compute.internal"));
        metrics.node(CHECK, &node, Some(true));
    }
    let size = expose(&metrics, Exposition::Text).unwrap().len();
    assert!(size < 500_000, "{size} bytes");
}

#[test]
fn the_text_exposition() {
    let metrics = Arc::new(Metrics::default());
    let node = NodeName::new("node \"1\"");
    let path = PathClass {
        access_path: AccessPath::ClusterIp,
        scope: Scope::SameNode,
        family: Family::Ipv4,
    };
    let established = HandshakeClass {
        path,
        outcome: OutcomeKind::Established,
    };
    metrics.handshake(&node, established, None, Some(Duration::from_micros(300)));
    let mismatched = HandshakeClass {
        path,
        outcome: OutcomeKind::Mismatched,
    };
    metrics.handshake(
        &node,
        mismatched,
        Some(CauseName(Some(Cause::BridgeNetfilterOff))),
        None,
    );
    metrics.path(CHECK, &node, path, false);
    metrics.node(CHECK, &node, Some(false));
    let founding = open_outage(Some(&node), "bridge-netfilter-off");
    metrics.set_outages(CHECK, [founding, open_outage(None, "unknown")].into());
    metrics.set_not_measured(CHECK, [(NodeName::new("node-2"), "no-pod")].into());
    metrics.coverage(CHECK, 3, 6);
    metrics.agents(CHECK, AgentState::Working, 2);
    metrics.drop_spans(3);
    metrics.leads(true);
    metrics.examined();
    metrics.transient_alerts(CHECK, 2);
    metrics.reconciled(true, Duration::from_millis(20));
    let text = expose(&metrics, Exposition::Text).unwrap();
    insta::assert_snapshot!(String::from_utf8(text).unwrap());
    assert!(!expose(&metrics, Exposition::Protobuf).unwrap().is_empty());
}

#[test]
fn protocol_buffers_are_written_only_if_accepted() {
    let prometheus = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5";
    assert_eq!(Exposition::accepted(prometheus), Exposition::Protobuf);
    assert_eq!(Exposition::accepted("text/plain"), Exposition::Text);
    assert_eq!(Exposition::accepted(""), Exposition::Text);
}
