//! The lab dies with whoever asked for it, and leaves nothing on the machine.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prober_lab::LabSpec;
use prober_lab::isolate::{self, IsolateError, Side};

use crate::{Case, path};

/// These cases watch labs from outside: they run before this process isolates itself.
pub(crate) const OUTSIDE: &[Case] = &[
    (
        "a_killed_lab_leaves_no_process_and_no_namespace",
        a_killed_lab_leaves_no_process_and_no_namespace,
    ),
    (
        "a_terminated_lab_ends_at_once",
        a_terminated_lab_ends_at_once,
    ),
    (
        "the_exit_status_of_the_inner_process_is_passed_on",
        the_exit_status_of_the_inner_process_is_passed_on,
    ),
    (
        "a_lab_that_stays_up_is_reached_by_its_user_and_leaves_no_socket",
        crate::control::a_lab_that_stays_up_is_reached_by_its_user_and_leaves_no_socket,
    ),
];

/// Runs the cases that need the outside.
pub(crate) fn outside(arguments: &[String]) -> Result<(), IsolateError> {
    if isolate::is_inside() {
        return Ok(());
    }
    isolate::check()?;
    let wanted: Vec<&String> = arguments
        .iter()
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    for (name, case) in OUTSIDE {
        if wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str())) {
            println!("test {name} ...");
            case();
            println!("test {name} ... ok");
        }
    }
    Ok(())
}

/// Holds a lab until it is killed; with `hold 7`, ends with that status at once.
pub(crate) fn hold() -> ExitCode {
    match isolate::enter().unwrap() {
        Side::Ended(code) => code,
        Side::Inside => {
            if let Some(status) = std::env::args().nth(2) {
                return ExitCode::from(status.parse::<u8>().unwrap());
            }
            let _fleet = path::fleet(&LabSpec::default());
            println!("up");
            loop {
                std::thread::park();
            }
        }
    }
}

fn lab() -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("hold")
        .env("PROBER_LAB_MARK", std::process::id().to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "up\n");
    child
}

/// The processes of this machine that carry the mark of this test, and their network namespaces.
fn marked() -> Vec<String> {
    let mark = format!("PROBER_LAB_MARK={}", std::process::id());
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|pid| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|one| one == mark.as_bytes())
        })
        .collect()
}

fn mounts() -> usize {
    std::fs::read_to_string("/proc/mounts")
        .unwrap()
        .lines()
        .count()
}

fn ends_with(signal: Signal) {
    let before = mounts();
    let mut child = lab();
    // The outer process, unshare, the inner one and an agent in each of four pods.
    assert!(
        marked().len() >= 7,
        "the mark is found on the lab's processes: {:?}",
        marked()
    );
    assert_eq!(mounts(), before, "the lab's mounts are its own");
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
    child.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(2);
    // The kernel takes a process namespace down after its first process: there is nothing to wait on but its end.
    while !marked().is_empty() {
        assert!(
            Instant::now() < deadline,
            "two seconds after {signal}, still there: {:?}",
            marked()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(mounts(), before);
}

fn a_killed_lab_leaves_no_process_and_no_namespace() {
    ends_with(Signal::SIGKILL);
}

fn a_terminated_lab_ends_at_once() {
    ends_with(Signal::SIGTERM);
    ends_with(Signal::SIGINT);
}

fn the_exit_status_of_the_inner_process_is_passed_on() {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["hold", "7"])
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(7));
}
