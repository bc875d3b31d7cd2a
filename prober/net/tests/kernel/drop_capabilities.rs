//! Privileges are dropped, and stay dropped. Each case is a process of its own, which runs one test of this binary.
use std::process::Command;

use prober_core::node_facts::ConntrackRequest;
use prober_net::drop_capabilities::{Kept, current, drop_capabilities};
use prober_net::node_facts::{ConntrackTable, read_facts_with_conntrack};
use prober_net::packet_socket::filter::CaptureFilter;
use prober_net::packet_socket::{
    CaptureOptions, Interfaces, OnRefusedFilter, PacketSocket, RingShape,
};
use prober_net::raw_engine::send::RawSender;

const ROLE: &str = "PROBER_NET_TEST_ROLE";

fn open_capture() -> Result<PacketSocket, prober_net::packet_socket::CaptureError> {
    PacketSocket::open(CaptureOptions {
        interfaces: Interfaces::All,
        filter: CaptureFilter::default(),
        ring: RingShape::SMALL,
        on_refused_filter: OnRefusedFilter::Fail,
    })
}

/// Runs `role` of this binary below a wrapper such as `unshare -Urn`, and returns what it printed; `None` where the test may be
/// skipped.
fn run(wrapper: &str, role: &str) -> Option<String> {
    let this = std::env::current_exe().unwrap();
    let mut words = wrapper.split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    command
        .args(words)
        .arg(this)
        .args(["--exact", "drop_capabilities::role", "--nocapture"])
        .env(ROLE, role);
    let output = command.output().unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    if !output.status.success()
        && std::env::var("PROBER_SKIP_PRIVILEGED").is_ok_and(|value| value == "1")
    {
        println!("skipped: {text}");
        return None;
    }
    assert!(output.status.success(), "{wrapper}: {text}");
    Some(text)
}

/// The work of the child processes; without a role it does nothing.
#[test]
fn role() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    match role.as_str() {
        "drop" => {
            let before = current().unwrap();
            let mut capture = open_capture().unwrap();
            let mut sender = RawSender::open().unwrap();
            let dropped = drop_capabilities(Kept::Nothing).unwrap();
            println!("net_raw {} -> {dropped}", before.net_raw);
            assert!(!current().unwrap().net_raw);
            // Open sockets stay usable.
            capture.drain(|_| ());
            sender.send(&[vec![0_u8]]);
            // No capability comes back, not by a program that root starts either.
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            for line in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
                assert!(
                    status.contains(&format!("{line}:\t0000000000000000")),
                    "{status}"
                );
            }
            assert!(status.contains("NoNewPrivs:\t1"));
            let child = Command::new("cat")
                .arg("/proc/self/status")
                .output()
                .unwrap();
            let child = String::from_utf8(child.stdout).unwrap();
            assert!(child.contains("CapEff:\t0000000000000000"), "{child}");
            assert!(
                drop_capabilities(Kept::Nothing).is_ok(),
                "dropping twice is no error"
            );
        }
        "keep" => {
            let dropped = drop_capabilities(Kept::NetAdmin).unwrap();
            let left = current().unwrap();
            println!("{dropped}; {left:?}");
            let request = ConntrackRequest::default();
            let facts = read_facts_with_conntrack(&ConntrackTable::by_ctnetlink(), &request);
            println!("conntrack {:?} {:?}", facts.conntrack, facts.unread);
        }
        "without" => {
            println!("capture: {}", open_capture().unwrap_err());
            println!("send: {}", RawSender::open().unwrap_err());
        }
        other => panic!("no role {other}"),
    }
}

#[test]
fn root_becomes_the_overflow_user_without_capabilities() {
    let Some(text) = run("env", "drop") else {
        return;
    };
    assert!(
        text.contains("net_raw true -> uid 65534, gid 65534, 0 capabilities, no_new_privs true"),
        "{text}"
    );
}

#[test]
fn where_only_root_is_mapped_it_stays_root_without_capabilities() {
    let Some(text) = run("unshare --user --map-root-user --net", "drop") else {
        return;
    };
    assert!(
        text.contains("net_raw true -> uid 0, gid 0, 0 capabilities, no_new_privs true"),
        "{text}"
    );
}

#[test]
fn a_container_that_has_only_net_raw_drops_it_and_stays_uid_0() {
    let Some(text) = run(
        "setpriv --bounding-set -all,+net_raw --inh-caps -all",
        "drop",
    ) else {
        return;
    };
    assert!(
        text.contains("net_raw true -> uid 0, gid 0, 0 capabilities, no_new_privs true"),
        "{text}"
    );
}

#[test]
fn the_capability_that_ctnetlink_needs_is_kept_alone() {
    for (wrapper, uid) in [
        ("env", 65534),
        ("setpriv --bounding-set -all,+net_admin --inh-caps -all", 0),
    ] {
        let Some(text) = run(wrapper, "keep") else {
            return;
        };
        let kept = format!(
            "uid {uid}, gid {uid}, 1 capabilities, no_new_privs true; Privileges {{ uid: {uid}, net_raw: false, net_admin: true }}"
        );
        assert!(text.contains(&kept), "{text}");
        assert!(
            text.contains("conntrack Some(ConntrackReading { entries: [], is_complete: true })"),
            "{text}"
        );
    }
    let without = "setpriv --bounding-set -all,+net_raw --inh-caps -all";
    let Some(text) = run(without, "keep") else {
        return;
    };
    assert!(text.contains("net_admin: false"), "{text}");
    assert!(text.contains("ctnetlink needs CAP_NET_ADMIN"), "{text}");
}

#[test]
fn without_the_capability_the_error_names_it_and_what_was_tried_and_the_fix() {
    let Some(text) = run("setpriv --bounding-set -all --inh-caps -all", "without") else {
        return;
    };
    for part in [
        "capture: cannot open a packet socket",
        "send: cannot open a raw IP socket",
        "CAP_NET_RAW is missing",
        "setcap cap_net_raw+ep",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}
