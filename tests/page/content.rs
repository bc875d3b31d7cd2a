//! What pages of clusters of every size contain, without a browser.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use controller::canary::check_state::{CheckState, Moment};
use controller::canary::inventory::Inventory;
use controller::canary::round_result::RoundResult;
use controller::page::answer::{Answer, Query, View, answer};
use controller::page::failure_reports::FailureReports;
use controller::page::snapshot::{Sources, snapshot};
use controller::page::state::Reading;
use insta::assert_snapshot;
use prober_core::topology::NodeName;

use crate::cluster::{Cluster, STALE, read_at};
use crate::network::{Network, broken};

/// The largest page, in bytes.
pub(crate) const LARGEST: usize = 400_000;

/// No page has this address.
pub(crate) const MISSING: &str = "/nothing";

/// The sizes of clusters.
const SIZES: [usize; 6] = [0, 1, 2, 50, 1_000, 5_000];

/// Every page of a cluster.
pub(crate) fn addresses(reading: &Reading) -> Vec<String> {
    let node = |name: &str| format!("/node?{}", query("name", name));
    let mut addresses: Vec<String> = [
        "/",
        "/nodes",
        "/outages",
        "/coverage",
        "/?group=kernel",
        MISSING,
    ]
    .map(str::to_owned)
    .to_vec();
    if let Some(outage) = reading.state.outages.first() {
        addresses.push(format!("/outage?{}", query("id", &outage.id)));
        addresses.extend(outage.node.as_deref().map(node));
    }
    if let Some(last) = reading.state.nodes.last() {
        addresses.push(node(&last.name));
        addresses.push(format!("/nodes?{}", query("q", &last.name)));
    }
    addresses
}

fn query(name: &str, value: &str) -> String {
    let bytes = value.bytes().map(|byte| format!("%{byte:02X}"));
    format!("{name}={}", bytes.collect::<String>())
}

pub(crate) fn get(reading: &Reading, address: &str, later: Duration) -> Answer {
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    let view = View::of(reading, read_at() + later);
    answer(&view, path, &Query::parse(query))
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.clone()).expect("pages are UTF-8")
}

/// A page, one element a line.
fn lines(reading: &Reading, address: &str) -> String {
    text(&get(reading, address, Duration::ZERO)).replace("><", ">\n<")
}

pub(crate) fn every_page_is_small_and_has_no_inline_style_or_script() {
    for nodes in SIZES {
        for failing in [2, nodes] {
            let reading = Cluster::of(nodes).with_failing(failing).reading();
            for address in addresses(&reading) {
                let page = text(&get(&reading, &address, Duration::ZERO));
                let length = page.len();
                assert!(length < LARGEST, "{nodes} nodes, {address}: {length} bytes");
                for inline in ["style=", "<style", "<script>", " onclick"] {
                    assert!(!page.contains(inline), "{nodes} nodes, {address}: {inline}");
                }
            }
        }
    }
}

pub(crate) fn the_overview_reads_like_this() {
    assert_snapshot!("page_of_2_nodes", lines(&Cluster::of(2).reading(), "/"));
    assert_snapshot!("page_of_no_node", lines(&Cluster::of(0).reading(), "/"));
}

pub(crate) fn one_sentence_says_how_everything_is() {
    let sentence = |cluster: Cluster, later| {
        let reading = cluster.reading();
        let summary = get(&reading, "/api/v1/summary.json", later);
        let summary: serde_json::Value = serde_json::from_slice(&summary.body).expect("it is JSON");
        let word = |name: &str| summary[name].as_str().expect("it is a word").to_owned();
        (word("health"), word("sentence"))
    };
    let expected = |health: &str, sentence: &str| (health.to_owned(), sentence.to_owned());
    assert_eq!(
        sentence(Cluster::of(2).with_failing(0), Duration::ZERO),
        expected("working", "Both nodes work")
    );
    assert_eq!(
        sentence(Cluster::of(5_000), Duration::ZERO),
        expected(
            "failing",
            "2 of 5,000 nodes fail: bridge-netfilter-off on ip-10-0-0.eu-central-1.compute.internal (proven, 4 min), \
             and 1 more outage"
        )
    );
    assert_eq!(
        sentence(Cluster::of(50).with_failing(0), Duration::ZERO),
        expected(
            "working",
            "47 of 50 nodes work, 1 alert, 1 start, 1 are not measured"
        )
    );
    // No data is not healthy.
    assert_eq!(sentence(Cluster::of(2).with_failing(0), STALE).0, "unknown");
    assert_eq!(
        sentence(Cluster::of(0), Duration::ZERO),
        expected(
            "unknown",
            "Nothing is measured: agents probe on 0 of 0 nodes"
        )
    );
}

pub(crate) fn stale_data_is_grey_and_says_how_old_it_is() {
    let reading = Cluster::of(50).reading();
    let fresh = text(&get(&reading, "/", Duration::ZERO));
    let stale = text(&get(&reading, "/", STALE));
    assert!(!fresh.contains("class=\"stale\""));
    assert!(stale.contains("class=\"stale\"") && stale.contains("The data is 5 min old"));
    assert!(stale.contains("? UNKNOWN"));
}

pub(crate) fn names_are_escaped_bounded_and_found() {
    let hostile = Cluster {
        name: |node| format!("<img src=x onerror=alert({node})>\"'&?#{}", "x".repeat(200)),
        ..Cluster::of(3)
    };
    let reading = hostile.reading();
    for address in addresses(&reading) {
        let page = text(&get(&reading, &address, Duration::ZERO));
        assert!(!page.contains("<img"), "{address}");
        if address.starts_with("/node?") || address.starts_with("/nodes?q") {
            assert_eq!(
                get(&reading, &address, Duration::ZERO).status,
                200,
                "{address}"
            );
        }
    }
}

pub(crate) fn a_grid_of_many_nodes_names_those_that_do_not_work() {
    let reading = Cluster::of(5_000).reading();
    let page = text(&get(&reading, "/", Duration::ZERO));
    assert_eq!(page.matches("<b></b>").count(), 4_623);
    // The property in which the failing nodes differ from the others comes first, and their group in it.
    let spot = page
        .find("node pool spot: 2 of 715 fail")
        .expect("the worst group");
    let general = page.find("node pool general").expect("the other group");
    assert!(spot < general);
    let missing = get(&reading, "/node?name=nothing", Duration::ZERO);
    assert_eq!(missing.status, 404);
}

pub(crate) fn an_outage_shows_both_ends_and_its_report() {
    let reading = Cluster::of(2).reading();
    let page = text(&get(
        &reading,
        "/outage?id=0000000000000000",
        Duration::ZERO,
    ));
    for part in [
        "Evidence",
        "Ruled out",
        "To confirm",
        "Remedy",
        "<svg class=\"packets\"",
        "kubectl prober run --node",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let report = get(
        &reading,
        "/api/v1/report.json?outage=0000000000000000",
        Duration::ZERO,
    );
    assert!(prober_core::report::Report::parse(&report.body).is_ok());
    let none = get(
        &reading,
        "/api/v1/report.json?outage=ended-0",
        Duration::ZERO,
    );
    assert_eq!(none.status, 404);
}

pub(crate) fn an_outage_is_shown_with_the_report_in_which_it_was_found() {
    let check = serde_json::json!({
        "apiVersion": "prober.dev/v1beta1", "kind": "ConnectivityCheck",
        "metadata": {"name": "default", "uid": "1"}, "spec": {}
    });
    let mut check = CheckState::new(&serde_json::from_value(check).expect("it is a check"));
    let inventory = Inventory::default();
    let report = Arc::new(broken(&Network::of(2)));
    let now = Moment {
        wall: read_at(),
        steady: read_at(),
    };
    check.observe("default", &inventory, &mut BTreeMap::new(), now);
    for _ in 0..3 {
        let mut result = RoundResult::from_report(&report);
        result.examined = [NodeName::new("node-1"), NodeName::new("node-2")].into();
        check.end_examination(result, now);
    }
    let mut reports = FailureReports::default();
    reports.keep("default", &report, check.health().open());
    let sources = Sources {
        identity: "prober-controller-0_1",
        leads: true,
        inventory: &inventory,
        slots: (2, 1),
        now: read_at(),
    };
    let page = snapshot(sources, [("default", &check)], &mut reports);
    let found = page
        .outages
        .iter()
        .find(|outage| outage.cause == "bridge-netfilter-off");
    let found = found.expect("the founding fault is an outage");
    let kept = found.report.as_ref().expect("its report is kept");
    assert!(Arc::ptr_eq(&kept.report, &report) && kept.diagnosis == 0);
    // It goes when the outage is forgotten.
    snapshot(sources, [], &mut reports);
    assert!(reports.get(&found.id).is_none());
}
