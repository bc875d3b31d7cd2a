//! Stories that no list of faults tells.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};

use crate::harness::{Lab, PROBER, prober};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test(
            "a healthy lab with ten thousand probes of each family names nothing",
            healthy,
        ),
        Trial::test("two faults at once are both named", two_at_once),
        Trial::test(
            "a closed port behind the founding fault is still named",
            hidden_by_timeouts,
        ),
        Trial::test(
            "one bad endpoint of ten behind the balanced port is pinned",
            one_of_ten,
        ),
        Trial::test(
            "the founding fault is named on the node that has it",
            the_right_node,
        ),
        Trial::test(
            "without node facts the founding fault is only consistent",
            without_facts,
        ),
        Trial::test(
            "without packets the founding fault is only consistent",
            without_packets,
        ),
        Trial::test("a lab whose maker is killed leaves nothing", killed),
        Trial::test(
            "an unknown fault is refused with what it could be",
            unknown_fault,
        ),
        Trial::test(
            "an unknown node is refused with those there are",
            unknown_node,
        ),
    ]
}

fn causes(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
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

fn two_at_once() -> Result<(), Failed> {
    let report = Lab::run(&[
        "--fault",
        "bridge-netfilter-off@node-1",
        "--fault",
        "overlay-blocked-in@node-2",
    ])?;
    report.names_only(&causes(&["bridge-netfilter-off", "overlay-blocked"]))
}

fn hidden_by_timeouts() -> Result<(), Failed> {
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
    ])?;
    report.names_only(&causes(&["not-listening"]))?;
    let diagnosis = report.diagnosis("not-listening")?;
    if diagnosis.node.as_deref() != Some("node-7") {
        return Err(format!("blamed on {:?}", diagnosis.node).into());
    }
    Ok(())
}

fn the_right_node() -> Result<(), Failed> {
    let report = Lab::run(&["--nodes", "3", "--fault", "bridge-netfilter-off@node-3"])?;
    report.names_only(&causes(&["bridge-netfilter-off"]))?;
    let diagnosis = report.diagnosis("bridge-netfilter-off")?;
    if diagnosis.node.as_deref() != Some("node-3") || diagnosis.confidence != "proven" {
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

/// What a lab could leave on the machine: processes of ours, namespaces, mounts.
fn traces(mark: &str) -> Vec<String> {
    let mut traces = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if String::from_utf8_lossy(&environment).contains(mark) {
            traces.push(format!("process {}", entry.file_name().to_string_lossy()));
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    traces.extend(
        mounts
            .lines()
            .filter(|line| line.contains("netns"))
            .map(str::to_owned),
    );
    let named = std::fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten();
    traces.extend(named.map(|entry| format!("namespace {}", entry.file_name().to_string_lossy())));
    traces
}

fn killed() -> Result<(), Failed> {
    let mark = format!("PROBER_TEST_MARK={}", std::process::id());
    let (name, value) = mark.split_once('=').unwrap_or_default();
    let before = traces(&mark);
    let mut run = Command::new(&*PROBER)
        .args([
            "run",
            "--lab",
            "-o",
            "json",
            "--fault",
            "forward-drop@node-1",
        ])
        .env(name, value)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    wait_until("the lab's processes run", || {
        traces(&mark).len() > before.len() + 4
    })?;
    run.kill()?;
    run.wait()?;
    wait_until("the lab is gone", || traces(&mark).len() == before.len())
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) -> Result<(), Failed> {
    let start = Instant::now();
    while !is_so() {
        if start.elapsed() > Duration::from_secs(20) {
            return Err(format!("not after 20 s: {what}").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn refused(arguments: &[&str], words: &[&str]) -> Result<(), Failed> {
    let output = prober(arguments);
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.code() != Some(2) || !words.iter().all(|word| text.contains(word)) {
        std::io::stderr().write_all(&output.stderr)?;
        return Err(format!(
            "status {:?}, expected 2 and the words {words:?}: {text}",
            output.status.code()
        )
        .into());
    }
    Ok(())
}

fn unknown_fault() -> Result<(), Failed> {
    refused(
        &["run", "--lab", "--fault", "bridge-netfilter-of"],
        &["bridge-netfilter-off"],
    )
}

fn unknown_node() -> Result<(), Failed> {
    refused(
        &["run", "--lab", "--node", "node-9"],
        &["node-9", "node-1", "node-2"],
    )
}
