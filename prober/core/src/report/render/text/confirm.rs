//! The commands that confirm a repair: on a cluster the same run again, in the lab the same fault, healed.

use super::super::shell;
use crate::evidence::Source;
use crate::report::{DiagnosisReport, PathReport, Report};
use crate::topology::AccessPath;

/// Options for the form of a report and its file. Each takes a value: the next argument, or the part after `=`.
const FORMS: [&str; 4] = ["--pcapng", "--output", "-o", "--report"];

/// The heading above the commands.
const HEADING: &str = "To confirm the fix (exits 0 when healthy)";

/// The commands that confirm that a fault is repaired, and their explanation.
pub(in crate::report::render) struct Confirmation {
    /// The heading above the commands.
    pub heading: &'static str,
    /// What the commands require, if anything.
    pub note: Option<&'static str>,
    /// The commands, in order.
    pub commands: Vec<String>,
}

/// The commands that confirm the repair of the faults in `report`; `None` if it has no diagnosis, or no command line.
pub(in crate::report::render) fn confirmation(report: &Report) -> Option<Confirmation> {
    let is_named = |one: &DiagnosisReport| one.cause.0.is_some() || report.source != Source::Host;
    if report.command.is_empty() || !report.diagnoses.iter().any(is_named) {
        return None;
    }
    let words = || report.command.iter().map(String::as_str);
    Some(if words().any(|word| word == "--lab") {
        in_lab(report)
    } else {
        Confirmation {
            heading: HEADING,
            note: match report.source {
                Source::Run | Source::Host => None,
                Source::Capture => Some("With a new capture, taken after the fix."),
            },
            commands: vec![shell(&without(&report.command, &FORMS, &["-q", "--quiet"]))],
        }
    })
}

/// The commands for a run in a lab. The lab of a run is deleted at its end, so they bring up one that stays, with the
/// same faults.
fn in_lab(report: &Report) -> Confirmation {
    let mut up = vec!["prober".to_owned(), "lab".to_owned(), "up".to_owned()];
    for option in ["--nodes", "--fault"] {
        for value in values(&report.command, option) {
            up.extend([option.to_owned(), value.to_owned()]);
        }
    }
    let mut commands = vec![format!("{}    # in another terminal", shell(&up))];
    let probe = probe(report)
        .map(|(place, target)| format!("prober lab shell {place} -- prober probe {target}"));
    commands.extend(probe.iter().map(|probe| format!("{probe}    # fails")));
    commands.push("prober lab heal".to_owned());
    commands.extend(probe.iter().map(|probe| format!("{probe}    # exits 0")));
    Confirmation {
        heading: HEADING,
        note: Some(
            "In a lab that stays up with the same fault: `prober lab heal` undoes it, and so does the remedy in `prober lab shell NODE`.",
        ),
        commands,
    }
}

/// A failing path as the lab's pod or node to probe from, and the target to probe.
fn probe(report: &Report) -> Option<(&str, String)> {
    // `prober lab up` starts one server on each node, in the order of the nodes; with `--node` or `--servers` a run assigns
    // the Services of its slots differently.
    let is_same_lab = ["--node", "--servers"]
        .iter()
        .all(|option| values(&report.command, option).next().is_none());
    let is_there = |path: &&PathReport| match path.access_path {
        AccessPath::PodIp | AccessPath::ClusterIpAny | AccessPath::ClusterIpLocal => true,
        AccessPath::ClusterIp
        | AccessPath::Hairpin
        | AccessPath::NodePort
        | AccessPath::HostNetwork => is_same_lab,
    };
    let diagnosis = report.diagnoses.first()?;
    let shown = report.sample(diagnosis).map(|(path, _)| path);
    let explained = diagnosis.paths.iter().filter_map(|path| report.path(*path));
    let path = shown.into_iter().chain(explained).find(is_there)?;
    let place = match path.access_path {
        AccessPath::HostNetwork => path.client.node.as_ref()?.as_str(),
        AccessPath::PodIp
        | AccessPath::ClusterIp
        | AccessPath::ClusterIpAny
        | AccessPath::ClusterIpLocal
        | AccessPath::Hairpin
        | AccessPath::NodePort => path.client.pod.as_deref()?,
    };
    Some((place, path.target.to_string()))
}

/// The values of `option` in `words`, in order.
fn values<'a>(words: &'a [String], option: &'a str) -> impl Iterator<Item = &'a str> {
    let next = words.iter().skip(1).map(Some).chain([None]);
    words.iter().zip(next).filter_map(move |(word, next)| {
        if word == option {
            next.map(String::as_str)
        } else {
            word.strip_prefix(option)?.strip_prefix('=')
        }
    })
}

/// `words` without `options` and their values, and without `flags`.
fn without(words: &[String], options: &[&str], flags: &[&str]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let name = word.split_once('=').map_or(word.as_str(), |(name, _)| name);
        if options.contains(&word.as_str()) {
            rest.next();
        } else if !options.contains(&name) && !flags.contains(&name) {
            kept.push(word.clone());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::incident;

    fn confirmed(command: &str) -> Vec<String> {
        let report = Report::new(
            &incident::incident_matrix(),
            &[incident::incident_diagnosis()],
            incident::meta(command),
        );
        confirmation(&report).unwrap().commands
    }

    #[test]
    fn on_a_cluster_it_is_the_same_command_in_the_usual_form() {
        assert_eq!(
            confirmed(
                "prober run --node node-1 -q -o json --pcapng=/tmp/f --report junit=/tmp/j --peers 2"
            ),
            ["prober run --node node-1 --peers 2"]
        );
    }

    #[test]
    fn in_the_lab_it_is_the_same_fault_probed_healed_and_probed_again() {
        let typed = "prober run --lab --fault=forward-drop -q -o json --fault mtu@node-1 --nodes 3";
        let probe = "prober lab shell client-1 -- prober probe 100.67.30.133:80";
        assert_eq!(
            confirmed(typed),
            [
                "prober lab up --nodes 3 --fault forward-drop --fault mtu@node-1    # in another terminal".to_owned(),
                format!("{probe}    # fails"),
                "prober lab heal".to_owned(),
                format!("{probe}    # exits 0"),
            ]
        );
    }

    #[test]
    fn where_the_slots_of_the_lab_differ_a_path_without_a_slot_is_probed() {
        let commands =
            confirmed("prober run --lab --servers 2 --fault bridge-netfilter-off@node-1");
        assert!(
            commands[1].ends_with("probe 100.67.30.133:8000    # fails"),
            "{commands:?}"
        );
    }
}
