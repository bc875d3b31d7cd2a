//! The notes of a report: what limits its verdict, and further facts for the reader, one sentence each.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{AgentReport, Completion, PathReport, Report, Verdict};
use crate::diagnosis::self_healed::self_healed;
use crate::evidence::Matrix;
use crate::evidence::start_up::{MAX_START_UP, Opening};
use crate::report::source_translation::replaced_sources;
use crate::time::nanos;
use crate::topology::{AccessPath, AgentId, NodeName, PathId};
use crate::units::duration;

/// The delay of timers from which an agent counts as starved of CPU, in milliseconds.
const STARVED_MS: u64 = 100;

/// The least time to the first connectivity of new pods that a note has: shorter ones are those of a loaded machine.
const NOTED_WAIT: Duration = Duration::from_millis(400);

/// The most names that a sentence about several agents or nodes lists in a summary.
const MAX_NAMES: usize = 3;

/// The most notes of one kind in a summary.
const MAX_NOTES: usize = 8;

/// Whether a sentence about several agents or nodes names all of them.
#[derive(Clone, Copy)]
enum Detail {
    /// It counts them and names the first ones at most.
    Summary,
    /// It names all of them.
    Full,
}

/// The notes that the evidence alone gives: what opened late, when pods were first connected, where a node replaced the source of
/// packets between pods, and what ended by itself.
pub(super) fn notes_of_evidence(
    matrix: &Matrix,
    openings: &BTreeMap<PathId, Opening>,
    first: &BTreeMap<AgentId, Duration>,
) -> Vec<String> {
    let mut notes = late_starts(matrix, openings);
    notes.extend(first_connectivity(matrix, openings, first));
    notes.extend(replaced_sources(matrix));
    notes.extend(self_healed(matrix));
    notes
}

/// All notes of `report`, whose field `notes` has only those of its run so far. Agents with the same note share one
/// sentence.
pub(super) fn notes(report: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    match &report.completion {
        Completion::Complete => {}
        Completion::Interrupted => {
            notes.push("The run was interrupted: this is what was measured until then.".to_owned());
        }
        Completion::CouldNotRun { reason } => notes.push(format!(
            "The run could not be completed: {reason}. This is what was measured until then."
        )),
    }
    notes.extend(unprobed(report));
    let unfinished: u64 = report.paths.iter().map(|path| path.unfinished).sum();
    if unfinished > 0 {
        notes.push(format!(
            "{unfinished} probes have no outcome: they were in flight, or not sent yet."
        ));
    }
    if report.socket_level {
        notes.push(
            "Socket-level load balancing: connect() itself translates a Service's address, and nothing translates crafted packets. This is no fault; these paths are judged by the kernel engine alone.".to_owned(),
        );
    }
    notes.extend(report.notes.iter().cloned());
    notes.extend(abridged(grouped_notes(report, Detail::Summary)));
    let has_few_round_trips = |path: &PathReport| (1..100).contains(&path.rtt_us.count);
    if report.verdict == Verdict::Faulty && report.paths.iter().any(has_few_round_trips) {
        notes.push(
            "p99 of fewer than 100 round trips is the longest of them; lost has its 95 % interval."
                .to_owned(),
        );
    }
    notes
}

/// One note for each node with paths that opened after their pods were ready, and soon enough to be no fault.
fn late_starts(matrix: &Matrix, openings: &BTreeMap<PathId, Opening>) -> Vec<String> {
    let starts = matrix.late_starts(openings).into_iter();
    starts
        .map(|start| {
            let (paths, their) = match start.paths {
                1 => ("1 path".to_owned(), "its"),
                count => (format!("{count} paths"), "their"),
            };
            let probes = match start.failures {
                1 => "1 probe failed".to_owned(),
                count => format!("{count} probes failed"),
            };
            format!(
                "{paths} of {} opened {} after {their} pods were ready: {probes} until then, and none since. The network plugin or the Services' rules were late for new pods, which is no fault within {}.",
                start.node,
                duration(nanos(start.after)),
                duration(nanos(MAX_START_UP)),
            )
        })
        .collect()
}

/// One note for each node whose pods waited for their first connectivity, and where no other note has the time.
fn first_connectivity(
    matrix: &Matrix,
    openings: &BTreeMap<PathId, Opening>,
    first: &BTreeMap<AgentId, Duration>,
) -> Vec<String> {
    let opened = || openings.keys().filter_map(|id| matrix.paths.get(id));
    let mut waited: BTreeMap<&NodeName, Duration> = BTreeMap::new();
    for (agent, &took) in first {
        let is_noted = opened().any(|evidence| evidence.path.client == *agent);
        if took >= NOTED_WAIT && !is_noted {
            let known = waited.entry(&agent.node).or_default();
            *known = took.max(*known);
        }
    }
    (waited.into_iter())
        .map(|(node, took)| {
            format!(
                "{node}: first connectivity {} after Ready, which is no fault within {}.",
                duration(nanos(took)),
                duration(nanos(MAX_START_UP)),
            )
        })
        .collect()
}

/// The notes of a complete report, in which each note about several agents or nodes names all of them.
pub(super) fn unfolded_notes(report: &Report) -> Vec<String> {
    let summaries = grouped_notes(report, Detail::Summary);
    let full = grouped_notes(report, Detail::Full);
    let left_out = left_out(summaries.len());
    let unfolded = |note: &String| {
        if Some(note) == left_out.as_ref() {
            return full.get(MAX_NOTES..).unwrap_or_default().to_vec();
        }
        let pair = summaries
            .iter()
            .zip(&full)
            .find(|(summary, _)| *summary == note);
        vec![pair.map_or(note, |(_, full)| full).clone()]
    };
    report.notes.iter().flat_map(unfolded).collect()
}

/// The first [`MAX_NOTES`] notes about agents and nodes, and the number of the others.
fn abridged(mut notes: Vec<String>) -> Vec<String> {
    let left_out = left_out(notes.len());
    notes.truncate(MAX_NOTES);
    notes.extend(left_out);
    notes
}

/// The note about those of `count` notes that are left out, if any are.
fn left_out(count: usize) -> Option<String> {
    let more = count.checked_sub(MAX_NOTES).filter(|&more| more > 0)?;
    Some(format!(
        "{more} more notes about agents and nodes: -o wide shows them."
    ))
}

/// The notes about agents, then those about nodes whose facts were not read: the same number at each `detail`.
fn grouped_notes(report: &Report, detail: Detail) -> Vec<String> {
    let mut notes = agent_notes(report, detail);
    let unread = report.nodes.iter().filter_map(|node| {
        let why = node.unread.as_deref()?;
        Some((why, node.node.to_string()))
    });
    for (why, nodes) in grouped(unread) {
        notes.push(format!(
            "Facts of {} were not read: {why}.",
            listed(&nodes, "nodes", detail)
        ));
    }
    notes
}

/// One note for each reason for which paths were not probed, the commonest first; beyond [`MAX_NOTES`] their number.
fn unprobed(report: &Report) -> Vec<String> {
    let mut by_reason: BTreeMap<&str, BTreeMap<AccessPath, usize>> = BTreeMap::new();
    for path in &report.unprobed {
        let kinds = by_reason.entry(path.reason.as_str()).or_default();
        *kinds.entry(path.access_path).or_default() += 1;
    }
    let mut reasons: Vec<(&str, usize, String)> = by_reason
        .into_iter()
        .map(|(reason, kinds)| {
            let counts = kinds
                .iter()
                .map(|(kind, count)| format!("{kind} {count}"))
                .collect::<Vec<_>>();
            (reason, kinds.values().sum(), counts.join(", "))
        })
        .collect();
    reasons.sort_by_key(|(_, count, _)| std::cmp::Reverse(*count));
    let (named, others) = reasons.split_at(reasons.len().min(MAX_NOTES));
    let more: usize = others.iter().map(|(_, count, _)| count).sum();
    let more = (!others.is_empty()).then(|| {
        format!(
            "Not probed, {more} more paths for {} other reasons: the report's JSON lists them.",
            others.len()
        )
    });
    named
        .iter()
        .map(|(reason, count, kinds)| {
            let paths = if *count == 1 { "path" } else { "paths" };
            format!(
                "Not probed, {count} {paths} ({kinds}): {reason}. That says nothing of the network."
            )
        })
        .chain(more)
        .collect()
}

/// The notes about agents.
fn agent_notes(report: &Report, detail: Detail) -> Vec<String> {
    // The failure of a host's agent is already in the note about the node's facts.
    let is_in_node_notes = |agent: &AgentReport| {
        let mut nodes = report.nodes.iter();
        agent.failed.is_some()
            && nodes.any(|node| node.node == agent.node && node.unread == agent.failed)
    };
    let agents: Vec<&AgentReport> = (report.agents.iter())
        .filter(|agent| !is_in_node_notes(agent))
        .collect();
    let mut remarks: Vec<(String, String)> = Vec::new();
    for agent in &agents {
        let name = format!("{} on {}", agent.pod, agent.node);
        let mut add = |remark: String| remarks.push((remark, name.clone()));
        if let Some(why) = &agent.failed {
            add(format!(" could not run: {why}"));
        } else if !agent.has_reported {
            add(" did not report to the end: what it saw is not known.".to_owned());
        }
        for limit in agent.limits.iter().chain(&agent.notices) {
            add(format!(": {limit}"));
        }
    }
    let remarks = remarks
        .iter()
        .map(|(remark, name)| (remark.as_str(), name.clone()));
    let mut notes: Vec<String> = grouped(remarks)
        .into_iter()
        .map(|(remark, names)| match names.as_slice() {
            [only] => format!("Agent {only}{remark}"),
            many => format!("{}{remark}", listed(many, "agents", detail)),
        })
        .collect();
    notes.extend(lossy_captures(&agents, detail));
    notes.extend(starved_agents(&agents, detail));
    notes
}

/// A note about packets that captures dropped.
fn lossy_captures(agents: &[&AgentReport], detail: Detail) -> Option<String> {
    let lossy: Vec<_> = agents
        .iter()
        .copied()
        .filter(|agent| agent.capture_dropped > 0)
        .collect();
    let packets: u64 = lossy.iter().map(|agent| agent.capture_dropped).sum();
    match lossy.as_slice() {
        [] => None,
        [only] => Some(format!(
            "The capture of {} on {} lost {packets} packets: what it did not see may have been there.",
            only.pod, only.node
        )),
        many => Some(format!(
            "The captures of {} lost {packets} packets: what they did not see may have been there.",
            measured(many, detail, |agent| agent.capture_dropped.to_string())
        )),
    }
}

/// A note about agents that were starved of CPU.
fn starved_agents(agents: &[&AgentReport], detail: Detail) -> Option<String> {
    let starved: Vec<_> = agents
        .iter()
        .copied()
        .filter(|agent| agent.starved_ms >= STARVED_MS)
        .collect();
    let longest = starved.iter().map(|agent| agent.starved_ms).max()?;
    let milliseconds = |ms: u64| duration(ms.saturating_mul(1_000_000));
    let longest = milliseconds(longest);
    Some(match starved.as_slice() {
        [only] => format!(
            "Agent {} on {} was starved of CPU (up to {longest}): its timings are unreliable.",
            only.pod, only.node
        ),
        many => format!(
            "{} were starved of CPU (up to {longest}): timings there are unreliable.",
            measured(many, detail, |agent| milliseconds(agent.starved_ms))
        ),
    })
}

/// Groups names by their remark, in the order in which each remark first occurs.
fn grouped<'a>(remarks: impl Iterator<Item = (&'a str, String)>) -> Vec<(&'a str, Vec<String>)> {
    let mut groups: Vec<(&str, Vec<String>)> = Vec::new();
    for (remark, name) in remarks {
        match groups.iter_mut().find(|(known, _)| *known == remark) {
            Some((_, names)) => names.push(name),
            None => groups.push((remark, vec![name])),
        }
    }
    groups
}

/// The number of several agents; in full, also their names with what was measured of each.
fn measured(
    agents: &[&AgentReport],
    detail: Detail,
    measurement: impl Fn(&AgentReport) -> String,
) -> String {
    match detail {
        Detail::Summary => format!("{} agents", agents.len()),
        Detail::Full => {
            let name = |agent: &&AgentReport| {
                format!("{} on {}: {}", agent.pod, agent.node, measurement(agent))
            };
            let names: Vec<String> = agents.iter().map(name).collect();
            listed(&names, "agents", detail)
        }
    }
}

/// One name, or the number of names and as many of them as `detail` allows.
fn listed(names: &[String], kind: &str, detail: Detail) -> String {
    let most = match detail {
        Detail::Summary => MAX_NAMES,
        Detail::Full => names.len(),
    };
    let shown: Vec<&str> = names.iter().take(most).map(String::as_str).collect();
    let shown = shown.join(", ");
    match names.len() {
        0 | 1 => shown,
        count if count <= most => format!("{count} {kind} ({shown})"),
        count => format!("{count} {kind} ({shown} and {} more)", count - most),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::outcome::{EngineKind, Outcome};
    use crate::report::incident;

    /// The notes of a healthy report after `change` was applied to its agents.
    fn notes_with(change: impl Fn(&mut AgentReport)) -> Vec<String> {
        let mut report = incident::healthy_report();
        report.agents.iter_mut().for_each(change);
        notes(&report)
    }

    #[test]
    fn what_is_true_of_all_agents_is_one_note() {
        let starved = notes_with(|agent| agent.starved_ms = 5_400);
        assert_eq!(
            starved,
            ["4 agents were starved of CPU (up to 5.4 s): timings there are unreliable."]
        );
        let limited = notes_with(|agent| agent.limits = vec!["it has no CAP_NET_RAW".to_owned()]);
        assert_eq!(
            limited,
            [
                "4 agents (client-1 on node-1, server-1 on node-1, client-2 on node-2 and 1 more): it has no CAP_NET_RAW"
            ]
        );
    }

    #[test]
    fn unfolded_notes_name_every_agent() {
        let mut report = incident::healthy_report();
        for agent in &mut report.agents {
            agent.starved_ms = 5_400;
            agent.limits = vec!["it has no CAP_NET_RAW".to_owned()];
        }
        report.notes = notes(&report);
        report.notes.push("Another note.".to_owned());
        assert_eq!(
            unfolded_notes(&report),
            [
                "4 agents (client-1 on node-1, server-1 on node-1, client-2 on node-2, server-2 on node-2): it has no CAP_NET_RAW",
                "4 agents (client-1 on node-1: 5.4 s, server-1 on node-1: 5.4 s, client-2 on node-2: 5.4 s, server-2 on node-2: 5.4 s) were starved of CPU (up to 5.4 s): timings there are unreliable.",
                "Another note.",
            ]
        );
    }

    #[test]
    fn what_is_true_of_one_agent_names_it() {
        let one = |agent: &mut AgentReport| {
            if agent.pod == "server-2" {
                agent.capture_dropped = 7;
                agent.starved_ms = 300;
                agent.has_reported = false;
            }
        };
        assert_eq!(
            notes_with(one),
            [
                "Agent server-2 on node-2 did not report to the end: what it saw is not known.",
                "The capture of server-2 on node-2 lost 7 packets: what it did not see may have been there.",
                "Agent server-2 on node-2 was starved of CPU (up to 300 ms): its timings are unreliable.",
            ]
        );
    }

    #[test]
    fn a_report_has_the_notes_that_it_shows() {
        let mut matrix = incident::healthy_matrix();
        for agent in matrix.agents.values_mut() {
            agent.starved_ns = 4_500_000_000;
        }
        let report = Report::new(&matrix, &[], incident::meta("prober run --lab"));
        assert!(report.notes[0].contains("4 agents were starved"));
    }

    #[test]
    fn a_late_start_is_a_note_with_its_figure_and_no_fault() {
        let mut matrix = incident::healthy_matrix();
        for agent in matrix.agents.values_mut() {
            agent.ready_at = Some(crate::time::Timestamp::default());
        }
        let ready = (matrix.agents.values())
            .filter_map(|agent| Some(agent.hello.as_ref()?.at))
            .max()
            .unwrap();
        let at = |millis| ready + Duration::from_millis(millis);
        let path = matrix.paths.get_mut(&PathId(1)).unwrap();
        let probe = |millis, outcome| {
            let mut probe = incident::probe();
            probe.client.started = at(millis);
            probe.client.syns = 1;
            probe.client.outcome = outcome;
            probe
        };
        let answered = Outcome::Established {
            rtt_ns: 0,
            connect_ns: 0,
        };
        path.probes = [10, 20, 30]
            .map(|millis| probe(millis, Outcome::Timeout))
            .into();
        path.probes.push(probe(2_100, answered));
        let tally = path.tallies.get_mut(&EngineKind::Kernel).unwrap();
        tally.outcomes.timeout = 3;
        let report = Report::new(&matrix, &[], incident::meta("prober run --lab"));
        assert_eq!(
            report.notes[0],
            "1 path of node-1 opened 2.1 s after its pods were ready: 3 probes failed until then, and none since. The network plugin or the Services' rules were late for new pods, which is no fault within 10 s."
        );
        assert_eq!(report.verdict, Verdict::Healthy);
        let of_path = report.path(PathId(1)).unwrap();
        assert_eq!(of_path.health, crate::report::Health::Opened);
        assert_eq!(of_path.outcomes.timeout, 3);
    }
}
