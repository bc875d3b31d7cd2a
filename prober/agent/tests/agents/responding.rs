//! The responder of an agent: its banner, its echo, and floods.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use prober_core::plan::AcceptMode;
use prober_core::probe::event::Event;

use crate::fixture::{Agent, B4, PORT, two};

/// Runs a program by `python3` in a namespace, connected to the responder; sockets of this process are in another namespace.
fn run_python(from: &crate::fixture::Namespace, script: &str) -> String {
    let mut python = from
        .command("python3")
        .args(["-", B4, &PORT.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = python.stdin.take().unwrap();
    input
        .write_all(b"import socket, sys\npeer = (sys.argv[1], int(sys.argv[2]))\n")
        .unwrap();
    input.write_all(script.as_bytes()).unwrap();
    drop(input);
    let mut said = String::new();
    for line in BufReader::new(python.stdout.take().unwrap()).lines() {
        said.push_str(&line.unwrap());
        said.push('\n');
    }
    assert!(python.wait().unwrap().success());
    said
}

fn resident_kib(agent: &Agent) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_flood_of_idle_connections_is_bounded_and_others_are_still_answered() {
    let (a, b) = two();
    let mut server = Agent::start(&b, "b", &["--tier", "T0"]);
    server.answer();
    let before = resident_kib(&server);
    let said = run_python(
        &a,
        "
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
idle = [socket.create_connection(peer) for _ in range(2000)]
late = socket.create_connection(peer)
late.sendall(b'still there?')
text = b''
while not text.endswith(b'still there?'):
    text += late.recv(1000)
open_ = 0
for one in idle:
    one.settimeout(0.5)
    try:
        while True:
            if not one.recv(1000):
                break
            one.settimeout(0.001)
    except TimeoutError:
        open_ += 1
    except ConnectionResetError:
        pass
print(open_)
",
    );
    let open: u32 = said.trim().parse().unwrap();
    assert!(open <= 1024, "{open} idle connections are still open");
    let grown = resident_kib(&server) - before;
    assert!(grown < 8192, "2000 idle connections cost {grown} KiB");
}

#[test]
fn a_peer_that_does_not_read_costs_no_memory_and_gets_its_bytes_once_it_reads() {
    let (a, b) = two();
    let mut server = Agent::start(&b, "b", &["--tier", "T0"]);
    server.answer();
    let said = run_python(
        &a,
        "
s = socket.create_connection(peer)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
s.setblocking(False)
sent = 0
data = bytes(range(256)) * 16
import time
quiet = 0
while sent < 600000 and quiet < 20:
    try:
        sent += s.send(data)
        quiet = 0
    except BlockingIOError:
        time.sleep(0.01)
        quiet += 1
s.setblocking(True)
s.settimeout(10)
got = b''
while got.count(b'\\n', 0, 200) < 1:
    got += s.recv(65536)
banner, rest = got.split(b'\\n', 1)
total = len(rest)
while total < sent:
    total += len(s.recv(65536))
print(total == sent, banner.startswith(b'PROBER/1 nonce=000000000000feed pod=b node=node-b peer=10.77.0.1:'))
",
    );
    assert_eq!(said, "True True\n");
}

#[test]
fn a_responder_that_is_closed_refuses_and_one_that_is_paused_is_silent() {
    let (a, b) = two();
    let mut server = Agent::start(&b, "b", &["--tier", "T0"]);
    server.answer();
    let script = "
s = socket.socket()
s.settimeout(0.5)
try:
    s.connect(peer)
    print(s.recv(8).decode())
except Exception as error:
    print(type(error).__name__)
";
    assert_eq!(run_python(&a, script), "PROBER/1\n");
    for (generation, accept, expected) in [
        (2, AcceptMode::Closed, "ConnectionRefusedError\n"),
        (3, AcceptMode::Paused, "TimeoutError\n"),
        (4, AcceptMode::Running, "PROBER/1\n"),
    ] {
        let mut plan = server.plan(generation, Vec::new());
        plan.responder.accept = accept;
        server.give(&plan);
        server.wait_done(generation);
        assert_eq!(run_python(&a, script), expected, "{accept:?}");
    }
    let notices = server
        .events
        .iter()
        .filter(|event| matches!(event, Event::Notice { .. }));
    assert_eq!(notices.count(), 0);
}
