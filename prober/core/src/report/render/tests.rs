//! What people read of a report, as snapshots.

use super::*;
use crate::probe::outcome::{Errno, Outcome};
use crate::report::{Completion, incident};

#[test]
fn the_founding_incident_reads_like_this() {
    insta::assert_snapshot!(text::report(&incident::report()));
}

#[test]
fn a_healthy_network_is_told_in_a_few_lines() {
    let text = text::report(&incident::healthy_report()).to_string();
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
        path.asked = path.total().outcomes.total() + 12;
    }
    let report = Report::new(&matrix, &[], meta);
    assert_eq!(report.exit_status, 2);
    insta::assert_snapshot!(text::report(&report));
}

#[test]
fn a_run_whose_client_never_came_to_its_end_calls_nothing_healthy() {
    let mut matrix = incident::healthy_matrix();
    for agent in matrix.agents.values_mut() {
        agent.heard = false;
    }
    let report = Report::new(&matrix, &[], incident::meta("prober run --lab"));
    assert_eq!(report.exit_status, 2);
    let told = text::verdict(&report);
    assert!(told.contains("not everybody who asked"), "{told}");
}

#[test]
fn the_command_that_proves_the_mending_breaks_nothing_and_tells_in_the_usual_form() {
    let typed = "prober run --lab --fault=forward-drop -q -o json --pcapng /tmp/f --fault mtu@node-1 --nodes 3";
    let words: Vec<String> = typed.split(' ').map(str::to_owned).collect();
    assert_eq!(text::proof(&words), "prober run --lab --nodes 3");
}

#[test]
fn no_line_but_a_command_is_wider_than_a_terminal() {
    let mut refused = incident::report();
    let mut paths = refused.paths.iter_mut();
    let path = paths.find(|path| !path.probes.is_empty()).unwrap();
    let errno = Errno::Ehostunreach;
    path.probes[0].client.outcome = Outcome::RefusedLocally { errno };
    for report in [incident::report(), incident::healthy_report(), refused] {
        let shown = text::report(&report);
        let long: Vec<String> = shown
            .to_string()
            .lines()
            .filter(|line| line.chars().count() > WIDTH && !line.starts_with("      "))
            .map(str::to_owned)
            .collect();
        assert!(long.is_empty(), "{long:#?}");
    }
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

/// The published schema, but nothing may stand in a report that it does not document.
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
    for report in [incident::report(), incident::healthy_report()] {
        let value = serde_json::to_value(&report).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&value)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }
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
fn names_that_look_like_markup_stay_names() {
    let mut report = incident::report();
    report.notes.push("<script>alert(1)</script>".to_owned());
    assert!(!html::report(&report).contains("<script"));
}

#[test]
fn what_was_not_probed_does_not_look_like_a_failure() {
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
