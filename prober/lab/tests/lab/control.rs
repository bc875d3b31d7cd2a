//! A lab that stays up, and other processes that send it requests.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prober_lab::control::{self, ControlError, Reply, Request};
use prober_lab::isolation::{self, Side};
use prober_lab::{Lab, LabCluster, LabSpec};

use crate::fake_agent;

/// Keeps a lab up, as `prober lab up` does.
pub(crate) fn up() -> ExitCode {
    match isolation::enter(None, || isolation::exit(0)).unwrap() {
        Side::Ended(code) => code,
        Side::Inside => {
            let (sender, events) = mpsc::channel();
            let cluster = LabCluster::new(
                Lab::up(&LabSpec::default()).unwrap(),
                fake_agent::command(),
                sender,
            );
            match control::serve(cluster, events, &[], |_| println!("up")) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    println!("{error}");
                    ExitCode::FAILURE
                }
            }
        }
    }
}

/// Sends requests and runs commands in the lab, as the other commands of `prober lab` do.
pub(crate) fn request() -> ExitCode {
    let Reply::Status { namespaces, faults } = control::request(&Request::Status).unwrap() else {
        panic!("no status");
    };
    assert!(namespaces.contains(&"node-2-server".to_owned()));
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
    let read = |namespace: &str| {
        let output = control::shell(namespace, &setting)
            .unwrap()
            .output()
            .unwrap();
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
        Err(ControlError::UnknownNamespace { .. })
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

pub(crate) fn a_lab_that_stays_up_serves_its_user_and_removes_its_socket() {
    let socket = PathBuf::from(format!("/tmp/prober-lab-test-{}.sock", std::process::id()));
    // The socket that a killed lab has left does not prevent the next lab.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let command = |argument: &str| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(argument).env("PROBER_LAB_SOCKET", &socket);
        command
    };
    let mut lab = command("up").stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(lab.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "up\n");
    let status = command("request").status().unwrap();
    kill(
        Pid::from_raw(i32::try_from(lab.id()).unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    assert!(lab.wait().unwrap().success());
    assert!(status.success());
    assert!(!socket.exists(), "{} is still there", socket.display());
}
