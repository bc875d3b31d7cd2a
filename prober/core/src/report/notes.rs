//! The notes of a report: what limits its verdict, and further facts for the reader, one sentence each.

use std::collections::BTreeMap;

use super::{AgentReport, Completion, PathReport, Report, Verdict};
use crate::units::duration;

/// The delay of timers from which an agent counts as starved of CPU, in milliseconds.
const STARVED_MS: u64 = 100;

/// The most names that a sentence about several agents or nodes lists.
const MAX_NAMES: usize = 3;

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
    notes.extend(agent_notes(report));
    let unread = report.nodes.iter().filter_map(|node| {
        let why = node.unread.as_deref()?;
        Some((why, node.node.to_string()))
    });
    for (why, nodes) in grouped(unread) {
        notes.push(format!(
            "Facts of {} were not read: {why}.",
            listed(&nodes, "nodes")
        ));
    }
    let has_few_round_trips = |path: &PathReport| (1..100).contains(&path.rtt_us.count);
    if report.verdict == Verdict::Faulty && report.paths.iter().any(has_few_round_trips) {
        notes.push(
            "p99 of fewer than 100 round trips is the longest of them; lost has its 95 % interval."
                .to_owned(),
        );
    }
    notes
}

/// One note for each reason for which paths were not probed.
fn unprobed(report: &Report) -> Vec<String> {
    let mut by_reason: BTreeMap<&str, usize> = BTreeMap::new();
    for path in &report.unprobed {
        *by_reason.entry(path.reason.as_str()).or_default() += 1;
    }
    by_reason
        .into_iter()
        .map(|(reason, count)| {
            let paths = if count == 1 { "path" } else { "paths" };
            format!("Not probed, {count} {paths}: {reason}. That says nothing of the network.")
        })
        .collect()
}

/// The notes about agents.
fn agent_notes(report: &Report) -> Vec<String> {
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
            many => format!("{}{remark}", listed(many, "agents")),
        })
        .collect();
    notes.extend(lossy_captures(&agents));
    notes.extend(starved_agents(&agents));
    notes
}

/// A note about packets that captures dropped.
fn lossy_captures(agents: &[&AgentReport]) -> Option<String> {
    let lossy: Vec<_> = agents
        .iter()
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
            "The captures of {} agents lost {packets} packets: what they did not see may have been there.",
            many.len()
        )),
    }
}

/// A note about agents that were starved of CPU.
fn starved_agents(agents: &[&AgentReport]) -> Option<String> {
    let starved: Vec<_> = agents
        .iter()
        .filter(|agent| agent.starved_ms >= STARVED_MS)
        .collect();
    let longest = starved.iter().map(|agent| agent.starved_ms).max()?;
    let longest = duration(longest.saturating_mul(1_000_000));
    Some(match starved.as_slice() {
        [only] => format!(
            "Agent {} on {} was starved of CPU (up to {longest}): its timings are unreliable.",
            only.pod, only.node
        ),
        many => format!(
            "{} agents were starved of CPU (up to {longest}): timings there are unreliable.",
            many.len()
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

/// One name, or the number of names and the first [`MAX_NAMES`] of them.
fn listed(names: &[String], kind: &str) -> String {
    let shown: Vec<&str> = names.iter().take(MAX_NAMES).map(String::as_str).collect();
    let shown = shown.join(", ");
    match names.len() {
        0 | 1 => shown,
        count if count <= MAX_NAMES => format!("{count} {kind} ({shown})"),
        count => format!("{count} {kind} ({shown} and {} more)", count - MAX_NAMES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
}
