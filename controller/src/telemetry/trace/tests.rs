//! The founding incident as a trace, and traces with less evidence.

use std::fmt::Write as _;

use super::*;

fn report() -> Report {
    Report::parse(include_bytes!(
        "../../../../tests/export/founding-incident.json"
    ))
    .unwrap()
}

/// The spans as text.
fn written(trace: &Trace) -> String {
    let mut text = String::new();
    for Span { source, data } in trace.spans() {
        let parent = if data.parent_span_id == SpanId::INVALID {
            "root"
        } else {
            "child"
        };
        writeln!(
            text,
            "{parent} {} {:?} by {source:?}",
            data.name, data.span_kind
        )
        .unwrap();
        writeln!(text, "  {:?}", data.status).unwrap();
        for attribute in &data.attributes {
            writeln!(text, "  {}: {}", attribute.key, attribute.value).unwrap();
        }
        for event in data.events.iter() {
            writeln!(text, "  - {}", event.name).unwrap();
            for attribute in &event.attributes {
                writeln!(text, "      {}: {}", attribute.key, attribute.value).unwrap();
            }
        }
    }
    text
}

#[test]
fn the_trace_of_the_founding_incident() {
    let traces = Trace::of_report(&report(), 1);
    assert_eq!(traces.len(), 1);
    insta::assert_snapshot!(written(&traces[0]));
}

#[test]
fn a_seed_names_a_trace_and_all_of_its_spans() {
    let report = report();
    let first = Trace::of_report(&report, 1);
    assert_eq!(first, Trace::of_report(&report, 1));
    let second = Trace::of_report(&report, 2);
    assert_ne!(first[0].id(), second[0].id());
    let mut ids: Vec<SpanId> = (first[0].spans().iter().chain(second[0].spans()))
        .map(|span| span.data.span_context.span_id())
        .collect();
    ids.sort_unstable_by_key(|id| id.to_bytes());
    ids.dedup();
    assert_eq!(ids.len(), 6);
}

#[test]
fn an_end_that_did_not_report_has_no_span() {
    let mut report = report();
    for path in &mut report.paths {
        for probe in &mut path.probes {
            probe.server = None;
        }
    }
    let traces = Trace::of_report(&report, 1);
    assert_eq!(traces[0].spans().len(), 2);
}

#[test]
fn a_failure_without_a_name_is_an_error_and_a_healthy_probe_is_none() {
    let mut report = report();
    let path = &mut report.paths[0];
    let unnamed = TraceSource {
        path,
        probe: &path.probes[0],
        diagnosis: None,
    };
    for span in Trace::of(unnamed, 1).spans() {
        assert_eq!(span.data.status, Status::error("mismatched"));
    }
    path.probes[0].client.outcome = Outcome::Established {
        rtt_ns: 1_000,
        connect_ns: 2_000,
    };
    let healthy = TraceSource {
        path,
        probe: &path.probes[0],
        diagnosis: None,
    };
    for span in Trace::of(healthy, 1).spans() {
        assert_eq!(span.data.status, Status::Ok);
        assert!((span.data.attributes.iter()).all(|pair| pair.key.as_str() != "error.type"));
    }
}

#[test]
fn spans_end_no_earlier_than_they_begin_and_hold_their_packets() {
    for trace in Trace::of_report(&report(), 1) {
        for Span { data, .. } in trace.spans() {
            assert!(data.start_time <= data.end_time);
            for event in data.events.iter() {
                assert!((data.start_time..=data.end_time).contains(&event.timestamp));
            }
        }
    }
}
