//! Faults of the backend itself.

use prober_core::diagnosis::{PathSegment, diagnose};
use prober_core::evidence::Source;
use prober_core::packet::mac::Mac;
use prober_core::topology::{AccessPath, Path};

use super::builder::{Cluster, Story, client, node, server};
use super::named;

fn to(n: u8) -> impl Fn(&Path) -> bool + Copy {
    move |path: &Path| path.server == Some(server(n))
}

const REFUSES: Story = Story::Reset {
    hop_limit: 64,
    mac: None,
    sent: true,
};

#[test]
fn a_closed_port_is_named_by_the_servers_own_end() {
    let cluster = Cluster::new(2)
        .with_story(to(1), REFUSES)
        .with_balanced_story(|_| true, &server(1), REFUSES);
    assert_eq!(named(&cluster.matrix), ["not-listening node-1 proven"]);
}

#[test]
fn one_bad_endpoint_of_ten_behind_a_balanced_port_is_pinned() {
    for (story, cause) in [
        (REFUSES, "not-listening"),
        (Story::NoData { completed: true }, "endpoint-frozen"),
        (
            Story::SynAckFromWrongSource {
                refused: true,
                hop_limit: 64,
            },
            "bridge-netfilter-off",
        ),
    ] {
        let mut cluster = Cluster::new(10).with_balanced_story(
            |path| path.client == client(7),
            &server(7),
            story,
        );
        // Only the balanced port was probed.
        cluster
            .matrix
            .paths
            .retain(|_, path| path.path.access_path == AccessPath::ClusterIpAny);
        let cluster = cluster.without_facts();
        let found = diagnose(&cluster.matrix);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].cause.unwrap().slug(), cause);
        assert_eq!(found[0].node, Some(node(7)));
    }
}

#[test]
fn a_silent_endpoint_of_ten_is_the_one_that_no_probe_reached() {
    let mut cluster = Cluster::new(10).with_balanced_story(|_| true, &server(7), Story::SynIgnored);
    cluster = cluster.agent_grows(&server(7), "TcpExtListenOverflows", 5);
    assert_eq!(named(&cluster.matrix)[0], "accept-queue-full node-7 proven");
}

#[test]
fn a_full_accept_queue_is_proven_by_its_counter() {
    let broken = Cluster::new(2)
        .with_story(to(1), Story::SynIgnored)
        .with_balanced_story(|_| true, &server(1), Story::SynIgnored);
    assert_eq!(
        named(&broken.matrix),
        ["accept-queue-full node-1 consistent"]
    );
    let cluster = broken.agent_grows(&server(1), "TcpExtListenOverflows", 20);
    assert_eq!(named(&cluster.matrix), ["accept-queue-full node-1 proven"]);
}

#[test]
fn a_stopped_process_completes_handshakes_and_sends_nothing() {
    let story = Story::NoData { completed: true };
    let cluster = Cluster::new(2)
        .with_story(to(1), story)
        .with_balanced_story(|_| true, &server(1), story);
    assert_eq!(named(&cluster.matrix), ["endpoint-frozen node-1 proven"]);
    // The agent in that pod is stopped as well, so its end has no report.
    let mut without_report = cluster;
    for path in without_report.matrix.paths.values_mut() {
        path.probes
            .retain(|probe| probe.client.src.ip().to_string() != "100.96.1.20");
        for probe in &mut path.probes {
            if probe.server_agent == Some(server(1)) {
                probe.server = None;
                probe.server_agent = None;
            }
        }
    }
    without_report
        .matrix
        .agents
        .get_mut(&server(1))
        .unwrap()
        .has_reported = false;
    let hairpin = |path: &Path| path.access_path == AccessPath::Hairpin && path.client == server(1);
    for path in without_report
        .matrix
        .paths
        .values_mut()
        .filter(|path| hairpin(&path.path))
    {
        path.tallies.clear();
    }
    assert_eq!(
        named(&without_report.matrix),
        ["endpoint-frozen node-1 proven"]
    );
}

#[test]
fn another_host_that_refuses_has_the_servers_address() {
    let other_host = Story::Reset {
        hop_limit: 64,
        mac: Some(Mac([0x0a, 0x58, 0xde, 0xad, 1, 1])),
        sent: false,
    };
    let mut cluster = Cluster::new(2)
        .with_story(
            |path| to(1)(path) && path.client.node == node(1),
            other_host,
        )
        .with_story(
            |path| to(1)(path) && path.client.node == node(2),
            Story::Reset {
                hop_limit: 62,
                mac: None,
                sent: false,
            },
        );
    // The pod's own address is known from an earlier packet.
    cluster = cluster.with_story(
        |path| path.access_path == AccessPath::Hairpin && path.client == server(1),
        Story::Healthy,
    );
    assert_eq!(named(&cluster.matrix), ["duplicate-ip node-1 proven"]);
    let found = diagnose(&cluster.matrix);
    assert_eq!(found[0].segment, PathSegment::Pod { pod: server(1) });
}

#[test]
fn rsts_that_the_client_never_sent_show_another_pod_with_its_address() {
    let cluster = Cluster::new(2).with_story(
        |path| path.client == client(1) && path.server.is_some(),
        Story::ClientAddressTaken,
    );
    assert_eq!(named(&cluster.matrix), ["duplicate-ip node-1 proven"]);
}

#[test]
fn from_one_host_alone_a_refusal_is_only_consistent_with_a_closed_port() {
    let mut cluster = Cluster::new(1).with_story(to(1), REFUSES).without_facts();
    cluster.matrix.source = Source::Host;
    cluster.matrix.agents.clear();
    cluster
        .matrix
        .paths
        .retain(|_, path| path.path.access_path == AccessPath::PodIp);
    for path in cluster.matrix.paths.values_mut() {
        path.path.server = None;
        path.backends.clear();
        for probe in &mut path.probes {
            probe.server = None;
            probe.server_agent = None;
        }
    }
    assert_eq!(named(&cluster.matrix), ["not-listening - consistent"]);
}
