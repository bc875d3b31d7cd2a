//! The kinds of captures again, as they are seen from another end, through a filter, in another family, or twice.

use std::fmt::Write as _;

use super::kinds::said;
use super::*;

/// The first diagnosis is this one, and one of its sentences has these words.
#[track_caller]
fn is(replay: &Replay, cause: &str, words: &str) {
    let said = said(replay);
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0].0, cause, "{said:?}");
    let evidence = &replay.diagnoses[0].evidence;
    assert!(
        evidence.iter().any(|sentence| sentence.contains(words)),
        "{evidence:?}"
    );
}

#[track_caller]
fn is_healthy(replay: &Replay) {
    assert!(replay.diagnoses.is_empty(), "{:?}", said(replay));
    assert!(!replay.matrix.paths.is_empty(), "{:?}", replay.notes);
}

#[test]
fn the_share_that_is_lost_counts_every_connection() {
    let mut text = String::new();
    for number in 0..100 {
        let (at, port, seq) = (number * 3_000, 41_000 + number, 1_000 * (number + 1));
        let c = format!("10.0.1.5:{port}");
        let mut answered = at;
        writeln!(text, "{at} > {c} > 10.96.0.10:443 [S] seq {seq} ttl 64").unwrap();
        if number % 5 == 0 {
            answered += 1_000;
            writeln!(
                text,
                "{answered} > {c} > 10.96.0.10:443 [S] seq {seq} ttl 64"
            )
            .unwrap();
        }
        writeln!(
            text,
            "{answered}.5 < 10.96.0.10:443 > {c} [S.] seq 9 ack {} ttl 62",
            seq + 1
        )
        .unwrap();
    }
    let replay = replayed(&[&format!("{text}400000 > 10.0.0.1:9 > 10.0.0.2:9 [R] seq 1")]);
    is(&replay, "packet-loss", "20 of 100 first SYNs");
    assert_eq!(
        replay.notes[0],
        "20 connections from 10.0.1.5 to 10.96.0.10:443 were established late, the latest by SYN 2 after 1.0 s"
    );
}

#[test]
fn files_of_two_machines_in_one_file_are_two_views_whatever_their_clocks() {
    let one = "
        0 > 10.0.1.5:40001 > 10.0.2.9:80 [S] seq 1000 win 64240 options mss=1460,sackOK,TS=7/0,wscale=7 ttl 64 id 5
        1 < 10.0.2.9:80 > 10.0.1.5:40001 [S.] seq 5000 ack 1001 win 65160 ttl 62
        1.1 > 10.0.1.5:40001 > 10.0.2.9:80 [.] seq 1001 ack 5001 win 502 ttl 64 id 6
    ";
    for ahead in ["500", "5000"] {
        let replay = replayed(&[&format!(
            "{one}
             {ahead}.2 > 10.0.1.5:40001 > 10.0.2.9:80 [S] seq 1000 win 64240 options mss=1460,sackOK,TS=7/0,wscale=7 ttl 62 id 5
             {ahead}.4 < 10.0.2.9:80 > 10.0.1.5:40001 [S.] seq 5000 ack 1001 win 65160 ttl 64
             {ahead}.9 > 10.0.1.5:40001 > 10.0.2.9:80 [.] seq 1001 ack 5001 win 502 ttl 62 id 6
             {LATER}"
        )]);
        is_healthy(&replay);
        assert!(replay.notes.is_empty(), "{:?}", replay.notes);
    }
}

#[test]
fn a_filter_that_leaves_out_every_answer_is_no_silence() {
    let mut text = String::new();
    for number in 0..20 {
        writeln!(
            text,
            "{}000 > 10.0.1.5:{} > 10.96.0.{}:443 [S] seq {} ttl 64",
            number,
            41_000 + number,
            10 + number % 5,
            1_000 * (number + 1)
        )
        .unwrap();
    }
    let filtered = replayed(&[&format!(
        "{text}90000 > 10.0.1.5:49999 > 10.96.0.99:443 [S] seq 7 ttl 64"
    )]);
    is(&filtered, "unknown", "its filter may leave out the answers");
    assert!(
        filtered.diagnoses[0].would_decide[0].contains("both directions"),
        "{:?}",
        filtered.diagnoses[0].would_decide
    );
    // A client that repeats its SYN had no answer, whatever the filter leaves out.
    let repeated = replayed(&[&format!(
        "{text}
         30000 > 10.0.1.5:42000 > 10.96.0.77:443 [S] seq 70 ttl 64
         31000 > 10.0.1.5:42000 > 10.96.0.77:443 [S] seq 70 ttl 64
         33000 > 10.0.1.5:42000 > 10.96.0.77:443 [S] seq 70 ttl 64
         90000 > 10.0.1.5:49999 > 10.96.0.99:443 [S] seq 7 ttl 64"
    )]);
    is(
        &repeated,
        "unknown",
        "10.96.0.77:443 has no answer to 3 SYNs",
    );
    assert!(
        repeated
            .notes
            .iter()
            .any(|note| note.contains("files without any packet to a client: 20")),
        "{:?}",
        repeated.notes
    );
    // One answer of any server shows that the file has both directions.
    let whole = replayed(&[&format!(
        "{text}
         30000 > 10.0.1.5:42000 > 10.96.0.77:443 [S] seq 70 ttl 64
         30000.5 < 10.96.0.77:443 > 10.0.1.5:42000 [S.] seq 9 ack 71 ttl 62{LATER}"
    )]);
    is(&whole, "unknown", "have no answer to 1 SYN");
}

#[test]
fn a_translation_between_families_is_one_connection() {
    let syns: String = [0, 1_000, 3_000, 7_000]
        .map(|at| {
            format!(
                "{at} > [fd00::5]:40001 > [64:ff9b::a60:a]:443 [S] seq 42 win 64240 options mss=1460,TS={at}/0 ttl 64
                 {at}.01 > 192.0.2.1:50123 > 10.96.0.10:443 [S] seq 42 win 64240 options mss=1440,TS={at}/0 ttl 63 id {}
                ",
                at + 1
            )
        })
        .concat();
    let silent = replayed(&[&format!("{syns}{LATER}")]);
    is(
        &silent,
        "unknown",
        "from fd00::5 to [64:ff9b::a60:a]:443 has no answer to 4 SYNs",
    );
    assert_eq!(silent.matrix.paths.len(), 1);
}

#[test]
fn acks_that_reach_the_server_and_do_not_end_its_syn_acks_are_as_of_a_full_accept_queue() {
    let mut text =
        "0 < 10.0.1.5:40001 > 10.0.2.9:80 [S] seq 1000 win 64240 ttl 62 id 1\n".to_owned();
    for (id, at) in [(2, 1), (3, 1_001), (4, 3_001), (5, 7_001)] {
        writeln!(
            text,
            "{at} > 10.0.2.9:80 > 10.0.1.5:40001 [S.] seq 5000 ack 1001 win 65160 ttl 64
             {at}.5 < 10.0.1.5:40001 > 10.0.2.9:80 [.] seq 1001 ack 5001 win 502 ttl 62 id {id}"
        )
        .unwrap();
    }
    let replay = replayed(&[&format!("{text}{LATER}")]);
    is(&replay, "accept-queue-full", "ACKs arrive at its host");
}

#[test]
fn a_reset_after_payload_is_not_said_to_follow_the_handshake() {
    let replay = replayed(&[&format!(
        "0 > 10.0.1.5:40001 > 10.96.0.10:443 [S] seq 1000 win 64240 ttl 64 id 1
         1 < 10.96.0.10:443 > 10.0.1.5:40001 [S.] seq 5000 ack 1001 win 65160 ttl 62
         1.1 > 10.0.1.5:40001 > 10.96.0.10:443 [.] seq 1001 ack 5001 win 502 ttl 64 id 2
         2 < 10.96.0.10:443 > 10.0.1.5:40001 [P.] seq 5001 ack 1001 win 502 length 100 ttl 62 id 3
         2.1 > 10.0.1.5:40001 > 10.96.0.10:443 [.] seq 1001 ack 5101 win 502 ttl 64 id 4
         9 < 10.96.0.10:443 > 10.0.1.5:40001 [R] seq 5101 win 0 ttl 51{LATER}"
    )]);
    is(
        &replay,
        "unknown",
        "is reset in the middle of the connection",
    );
}

#[test]
fn without_a_route_to_it_an_address_beyond_the_pods_is_as_a_service_without_endpoints() {
    let refused = |by: &str, target: &str| {
        replayed(&[&format!(
            "0 > [fd00:96:1::10]:40001 > [{target}]:80 [S] seq 5 ttl 64
             0.1 < ICMP net unreachable from {by} to fd00:96:1::10 ttl 64, quotes [fd00:96:1::10]:40001 > [{target}]:80 seq 5 ttl 64
             {LATER}"
        )])
    };
    let of_service = refused("fd00:96:1::1", "fd00:67::141");
    is(
        &of_service,
        "no-endpoints",
        "network unreachable of fd00:96:1::1",
    );
    let decides = &of_service.diagnoses[0].would_decide;
    assert!(
        decides
            .iter()
            .any(|one| one.contains("ip -6 route get fd00:67::141")),
        "{decides:?}"
    );
    is(
        &refused("fd00:96:1::1", "fd00:96:1:7::9"),
        "unknown",
        "network unreachable",
    );
    is(
        &refused("fd00:99::1", "fd00:67::141"),
        "unknown",
        "network unreachable",
    );
}

#[test]
fn one_direction_of_a_connection_that_goes_on_is_enough_to_see_that_it_works() {
    let replay = replayed(&[&format!(
        "0 > 10.0.1.5:40001 > 10.96.0.10:443 [P.] seq 1001 ack 5001 win 502 length 100 ttl 64 id 2
         10 > 10.0.1.5:40001 > 10.96.0.10:443 [.] seq 1101 ack 6449 win 502 ttl 64 id 3
         11 > 10.0.1.5:40001 > 10.96.0.10:443 [.] seq 1101 ack 7897 win 502 ttl 64 id 4
         {LATER}"
    )]);
    is_healthy(&replay);
    let total = replay.matrix.paths.values().next().unwrap().total();
    assert_eq!(total.outcomes.established, 1);
    assert_eq!(total.rtt.count(), 0, "no handshake, no round trip");
}

#[test]
fn requests_for_an_address_alone_are_a_note() {
    let replay = replayed(&["
        0 ~ ARP who-has 10.0.1.77 tell 10.0.1.5 at 02:00:00:00:00:05 smac 02:00:00:00:00:05 dmac ff:ff:ff:ff:ff:ff
        1000 ~ ARP who-has 10.0.1.77 tell 10.0.1.5 at 02:00:00:00:00:05 smac 02:00:00:00:00:05 dmac ff:ff:ff:ff:ff:ff
        2000 ~ ARP who-has 10.0.1.77 tell 10.0.1.5 at 02:00:00:00:00:05 smac 02:00:00:00:00:05 dmac ff:ff:ff:ff:ff:ff
    "]);
    assert!(replay.diagnoses.is_empty());
    assert!(
        replay.notes[0].starts_with("10.0.1.77 was requested 3 times"),
        "{:?}",
        replay.notes
    );
}

#[test]
fn resets_alone_are_a_note() {
    let replay = replayed(&["
        0 < 10.96.0.10:443 > 10.0.1.5:40001 [R.] seq 0 ack 1001 win 0 ttl 62
        9000 < 10.96.0.10:443 > 10.0.1.5:40002 [R.] seq 0 ack 2001 win 0 ttl 62
    "]);
    assert!(replay.diagnoses.is_empty() && replay.matrix.paths.is_empty());
    assert!(replay.notes[0].starts_with("2 RSTs"), "{:?}", replay.notes);
}

#[test]
fn what_leaves_the_same_packets_is_ranked_by_how_far_they_got() {
    let syns = |direction: &str, ttl: u8| -> String {
        ["0", "1000", "3000", "7000"]
            .map(|at| format!("{at} {direction} 10.0.1.5:40001 > 10.0.2.9:80 [S] seq 1000 win 64240 ttl {ttl}\n"))
            .concat()
    };
    let candidates = |replay: &Replay| {
        let decides = &replay.diagnoses[0].would_decide;
        let ranked = decides
            .iter()
            .find(|one| one.contains("the most common first"));
        ranked.expect("candidates").clone()
    };
    let client = replayed(&[&syns(">", 64)]);
    assert!(candidates(&client).contains("first: network-policy, forward-drop"));
    let both = replayed(&[&syns(">", 64), &syns("<", 62)]);
    assert!(candidates(&both).contains("first: network-policy, accept-queue-full"));
}

#[test]
fn an_icmp_message_that_refuses_nothing_is_evidence_beside_the_silence() {
    let replay = replayed(&["
        0 > 10.0.1.5:40001 > 10.96.0.9:80 [S] seq 5 ttl 64
        0.2 < ICMP time exceeded (11/0) from 192.0.2.9 to 10.0.1.5 ttl 60, quotes 10.0.1.5:40001 > 10.96.0.9:80 seq 5 ttl 1
        1000 > 10.0.1.5:40001 > 10.96.0.9:80 [S] seq 5 ttl 64
        3000 > 10.0.1.5:40001 > 10.96.0.9:80 [S] seq 5 ttl 64
    "]);
    is(
        &replay,
        "unknown",
        "192.0.2.9 reports that a SYN had passed too many routers",
    );
}

#[test]
fn a_stall_after_full_size_segments_had_arrived_is_no_matter_of_size() {
    let mut text = "
        0 > 10.0.1.5:40001 > 10.96.0.10:443 [S] seq 1000 win 64240 ttl 64 id 1
        1 < 10.96.0.10:443 > 10.0.1.5:40001 [S.] seq 5000 ack 1001 win 65160 ttl 62
        1.1 > 10.0.1.5:40001 > 10.96.0.10:443 [.] seq 1001 ack 5001 win 502 ttl 64 id 2
        2 > 10.0.1.5:40001 > 10.96.0.10:443 [.] seq 1001 ack 5001 win 502 length 1448 ttl 64 id 3
        3 < 10.96.0.10:443 > 10.0.1.5:40001 [.] seq 5001 ack 2449 win 502 ttl 62 id 4
    "
    .to_owned();
    for (id, at) in [(5, 100), (6, 300), (7, 700), (8, 1_500), (9, 3_100)] {
        writeln!(
            text,
            "{at} > 10.0.1.5:40001 > 10.96.0.10:443 [.] seq 2449 ack 5001 win 502 length 1448 ttl 64 id {id}"
        )
        .unwrap();
    }
    let replay = replayed(&[&format!("{text}{LATER}")]);
    is(
        &replay,
        "unknown",
        "1448 bytes of the client are sent 5 times and never acknowledged",
    );
    let said = &replay.diagnoses[0].evidence[0];
    assert!(!said.contains("small segments"), "{said}");
}

#[test]
fn captures_on_the_way_show_between_which_places_the_answers_are_lost() {
    let seen = |is_answered: bool, ttl: u8, direction: [&str; 2]| -> String {
        [0, 1_000, 3_000]
            .map(|at| {
                let answer = format!(
                    "{at}.5 {} 10.0.2.9:80 > 10.0.1.5:40001 [S.] seq 9 ack 1001 win 65160 ttl {}\n",
                    direction[1],
                    126 - ttl
                );
                format!(
                    "{at} {} 10.0.1.5:40001 > 10.0.2.9:80 [S] seq 1000 win 64240 ttl {ttl}\n{}",
                    direction[0],
                    if is_answered { &answer } else { "" }
                )
            })
            .concat()
    };
    let replay = replayed(&[
        &seen(true, 62, ["<", ">"]),
        &seen(false, 64, [">", "<"]),
        &seen(false, 63, ["~", "~"]),
    ]);
    is(
        &replay,
        "forward-drop",
        "SYNs and answers, from the client to the server: the client's end 3 and 0, on the way 3 and 0, the server's end 3 and 3",
    );
    assert_eq!(replay.vantages.len(), 3);
    assert_eq!(replay.connections.listed[0].captured.len(), 3);
}
