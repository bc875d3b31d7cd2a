//! A lab that stays up, reached from other processes.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prober_lab::control::{self, ControlError, Reply, Request};
use prober_lab::isolation::{self, Side};
use prober_lab::{Fleet, Lab, LabSpec};

use crate::stand_in;

/// What `prober lab up` does.
pub(crate) fn up() -> ExitCode {
    match isolation::enter(None, || isolation::end(0)).unwrap() {
        Side::Ended(code) => code,
        Side::Inside => {
            let (events, told) = mpsc::channel();
            let fleet = Fleet::new(
                Lab::up(&LabSpec::default()).unwrap(),
                stand_in::command(),
                events,
            );
            match control::serve(fleet, told, &[], |_| println!("up")) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    println!("{error}");
                    ExitCode::FAILURE
                }
            }
        }
    }
}

/// What other commands of the lab's user do, one after the other.
pub(crate) fn reach() -> ExitCode {
    let Reply::Status { places, faults } = control::request(&Request::Status).unwrap() else {
        panic!("no status");
    };
    assert!(places.contains(&"node-2-server".to_owned()));
    assert!(faults.is_empty());
    let inject = |fault: &str| {
        control::request(&Request::Inject {
            fault: fault.to_owned(),
        })
    };
    let Reply::Status { faults, .. } = inject("bridge-netfilter-off@node-2").unwrap() else {
        panic!("no status");
    };
    assert_eq!(faults, ["bridge-netfilter-off@node-2"]);
    let setting = ["sysctl", "-n", "net.bridge.bridge-nf-call-iptables"].map(str::to_owned);
    let read = |place: &str| {
        let output = control::shell(place, &setting).unwrap().output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(
        (read("node-1").as_str(), read("node-2").as_str()),
        ("1\n", "0\n")
    );
    assert!(
        matches!(inject("hairpin"), Err(ControlError::Refused(reason)) if reason.contains("hairpin-off"))
    );
    assert!(
        matches!(inject("hairpin-off@node-7"), Err(ControlError::Refused(reason)) if reason.contains("node-7"))
    );
    assert!(matches!(
        control::shell("node-7", &[]),
        Err(ControlError::NoPlace { .. })
    ));
    let second = Command::new(std::env::current_exe().unwrap())
        .arg("up")
        .output()
        .unwrap();
    assert!(!second.status.success());
    assert!(
        String::from_utf8(second.stdout)
            .unwrap()
            .contains("one is up already")
    );
    control::request(&Request::Heal).unwrap();
    assert_eq!(read("node-2"), "1\n");
    ExitCode::SUCCESS
}

pub(crate) fn a_lab_that_stays_up_is_reached_by_its_user_and_leaves_no_socket() {
    let socket = PathBuf::from(format!("/tmp/prober-lab-test-{}.sock", std::process::id()));
    // What a lab that was killed has left behind does not hinder the next one.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let this = |argument: &str| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(argument).env("PROBER_LAB_SOCKET", &socket);
        command
    };
    let mut lab = this("up").stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(lab.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "up\n");
    let reached = this("reach").status().unwrap();
    kill(
        Pid::from_raw(i32::try_from(lab.id()).unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    assert!(lab.wait().unwrap().success());
    assert!(reached.success());
    assert!(!socket.exists(), "{} is still there", socket.display());
}
