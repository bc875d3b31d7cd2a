//! A lab ends with the process that created it, and leaves nothing on the machine.

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prober_lab::LabSpec;
use prober_lab::isolation::{self, IsolationError, Side};

use crate::{Case, connectivity};

/// Cases that observe labs from outside: they run before this process isolates itself.
pub(crate) const OUTSIDE: &[Case] = &[
    (
        "a_killed_lab_leaves_no_process_and_no_namespace",
        a_killed_lab_leaves_no_process_and_no_namespace,
    ),
    (
        "an_interrupted_lab_ends_by_itself_with_its_own_exit_status",
        an_interrupted_lab_ends_by_itself_with_its_own_exit_status,
    ),
    (
        "a_second_signal_ends_a_lab_that_ignores_the_first",
        a_second_signal_ends_a_lab_that_ignores_the_first,
    ),
    (
        "the_exit_status_of_the_inner_process_is_returned",
        the_exit_status_of_the_inner_process_is_returned,
    ),
    (
        "a_lab_that_stays_up_serves_its_user_and_removes_its_socket",
        crate::control::a_lab_that_stays_up_serves_its_user_and_removes_its_socket,
    ),
];

/// Runs the cases of [`OUTSIDE`].
pub(crate) fn outside(arguments: &[String]) -> Result<(), IsolationError> {
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

/// Keeps a lab up until it is killed or interrupted; `hold STATUS` exits with this status at once, `hold ignore-interrupt` goes on.
pub(crate) fn hold() -> ExitCode {
    let (interrupts, interrupted) = mpsc::channel();
    match isolation::enter(None, move || interrupts.send(()).unwrap()).unwrap() {
        Side::Ended(code) => code,
        Side::Inside => {
            let word = std::env::args().nth(2);
            if let Some(status) = word.as_ref().and_then(|word| word.parse::<u8>().ok()) {
                return ExitCode::from(status);
            }
            let _cluster = connectivity::cluster(&LabSpec::default());
            println!("up");
            interrupted.recv().unwrap();
            println!("interrupted");
            while word.as_deref() == Some("ignore-interrupt") {
                std::thread::park();
            }
            ExitCode::from(5)
        }
    }
}

/// Starts a lab; returns its process and the further lines of its standard output.
fn lab(words: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("hold")
        .args(words)
        .env("PROBER_LAB_TEST_ID", std::process::id().to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(output.next().unwrap().unwrap(), "up");
    (child, output)
}

/// Returns the PIDs of the processes of this machine whose environment has this test's id.
fn processes() -> Vec<String> {
    let test_id = format!("PROBER_LAB_TEST_ID={}", std::process::id());
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|pid| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|one| one == test_id.as_bytes())
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

/// Starts a lab, ends it, and checks that nothing of it is left.
fn leaves_nothing(words: &[&str], end: impl FnOnce(&mut Child, Lines<BufReader<ChildStdout>>)) {
    let before = mounts();
    let (mut child, output) = lab(words);
    // The outer process, unshare, the inner one and an agent in each of four pods.
    assert!(
        processes().len() >= 7,
        "the lab's processes have the test's id: {:?}",
        processes()
    );
    assert_eq!(mounts(), before, "the lab's mounts are private");
    end(&mut child, output);
    let deadline = Instant::now() + Duration::from_secs(2);
    // The kernel ends a PID namespace after its PID 1 has ended, without an event to wait for.
    while !processes().is_empty() {
        assert!(
            Instant::now() < deadline,
            "processes two seconds after the end of the lab: {:?}",
            processes()
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

fn an_interrupted_lab_ends_by_itself_with_its_own_exit_status() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        leaves_nothing(&[], |child, mut output| {
            send(child, signal);
            assert_eq!(output.next().unwrap().unwrap(), "interrupted");
            assert_eq!(child.wait().unwrap().code(), Some(5));
        });
    }
}

fn a_second_signal_ends_a_lab_that_ignores_the_first() {
    leaves_nothing(&["ignore-interrupt"], |child, mut output| {
        send(child, Signal::SIGINT);
        assert_eq!(output.next().unwrap().unwrap(), "interrupted");
        send(child, Signal::SIGINT);
        assert_eq!(child.wait().unwrap().code(), Some(2));
    });
}

fn the_exit_status_of_the_inner_process_is_returned() {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["hold", "7"])
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(7));
}
