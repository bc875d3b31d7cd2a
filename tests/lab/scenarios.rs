//! Scenarios beyond a single fault: a healthy lab, several faults, many endpoints, missing evidence.

use std::collections::BTreeSet;

use libtest_mimic::{Failed, Trial};

use crate::harness::Lab;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for data_plane in ["bridge-vxlan", "calico-like"] {
        for fault in ["late-policy", "late-rules"] {
            trials.push(Trial::test(
                format!("{fault} with {data_plane} is a note with a figure and no fault"),
                move || late(fault, data_plane),
            ));
        }
    }
    for (lasts, fault) in [0.5, 2.0, 5.0]
        .into_iter()
        .flat_map(|lasts| ["late-policy", "late-rules"].map(|fault| (lasts, fault)))
    {
        trials.push(Trial::test(
            format!("{fault} of {lasts} s is no fault, and its time is reported"),
            move || in_time(fault, lasts),
        ));
    }
    for (fault, agent) in [
        ("late-policy", "its network plugin or its policy engine"),
        ("late-rules", "what translates Services on node-1"),
    ] {
        trials.push(Trial::test(
            format!("{fault} of 30 s is endpoint-not-programmed, alone"),
            move || too_late(fault, agent),
        ));
    }
    trials.extend([
        Trial::test(
            "no cause is named in a healthy lab with ten thousand probes of each family",
            healthy,
        ),
        Trial::test("two faults at once are both named", two_at_once),
        Trial::test(
            "the evidence of a diagnosis quotes the EndpointSlices",
            slices,
        ),
        Trial::test(
            "a closed port is named although bridge-netfilter-off hides it",
            closed_port_behind_timeouts,
        ),
        Trial::test(
            "one bad endpoint of ten behind the balanced port is located",
            one_of_ten,
        ),
        Trial::test(
            "one bad endpoint of twelve over three nodes is located",
            one_of_twelve,
        ),
        Trial::test(
            "node ports and host-network clients work in a healthy lab",
            every_access_path,
        ),
        Trial::test("bridge-netfilter-off is named on its node", correct_node),
        Trial::test(
            "without node facts bridge-netfilter-off is only consistent",
            without_facts,
        ),
        Trial::test(
            "without packets bridge-netfilter-off is only consistent",
            without_packets,
        ),
    ]);
    trials
}

pub(crate) fn causes(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Paths that open two seconds after their first packet.
fn late(fault: &str, data_plane: &str) -> Result<(), Failed> {
    let report = Lab::run(&["--data-plane", data_plane, "--fault", fault])?;
    report.names_only(&BTreeSet::new())?;
    let has_opened = |path: &serde_json::Value| path["health"] == "opened";
    let is_note = |note: &&String| {
        let figure = note.split_once("of node-1 opened ").map(|(_, rest)| rest);
        figure.is_some_and(|rest| rest.split_once(" s after").is_some())
    };
    if !report.paths.iter().any(has_opened) || report.notes.iter().find(is_note).is_none() {
        return Err(format!("{:#?}\n{}", report.notes, report.summary()).into());
    }
    Ok(())
}

/// Paths that open in time: nothing is named, and the longest time to first connectivity is that of the fault.
fn in_time(fault: &str, lasts: f64) -> Result<(), Failed> {
    let report = Lab::run(&["--fault", &format!("{fault}:{lasts}s@node-1")])?;
    report.names_only(&BTreeSet::new())?;
    let first = (report.agents.iter()).filter_map(|agent| agent["first_connectivity_ms"].as_f64());
    let longest = first.fold(0.0, f64::max);
    // A closed path is probed again every 1.1 s; the fault begins with the first packet, and ends within a poll of its counter.
    if !(lasts * 800.0..10_000.0).contains(&longest) {
        return Err(format!("{longest} ms\n{}", report.summary()).into());
    }
    Ok(())
}

/// Paths that open too late, in a run that waits for them.
fn too_late(fault: &str, agent: &str) -> Result<(), Failed> {
    let at = format!("{fault}:30s@node-1");
    let report = Lab::run(&["--wait-for-paths", "45s", "--fault", &at])?;
    report.names_only(&causes(&["endpoint-not-programmed"]))?;
    for diagnosis in &report.diagnoses {
        let is_quoted = diagnosis.evidence.iter().any(|line| line.contains(agent));
        if diagnosis.node.as_deref() != Some("node-1") || !is_quoted {
            return Err(format!("{diagnosis:#?}").into());
        }
    }
    Ok(())
}

fn healthy() -> Result<(), Failed> {
    let report = Lab::run(&["--family", "dual", "--probes", "800"])?;
    report.names_only(&BTreeSet::new())?;
    for family in ["ipv4", "ipv6"] {
        let probes: u64 = report
            .paths
            .iter()
            .filter(|path| path["family"] == family)
            .map(|path| path["outcomes"]["established"].as_u64().unwrap_or(0))
            .sum();
        if probes < 10_000 {
            return Err(format!("only {probes} probes of {family}").into());
        }
    }
    Ok(())
}

fn slices() -> Result<(), Failed> {
    let faults = [
        "--fault",
        "no-endpoints@node-1",
        "--fault",
        "stale-endpoint@node-2",
    ];
    let report = Lab::run(&faults)?;
    report.names_only(&causes(&["no-endpoints", "stale-endpoint"]))?;
    for (cause, text) in [
        ("no-endpoints", "names no ready endpoint"),
        (
            "stale-endpoint",
            "leads to 100.96.2.99:8080, which no live pod has",
        ),
    ] {
        let diagnosis = report.diagnosis(cause)?;
        let is_quoted = diagnosis
            .evidence
            .iter()
            .any(|line| line.starts_with("the EndpointSlice") && line.contains(text));
        if !is_quoted || diagnosis.confidence != "proven" {
            return Err(format!("{diagnosis:#?}").into());
        }
    }
    Ok(())
}

fn two_at_once() -> Result<(), Failed> {
    let report = Lab::run(&[
        "--fault",
        "bridge-netfilter-off@node-1",
        "--fault",
        "overlay-blocked-in@node-2",
    ])?;
    report.names_only(&causes(&["bridge-netfilter-off", "overlay-blocked"]))
}

fn closed_port_behind_timeouts() -> Result<(), Failed> {
    let report = Lab::run(&[
        "--fault",
        "bridge-netfilter-off@node-1",
        "--fault",
        "not-listening@node-1",
    ])?;
    report.names_only(&causes(&["bridge-netfilter-off", "not-listening"]))
}

fn one_of_ten() -> Result<(), Failed> {
    let report = Lab::run(&[
        "--nodes",
        "10",
        "--node",
        "node-1",
        "--peers",
        "9",
        "--fault",
        "not-listening@node-7",
        "--probes",
        "30",
    ])?;
    report.names_only(&causes(&["not-listening"]))?;
    let diagnosis = report.diagnosis("not-listening")?;
    if diagnosis.node.as_deref() != Some("node-7") {
        return Err(format!("attributed to {:?}", diagnosis.node).into());
    }
    Ok(())
}

fn one_of_twelve() -> Result<(), Failed> {
    let report = Lab::run(&[
        "--nodes",
        "3",
        "--servers",
        "4",
        "--fault",
        "not-listening@node-2",
        "--probes",
        "10",
    ])?;
    report.names_only(&causes(&["not-listening"]))?;
    let failing = report
        .paths
        .iter()
        .filter(|path| path["health"] == "failing" && path["access_path"] == "cluster-ip");
    for path in failing {
        if path["server"]["pod"] != "node-2-server" {
            return Err(format!("{path:#}").into());
        }
    }
    Ok(())
}

fn every_access_path() -> Result<(), Failed> {
    let report = Lab::run(&["--family", "dual", "--probes", "10"])?;
    report.names_only(&BTreeSet::new())?;
    for (access_path, paths) in [("node-port", 8), ("host-network", 8)] {
        let works = |path: &&serde_json::Value| {
            path["access_path"] == access_path && path["health"] == "healthy"
        };
        let count = report.paths.iter().filter(works).count();
        if count != paths {
            return Err(
                format!("{count} {access_path} paths are healthy, expected {paths}").into(),
            );
        }
    }
    Ok(())
}

fn correct_node() -> Result<(), Failed> {
    let report = Lab::run(&["--nodes", "3", "--fault", "bridge-netfilter-off@node-3"])?;
    report.names_only(&causes(&["bridge-netfilter-off"]))?;
    let diagnosis = report.diagnosis("bridge-netfilter-off")?;
    if diagnosis.node.as_deref() != Some("node-3") || diagnosis.confidence != "proven" {
        return Err(format!("{diagnosis:#?}").into());
    }
    // The answer bypasses netfilter, so its node waits for it.
    let is_unreplied =
        |entry: &String| entry.contains(" SYN_SENT src=") && entry.contains(" [UNREPLIED] src=");
    let [conntrack] = &diagnosis.conntrack[..] else {
        return Err(format!("{diagnosis:#?}").into());
    };
    if conntrack.node != "node-3"
        || !conntrack.is_complete
        || !matches!(&conntrack.entries[..], [entry] if is_unreplied(entry))
    {
        return Err(format!("{diagnosis:#?}").into());
    }
    Ok(())
}

fn only_consistent(tier: &str) -> Result<(), Failed> {
    let report = Lab::run(&["--tier", tier, "--fault", "bridge-netfilter-off@node-1"])?;
    report.names_only(&causes(&["bridge-netfilter-off"]))?;
    let diagnosis = report.diagnosis("bridge-netfilter-off")?;
    if diagnosis.confidence != "consistent" || diagnosis.node.as_deref() != Some("node-1") {
        return Err(format!("{diagnosis:#?}").into());
    }
    Ok(())
}

fn without_facts() -> Result<(), Failed> {
    only_consistent("T1")
}

fn without_packets() -> Result<(), Failed> {
    only_consistent("T0")
}
