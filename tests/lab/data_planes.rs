//! Runs on every data plane of the lab beside the default one: a healthy lab names nothing, and a fault is named as on the
//! default one, or listed in [`EXCEPTIONS`].
//!
//! All faults on all data planes are some three hundred runs. A part of them runs always; `PROBER_WHOLE_LAB=1` runs all.

use std::collections::BTreeSet;

use libtest_mimic::{Failed, Trial};

use crate::harness::{Diagnosis, Fault, Lab, Report};

/// A fault on a data plane whose report does not name exactly the causes of the fault.
struct Exception {
    fault: &'static str,
    data_plane: &'static str,
    /// What the report may say instead: `unknown` where it only names the place, or causes that fit as well.
    said: &'static [&'static str],
    /// Why the evidence does not show more.
    because: &'static str,
}

const fn except(
    fault: &'static str,
    data_plane: &'static str,
    said: &'static [&'static str],
    because: &'static str,
) -> Exception {
    Exception {
        fault,
        data_plane,
        said,
        because,
    }
}

/// The list may only shrink: one that the report no longer needs fails its test. None may be *proven*.
const EXCEPTIONS: &[Exception] = &[
    except(
        "network-policy-egress",
        "macvlan",
        &["forward-drop"],
        "only packets to Services pass the client's node: one client does not show whether the filter is for it alone",
    ),
    except(
        "pod-veth-down",
        "macvlan",
        &["unknown"],
        "no cause of the catalogue is a link for Services alone that is down",
    ),
    except(
        "pod-route-missing",
        "macvlan",
        &["unknown"],
        "the pod is reached past its node, so nothing but the Service shows the route",
    ),
    except(
        "reply-bypasses-nat",
        "macvlan",
        &["unknown"],
        "the answers get to the node and no further: none arrives from another address",
    ),
    except(
        "eni-down",
        "vpc-cni-like",
        &["network-blocked"],
        "no cause of the catalogue is an uplink of pods that is down: their packets do not leave, as if the network dropped them",
    ),
];

/// Faults that break something else on these data planes, and the causes there.
const OTHER_CAUSES: &[(&str, &[&str], &[&str])] = &[
    // A link that is down loses the pod's route.
    (
        "pod-veth-down",
        &["calico-like", "vpc-cni-like"],
        &["pod-route-missing"],
    ),
    // Answers to an address that is not replaced go to the client itself, past the node.
    ("missing-masquerade", &["macvlan"], &["reply-bypasses-nat"]),
];

/// The causes that a report is to name.
fn causes(fault: &Fault, data_plane: &str) -> BTreeSet<String> {
    let mut others = OTHER_CAUSES
        .iter()
        .filter(|(name, data_planes, _)| *name == fault.name && data_planes.contains(&data_plane));
    match others.next() {
        Some((.., causes)) => crate::scenarios::causes(causes),
        // The catalogue has no cause for it.
        None if fault.causes.is_empty() && !fault.is_harmless && !fault.ends_with_start_up => {
            crate::scenarios::causes(&["unknown"])
        }
        None => fault.causes.clone(),
    }
}

/// Of the faults that the default data plane can have as well, every so many-th run on another one is always made.
const ALWAYS_EVERY: usize = 8;

/// The runs that are made, and the number of those that are left out.
fn chosen(faults: &[Fault], is_whole: bool) -> (Vec<(Fault, String)>, usize) {
    let pairs = faults.iter().flat_map(|fault| {
        let others = fault.data_planes.iter();
        others
            .filter(|data_plane| *data_plane != "bridge-vxlan")
            .map(move |data_plane| (fault, data_plane))
    });
    let is_always = |at: usize, fault: &Fault| {
        at.is_multiple_of(ALWAYS_EVERY) || !fault.is_on_the_default_data_plane()
    };
    let (made, left_out): (Vec<_>, Vec<_>) = pairs
        .enumerate()
        .partition(|(at, (fault, _))| is_whole || is_always(*at, fault));
    let made = made
        .into_iter()
        .map(|(_, (fault, data_plane))| (fault.clone(), data_plane.clone()));
    (made.collect(), left_out.len())
}

pub(crate) fn trials() -> Vec<Trial> {
    let faults = Lab::faults();
    let is_whole = std::env::var_os("PROBER_WHOLE_LAB").is_some_and(|value| value == "1");
    let (runs, left_out) = chosen(&faults, is_whole);
    if left_out > 0 {
        println!(
            "skipped: {left_out} runs of faults on other data planes, because they take half an hour; PROBER_WHOLE_LAB=1 makes them"
        );
    }
    let mut trials: Vec<Trial> = runs
        .into_iter()
        .map(|(fault, data_plane)| {
            Trial::test(
                format!("fault {} with {data_plane} is named", fault.name),
                move || is_named(&fault, &data_plane),
            )
        })
        .collect();
    let data_planes: BTreeSet<String> = faults
        .iter()
        .flat_map(|fault| fault.data_planes.clone())
        .collect();
    for data_plane in data_planes {
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
    trials.push(Trial::test(
        "every exception is for a fault that its data plane can have, and has a reason",
        move || exceptions_apply(&faults),
    ));
    trials
}

fn healthy(data_plane: &str) -> Result<(), Failed> {
    let report = Lab::run(&["--data-plane", data_plane, "--family", "dual"])?;
    report.names_only(&BTreeSet::new())
}

fn exceptions_apply(faults: &[Fault]) -> Result<(), Failed> {
    for exception in EXCEPTIONS {
        let has = |fault: &Fault| {
            fault.name == exception.fault
                && (fault.data_planes.iter()).any(|name| name == exception.data_plane)
        };
        if exception.because.is_empty() || !faults.iter().any(has) {
            let (fault, data_plane) = (exception.fault, exception.data_plane);
            return Err(format!("{fault} with {data_plane} has no run or no reason").into());
        }
    }
    Ok(())
}

/// Injects a fault and checks the causes of the report, their confidence and their places.
fn is_named(fault: &Fault, data_plane: &str) -> Result<(), Failed> {
    // A fault whose name ends in -v6 affects IPv6 only.
    let family = if fault.name.ends_with("-v6") {
        "dual"
    } else {
        "ipv4"
    };
    let arguments = ["--data-plane", data_plane, "--family", family];
    let report = Lab::run(&[&arguments[..], &["--fault", &fault.name]].concat())?;
    let exception = EXCEPTIONS
        .iter()
        .find(|one| one.fault == fault.name && one.data_plane == data_plane);
    check(fault, &causes(fault, data_plane), exception, &report)
        .map_err(|why| format!("{why}\n{}", report.summary()).into())
}

fn check(
    fault: &Fault,
    expected: &BTreeSet<String>,
    exception: Option<&Exception>,
    report: &Report,
) -> Result<(), String> {
    if report.completion != "complete" {
        return Err(format!("the run is not complete: {}", report.completion));
    }
    let status = i32::from(!report.diagnoses.is_empty());
    if report.status != status {
        return Err(format!("exit status {}, expected {status}", report.status));
    }
    let named: BTreeSet<String> = (report.diagnoses.iter())
        .map(|diagnosis| diagnosis.cause.clone())
        .collect();
    for diagnosis in &report.diagnoses {
        let is_own = expected.contains(&diagnosis.cause);
        if !is_own && diagnosis.cause != "unknown" && diagnosis.confidence == "proven" {
            return Err(format!("{} is proven, and not there", diagnosis.cause));
        }
        if !is_at(diagnosis, fault) {
            return Err(format!("{} is at another place", diagnosis.cause));
        }
    }
    match exception {
        None if named != *expected => Err(format!("named {named:?}, expected {expected:?}")),
        Some(_) if named == *expected => {
            Err(format!("named {named:?} as expected: it is no exception"))
        }
        Some(exception) => {
            let is_listed = |cause: &String| {
                exception.said.contains(&cause.as_str()) || expected.contains(cause)
            };
            let others: Vec<_> = named.iter().filter(|cause| !is_listed(cause)).collect();
            if others.is_empty() && !named.is_empty() {
                Ok(())
            } else {
                Err(format!("named {named:?}, and {others:?} are not listed"))
            }
        }
        None => Ok(()),
    }
}

/// Whether the place of a diagnosis contains the node of the fault, as far as it names nodes at all.
fn is_at(diagnosis: &Diagnosis, fault: &Fault) -> bool {
    let Some(truth) = fault.node.as_ref().filter(|_| !fault.may_be_elsewhere()) else {
        return true;
    };
    let segment = &diagnosis.segment;
    let mut nodes = [&diagnosis.node, &segment.from, &segment.to]
        .into_iter()
        .flatten()
        .peekable();
    nodes.peek().is_none() || nodes.any(|node| node == truth)
}
