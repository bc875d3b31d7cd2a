//! The lab dies with whoever asked for it, and leaves nothing on the machine.

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prober_lab::LabSpec;
use prober_lab::isolation::{self, IsolateError, Side};

use crate::{Case, path};

/// These cases watch labs from outside: they run before this process isolates itself.
pub(crate) const OUTSIDE: &[Case] = &[
    (
        "a_killed_lab_leaves_no_process_and_no_namespace",
        a_killed_lab_leaves_no_process_and_no_namespace,
    ),
    (
        "an_interrupted_lab_ends_in_its_own_time_and_with_its_own_status",
        an_interrupted_lab_ends_in_its_own_time_and_with_its_own_status,
    ),
    (
        "a_second_signal_ends_a_lab_that_does_not_listen",
        a_second_signal_ends_a_lab_that_does_not_listen,
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
    if isolation::is_inside() {
        return Ok(());
    }
    isolation::check()?;
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

/// Holds a lab until it is killed or interrupted; with `hold 7`, ends with that status at once.
pub(crate) fn hold() -> ExitCode {
    let (interrupts, interrupted) = mpsc::channel();
    match isolation::enter(None, move || interrupts.send(()).unwrap()).unwrap() {
        Side::Ended(code) => code,
        Side::Inside => {
            let word = std::env::args().nth(2);
            if let Some(status) = word.as_ref().and_then(|word| word.parse::<u8>().ok()) {
                return ExitCode::from(status);
            }
            let _fleet = path::fleet(&LabSpec::default());
            println!("up");
            interrupted.recv().unwrap();
            println!("interrupted");
            while word.as_deref() == Some("deaf") {
                std::thread::park();
            }
            ExitCode::from(5)
        }
    }
}

/// A lab that is up, and what it says.
fn lab(words: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("hold")
        .args(words)
        .env("PROBER_LAB_MARK", std::process::id().to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(said.next().unwrap().unwrap(), "up");
    (child, said)
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

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

/// Makes a lab, ends it, and looks that nothing of it is left.
fn leaves_nothing(words: &[&str], end: impl FnOnce(&mut Child, Lines<BufReader<ChildStdout>>)) {
    let before = mounts();
    let (mut child, said) = lab(words);
    // The outer process, unshare, the inner one and an agent in each of four pods.
    assert!(
        marked().len() >= 7,
        "the mark is found on the lab's processes: {:?}",
        marked()
    );
    assert_eq!(mounts(), before, "the lab's mounts are its own");
    end(&mut child, said);
    let deadline = Instant::now() + Duration::from_secs(2);
    // The kernel takes a process namespace down after its first process: there is nothing to wait on but its end.
    while !marked().is_empty() {
        assert!(
            Instant::now() < deadline,
            "two seconds after its end, still there: {:?}",
            marked()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(mounts(), before);
}

fn a_killed_lab_leaves_no_process_and_no_namespace() {
    leaves_nothing(&[], |child, _said| {
        send(child, Signal::SIGKILL);
        child.wait().unwrap();
    });
}

fn an_interrupted_lab_ends_in_its_own_time_and_with_its_own_status() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        leaves_nothing(&[], |child, mut said| {
            send(child, signal);
            assert_eq!(said.next().unwrap().unwrap(), "interrupted");
            assert_eq!(child.wait().unwrap().code(), Some(5));
        });
    }
}

fn a_second_signal_ends_a_lab_that_does_not_listen() {
    leaves_nothing(&["deaf"], |child, mut said| {
        send(child, Signal::SIGINT);
        assert_eq!(said.next().unwrap().unwrap(), "interrupted");
        send(child, Signal::SIGINT);
        assert_eq!(child.wait().unwrap().code(), Some(2));
    });
}

fn the_exit_status_of_the_inner_process_is_passed_on() {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["hold", "7"])
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(7));
}
