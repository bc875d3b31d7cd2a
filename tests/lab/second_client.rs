//! A filter of one pod and the same of its whole node: a second client on the node distinguishes them, and each is proven.

use libtest_mimic::{Failed, Trial};

use crate::harness::Lab;
use crate::scenarios::causes;

/// Data planes with bridged and with routed pods.
const DATA_PLANES: [&str; 2] = ["bridge-vxlan", "calico-like"];

/// A fault, its cause, whether it is one of the client pod alone, and the health of the second client's path.
type Row = (&'static str, &'static str, bool, &'static str);

const ROWS: [Row; 2] = [
    ("forward-drop-egress-new", "forward-drop", false, "failing"),
    (
        "network-policy-egress-across",
        "network-policy",
        true,
        "healthy",
    ),
];

pub(crate) fn trials() -> Vec<Trial> {
    let all = DATA_PLANES
        .iter()
        .flat_map(|data_plane| ROWS.iter().map(move |row| (*data_plane, row)));
    let trial = |(data_plane, row): (&'static str, &'static Row)| {
        let name = format!("a second client proves {} with {data_plane}", row.0);
        Trial::test(name, move || is_proven(data_plane, row))
    };
    let trials = all.map(trial);
    trials
        .chain([Trial::test(
            "a fault with an answer has no second client",
            answered,
        )])
        .collect()
}

fn is_proven(data_plane: &str, (fault, cause, is_of_pod, health): &Row) -> Result<(), Failed> {
    let report = Lab::run(&["--data-plane", data_plane, "--fault", *fault])?;
    report.names_only(&causes(&[*cause]))?;
    let diagnosis = report.diagnosis(cause)?;
    let is_pod = diagnosis.segment.pod["pod"] == "node-1-client";
    if diagnosis.confidence != "proven"
        || diagnosis.node.as_deref() != Some("node-1")
        || is_pod != *is_of_pod
    {
        return Err(report.summary().into());
    }
    let second = (report.comparisons.iter()).find(|one| one["kind"] == "second-client");
    let second = second.map(|one| &one["path"]);
    let is_as_expected = second
        .is_some_and(|path| path["client"]["pod"] == "node-1-server" && path["health"] == *health);
    let mut evidence = diagnosis.evidence.iter();
    if !is_as_expected || !evidence.any(|line| line.contains("another pod of node-1 ")) {
        return Err(format!("{second:#?}\n{}", report.summary()).into());
    }
    Ok(())
}

fn answered() -> Result<(), Failed> {
    let report = Lab::run(&["--fault", "policy-reject-icmp"])?;
    report.names_only(&causes(&["network-policy"]))?;
    if report.comparisons.is_empty() {
        Ok(())
    } else {
        Err(format!("{:#?}", report.comparisons).into())
    }
}
