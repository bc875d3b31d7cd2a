//! What each kind of capture is judged as: the smallest input of a kind.

use std::fmt::Write as _;

use super::*;

/// The client's end of a connection through a router, in a file that goes on for long.
const C: &str = "10.0.1.5:40001";
const S: &str = "10.96.0.10:443";
const OUT: &str = "smac 02:00:00:00:00:05 dmac 02:00:00:00:00:01";
const IN: &str = "smac 02:00:00:00:00:01 dmac 02:00:00:00:00:05";

/// Packets of one connection as text: what the client sends, and what comes to it.
#[derive(Clone, Default)]
struct Story(String);

impl Story {
    fn sent(mut self, at_ms: f64, segment: &str) -> Self {
        writeln!(self.0, "{at_ms:.3} > {C} > {S} {segment} ttl 64 {OUT}").unwrap();
        self
    }

    fn came(mut self, at_ms: f64, segment: &str) -> Self {
        writeln!(self.0, "{at_ms:.3} < {S} > {C} {segment} ttl 62 {IN}").unwrap();
        self
    }

    fn raw(mut self, line: &str) -> Self {
        writeln!(self.0, "{line}").unwrap();
        self
    }

    fn syn(self, at_ms: f64, id: u16) -> Self {
        self.sent(
            at_ms,
            &format!("[S] seq 1000 win 64240 options mss=1460,sackOK,TS=1/0,wscale=7 id {id}"),
        )
    }

    fn handshake(self) -> Self {
        self.syn(0.0, 1)
            .came(0.8, "[S.] seq 5000 ack 1001 win 65160")
            .sent(0.9, "[.] seq 1001 ack 5001 win 502 id 2")
    }

    /// The capture goes on after this.
    fn later(self) -> Self {
        self.raw(&format!(
            "90000.000 > 10.0.1.5:9 > 10.0.1.6:9 [R] seq 1 win 0 ttl 64 {OUT}"
        ))
    }

    fn replayed(&self) -> Replay {
        replayed(&[&self.0])
    }
}

/// The causes in order, `unknown` where there is none, and the first sentence of each.
pub(super) fn said(replay: &Replay) -> Vec<(String, String)> {
    (replay.diagnoses.iter())
        .map(|diagnosis| {
            let cause = diagnosis.cause.map_or("unknown", |cause| cause.slug());
            (cause.to_owned(), diagnosis.evidence[0].clone())
        })
        .collect()
}

#[track_caller]
fn is(story: &Story, cause: &str, words: &str) {
    let replay = story.clone().later().replayed();
    let said = said(&replay);
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0].0, cause, "{said:?}");
    assert!(said[0].1.contains(words), "{said:?}");
    assert!(replay.diagnoses[0].sample.is_some());
    assert!(!replay.diagnoses[0].would_decide.is_empty());
}

#[track_caller]
fn is_healthy(story: &Story) -> Replay {
    let replay = story.clone().later().replayed();
    assert!(replay.diagnoses.is_empty(), "{:?}", said(&replay));
    assert!(!replay.matrix.paths.is_empty(), "{:?}", replay.notes);
    replay
}

#[test]
fn a_refused_connection_is_a_finding() {
    let refused = Story::default()
        .syn(0.0, 1)
        .came(0.5, "[R.] seq 0 ack 1001 win 0");
    is(&refused, "not-listening", "is refused by RST");
}

#[test]
fn a_reset_that_acknowledges_another_number_is_no_answer() {
    let mut story = Story::default();
    for (id, at) in [(1, 0.0), (2, 1_000.0), (3, 3_000.0)] {
        story = (story.syn(at, id)).came(at + 4.0, "[R.] seq 0 ack 1000 win 0");
    }
    is(&story, "unknown", "no kernel accepts such a RST");
}

#[test]
fn silence_over_repeated_syns_is_a_timeout_also_at_the_end_of_the_file() {
    let story = (Story::default().syn(0.0, 1))
        .syn(1_000.0, 2)
        .syn(3_000.0, 3);
    let replay = story.replayed();
    let said = said(&replay);
    assert_eq!(said[0].0, "unknown");
    assert!(said[0].1.contains("has no answer to 3 SYNs"), "{said:?}");
}

#[test]
fn a_file_of_one_syn_alone_is_too_short() {
    let replay = Story::default().syn(0.0, 1).replayed();
    assert!(said(&replay)[0].1.contains("too early to say"));
}

#[test]
fn a_reset_right_after_the_handshake_or_at_the_request_is_a_finding() {
    let story = Story::default()
        .handshake()
        .raw(&format!("1.500 < {S} > {C} [R] seq 5001 win 0 ttl 64 {IN}"));
    is(&story, "unknown", "reset right after the handshake");
    is(&story, "unknown", "another TTL");
    let story = Story::default()
        .handshake()
        .sent(1.0, "[P.] seq 1001 ack 5001 win 502 length 18 id 3")
        .came(1.5, "[R.] seq 5001 ack 1019 win 0");
    is(&story, "unknown", "reset right after the handshake");
}

#[test]
fn two_different_answers_to_one_syn_are_two_stacks() {
    let story = Story::default()
        .handshake()
        .sent(1.0, "[P.] seq 1001 ack 5001 win 502 length 517 id 3")
        .came(1.2, "[S.] seq 9000 ack 1001 win 65160")
        .sent(1.25, "[.] seq 1518 ack 5001 win 502 id 4");
    is(&story, "unknown", "two SYN+ACKs");
}

#[test]
fn acks_that_do_not_arrive_leave_a_connection_half_open() {
    let mut story = Story::default().syn(0.0, 1);
    for (id, at) in [(2, 0.8), (3, 1_000.0), (4, 3_000.0), (5, 7_000.0)] {
        story = story
            .came(at, "[S.] seq 5000 ack 1001 win 65160")
            .sent(at + 0.05, &format!("[.] seq 1001 ack 5001 win 502 id {id}"));
    }
    is(&story, "unknown", "its ACKs do not arrive");
}

#[test]
fn payload_that_is_sent_again_and_again_stalls() {
    let mut story = Story::default().handshake();
    for (id, at) in [(3, 1.0), (4, 201.0), (5, 601.0), (6, 1_401.0), (7, 3_001.0)] {
        story = story.sent(
            at,
            &format!("[P.] seq 1001 ack 5001 win 502 length 18 id {id}"),
        );
    }
    is(&story, "unknown", "never acknowledged");
}

#[test]
fn full_size_segments_that_alone_are_lost_are_an_mtu_black_hole() {
    let mut story = Story::default()
        .handshake()
        .sent(1.0, "[P.] seq 1001 ack 5001 win 502 length 18 id 3")
        .came(1.2, "[.] seq 5001 ack 1019 win 502");
    for (id, at) in [(4, 2.0), (5, 202.0), (6, 602.0), (7, 1_402.0), (8, 3_002.0)] {
        story = story.sent(
            at,
            &format!("[.] seq 1019 ack 5001 win 502 length 1448 id {id}"),
        );
    }
    is(&story, "mtu-black-hole", "while small segments are");
}

#[test]
fn payload_that_never_comes_is_missing() {
    let story = Story::default()
        .handshake()
        .sent(1.0, "[P.] seq 1001 ack 5001 win 502 length 18 id 3")
        .came(1.3, "[.] seq 5001 ack 1019 win 502")
        .came(2.0, "[P.] seq 7897 ack 1019 win 502 length 300")
        .sent(2.1, "[.] seq 1019 ack 5001 win 502 id 4");
    is(&story, "unknown", "2896 bytes of the server are missing");
}

#[test]
fn every_frame_twice_is_no_retransmission() {
    let once = Story::default().handshake();
    let twice: String = (once.0.lines())
        .flat_map(|line| {
            let (at, rest) = line.split_once(' ').unwrap();
            let again = at.parse::<f64>().unwrap() + 0.004;
            [line.to_owned(), format!("{again:.3} {rest}")]
        })
        .map(|line| line + "\n")
        .collect();
    let replay = is_healthy(&Story(twice));
    assert!(replay.notes.is_empty(), "{:?}", replay.notes);
}

#[test]
fn a_router_on_a_stick_shows_every_packet_before_and_after_it() {
    let story = Story::default()
        .syn(0.0, 7)
        .raw(&format!("1.500 > {C} > {S} [S] seq 1000 win 64240 options mss=1460,sackOK,TS=1/0,wscale=7 ttl 62 id 7 {OUT}"))
        .came(30.0, "[S.] seq 5000 ack 1001 win 65160")
        .sent(30.1, "[.] seq 1001 ack 5001 win 502 id 8");
    is_healthy(&story);
}

#[test]
fn one_syn_that_passes_a_link_many_times_loops() {
    let mut story = Story::default();
    for (at, ttl) in [(0.0, 63), (0.4, 61), (1.5, 33), (1.6, 31), (1.7, 29)] {
        story = story.raw(&format!(
            "{at} > {C} > {S} [S] seq 1000 win 64240 ttl {ttl} id 9 {OUT}"
        ));
    }
    is(&story, "unknown", "loops: one SYN");
}

#[test]
fn slow_and_late_answers_are_notes_and_no_fault() {
    let slow = Story::default()
        .syn(0.0, 1)
        .came(900.0, "[S.] seq 5000 ack 1001 win 65160")
        .sent(900.1, "[.] seq 1001 ack 5001 win 502 id 2");
    is_healthy(&slow);
    let mut late = Story::default();
    for (id, at) in [(1, 0.0), (2, 1_000.0), (3, 3_000.0), (4, 7_000.0)] {
        late = late.syn(at, id);
    }
    let late = late
        .came(7_000.8, "[S.] seq 5000 ack 1001 win 65160")
        .sent(7_000.9, "[.] seq 1001 ack 5001 win 502 id 5");
    let replay = is_healthy(&late);
    assert!(
        replay.notes[0].contains("was established late, by SYN 4 after 7.0 s"),
        "{:?}",
        replay.notes
    );
}

#[test]
fn an_answer_that_the_client_acknowledges_arrived_whatever_the_file_lacks() {
    let one_direction = Story::default()
        .syn(0.0, 1)
        .sent(0.9, "[.] seq 1001 ack 5001 win 502 id 2")
        .sent(1.0, "[P.] seq 1001 ack 5001 win 502 length 18 id 3")
        .sent(1.6, "[.] seq 1019 ack 5201 win 502 id 4");
    is_healthy(&one_direction);
    let with_data = Story::default()
        .sent(0.0, "[S] seq 1000 win 64240 length 5 id 1")
        .came(0.8, "[S.] seq 5000 ack 1006 win 65160")
        .sent(0.9, "[.] seq 1006 ack 5001 win 502 id 2");
    is_healthy(&with_data);
}

#[test]
fn a_port_that_the_server_still_remembers_is_no_loss() {
    let story = Story::default()
        .syn(0.0, 1)
        .came(0.8, "[.] seq 77000 ack 88000 win 502")
        .sent(0.9, "[R] seq 88000 win 0 id 2")
        .syn(1_000.0, 3)
        .came(1_000.8, "[S.] seq 5000 ack 1001 win 65160");
    is_healthy(&story);
}

#[test]
fn one_dead_server_of_two_is_no_loss() {
    let mut text = String::new();
    for number in 0..8 {
        let at = f64::from(number) * 2_000.0;
        let port = 41_000 + number;
        let seq = 1_000 * (number + 1);
        let syn = |text: &mut String, at: f64| {
            writeln!(
                text,
                "{at} > 10.0.1.5:{port} > {S} [S] seq {seq} win 64240 ttl 64 {OUT}"
            )
            .unwrap();
        };
        syn(&mut text, at);
        if number % 2 == 0 {
            writeln!(
                text,
                "{} < {S} > 10.0.1.5:{port} [S.] seq 9 ack {} win 65160 ttl 62 {IN}",
                at + 0.6,
                seq + 1
            )
            .unwrap();
        } else {
            syn(&mut text, at + 1_000.0);
            syn(&mut text, at + 3_000.0);
        }
    }
    let replay = Story(text).later().replayed();
    let said = said(&replay);
    assert_eq!(said[0].0, "unknown", "{said:?}");
    let evidence = &replay.diagnoses[0].evidence;
    assert!(
        evidence
            .iter()
            .any(|sentence| sentence.contains("one of several servers")),
        "{evidence:?}"
    );
}

#[test]
fn a_client_that_gives_up_is_no_untranslated_answer() {
    let story = Story::default()
        .syn(0.0, 1)
        .came(600.0, "[S.] seq 5000 ack 1001 win 65160")
        .sent(600.02, "[R] seq 1001 win 0 id 2");
    is(&story, "unknown", "given up by the client");
}

#[test]
fn a_forged_reset_of_another_address_is_named() {
    let story = Story::default()
        .syn(0.0, 1)
        .raw("0.044 < 10.0.1.20:8080 > 10.0.1.5:40001 [R.] seq 0 ack 1001 win 0 ttl 64 smac 02:00:00:00:00:14 dmac 02:00:00:00:00:05")
        .syn(1_000.0, 2)
        .syn(3_000.0, 3);
    is(&story, "reject-reset", "10.0.1.20:8080");
}

#[test]
fn two_hosts_that_answer_for_one_address_are_named() {
    let story = Story::default()
        .raw("0 < ARP reply 10.96.0.10 says 10.96.0.10 at 02:00:00:00:00:01 smac 02:00:00:00:00:01 dmac 02:00:00:00:00:05")
        .raw("2 < ARP reply 10.96.0.10 says 10.96.0.10 at 02:00:00:00:00:77 smac 02:00:00:00:00:77 dmac 02:00:00:00:00:05")
        .syn(3.0, 1)
        .came(3.5, "[S.] seq 5000 ack 1001 win 65160")
        .sent(3.6, "[.] seq 1001 ack 5001 win 502 id 2")
        .came(3.9, "[R] seq 5001 win 0");
    is(&story, "duplicate-ip", "reset right after the handshake");
}

#[test]
fn a_question_leaves_out_what_it_is_not_about() {
    let text = Story::default()
        .syn(0.0, 1)
        .came(0.5, "[R.] seq 0 ack 1001 win 0")
        .later();
    let bytes = file(&[&text.0]);
    let about = |question: Question| {
        let mut replayer = Replayer::about(question);
        capture::read_frames(&bytes, |frame, interfaces| {
            replayer.frame(frame, interfaces);
        })
        .unwrap();
        replayer.end_file([]);
        replayer.finish()
    };
    let client = Question {
        client: Some("10.0.1.5".parse().unwrap()),
        ..Question::default()
    };
    assert_eq!(about(client).diagnoses.len(), 1);
    let service = Question {
        service: Some(S.parse().unwrap()),
        ..Question::default()
    };
    assert_eq!(about(service).diagnoses.len(), 1);
    let other = Question {
        about: Some(("10.0.9.9".parse().unwrap(), None)),
        ..Question::default()
    };
    let replay = about(other);
    assert!(replay.diagnoses.is_empty() && replay.matrix.paths.is_empty());
    assert!(
        replay.notes[0].contains("asked about"),
        "{:?}",
        replay.notes
    );
}

#[test]
fn the_packets_of_what_failed_are_commented_and_the_place_is_named() {
    let replay = Story::default()
        .syn(0.0, 1)
        .came(0.5, "[R.] seq 0 ack 1001 win 0")
        .later()
        .replayed();
    let comments: Vec<(u64, &str)> = (replay.comments.iter())
        .map(|comment| (comment.frame, comment.comment.as_str()))
        .collect();
    assert_eq!(
        comments,
        [
            (
                1,
                "prober: this connection is refused by RST, which came with TTL 62"
            ),
            (2, "a RST"),
        ]
    );
    assert_eq!(replay.vantages[0].place, "client's end");
}
