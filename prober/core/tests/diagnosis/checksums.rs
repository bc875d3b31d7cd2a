//! Packets that get to another node with a wrong TCP checksum.

use prober_core::diagnosis::catalogue::Cause;
use prober_core::diagnosis::diagnose;
use prober_core::packet::family::Family;
use prober_core::packet::observation::{Direction, Observation};
use prober_core::packet::{Body, Checksum};
use prober_core::probe::event::TtlStepAnswer;
use prober_core::probe::outcome::{EngineKind, Outcome};
use prober_core::topology::{AccessPath, Path};

use super::builder::{Cluster, SILENT, Story, client, server, vtep};
use super::named;

fn across(from: u8, to: u8) -> impl Fn(&Path) -> bool + Copy {
    move |path: &Path| path.client == client(from) && path.server == Some(server(to))
}

/// Gives the segments of a direction this checksum.
fn with_checksum(packets: &mut [Observation], direction: Direction, checksum: Checksum) {
    for seen in packets {
        if let Body::Tcp(_, tcp) = &mut seen.packet.body
            && seen.direction == direction
        {
            tcp.checksum = checksum;
        }
    }
}

/// SYNs of node-1 arrive in the server of node-2 with this checksum, and have no answer.
fn ignored(checksum: Checksum) -> Cluster {
    let mut cluster = Cluster::new(2).with_story(across(1, 2), Story::SynIgnored);
    for path in cluster.matrix.paths.values_mut() {
        if !across(1, 2)(&path.path) {
            continue;
        }
        for probe in &mut path.probes {
            let server = probe.server.as_mut().unwrap();
            with_checksum(&mut server.observations, Direction::Received, checksum);
        }
    }
    cluster
}

/// Answers of node-1 arrive in the client of node-2 with a wrong checksum.
fn answers_broken(cluster: Cluster, story: Story) -> Cluster {
    let mut cluster = cluster.with_story(across(2, 1), story);
    for path in cluster.matrix.paths.values_mut() {
        if !across(2, 1)(&path.path) {
            continue;
        }
        for probe in &mut path.probes {
            let observations = &mut probe.client.observations;
            if story == Story::ReplyLost {
                let sent = &probe.server.as_ref().unwrap().observations;
                observations.extend(
                    sent.iter()
                        .filter(|seen| seen.direction == Direction::Sent)
                        .map(|seen| Observation {
                            direction: Direction::Received,
                            ..*seen
                        }),
                );
            }
            with_checksum(observations, Direction::Received, Checksum::Invalid);
            probe.client.outcome = Outcome::Timeout;
        }
    }
    cluster
}

#[test]
fn syns_and_answers_that_arrive_with_a_wrong_checksum_prove_it() {
    let cluster = answers_broken(ignored(Checksum::Invalid), Story::ReplyLost).agent_grows(
        &server(2),
        "TcpInCsumErrors",
        9,
    );
    let found = diagnose(&cluster.matrix);
    assert_eq!(named(&cluster.matrix), ["bad-checksum node-1 proven"]);
    let evidence = found[0].evidence.join("\n");
    for said in [
        "SYNs of node-1-client arrive in node-2-server with a wrong TCP checksum",
        "SYN+ACKs of node-1-server arrive in node-2-client with a wrong TCP checksum",
        "node-2-server counted TcpInCsumErrors +9",
    ] {
        assert!(evidence.contains(said), "{evidence}");
    }
    let remedy = &found[0].remedy[0].commands;
    assert_eq!(*remedy, ["ethtool -K flannel.1 tx-checksum-ip-generic off"]);
}

#[test]
fn a_checksum_that_is_right_or_not_complete_yet_is_no_wrong_one() {
    for checksum in [Checksum::Valid, Checksum::Unknown] {
        let verdicts = named(&ignored(checksum).matrix);
        let is_named = |verdict: &String| verdict.starts_with("bad-checksum");
        assert!(!verdicts.iter().any(is_named), "{verdicts:?}");
    }
}

#[test]
fn an_answer_that_the_clients_kernel_drops_is_no_answer_from_another_address() {
    let story = Story::SynAckFromWrongSource {
        refused: false,
        hop_limit: 62,
    };
    let cluster = answers_broken(ignored(Checksum::Invalid), story);
    assert_eq!(named(&cluster.matrix), ["bad-checksum node-1 proven"]);
}

/// SYNs of node-1 are lost on node-2, behind its router; the SYN of each TTL probe of these paths that node-2 answers has this
/// checksum in the answer.
fn quoted(on: impl Fn(&Path) -> bool, checksum: Checksum) -> Cluster {
    let by_node_2 = TtlStepAnswer::TimeExceeded {
        by: vtep(2, Family::Ipv4),
        hop_limit: 63,
    };
    let mut cluster = Cluster::new(2)
        .with_story(across(1, 2), Story::Nothing)
        .ttl_probe(&on, [SILENT, by_node_2, SILENT, SILENT])
        .tracks(1, across(1, 2), "SYN_SENT");
    for path in cluster.matrix.paths.values_mut() {
        if let Some(probe) = path.ttl_probe.as_mut().filter(|_| on(&path.path)) {
            probe.steps[1].checksum = checksum;
        }
    }
    cluster
}

#[test]
fn the_other_nodes_router_shows_what_it_routes() {
    let to_pod = |path: &Path| across(1, 2)(path) && path.access_path == AccessPath::PodIp;
    let broken = quoted(to_pod, Checksum::Invalid);
    assert_eq!(named(&broken.matrix), ["bad-checksum node-1 proven"]);
    // Netfilter rewrites what an error for a Service's address quotes.
    let to_service = |path: &Path| across(1, 2)(path) && path.access_path == AccessPath::ClusterIp;
    for right in [
        quoted(to_pod, Checksum::Valid),
        quoted(to_service, Checksum::Invalid),
    ] {
        let verdicts = named(&right.matrix);
        let is_named = |verdict: &String| verdict.starts_with("bad-checksum");
        assert!(!verdicts.iter().any(is_named), "{verdicts:?}");
    }
}

#[test]
fn no_chain_drops_connect_and_passes_crafted_syns() {
    let lost = || {
        let cluster = Cluster::new(2).with_story(across(1, 2), Story::Nothing);
        cluster.tracks(1, across(1, 2), "SYN_SENT")
    };
    let verdicts = named(&lost().matrix);
    assert!(
        !verdicts.contains(&"bad-checksum node-1 consistent".to_owned()),
        "{verdicts:?}"
    );
    let mut half = lost();
    for path in half.matrix.paths.values_mut() {
        if across(1, 2)(&path.path) {
            let crafted = path.tallies.entry(EngineKind::Raw).or_default();
            crafted.outcomes.established = 20;
            crafted.first_syn_success = 20;
        }
    }
    let found = diagnose(&half.matrix);
    assert_eq!(named(&half.matrix), ["bad-checksum node-1 consistent"]);
    let excluded = |cause| found[0].excluded.iter().any(|one| one.cause == cause);
    assert!(excluded(Cause::ForwardDrop), "{:?}", found[0].excluded);
}
