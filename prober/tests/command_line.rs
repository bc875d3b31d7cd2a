//! The command line of the program: exit statuses, the two output streams, and output without a terminal.
//!
//! Cargo builds the program for this test, with the features that all tests share.

#![expect(
    clippy::expect_used,
    reason = "a program that does not start fails its test"
)]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

/// Returns the command that runs the program, 100 columns wide.
fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_prober"));
    command.args(arguments).env("COLUMNS", "100");
    command
}

/// Runs the program to its end.
fn prober(arguments: &[&str]) -> Output {
    program(arguments).output().expect("run prober")
}

/// Returns the path of the founding incident's capture.
fn capture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/captures/founding-incident.pcapng")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn requested_output_goes_to_standard_output_with_status_0() {
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["explain"],
        &["explain", "bridge-netfilter-off"],
        &["lab", "faults"],
        &["completions", "bash"],
        &["man"],
        &["man", "lab", "up"],
        &["version"],
    ] {
        let output = prober(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(!output.stdout.is_empty(), "{arguments:?}");
        assert_eq!(text(&output.stderr), "", "{arguments:?}");
    }
}

#[test]
fn errors_go_to_standard_error_with_status_2() {
    for (arguments, named) in [
        (&["no-such-command"][..], "no-such-command"),
        (&["run", "--no-such-flag"], "--no-such-flag"),
        (&["run"], "--node"),
        (&["explain", "bridge-netfilter-of"], "bridge-netfilter-off"),
        (&["replay", "/no/such.pcap"], "/no/such.pcap"),
        (&["report", "/no/such.json"], "/no/such.json"),
        (
            &["run", "--all", "--report", "json=/no/such/file"],
            "/no/such/file",
        ),
        (&["run", "--all", "--report", "json"], "FORMAT=FILE"),
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

#[test]
fn errors_have_one_format_name_the_file_and_show_each_cause_once() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    for (arguments, expected) in [
        (
            &["report", manifest][..],
            "not a report of prober: it is not JSON",
        ),
        (
            &["replay", manifest],
            "not a capture file: it looks like text",
        ),
        (&["replay", "/no/such.pcap"], "No such file"),
        (&["explain", "hairpin-of"], "did you mean hairpin-off?"),
        (&["man", "lab", "upp"], "did you mean up?"),
        (&["run"], "nothing to probe: give --node NODE"),
        (&["run", "--lab", "--fault", "foo"], "no fault 'foo';"),
    ] {
        let said = text(&prober(arguments).stderr);
        assert!(said.starts_with("error: "), "{arguments:?}: {said}");
        assert_eq!(said.matches(expected).count(), 1, "{arguments:?}: {said}");
        assert!(!said.contains("at line"), "{arguments:?}: {said}");
    }
}

#[test]
fn only_an_error_of_usage_has_a_hint_at_help() {
    let hint = "For more information, try '--help'.";
    for (arguments, has_hint) in [
        (&["run"][..], true),
        (&["run", "--no-such-flag"], true),
        (&["probe", "no-port"], true),
        // The error itself names the command that lists the causes.
        (&["explain", "nonsense"], false),
        (&["replay", "/no/such.pcap"], false),
        (&["report", "/no/such.json"], false),
    ] {
        let said = text(&prober(arguments).stderr);
        assert_eq!(said.contains(hint), has_hint, "{arguments:?}: {said}");
    }
}

#[test]
fn replay_reads_standard_input_and_dates_the_report_by_the_capture() {
    let file = capture();
    let replayed = |words: &[&str], input: Stdio| {
        let output = program(words).stdin(input).output().expect("run prober");
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        report
    };
    let open = File::open(&file).expect("a capture");
    let piped = replayed(&["replay", "-o", "json", "-"], open.into());
    let path = file.to_str().expect("a path in UTF-8");
    let named = replayed(&["replay", "-o", "json", path], Stdio::null());
    for field in ["diagnoses", "paths", "started", "duration_ms"] {
        assert_eq!(piped[field], named[field], "{field}");
    }
    // The capture is older than this test run.
    let started = named["started"].as_str().expect("a date");
    let today = now();
    assert!(!started.starts_with(&today), "{started} is {today}");
    assert_eq!(named["engines"], Value::Array(Vec::new()));
    let shown = text(&prober(&["replay", path]).stdout);
    let head = shown.lines().nth(1).expect("a second line");
    assert!(
        head.contains("captured") && !head.contains("kernel"),
        "{head}"
    );
}

#[test]
fn an_interrupted_pipe_is_diagnosed_as_far_as_it_came() {
    let mut replay = program(&["replay", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("run prober");
    let mut input = replay.stdin.take().expect("a pipe");
    let bytes = fs::read(capture()).expect("a capture");
    input.write_all(&bytes).expect("prober reads");
    // Wait until it handles SIGINT: it installs the handler before it reads.
    let status = format!("/proc/{}/status", replay.id());
    let handles = |status: String| {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_some_and(|mask| mask & 0b10 != 0)
    };
    while !fs::read_to_string(&status).is_ok_and(handles) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let interrupt = Command::new("kill")
        .args(["-s", "INT", &replay.id().to_string()])
        .status();
    assert!(interrupt.expect("run kill").success());
    let output = replay.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).starts_with("FAULTY"));
    drop(input);
}

/// Returns today's date in UTC, in the format of reports.
fn now() -> String {
    let output = Command::new("date")
        .args(["-u", "+%Y-%m-%d"])
        .output()
        .expect("run date");
    text(&output.stdout).trim().to_owned()
}

#[test]
fn one_run_writes_a_report_in_every_form() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |format: &str| folder.path().join(format);
    let capture = capture();
    let mut command = program(&["replay", "-o", "yaml"]);
    command.arg(&capture);
    let formats = [
        ("text", "FAULTY"),
        ("wide", "FAULTY"),
        ("json", "\"schema\": \"prober.dev/report/v1\""),
        ("yaml", "schema: prober.dev/report/v1"),
        ("html", "<!DOCTYPE html>"),
        ("pcapng", ""),
        ("junit", "<testsuites name=\"prober\""),
    ];
    for (format, _) in formats {
        // A longer old file: the report replaces all of it.
        fs::write(path(format), vec![b'#'; 4_000_000]).expect("a file");
        command.arg(format!("--report={format}={}", path(format).display()));
    }
    let output = command.output().expect("run prober");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    for (format, expected) in formats {
        let bytes = fs::read(path(format)).expect("a report");
        assert!(!bytes.is_empty() && !bytes.ends_with(b"##"), "{format}");
        assert!(text(&bytes).contains(expected), "{format}");
    }
    let yaml = fs::read(path("yaml")).expect("a report");
    assert_eq!(text(&output.stdout), text(&yaml));
    // The capture of the failing probes can be replayed.
    let failing = path("pcapng");
    let again = prober(&["replay", failing.to_str().expect("a path in UTF-8")]);
    assert_eq!(again.status.code(), Some(1), "{}", text(&again.stderr));
}

/// The commands of a page, each with the lines that the page shows of its output.
fn examples(page: &str) -> Vec<(Vec<&str>, Vec<&str>)> {
    let mut examples: Vec<(Vec<&str>, Vec<&str>)> = Vec::new();
    let mut is_within = false;
    for line in page.lines() {
        let code = line.strip_prefix("    ");
        if let Some(command) = code.and_then(|code| code.strip_prefix("$ prober ")) {
            is_within = !command.contains('|');
            if is_within {
                examples.push((command.split(' ').collect(), Vec::new()));
            }
        } else if code.is_some() || line.is_empty() {
            if let Some((_, lines)) = examples.last_mut().filter(|_| is_within) {
                lines.push(code.unwrap_or_default());
            }
        } else {
            is_within = false;
        }
    }
    for (_, lines) in &mut examples {
        lines.truncate(
            lines
                .iter()
                .rposition(|line| !line.is_empty())
                .map_or(0, |last| last + 1),
        );
    }
    examples
}

#[test]
fn the_page_about_captures_shows_what_its_commands_say() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let page = fs::read_to_string(format!("{root}/docs/captures.md")).expect("the page");
    let examples = examples(&page);
    assert!(examples.len() >= 3, "{examples:?}");
    for (words, shown) in examples {
        let output = program(&words)
            .current_dir(root)
            .output()
            .expect("run prober");
        let said = text(&output.stdout);
        let mut rest = said.lines().map(str::trim_end);
        let mut may_skip = false;
        for line in &shown {
            if *line == "[...]" {
                may_skip = true;
                continue;
            }
            let found = if may_skip {
                rest.any(|other| other == *line)
            } else {
                rest.next() == Some(*line)
            };
            assert!(
                found,
                "prober {words:?} does not say {line:?} there, but: {said}"
            );
            may_skip = false;
        }
        assert!(
            may_skip || rest.next().is_none(),
            "prober {words:?} says more: {said}"
        );
    }
}

#[test]
fn annotating_never_overwrites_a_capture_that_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let kept = folder.path().join("kept.pcapng");
    fs::copy(capture(), &kept).expect("a copy");
    let before = fs::read(&kept).expect("the copy");
    let link = folder.path().join("link.pcapng");
    std::os::unix::fs::symlink(&kept, &link).expect("a link");
    for to in [&kept, &link] {
        let mut command = program(&["replay"]);
        let output = command.arg(&kept).arg("--annotate").arg(to).output();
        let output = output.expect("run prober");
        assert_eq!(output.status.code(), Some(2));
        let said = text(&output.stderr);
        assert!(said.contains("would overwrite the capture"), "{said}");
        assert_eq!(fs::read(&kept).expect("the copy"), before);
    }
}

#[test]
fn a_file_that_cannot_be_written_is_one_error_before_anything_is_done() {
    let folder = tempfile::tempdir().expect("a folder");
    let kept = folder.path().join("kept.json");
    fs::write(&kept, "as it was").expect("a file");
    let kept = format!("json={}", kept.display());
    let lost = format!("html={}", folder.path().display());
    let output = prober(&["run", "--lab", "--report", &kept, "--report", &lost]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stdout), "");
    let said = text(&output.stderr);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("cannot write the report to"), "{said}");
    let kept = fs::read_to_string(folder.path().join("kept.json"));
    assert_eq!(kept.expect("the file"), "as it was");
}

#[test]
fn two_reports_never_share_a_file() {
    for file in ["-", "/dev/null"] {
        let html = format!("html={file}");
        let output = prober(&["run", "--all", "--report", &html, "--pcapng", file]);
        assert_eq!(output.status.code(), Some(2));
        let said = text(&output.stderr);
        assert!(said.starts_with("error: cannot write"), "{said}");
    }
}

#[test]
fn a_run_that_could_not_be_done_is_a_report_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("report.json");
    let report = format!("json={}", file.display());
    let output = prober(&["run", "--report", &report]);
    assert_eq!(output.status.code(), Some(2));
    let written = fs::read(&file).expect("a report");
    let report: Value = serde_json::from_slice(&written).expect("JSON");
    assert_eq!(report["completion"], "could-not-run");
}

#[test]
fn the_version_says_what_was_built() {
    let output = prober(&["version", "-o", "json"]);
    let version: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for field in ["version", "commit", "target"] {
        assert!(
            version[field].as_str().is_some_and(|it| !it.is_empty()),
            "{version}"
        );
    }
    let said = text(&prober(&["version"]).stdout);
    assert!(
        said.contains(version["target"].as_str().expect("text")),
        "{said}"
    );
}

#[test]
fn prose_fits_the_width() {
    for arguments in [
        &["explain"][..],
        &["explain", "stale-rules"],
        &["lab", "faults"],
    ] {
        let output = program(arguments).env("COLUMNS", "72").output();
        let shown = text(&output.expect("run prober").stdout);
        let longest = shown.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(72), "{arguments:?}:\n{shown}");
    }
}

#[test]
fn lists_are_json_and_yaml_as_well() {
    for arguments in [&["explain"][..], &["lab", "faults"], &["version"]] {
        let shown = |format| text(&prober(&[arguments, &["-o", format]].concat()).stdout);
        let json: Value = serde_json::from_str(&shown("json")).expect("JSON");
        let first = json.get(0).unwrap_or(&json);
        let field = first.as_object().and_then(|fields| fields.keys().next());
        let field = field.expect("a field");
        assert!(
            shown("yaml").contains(&format!("{field}: ")),
            "{arguments:?}"
        );
    }
}
