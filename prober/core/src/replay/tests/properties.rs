//! What no capture of healthy traffic may lead to, whatever was captured of it and however often.

use proptest::prelude::*;

use super::*;
use crate::diagnosis::catalogue::Cause;

/// A connection that works.
#[derive(Clone, Debug)]
struct Healthy {
    start_ms: u32,
    rtt_ms: u32,
    requests: u32,
    close: Close,
}

#[derive(Clone, Copy, Debug)]
enum Close {
    Open,
    Fin,
    Reset,
}

fn healthy() -> impl Strategy<Value = Healthy> {
    let close = prop_oneof![Just(Close::Open), Just(Close::Fin), Just(Close::Reset)];
    (0_u32..20_000, 1_u32..300, 0_u32..4, close).prop_map(|(start_ms, rtt_ms, requests, close)| {
        Healthy {
            start_ms,
            rtt_ms,
            requests,
            close,
        }
    })
}

/// The packets of connections at their clients' end, in the order of time: when, and the rest of the line.
fn lines(connections: &[Healthy]) -> Vec<(u32, String)> {
    let mut lines = Vec::new();
    for (number, connection) in (0_u32..).zip(connections) {
        let (c, s) = (format!("10.0.1.5:{}", 40_000 + number), "10.96.0.10:443");
        let (isn, answer) = (1_000 * (number + 1), 500_000 + number);
        let mut at = connection.start_ms;
        let mut ident = 100 * number + 1;
        let mut sent = |at: u32, segment: String| {
            lines.push((at, format!("> {c} > {s} {segment} ttl 64 id {ident} smac 02:00:00:00:00:05 dmac 02:00:00:00:00:01")));
            ident += 1;
        };
        sent(at, format!("[S] seq {isn} win 64240"));
        at += connection.rtt_ms;
        let mut came = vec![(at, format!("[S.] seq {answer} ack {} win 65160", isn + 1))];
        sent(
            at,
            format!("[.] seq {} ack {} win 502", isn + 1, answer + 1),
        );
        let mut seq = (isn + 1, answer + 1);
        for _ in 0..connection.requests {
            sent(
                at,
                format!("[P.] seq {} ack {} win 502 length 10", seq.0, seq.1),
            );
            seq.0 += 10;
            at += connection.rtt_ms;
            came.push((
                at,
                format!("[P.] seq {} ack {} win 502 length 1000", seq.1, seq.0),
            ));
            seq.1 += 1_000;
            sent(at, format!("[.] seq {} ack {} win 502", seq.0, seq.1));
        }
        match connection.close {
            Close::Open => {}
            Close::Fin => {
                sent(at, format!("[F.] seq {} ack {} win 502", seq.0, seq.1));
                at += connection.rtt_ms;
                came.push((at, format!("[F.] seq {} ack {} win 502", seq.1, seq.0 + 1)));
                sent(
                    at,
                    format!("[.] seq {} ack {} win 502", seq.0 + 1, seq.1 + 1),
                );
            }
            Close::Reset => sent(at, format!("[R.] seq {} ack {} win 0", seq.0, seq.1)),
        }
        let own = came.into_iter().map(|(at, segment)| {
            (
                at,
                format!(
                    "< {s} > {c} {segment} ttl 62 smac 02:00:00:00:00:01 dmac 02:00:00:00:00:05"
                ),
            )
        });
        lines.extend(own);
    }
    // What came is before what answers it.
    lines.sort_by_key(|(at, line)| (*at, line.starts_with('>')));
    lines
}

fn text(lines: &[(u32, String)]) -> String {
    let lines = lines.iter().map(|(at, line)| format!("{at} {line}"));
    lines.collect::<Vec<_>>().join("\n")
}

fn causes(replay: &Replay) -> Vec<Option<Cause>> {
    replay
        .diagnoses
        .iter()
        .map(|diagnosis| diagnosis.cause)
        .collect()
}

/// A connection that fails in some way, at the client's end.
fn failing() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("[R.] seq 0 ack 7001 win 0"),
        Just("[S.] seq 9 ack 7001 win 65160"),
        Just("[R.] seq 0 ack 7000 win 0"),
    ]
}

/// The same packets on another link nearer to the server: at its own end, the directions are the other way round.
fn nearer(lines: &[(u32, String)], ahead_ms: u32, hops: u32, is_end: bool) -> Vec<(u32, String)> {
    const OUT: &str = "smac 02:00:00:00:00:05 dmac 02:00:00:00:00:01";
    const IN: &str = "smac 02:00:00:00:00:01 dmac 02:00:00:00:00:05";
    let there = if is_end {
        "02:00:00:00:00:14"
    } else {
        "02:00:00:00:00:f2"
    };
    (lines.iter())
        .map(|(at, line)| {
            let is_sent = line.starts_with('>');
            let direction = match (is_end, is_sent) {
                (true, true) => "<",
                (true, false) => ">",
                (false, _) => "~",
            };
            let line = line.get(1..).unwrap();
            let line = if is_sent {
                line.replace("ttl 64", &format!("ttl {}", 64 - hops))
                    .replace(OUT, &format!("smac 02:00:00:00:00:f1 dmac {there}"))
            } else {
                line.replace("ttl 62", &format!("ttl {}", 62 + hops))
                    .replace(IN, &format!("smac {there} dmac 02:00:00:00:00:f1"))
            };
            (at + ahead_ms, format!("{direction}{line}"))
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_order_of_files_changes_no_answer(
        connections in prop::collection::vec(healthy(), 0..3),
        answer in prop_oneof![failing(), Just("")],
        is_lost in any::<bool>(),
        ahead_ms in 0_u32..4_000,
    ) {
        let mut client = lines(&connections);
        let healthy = client.len();
        for (at, id) in [(30_000, 901), (31_000, 902), (33_000, 903)] {
            client.push((at, format!("> 10.0.1.5:39000 > 10.96.0.11:80 [S] seq 7000 win 64240 ttl 64 id {id} smac 02:00:00:00:00:05 dmac 02:00:00:00:00:01")));
            if !answer.is_empty() {
                client.push((at + 1, format!("< 10.96.0.11:80 > 10.0.1.5:39000 {answer} ttl 62 smac 02:00:00:00:00:01 dmac 02:00:00:00:00:05")));
            }
        }
        let node = nearer(&client, ahead_ms, 1, false);
        let server = nearer(&client, 0, 2, true);
        if is_lost {
            let mut place = 0;
            client.retain(|(_, line)| {
                place += 1;
                place <= healthy || line.starts_with('>')
            });
        }
        let files = [client, node, server].map(|lines| file(&[&text(&lines)]));
        let said = |order: [usize; 3]| {
            let replay = replay_files(&order.map(|number| files[number].as_slice())).unwrap();
            let said: Vec<_> = (replay.diagnoses.into_iter())
                .map(|diagnosis| (diagnosis.cause, diagnosis.confidence, diagnosis.evidence))
                .collect();
            (said, replay.connections, replay.notes)
        };
        let first = said([0, 1, 2]);
        prop_assert!(!first.0.is_empty() || (answer.contains("[S.]") && !is_lost), "{first:?}");
        for order in [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            prop_assert_eq!(&said(order), &first, "{:?}", order);
        }
    }

    #[test]
    fn a_file_cut_anywhere_never_names_a_cause(
        connections in prop::collection::vec(healthy(), 1..5),
        cut in any::<prop::sample::Index>(),
    ) {
        let lines = lines(&connections);
        let whole = replayed(&[&text(&lines)]);
        prop_assert_eq!(causes(&whole), []);
        let kept = &lines[..=cut.index(lines.len())];
        let replay = replayed(&[&text(kept)]);
        for diagnosis in &replay.diagnoses {
            prop_assert!(diagnosis.evidence[0].contains("too early to say"), "{:?}", diagnosis.evidence);
        }
        let from = &lines[cut.index(lines.len())..];
        let replay = replayed(&[&text(from)]);
        for diagnosis in &replay.diagnoses {
            prop_assert!(diagnosis.evidence[0].contains("too early to say"), "{:?}", diagnosis.evidence);
        }
    }

    #[test]
    fn a_copy_of_every_frame_changes_no_verdict(
        connections in prop::collection::vec(healthy(), 1..4),
        answer in failing(),
    ) {
        let mut lines = lines(&connections);
        for (at, id) in [(30_000, 901), (31_000, 902), (33_000, 903)] {
            lines.push((at, format!("> 10.0.1.5:39000 > 10.96.0.11:80 [S] seq 7000 win 64240 ttl 64 id {id} smac 02:00:00:00:00:05 dmac 02:00:00:00:00:01")));
            lines.push((at + 1, format!("< 10.96.0.11:80 > 10.0.1.5:39000 {answer} ttl 62 smac 02:00:00:00:00:01 dmac 02:00:00:00:00:05")));
        }
        let once = replayed(&[&text(&lines)]);
        let twice = lines.iter().map(|(at, line)| format!("{at} {line}\n{at}.012 {line}"));
        let twice = twice.collect::<Vec<_>>().join("\n");
        let twice = replayed(&[&twice]);
        prop_assert_eq!(causes(&once), causes(&twice));
        prop_assert_eq!(once.matrix.paths.len(), twice.matrix.paths.len());
    }

    #[test]
    fn two_healthy_files_are_healthy_together_in_either_order(
        one in prop::collection::vec(healthy(), 1..4),
        other in prop::collection::vec(healthy(), 1..4),
    ) {
        let (one, other) = (text(&lines(&one)), text(&lines(&other)));
        let (one, other) = (file(&[&one]), file(&[&other]));
        let forth = replay_files(&[&one, &other]).unwrap();
        let back = replay_files(&[&other, &one]).unwrap();
        prop_assert_eq!(causes(&forth), []);
        prop_assert_eq!(causes(&back), []);
        prop_assert_eq!(forth.matrix.paths.len(), back.matrix.paths.len());
    }
}
