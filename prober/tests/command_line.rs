//! The program as a shell meets it: exit statuses, which stream says what, and what a terminal alone gets.
//!
//! Whoever builds this test has the program itself, built with the features that all tests share.

#![expect(
    clippy::expect_used,
    reason = "a program that does not start fails its test"
)]

use std::process::{Command, Output};

fn prober(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_prober"))
        .args(arguments)
        .env("COLUMNS", "100")
        .output()
        .expect("run prober")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn what_was_asked_for_goes_to_standard_output_and_ends_with_0() {
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["explain"],
        &["explain", "bridge-netfilter-off"],
        &["lab", "faults"],
        &["completions", "bash"],
        &["man"],
    ] {
        let output = prober(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(!output.stdout.is_empty(), "{arguments:?}");
        assert_eq!(text(&output.stderr), "", "{arguments:?}");
    }
}

#[test]
fn what_cannot_be_done_is_said_on_standard_error_and_ends_with_2() {
    for (arguments, named) in [
        (&["no-such-command"][..], "no-such-command"),
        (&["run", "--no-such-flag"], "--no-such-flag"),
        (&["run"], "--node"),
        (&["explain", "bridge-netfilter-of"], "bridge-netfilter-off"),
        (&["replay", "/no/such.pcap"], "/no/such.pcap"),
        (&["report", "/no/such.json"], "/no/such.json"),
    ] {
        let output = prober(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
        let said = text(&output.stderr);
        assert!(said.contains(named), "{arguments:?} says {said}");
    }
}

#[test]
fn nothing_is_coloured_where_no_terminal_reads() {
    for arguments in [&["--help"][..], &["explain", "hairpin-off"], &["run"]] {
        let output = prober(arguments);
        for stream in [&output.stdout, &output.stderr] {
            assert!(!stream.contains(&0x1b), "{arguments:?}");
        }
    }
}
