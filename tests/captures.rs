//! The captures of `captures/` match the packet texts of `packet_texts/`, and replay to the right causes.
//!
//! A case is a folder of `packet_texts/` with one file for each observer. `PROBER_REGENERATE=1` writes the captures again.

#![expect(clippy::expect_used, reason = "a test that cannot look fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use prober_core::diagnosis::catalogue::Cause;
use prober_core::diagnosis::{Confidence, Diagnosis};
use prober_core::packet::capture::{CommentedPacket, InterfacePackets, read, write_pcapng};
use prober_core::packet::observation::Observation;
use prober_core::packet::text::{PacketText, parse_packet_text};
use prober_core::probe::outcome::Outcome;
use prober_core::replay::{Replay, replay, replay_files};
use prober_core::time::Timestamp;
use prober_core::topology::AccessPath;
use prober_lab::fault::Fault;

/// 2026-01-01 00:00:00 UTC.
const START: Timestamp = Timestamp::from_nanos(1_767_225_600_000_000_000);

/// How far the clock of each further observer is ahead: no cause may depend on it.
const SKEW: Duration = Duration::from_millis(3_700);

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder)
        .expect("list a folder of the tests")
        .map(|entry| entry.expect("an entry of that folder").path())
        .collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> String {
    path.file_stem()
        .expect("a file has a name")
        .to_string_lossy()
        .into_owned()
}

/// The packet text of one observer: its interface, its packets, and the comments at the ends of lines.
struct ObserverPackets {
    interface: String,
    observations: Vec<Observation>,
    comments: Vec<String>,
}

fn read_packet_text(path: &Path, skew: Duration) -> ObserverPackets {
    let text = fs::read_to_string(path).expect("read a packet text");
    let mut observations = parse_packet_text(&text).expect("the packet text is well-formed");
    for observation in &mut observations {
        let since_start = observation.at.since(Timestamp::default());
        observation.at = START + skew + since_start;
    }
    let packets = text.lines().filter(|line| {
        line.trim_start()
            .starts_with(|first: char| first.is_ascii_digit())
    });
    let comments = packets
        .map(|line| {
            line.split_once('#')
                .map_or("", |(_, comment)| comment.trim())
                .to_owned()
        })
        .collect();
    let (_, interface) = text
        .split_once("interface: ")
        .expect("the packet text names its interface");
    ObserverPackets {
        interface: interface.lines().next().unwrap_or_default().to_owned(),
        observations,
        comments,
    }
}

fn observers(case: &Path) -> Vec<ObserverPackets> {
    (0..)
        .zip(sorted(case))
        .map(|(number, path)| read_packet_text(&path, SKEW * number))
        .collect()
}

fn written(observers: &[ObserverPackets]) -> Vec<u8> {
    let observers: Vec<InterfacePackets<'_>> = observers
        .iter()
        .map(|read_packet_text| InterfacePackets {
            interface: read_packet_text.interface.clone(),
            packets: read_packet_text
                .observations
                .iter()
                .zip(&read_packet_text.comments)
                .map(|(observation, comment)| CommentedPacket {
                    observation,
                    comment: comment.into(),
                })
                .collect(),
        })
        .collect();
    write_pcapng(&observers).expect("every packet of a text can be written")
}

fn case(name: &str) -> Replay {
    let bytes =
        fs::read(folder("captures").join(format!("{name}.pcapng"))).expect("read a capture");
    replay_files(&[&bytes]).expect("the capture is one")
}

fn causes(replay: &Replay) -> Vec<(String, Confidence)> {
    (replay.diagnoses.iter())
        .map(
            |Diagnosis {
                 cause, confidence, ..
             }| {
                let slug = cause.map_or("unknown", |cause| cause.slug());
                (slug.to_owned(), *confidence)
            },
        )
        .collect()
}

#[test]
fn every_capture_matches_its_packet_texts() {
    let regenerate = std::env::var_os("PROBER_REGENERATE").is_some();
    let cases = sorted(&folder("packet_texts"));
    assert!(cases.len() >= 5, "only {} cases", cases.len());
    for case in cases {
        let path = folder("captures").join(format!("{}.pcapng", name(&case)));
        let bytes = written(&observers(&case));
        if regenerate {
            fs::write(&path, &bytes).expect("write a capture");
        }
        let kept = fs::read(&path).expect("the capture exists: PROBER_REGENERATE=1 writes it");
        assert!(
            kept == bytes,
            "{} does not match its packet texts: PROBER_REGENERATE=1 writes it again",
            path.display()
        );
    }
}

#[test]
fn every_capture_reads_back_as_its_packet_texts() {
    for case in sorted(&folder("packet_texts")) {
        let observers = observers(&case);
        let bytes = written(&observers);
        let capture = read(&bytes).expect("what was written is read");
        assert!(capture.notes.is_empty(), "{:?}", capture.notes);
        for (number, observer) in observers.iter().enumerate() {
            assert_eq!(capture.interfaces[number].name, observer.interface);
            let read: Vec<Observation> = capture
                .packets
                .iter()
                .filter(|captured| captured.interface == number)
                .map(|captured| Observation {
                    at: captured.at,
                    direction: captured.direction.expect("the writer writes directions"),
                    packet: captured.packet,
                })
                .collect();
            assert_eq!(
                PacketText(&read).to_string(),
                PacketText(&observer.observations).to_string()
            );
        }
    }
}

#[test]
fn the_founding_incident_is_named_from_the_clients_end_alone_but_not_called_proven() {
    let replay = case("founding-incident");
    assert_eq!(
        causes(&replay),
        [("bridge-netfilter-off".to_owned(), Confidence::Consistent)]
    );
    let path = replay.matrix.paths.values().next().expect("one path");
    assert_eq!(path.path.access_path, AccessPath::ClusterIp);
    assert!(matches!(
        path.probes[0].client.outcome,
        Outcome::Mismatched { from } if from.to_string() == "100.96.54.247:80"
    ));
    assert!(path.probes[0].server.is_none());
    assert!(replay.notes.is_empty(), "{:?}", replay.notes);
}

#[test]
fn its_twin_in_ipv6_is_named_alike() {
    let replay = case("founding-incident-ipv6");
    assert_eq!(
        causes(&replay),
        [("bridge-netfilter-off".to_owned(), Confidence::Consistent)]
    );
    let path = replay.matrix.paths.values().next().expect("one path");
    assert_eq!(path.path.access_path, AccessPath::ClusterIp);
    assert!(matches!(
        path.probes[0].client.outcome,
        Outcome::Mismatched { from } if from.to_string() == "[fd00:96:54::f7]:80"
    ));
}

/// The faults with a capture of a lab run in `captures/lab/`.
fn of_the_lab() -> Vec<(Fault, Replay)> {
    let faults = Fault::ALL.iter().copied();
    faults
        .filter(|fault| lab_capture(*fault).exists())
        .map(|fault| {
            let bytes = fs::read(lab_capture(fault)).expect("read a capture of the lab");
            let replay = replay_files(&[&bytes]).expect("the capture of a run is one");
            (fault, replay)
        })
        .collect()
}

fn lab_capture(fault: Fault) -> PathBuf {
    folder("captures/lab").join(format!("{}.pcapng", fault.slug()))
}

#[test]
fn every_cause_has_a_capture_of_the_lab() {
    let faults: BTreeSet<Cause> = of_the_lab()
        .iter()
        .flat_map(|(fault, _)| fault.causes())
        .copied()
        .collect();
    // Connections that the client's own kernel refuses leave no packet, and no packet shows since when a pod is ready.
    let without_packets = [Cause::ServiceRouteMissing, Cause::EndpointNotProgrammed];
    let all: BTreeSet<Cause> = (Cause::ALL.iter().copied())
        .filter(|cause| !without_packets.contains(cause))
        .collect();
    assert_eq!(faults, all);
    let files = sorted(&folder("captures/lab"))
        .iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "pcapng"))
        .count();
    assert_eq!(
        files,
        of_the_lab().len(),
        "each is named after a fault of the lab"
    );
}

#[test]
fn a_capture_names_what_packets_can_show_and_never_proves_it() {
    for (fault, replay) in of_the_lab() {
        let named = causes(&replay);
        assert!(
            named
                .iter()
                .all(|(_, sure)| *sure == Confidence::Consistent),
            "{fault}: {named:?}"
        );
        for cause in fault
            .causes()
            .iter()
            .filter(|cause| cause.shows_in_packets())
        {
            assert!(
                named.iter().any(|(name, _)| name == cause.slug()),
                "{fault}: {named:?}"
            );
        }
    }
}

#[test]
fn what_replay_says_of_the_lab_is_this() {
    let said: Vec<String> = of_the_lab()
        .iter()
        .map(|(fault, replay)| {
            let named: BTreeSet<String> =
                causes(replay).into_iter().map(|(name, _)| name).collect();
            let named = Vec::from_iter(named).join(", ");
            let named = if named.is_empty() { "nothing" } else { &named };
            format!("{fault}: {named} ({} paths)", replay.matrix.paths.len())
        })
        .collect();
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn the_founding_incident_is_one_handshake_of_both_ends_whatever_their_clocks() {
    let replay = case("founding-incident-both-ends");
    assert_eq!(
        causes(&replay),
        [("bridge-netfilter-off".to_owned(), Confidence::Consistent)]
    );
    assert_eq!(replay.matrix.paths.len(), 1);
    let path = replay.matrix.paths.values().next().expect("one path");
    assert_eq!(path.probes.len(), 1);
    let server_trace = path.probes[0]
        .server
        .as_ref()
        .expect("both ends are joined");
    assert_eq!(
        (
            server_trace.syns,
            server_trace.syn_acks,
            server_trace.resets_received
        ),
        (2, 2, 2)
    );
    assert_eq!(server_trace.local.to_string(), "100.96.54.247:80");
}

#[test]
fn two_files_say_what_one_file_with_two_interfaces_says() {
    let observers = observers(&folder("packet_texts/founding-incident-both-ends"));
    let (client, server) = observers.split_at(1);
    let (client, server) = (written(client), written(server));
    let apart = replay_files(&[&server, &client]).expect("both are captures");
    let together = case("founding-incident-both-ends");
    assert_eq!(
        format!("{:?}", apart.matrix),
        format!("{:?}", together.matrix)
    );
}

#[test]
fn the_server_end_alone_shows_what_the_client_refuses_and_names_no_cause() {
    let observers = observers(&folder("packet_texts/founding-incident-both-ends"));
    let bytes = written(&observers[1..]);
    let replay = replay_files(&[&bytes]).expect("it is a capture");
    assert_eq!(
        causes(&replay),
        [("unknown".to_owned(), Confidence::Consistent)]
    );
    let evidence = &replay.diagnoses[0].evidence;
    assert!(
        evidence[0].contains("goes back by another way than the SYN came"),
        "{evidence:?}"
    );
    assert!(
        evidence.contains(&"captured at the server's end alone".to_owned()),
        "{evidence:?}"
    );
}

#[test]
fn a_file_without_directions_is_replayed_by_its_addresses() {
    for case in sorted(&folder("packet_texts")) {
        let bytes = written(&observers(&case));
        let mut capture = read(&bytes).expect("what was written is read");
        let recorded = replay(&[capture.clone()]);
        for packet in &mut capture.packets {
            packet.direction = None;
        }
        let guessed = replay(&[capture]);
        assert_eq!(causes(&guessed), causes(&recorded), "{}", name(&case));
        assert_eq!(guessed.notes, recorded.notes, "{}", name(&case));
    }
}

#[test]
fn a_healthy_service_has_no_cause() {
    let replay = case("healthy");
    assert!(causes(&replay).is_empty());
    assert!(replay.notes.is_empty(), "{:?}", replay.notes);
    let path = replay.matrix.paths.values().next().expect("one path");
    assert_eq!(path.total().first_syn_success, 2);
}

#[test]
fn ordinary_traffic_has_no_cause_and_left_out_connections_are_noted() {
    let replay = case("ordinary-traffic");
    assert!(causes(&replay).is_empty(), "{:?}", causes(&replay));
    assert_eq!(
        replay.notes,
        [
            "connections that were unanswered when the capture ended: 1, not judged, since an answer may have come"
        ]
    );
}

#[test]
fn an_answer_that_was_routed_and_yet_untranslated_is_not_blamed_on_the_bridge() {
    let causes = causes(&case("reply-bypasses-nat"));
    assert!(!causes.is_empty());
    assert!(
        causes
            .iter()
            .all(|(slug, _)| slug != "bridge-netfilter-off"),
        "{causes:?}"
    );
}
