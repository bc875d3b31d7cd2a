//! How runs and labs end before their time: killed, interrupted, no longer wanted.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};

use crate::harness::Report;
use crate::program::PROBER;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("a lab whose maker is killed leaves nothing", killed),
        Trial::test("an interrupted run tells what it has measured", interrupted),
        Trial::test(
            "a run that is interrupted before it has measured could not run",
            interrupted_early,
        ),
        Trial::test(
            "a lab that was kept up ends on Ctrl-C and takes its socket away",
            kept_up,
        ),
    ]
}

/// Tells one test's processes from another's.
fn mark(test: &str) -> String {
    format!("PROBER_TEST_MARK={test}-{}", std::process::id())
}

/// Every process that carries the mark, as its folder in `/proc`.
fn marked(mark: &str) -> Vec<PathBuf> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .map(|entry| entry.path())
        .filter(|process| {
            let environment = std::fs::read(process.join("environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|one| one == mark.as_bytes())
        })
        .collect()
}

/// What a lab could leave on the machine: processes of ours, namespaces, mounts.
fn traces(mark: &str) -> Vec<String> {
    let mut traces: Vec<String> = marked(mark)
        .iter()
        .map(|process| format!("process {}", process.display()))
        .collect();
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

/// A program that carries the mark, and what it says.
fn start(program: &mut Command, mark: &str) -> std::io::Result<Child> {
    let (name, value) = mark.split_once('=').unwrap_or_default();
    program
        .env(name, value)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

fn killed() -> Result<(), Failed> {
    let mark = mark("killed");
    let before = traces(&mark);
    let mut run = start(
        Command::new(&*PROBER).args(["run", "--lab", "--fault", "forward-drop@node-1"]),
        &mark,
    )?;
    wait_until("the lab's processes run", || {
        traces(&mark).len() > before.len() + 4
    })?;
    run.kill()?;
    run.wait()?;
    wait_until("the lab is gone", || traces(&mark).len() == before.len())
}

/// Interrupts a run in its follow-up of what fails.
fn interrupted() -> Result<(), Failed> {
    let mark = mark("interrupted");
    let before = traces(&mark);
    let arguments = "run --lab -o json --fault not-listening@node-1 --probes 1000";
    let run = start(Command::new(&*PROBER).args(arguments.split(' ')), &mark)?;
    wait_until("the follow-up has started", || {
        marked(&mark).iter().any(|process| {
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
        return Err(format!("what was measured is lost\n{}", report.summary()).into());
    }
    let unfinished = |path: &serde_json::Value| path["unfinished"].as_u64().unwrap_or(0);
    if report.paths.iter().map(unfinished).sum::<u64>() == 0 {
        return Err(format!("no probe lacks an outcome\n{}", report.summary()).into());
    }
    wait_until("the lab is gone", || traces(&mark).len() == before.len())
}

fn interrupted_early() -> Result<(), Failed> {
    let mark = mark("early");
    let before = traces(&mark);
    let run = start(Command::new(&*PROBER).args(["run", "--lab"]), &mark)?;
    // Long before there is an inner process that could be told.
    wait_until("it hears SIGTERM", || hears_term(&run))?;
    signal(&run, "TERM")?;
    let output = run.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() != Some(2) || !said.contains("before anything was measured") {
        return Err(format!("{}: {said}", output.status).into());
    }
    wait_until("the lab is gone", || traces(&mark).len() == before.len())
}

fn kept_up() -> Result<(), Failed> {
    let mark = mark("up");
    let before = traces(&mark);
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("lab.sock");
    let second = |arguments: &[&str]| {
        Command::new(&*PROBER)
            .args(arguments)
            .env("PROBER_LAB_SOCKET", &socket)
            .output()
    };
    let up = start(
        Command::new(&*PROBER)
            .args(["lab", "up"])
            .env("PROBER_LAB_SOCKET", &socket),
        &mark,
    )?;
    wait_until("a second terminal is answered", || {
        second(&["lab", "heal"]).is_ok_and(|heal| heal.status.success())
    })?;
    signal(&up, "INT")?;
    let output = up.wait_with_output()?;
    if !output.status.success() || socket.exists() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{}, socket {}: {said}", output.status, socket.exists()).into());
    }
    wait_until("the lab is gone", || traces(&mark).len() == before.len())
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

/// Whether the process has a handler of its own for SIGTERM.
fn hears_term(child: &Child) -> bool {
    const SIGTERM: u64 = 1 << (15 - 1);
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
    let caught = status.unwrap_or_default();
    let caught = caught.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    caught
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & SIGTERM != 0)
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) -> Result<(), Failed> {
    let start = Instant::now();
    while !is_so() {
        if start.elapsed() > Duration::from_secs(30) {
            return Err(format!("not after 30 s: {what}").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
