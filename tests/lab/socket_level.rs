//! Runs with real socket-level load balancing: a BPF program translates the Service inside connect(2).

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use libtest_mimic::{Failed, Trial};

use crate::harness::Report;
use crate::program::PROBER;

/// One test of this file.
type Check = fn() -> Result<(), Failed>;

pub(crate) fn trials() -> Vec<Trial> {
    let all: [(&str, Check); 2] = [
        (
            "a Service that is translated inside connect(2) is healthy",
            no_fault,
        ),
        (
            "with translation inside connect(2) only the server that does not listen is named",
            closed_server,
        ),
    ];
    let missing = missing();
    let is_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    let trials = all.into_iter().filter_map(|(name, trial)| match missing {
        None => Some(Trial::test(name, trial)),
        Some(missing) if is_ci => Some(Trial::test(name, move || Err(missing.into()))),
        Some(missing) => {
            println!("skipped: {name}: {missing}");
            None
        }
    });
    trials.collect()
}

/// Returns what the machine lacks for attaching a BPF program to a cgroup.
fn missing() -> Option<&'static str> {
    let runs = |program: &str| {
        let version = Command::new(program).arg("--version").output();
        version.is_ok_and(|output| output.status.success())
    };
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let has_cgroup2 = mounts
        .lines()
        .any(|mount| mount.split(' ').nth(2) == Some("cgroup2"));
    [
        (is_root(), "root privileges are required"),
        (runs("clang"), "clang is required"),
        (runs("bpftool"), "bpftool is required"),
        (
            Path::new("/usr/include/bpf/bpf_helpers.h").exists(),
            "libbpf-dev is required",
        ),
        (has_cgroup2, "no cgroup2 tree is mounted"),
    ]
    .into_iter()
    .find_map(|(is_met, missing)| (!is_met).then_some(missing))
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    uids.is_some_and(|uids| uids.split_whitespace().nth(1) == Some("0"))
}

/// Runs a lab without rules for the Service, which is translated inside connect(2) instead.
fn run(arguments: &[&str]) -> Result<Output, Failed> {
    let folder = tempfile::tempdir()?;
    let output = Command::new("unshare")
        .arg("--mount")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/lab/socket_level/run"))
        .arg(folder.path())
        .arg(&*PROBER)
        .args("run --lab --family ipv4 --fault socket-level-services -o json".split(' '))
        .args(arguments)
        .output()?;
    Ok(output)
}

fn closed_server() -> Result<(), Failed> {
    let report = Report::read(&run(&["--fault", "not-listening"])?)?;
    report.names_only(&BTreeSet::from(["not-listening".to_owned()]))?;
    if report.socket_level {
        Ok(())
    } else {
        Err("the report does not mention socket-level load balancing".into())
    }
}

fn no_fault() -> Result<(), Failed> {
    let output = run(&[])?;
    let report = Report::read(&output)?;
    report.names_only(&BTreeSet::new())?;
    if !report.socket_level {
        return Err("the report does not mention socket-level load balancing".into());
    }
    let translated = report
        .paths
        .iter()
        .filter(|path| path["target"].to_string().contains("100.67.30.133"));
    for path in translated.clone() {
        // Host-network agents only use connect(2): no crafted SYN could differ from it on their paths.
        let differs = path["access_path"] == "host-network" || path["socket_level"] == true;
        if path["engine"] != "kernel" || !differs {
            return Err(format!("{}, {}: {path}", path["engine"], path["socket_level"]).into());
        }
    }
    if translated.count() == 0 {
        return Err("no path has the Service as its target".into());
    }
    text_report_mentions_it(&output.stdout)
}

/// Fails unless the text form of the same report mentions socket-level load balancing.
fn text_report_mentions_it(json: &[u8]) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let saved = folder.path().join("report.json");
    std::fs::write(&saved, json)?;
    let text = Command::new(&*PROBER).arg("report").arg(&saved).output()?;
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    let words: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.contains("Socket-level load balancing") && words.contains("This is no fault") {
        Ok(())
    } else {
        Err(text.into())
    }
}
