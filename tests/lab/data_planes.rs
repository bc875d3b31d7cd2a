//! Runs on every data plane of the lab: a healthy lab names nothing, and a fault of its own ends in a report.

use std::collections::BTreeSet;

use libtest_mimic::{Failed, Trial};

use crate::harness::{Fault, Lab};

pub(crate) fn trials() -> Vec<Trial> {
    let faults = Lab::faults();
    let data_planes: BTreeSet<String> = faults
        .iter()
        .flat_map(|fault| fault.data_planes.clone())
        .collect();
    let mut trials = Vec::new();
    for data_plane in data_planes {
        for fault in faults.iter().filter(|fault| {
            fault.data_planes.contains(&data_plane) && !fault.is_on_the_default_data_plane()
        }) {
            let (fault, on) = (fault.clone(), data_plane.clone());
            trials.push(Trial::test(
                format!("fault {} with {on} ends in a report", fault.name),
                move || broken(&fault, &on),
            ));
        }
        trials.push(Trial::test(
            format!("no cause is named in a healthy lab with {data_plane}"),
            move || healthy(&data_plane),
        ));
    }
    trials.push(Trial::test(
        "no cause is named in a healthy lab whose kube-proxy writes nftables",
        || {
            let report = Lab::run(&["--proxy", "nftables", "--family", "dual"])?;
            report.names_only(&BTreeSet::new())
        },
    ));
    trials
}

fn healthy(data_plane: &str) -> Result<(), Failed> {
    let report = Lab::run(&["--data-plane", data_plane, "--family", "dual"])?;
    report.names_only(&BTreeSet::new())
}

/// Injects a fault for which the catalogue may have no cause yet: the run must find failing paths.
fn broken(fault: &Fault, data_plane: &str) -> Result<(), Failed> {
    let report = Lab::run(&["--data-plane", data_plane, "--fault", &fault.name])?;
    if report.status != 1 || report.completion != "complete" {
        let (status, completion) = (report.status, &report.completion);
        return Err(format!("exit status {status}, {completion}\n{}", report.summary()).into());
    }
    Ok(())
}
