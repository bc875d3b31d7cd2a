//! Tests of the forms of a report, with snapshots of what people read.

use super::*;
use crate::evidence::{Comparison, Matrix, Source};
use crate::packet::capture::{CommentedPacket, InterfacePackets, write_pcapng};
use crate::packet::text::parse_packet_text;
use crate::probe::outcome::{EngineKind, Errno, Outcome};
use crate::replay::replay_files;
use crate::report::{Completion, Verdict, incident};
use crate::topology::{AgentId, NodeName, PathId, Scope};

fn shown(report: &Report) -> String {
    text::report(report, text::Options::default()).to_string()
}

#[test]
fn the_founding_incident_reads_like_this() {
    insta::assert_snapshot!(shown(&incident::report()));
}

#[test]
fn a_healthy_network_takes_a_few_lines() {
    let text = shown(&incident::healthy_report());
    assert!(text.lines().count() < 15, "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn an_interrupted_run_says_so_and_calls_nothing_healthy() {
    let meta = crate::report::Meta {
        completion: Completion::Interrupted,
        ..incident::meta("prober run --lab")
    };
    let mut matrix = incident::healthy_matrix();
    for path in matrix.paths.values_mut().take(1) {
        path.requested = path.total().outcomes.total() + 12;
    }
    let report = Report::new(&matrix, &[], meta);
    assert_eq!(report.exit_status, 2);
    insta::assert_snapshot!(shown(&report));
}

#[test]
fn a_failing_path_counts_where_another_node_could_host_no_agent() {
    let reason = "agent server-9 on node-9: 0/9 nodes are available";
    let meta = || crate::report::Meta {
        completion: Completion::CouldNotRun {
            reason: reason.to_owned(),
        },
        ..incident::meta("prober run --all")
    };
    let mut matrix = incident::incident_matrix();
    let lost = matrix.agents.entry(AgentId::new("node-9", "server-9"));
    lost.or_default().failed = Some("0/9 nodes are available".to_owned());
    let report = Report::new(&matrix, &[incident::incident_diagnosis()], meta());
    assert_eq!((report.verdict, report.exit_status), (Verdict::Faulty, 1));
    let text = shown(&report);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for phrase in [
        "2 of 12 paths fail: bridge-netfilter-off",
        "and others were not probed",
        reason,
    ] {
        assert!(text.contains(phrase), "{phrase}: {text}");
    }

    // An agent that ended early may be why its own paths fail.
    for agent in matrix.agents.values_mut() {
        agent.failed = Some("its pod was deleted while the run needed it".to_owned());
    }
    assert_eq!(Report::new(&matrix, &[], meta()).exit_status, 2);
}

#[test]
fn a_run_whose_client_never_came_to_its_end_calls_nothing_healthy() {
    let mut matrix = incident::healthy_matrix();
    for agent in matrix.agents.values_mut() {
        agent.has_reported = false;
    }
    let report = Report::new(&matrix, &[], incident::meta("prober run --lab"));
    assert_eq!(report.exit_status, 2);
    let sentence = text::verdict(&report);
    assert!(sentence.contains("not every client"), "{sentence}");
}

#[test]
fn too_few_handshakes_call_nothing_healthy() {
    for (made, verdict, exit_status) in [
        (4, Verdict::Healthy, 0),
        (3, Verdict::Inconclusive, 2),
        (1, Verdict::Inconclusive, 2),
    ] {
        let mut matrix = incident::healthy_matrix();
        let path = matrix.paths.values_mut().next().unwrap();
        path.tallies.remove(&EngineKind::Raw);
        let kernel = path.tallies.get_mut(&EngineKind::Kernel).unwrap();
        kernel.outcomes.established = made;
        kernel.first_syn_success = made;
        let report = Report::new(&matrix, &[], incident::meta("prober run --lab"));
        assert_eq!((report.verdict, report.exit_status), (verdict, exit_status));
        let sentence = text::verdict(&report);
        assert_eq!(
            sentence.contains("fewer than 4 handshakes on 1 of 12 paths"),
            made < 4,
            "{sentence}"
        );
    }
}

#[test]
fn every_connection_of_a_capture_is_judged_however_few_there_are() {
    let mut matrix = incident::healthy_matrix();
    matrix.source = Source::Capture;
    for path in matrix.paths.values_mut() {
        path.tallies.remove(&EngineKind::Raw);
        let kernel = path.tallies.get_mut(&EngineKind::Kernel).unwrap();
        kernel.outcomes.established = 1;
        kernel.first_syn_success = 1;
    }
    let verdict =
        |matrix: &Matrix| Report::new(matrix, &[], incident::meta("prober replay")).verdict;
    assert_eq!(verdict(&matrix), Verdict::Healthy);
    matrix.paths.retain(|id, _| id.0 < 1);
    assert_eq!(verdict(&matrix), Verdict::Healthy);
    matrix.paths.clear();
    assert_eq!(verdict(&matrix), Verdict::Inconclusive);
}

#[test]
fn no_line_but_commands_and_packets_is_wider_than_the_terminal() {
    let mut refused = incident::report();
    let mut paths = refused.paths.iter_mut();
    let path = paths.find(|path| !path.probes.is_empty()).unwrap();
    let errno = Errno::Ehostunreach;
    path.probes[0].client.outcome = Outcome::RefusedLocally { errno };
    for width in [80, 100, 140] {
        let options = text::Options { width, wide: true };
        for report in [&incident::report(), &incident::healthy_report(), &refused] {
            let shown = text::report(report, options).to_string();
            let is_long = |line: &&str| line.chars().count() > width;
            let is_prose = |line: &&str| !line.starts_with("      ") && !line.contains(" ttl ");
            let long: Vec<&str> = shown.lines().filter(is_long).filter(is_prose).collect();
            assert!(long.is_empty(), "{width}: {long:#?}");
        }
    }
}

#[test]
fn the_intervals_of_lost_shares_stay_where_other_columns_can_give_way() {
    let report = incident::report();
    let has_interval = |width| {
        let options = text::Options { width, wide: false };
        let shown = text::report(&report, options).to_string();
        let mut rows = shown.lines().filter(|line| line.starts_with("x "));
        rows.any(|line| line.contains("% ("))
    };
    for width in [140, 100, 90] {
        assert!(has_interval(width), "{width}");
    }
    assert!(!has_interval(60));
}

/// A healthy network of `count` nodes, each with the paths of the first node under its own name.
fn many_nodes(count: u32) -> Matrix {
    let mut matrix = incident::healthy_matrix();
    let mut paths = Vec::new();
    for number in 1..=count {
        let renamed = |agent: &AgentId| AgentId {
            node: NodeName::new(agent.node.as_str().replace('1', &number.to_string())),
            pod: agent.pod.replace('1', &number.to_string()),
        };
        let of_first =
            (matrix.paths.values()).filter(|path| path.path.client.node.as_str() == "node-1");
        paths.extend(of_first.cloned().map(|mut path| {
            path.path.client = renamed(&path.path.client);
            path.path.server = path.path.server.as_ref().map(renamed);
            path
        }));
    }
    matrix.paths = (0..).map(PathId).zip(paths).collect();
    matrix
}

#[test]
fn a_hundred_healthy_nodes_fit_on_one_screen() {
    let report = Report::new(&many_nodes(100), &[], incident::meta("prober run --all"));
    assert!(report.paths.len() > 500);
    let text = shown(&report);
    assert!(text.lines().count() < 24, "{text}");
    let wide = text::Options {
        wide: true,
        ..text::Options::default()
    };
    let rows = text::report(&report, wide).to_string().lines().count();
    assert!(rows > report.paths.len());
}

#[test]
fn nodes_are_listed_as_people_count() {
    let mut matrix = many_nodes(12);
    for path in matrix.paths.values_mut() {
        path.tallies.clear();
    }
    let report = Report::new(&matrix, &[], incident::meta("prober run --all"));
    let text = shown(&report);
    let place = |node: &str| text.find(node).unwrap();
    assert!(place("\nnode-2 ->") < place("\nnode-3 ->"), "{text}");
    assert!(text.contains("more pairs of nodes"), "{text}");
}

#[test]
fn a_saved_report_is_read_back_whole() {
    let report = incident::report();
    let json = json(&report).unwrap();
    assert_eq!(Report::parse(json.as_bytes()).unwrap(), report);
}

#[test]
fn a_report_of_another_version_is_refused_by_its_name() {
    let error = Report::parse(br#"{"schema":"prober.dev/report/v9"}"#).unwrap_err();
    assert!(error.to_string().contains("prober.dev/report/v9"));
    assert!(Report::parse(b"{}").is_err());
    assert!(Report::parse(b"").is_err());
}

const SCHEMA: &str = include_str!("../../../../../deploy/schema/report.v1.json");

/// The published schema, closed: it refuses fields that it does not document.
fn strict(mut schema: serde_json::Value) -> serde_json::Value {
    fn close(value: &mut serde_json::Value) {
        if let Some(map) = value.as_object_mut() {
            if map.contains_key("properties") {
                map.insert("additionalProperties".to_owned(), false.into());
            }
            map.values_mut().for_each(close);
        } else if let Some(list) = value.as_array_mut() {
            list.iter_mut().for_each(close);
        }
    }
    close(&mut schema);
    schema
}

#[test]
fn the_json_is_what_the_published_schema_says_and_nothing_more() {
    let schema = strict(serde_json::from_str(SCHEMA).unwrap());
    let validator = jsonschema::validator_for(&schema).unwrap();
    for report in [incident::report(), incident::healthy_report(), captured()] {
        let value = serde_json::to_value(&report).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&value)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }
}

/// The report of a capture: a connection that is refused, one that works, and one that the capture cuts.
fn captured() -> Report {
    let text = "
        0 > 10.0.1.5:40001 > 10.96.0.10:443 [S] seq 1000 win 64240 ttl 64
        0.5 < 10.96.0.10:443 > 10.0.1.5:40001 [R.] seq 0 ack 1001 win 0 ttl 62
        10 > 10.0.1.5:40002 > 10.96.0.11:80 [S] seq 2000 win 64240 ttl 64
        10.5 < 10.96.0.11:80 > 10.0.1.5:40002 [S.] seq 9000 ack 2001 win 65160 ttl 62
        10.6 > 10.0.1.5:40002 > 10.96.0.11:80 [.] seq 2001 ack 9001 win 502 ttl 64
        20 > 10.0.1.5:40003 > 10.96.0.11:80 [S] seq 3000 win 64240 ttl 64
    ";
    let observations = parse_packet_text(text).unwrap();
    let packets = observations.iter().map(|observation| CommentedPacket {
        observation,
        comment: "".into(),
    });
    let view = InterfacePackets {
        interface: "eth0".to_owned(),
        packets: packets.collect(),
    };
    let replay = replay_files(&[&write_pcapng(&[view]).unwrap()]).unwrap();
    let meta = incident::meta("prober replay client.pcap");
    let mut report = Report::new(&replay.matrix, &replay.diagnoses, meta);
    report.connections = Some(replay.connections);
    report
}

#[test]
fn what_happened_to_each_connection_of_a_capture_is_in_stable_words() {
    let report = captured();
    let value = serde_json::to_value(&report).unwrap();
    let listed = value["connections"]["listed"].as_array().unwrap();
    let words: Vec<[&str; 3]> = (listed.iter())
        .map(|one| ["client", "target", "outcome"].map(|name| one[name].as_str().unwrap()))
        .collect();
    assert_eq!(
        words,
        [
            ["10.0.1.5:40001", "10.96.0.10:443", "refused"],
            ["10.0.1.5:40003", "10.96.0.11:80", "undecided"],
            ["10.0.1.5:40002", "10.96.0.11:80", "established"],
        ]
    );
    assert_eq!(listed[0]["captured"], serde_json::json!(["client"]));
    assert_eq!(listed[0]["path"], 0);
    assert!(listed[1]["path"].is_null());
    assert_eq!(value["connections"]["omitted"], 0);
    let again = Report::parse(json(&report).unwrap().as_bytes()).unwrap();
    assert_eq!(again, report);

    let page = html::report(&report);
    let row = page.split("<tr").find(|row| row.contains("10.0.1.5:40001"));
    let row = row.unwrap();
    assert!(row.contains("refused"), "{row}");
    assert!(row.contains("is refused by RST"), "{row}");
    assert!(!html::report(&incident::report()).contains("first packet"));
}

/// The founding incident, in which a second client of node-1 probes node-2's server.
fn compared() -> Report {
    let mut matrix = incident::incident_matrix();
    let across = matrix.paths.values().find(|evidence| {
        evidence.path.scope() == Scope::CrossNode && evidence.path.client.node.as_str() == "node-1"
    });
    let mut second = across.unwrap().clone();
    second.path.client = AgentId::new("node-1", "server-1");
    let id = PathId(matrix.paths.len().try_into().unwrap());
    matrix.paths.insert(id, second);
    matrix.comparisons.insert(id, Comparison::SecondClient);
    let diagnoses = [incident::incident_diagnosis()];
    Report::new(&matrix, &diagnoses, incident::meta("prober run --lab"))
}

#[test]
fn a_comparison_is_shown_as_one_and_counted_nowhere() {
    let (alone, report) = (incident::report(), compared());
    assert_eq!(report.paths.len(), alone.paths.len());
    assert_eq!(text::verdict(&report), text::verdict(&alone));
    let text = shown(&report);
    let heading = "node-1 -> node-2, second client: server-1";
    assert!(text.contains(heading), "{text}");
    assert!(!shown(&alone).contains("second client"));
    let without: Vec<&str> = text.lines().filter(|line| *line != heading).collect();
    // One row more than without it.
    assert_eq!(without.len(), shown(&alone).lines().count() + 1);

    let page = html::report(&report);
    assert!(
        page.contains("For comparison, by a second client"),
        "{page}"
    );
    let tests = |report: &Report| junit(report).matches("<testcase").count();
    assert_eq!(tests(&report), tests(&alone));

    let value = serde_json::to_value(&report).unwrap();
    let schema = strict(serde_json::from_str(SCHEMA).unwrap());
    let validator = jsonschema::validator_for(&schema).unwrap();
    assert!(validator.is_valid(&value), "{value:#}");
    let json = serde_json::to_vec(&report).unwrap();
    assert_eq!(Report::parse(&json).unwrap(), report);
}

#[test]
fn the_schema_refuses_what_is_no_report() {
    let validator = jsonschema::validator_for(&serde_json::from_str(SCHEMA).unwrap()).unwrap();
    let whole = serde_json::to_value(incident::report()).unwrap();
    for (pointer, wrong) in [
        ("/schema", serde_json::json!("prober.dev/report/v2")),
        ("/diagnoses/0/confidence", serde_json::json!("likely")),
        ("/paths/1/loss", serde_json::json!(40)),
        ("/paths/1/outcomes/timeout", serde_json::json!(-1)),
        ("/started", serde_json::json!("yesterday")),
    ] {
        let mut broken = whole.clone();
        *broken.pointer_mut(pointer).unwrap() = wrong;
        assert!(!validator.is_valid(&broken), "{pointer}");
    }
}

#[test]
fn the_page_loads_nothing_and_runs_nothing() {
    let page = html::report(&incident::report());
    for word in [
        "http://", "https://", "<script", "<link", "<img", "@import", "url(http",
    ] {
        assert!(!page.contains(word), "{word}");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn the_page_says_what_the_text_says() {
    let report = incident::report();
    let page = html::report(&report);
    for words in [
        "FAULTY",
        "bridge-netfilter-off on node-1 (proven, T2)",
        "modprobe br_netfilter",
        "the translation was not undone",
        "Ruled out",
        "prober run --lab",
    ] {
        assert!(page.contains(words), "{words}");
    }
    let (head, rest) = page.split_once("<style>").unwrap();
    let (_, body) = rest.split_once("</style>").unwrap();
    let head = head.split("sha256-").next().unwrap();
    insta::assert_snapshot!(format!("{head}...{body}").replace("><", ">\n<"));
}

#[test]
fn words_of_others_reach_no_terminal_and_no_page_as_they_are() {
    let hostile = "\u{1b}[2J\u{1b}]0;owned\u{7} \u{202e}yhtlaeh\u{9b}1m";
    let mut matrix = incident::incident_matrix();
    for agent in matrix.agents.values_mut() {
        agent.notices = vec![hostile.to_owned()];
        agent.failed = Some(hostile.to_owned());
    }
    let mut diagnosis = incident::incident_diagnosis();
    diagnosis.evidence = vec![hostile.to_owned()];
    let report = Report::new(&matrix, &[diagnosis], incident::meta("prober run --all"));
    let wide = text::Options {
        wide: true,
        ..text::Options::default()
    };
    for shown in [
        shown(&report),
        text::report(&report, wide).to_string(),
        html::report(&report),
        junit(&report),
    ] {
        assert!(shown.contains(r"\u{1b}[2J"), "{shown}");
        let is_bad = |one: char| (one.is_control() && one != '\n') || one == '\u{202e}';
        assert!(!shown.contains(is_bad), "{shown:?}");
    }
}

#[test]
fn two_hundred_nodes_with_one_fault_each_stay_readable() {
    let mut matrix = incident::incident_matrix();
    let diagnoses: Vec<_> = (1..=200)
        .map(|node| crate::diagnosis::Diagnosis {
            node: Some(NodeName::new(format!("node-{node}"))),
            segment: crate::diagnosis::PathSegment::Node {
                node: NodeName::new(format!("node-{node}")),
            },
            ..incident::incident_diagnosis()
        })
        .collect();
    for node in 1..=200 {
        let agent = AgentId::new(format!("node-{node}"), format!("server-{node}"));
        let lost = matrix.agents.entry(agent.clone()).or_default();
        lost.failed = Some(format!("{agent} was not scheduled"));
        let path = crate::topology::Path {
            server: Some(agent.clone()),
            ..matrix.paths[&PathId(1)].path.clone()
        };
        matrix
            .unprobed
            .insert(path, format!("agent {agent} was not scheduled"));
    }
    let report = Report::new(&matrix, &diagnoses, incident::meta("prober run --all"));
    let text = shown(&report);
    assert!(text.lines().count() < 400, "{text}");
    for phrase in ["195 more diagnoses", "192 more paths", "192 more notes"] {
        assert!(text.contains(phrase), "{phrase}: {text}");
    }
    let wide = text::Options {
        wide: true,
        ..text::Options::default()
    };
    let text = text::report(&report, wide).to_string();
    assert!(text.contains("server-200 was not scheduled"), "{text}");
}

#[test]
fn names_that_contain_markup_stay_names() {
    let mut report = incident::report();
    report.notes.push("<script>alert(1)</script>".to_owned());
    assert!(!html::report(&report).contains("<script"));
}

#[test]
fn what_was_not_probed_is_not_shown_as_a_failure() {
    let mut report = incident::healthy_report();
    let path = &mut report.paths[0];
    path.health = crate::report::Health::NotProbed;
    path.outcomes = crate::probe::event::OutcomeCounts::default();
    let page = html::report(&report);
    assert!(page.contains(r#"<td class="not-probed">○ not probed</td>"#));
    let (_, body) = page.split_once("</style>").unwrap();
    assert!(!body.contains(r#"class="failing""#), "{body}");
}

#[test]
fn a_failing_path_without_an_outcome_says_so() {
    let mut report = incident::report();
    let path = &mut report.paths[1];
    path.outcomes = crate::probe::event::OutcomeCounts::default();
    path.unfinished = 105;
    let page = html::report(&report);
    assert!(page.contains("<td class=\"failing\">✕ no outcome</td>"));
    assert!(page.contains("no outcome, unfinished 105"));
}

#[test]
fn a_drawing_says_where_the_record_of_one_end_stops() {
    let report = |change: fn(&mut crate::report::ProbeReport)| {
        let mut report = incident::report();
        change(&mut report.paths[1].probes[0]);
        html::report(&report)
    };
    let whole = report(|_| {});
    assert!(!whole.contains("record"), "{whole}");
    let client = report(|probe| probe.client.observations.truncate(3));
    assert!(client.contains("the client's record has ended before this"));
    let server = report(|probe| probe.server.as_mut().unwrap().observations.truncate(3));
    assert!(server.contains("the server's record ends here; it counted 3 SYN in"));
}

#[test]
fn the_founding_incident_is_two_failed_test_cases() {
    let mut report = incident::report();
    report.notes = vec!["<escaped> & without \u{1b}[31mcolour".to_owned()];
    let xml = junit(&report);
    assert!(!xml.contains('\u{1b}') && !xml.contains("<escaped>"));
    assert_eq!(xml.matches("<failure ").count(), 2);
    insta::assert_snapshot!(xml.replace("><", ">\n<"));
}
