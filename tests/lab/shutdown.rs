//! The shutdown of runs and labs: by SIGKILL, by an interrupt, at the end of `prober lab up`.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};

use crate::harness::Report;
use crate::program::PROBER;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("a killed lab leaves nothing on the machine", killed),
        Trial::test(
            "an interrupted run reports its measurements so far",
            interrupted,
        ),
        Trial::test(
            "a run that is interrupted before its first measurement exits with status 2",
            interrupted_early,
        ),
        Trial::test(
            "a run ends at its time limit with its measurements so far",
            overlong,
        ),
        Trial::test(
            "a lab that stays up ends on Ctrl-C and removes its socket",
            kept_up,
        ),
    ]
}

/// Returns an environment variable that identifies the processes of one test.
fn test_id(test: &str) -> String {
    format!("PROBER_TEST_ID={test}-{}", std::process::id())
}

/// Returns the directory in `/proc` of every process of a test.
fn processes(test_id: &str) -> Vec<PathBuf> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .map(|entry| entry.path())
        .filter(|process| {
            let environment = std::fs::read(process.join("environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|one| one == test_id.as_bytes())
        })
        .collect()
}

/// Returns what a lab could leave on the machine: processes of the test, network namespaces, mounts.
fn leftovers(test_id: &str) -> Vec<String> {
    let mut leftovers: Vec<String> = processes(test_id)
        .iter()
        .map(|process| format!("process {}", process.display()))
        .collect();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    leftovers.extend(
        mounts
            .lines()
            .filter(|line| line.contains("netns"))
            .map(str::to_owned),
    );
    let named = std::fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten();
    leftovers
        .extend(named.map(|entry| format!("namespace {}", entry.file_name().to_string_lossy())));
    leftovers
}

/// Starts a program with the test's id and pipes its output.
fn start(program: &mut Command, test_id: &str) -> std::io::Result<Child> {
    let (name, value) = test_id.split_once('=').unwrap_or_default();
    program
        .env(name, value)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

fn killed() -> Result<(), Failed> {
    let test_id = test_id("killed");
    let before = leftovers(&test_id);
    let mut run = start(
        Command::new(&*PROBER).args(["run", "--lab", "--fault", "forward-drop@node-1"]),
        &test_id,
    )?;
    wait_until("the lab's processes run", || {
        leftovers(&test_id).len() > before.len() + 4
    })?;
    run.kill()?;
    run.wait()?;
    wait_until("the lab is gone", || {
        leftovers(&test_id).len() == before.len()
    })
}

/// Interrupts a run during its follow-up round, which starts once a path has failed.
fn interrupted() -> Result<(), Failed> {
    let test_id = test_id("interrupted");
    let before = leftovers(&test_id);
    let arguments = "run --lab -o json --fault not-listening@node-1 --probes 1000";
    let run = start(Command::new(&*PROBER).args(arguments.split(' ')), &test_id)?;
    wait_until("the follow-up round has started", || {
        processes(&test_id).iter().any(|process| {
            let plan = process.join("root/run/prober/node-1-client.plan");
            std::fs::read_to_string(plan).is_ok_and(|plan| plan.contains("\"generation\":3"))
        })
    })?;
    signal(&run, "INT")?;
    let report = Report::read(&run.wait_with_output()?)?;
    if report.completion != "interrupted" || report.status != 1 {
        return Err(format!(
            "{}, exit status {}\n{}",
            report.completion,
            report.status,
            report.summary()
        )
        .into());
    }
    let was_refused = |path: &serde_json::Value| path["outcomes"]["reset"].as_u64() > Some(0);
    if report.diagnoses.is_empty() || !report.paths.iter().any(was_refused) {
        return Err(format!("the measurements are lost\n{}", report.summary()).into());
    }
    let unfinished = |path: &serde_json::Value| path["unfinished"].as_u64().unwrap_or(0);
    if report.paths.iter().map(unfinished).sum::<u64>() == 0 {
        return Err(format!("no probe is unfinished\n{}", report.summary()).into());
    }
    wait_until("the lab is gone", || {
        leftovers(&test_id).len() == before.len()
    })
}

fn interrupted_early() -> Result<(), Failed> {
    let test_id = test_id("early");
    let before = leftovers(&test_id);
    let run = start(Command::new(&*PROBER).args(["run", "--lab"]), &test_id)?;
    // Long before the inner process exists.
    wait_until("it handles SIGTERM", || handles_term(&run))?;
    signal(&run, "TERM")?;
    let output = run.wait_with_output()?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() != Some(2) || !stderr.contains("before anything was measured") {
        return Err(format!("{}: {stderr}", output.status).into());
    }
    wait_until("the lab is gone", || {
        leftovers(&test_id).len() == before.len()
    })
}

/// Runs with more probes than the time limit allows.
fn overlong() -> Result<(), Failed> {
    let test_id = test_id("overlong");
    let before = leftovers(&test_id);
    let arguments = "run --lab -o json --probes 100000 --timeout 10s";
    let run = start(Command::new(&*PROBER).args(arguments.split(' ')), &test_id)?;
    let report = Report::read(&run.wait_with_output()?)?;
    let json: serde_json::Value = serde_json::from_str(&report.text)?;
    let reason = "its time limit of 10 s is over (--timeout)";
    if report.status != 2 || json["reason"] != reason {
        return Err(format!(
            "exit status {}, {}\n{}",
            report.status,
            json["reason"],
            report.summary()
        )
        .into());
    }
    let is_measured = |path: &serde_json::Value| path["outcomes"]["established"].as_u64() > Some(0);
    if !report.paths.iter().any(is_measured) {
        return Err(format!("the measurements are lost\n{}", report.summary()).into());
    }
    wait_until("the lab is gone", || {
        leftovers(&test_id).len() == before.len()
    })
}

fn kept_up() -> Result<(), Failed> {
    let test_id = test_id("up");
    let before = leftovers(&test_id);
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("lab.sock");
    let other_process = |arguments: &[&str]| {
        Command::new(&*PROBER)
            .args(arguments)
            .env("PROBER_LAB_SOCKET", &socket)
            .output()
    };
    let up = start(
        Command::new(&*PROBER)
            .args(["lab", "up"])
            .env("PROBER_LAB_SOCKET", &socket),
        &test_id,
    )?;
    wait_until("another process can send requests", || {
        other_process(&["lab", "heal"]).is_ok_and(|heal| heal.status.success())
    })?;
    signal(&up, "INT")?;
    let output = up.wait_with_output()?;
    if !output.status.success() || socket.exists() {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{}, socket {}: {stderr}", output.status, socket.exists()).into());
    }
    wait_until("the lab is gone", || {
        leftovers(&test_id).len() == before.len()
    })
}

fn signal(child: &Child, signal: &str) -> Result<(), Failed> {
    let sent = Command::new("kill")
        .args(["-s", signal, &child.id().to_string()])
        .status()?;
    if sent.success() {
        Ok(())
    } else {
        Err(format!("kill -s {signal}: {sent}").into())
    }
}

/// Whether the process has a handler for SIGTERM.
fn handles_term(child: &Child) -> bool {
    const SIGTERM: u64 = 1 << (15 - 1);
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
    let caught = status.unwrap_or_default();
    let caught = caught.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    caught
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & SIGTERM != 0)
}

fn wait_until(condition: &str, mut is_met: impl FnMut() -> bool) -> Result<(), Failed> {
    let start = Instant::now();
    while !is_met() {
        if start.elapsed() > Duration::from_secs(30) {
            return Err(format!("not within 30 s: {condition}").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
