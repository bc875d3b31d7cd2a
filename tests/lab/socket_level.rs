//! Socket-level load balancing made for real: a BPF program translates the Service inside connect(2).

use std::path::Path;
use std::process::Command;

use libtest_mimic::{Failed, Trial};

use crate::harness::Report;
use crate::program::PROBER;

pub(crate) fn trials() -> Vec<Trial> {
    if let Some(missing) = missing() {
        let name = "a Service that is translated inside connect(2) is no fault";
        let is_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
        if is_ci {
            return vec![Trial::test(name, move || Err(missing.into()))];
        }
        println!("left out: {name}: {missing}");
        return Vec::new();
    }
    vec![Trial::test(
        "a Service that is translated inside connect(2) is no fault",
        no_fault,
    )]
}

/// What this machine lacks to attach a BPF program to a cgroup.
fn missing() -> Option<&'static str> {
    let runs = |program: &str| {
        let version = Command::new(program).arg("--version").output();
        version.is_ok_and(|output| output.status.success())
    };
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let has_tree = mounts
        .lines()
        .any(|mount| mount.split(' ').nth(2) == Some("cgroup2"));
    [
        (is_root(), "it needs root"),
        (runs("clang"), "it needs clang"),
        (runs("bpftool"), "it needs bpftool"),
        (
            Path::new("/usr/include/bpf/bpf_helpers.h").exists(),
            "it needs libbpf-dev",
        ),
        (has_tree, "no cgroup2 tree is mounted"),
    ]
    .into_iter()
    .find_map(|(is_there, lack)| (!is_there).then_some(lack))
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    uids.is_some_and(|uids| uids.split_whitespace().nth(1) == Some("0"))
}

fn no_fault() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let output = Command::new("unshare")
        .arg("--mount")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/lab/socket_level/run"))
        .arg(folder.path())
        .arg(&*PROBER)
        .args("run --lab --family ipv4 --fault socket-level-services -o json".split(' '))
        .output()?;
    let report = Report::read(&output)?;
    report.names_only(&std::collections::BTreeSet::new())?;
    if !report.socket_level {
        return Err("the run does not say so".into());
    }
    let translated = report
        .paths
        .iter()
        .filter(|path| path["target"].to_string().contains("100.67.30.133"));
    for path in translated.clone() {
        // Hosts connect and craft nothing: on their paths there is nothing to differ.
        let differs = path["route"] == "host-network" || path["socket_level"] == true;
        if path["engine"] != "kernel" || !differs {
            return Err(format!("{}, {}: {path}", path["engine"], path["socket_level"]).into());
        }
    }
    if translated.count() == 0 {
        return Err("no path leads through the Service".into());
    }
    said_in_words(&output.stdout)
}

/// The same run as a person reads it.
fn said_in_words(json: &[u8]) -> Result<(), Failed> {
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
