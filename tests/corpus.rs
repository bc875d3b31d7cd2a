//! Runs every file of `corpora/` through its fuzz target, without a fuzzer: seeds, and findings of fuzzing.

#![expect(clippy::expect_used, reason = "a test that cannot look fails")]
#![expect(clippy::print_stdout, reason = "the case that panicked must be named")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use prober_core::packet::capture::{CaptureError, read};
use prober_tests::fuzzing::{CaseResult, FuzzTarget, TARGETS};

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The names in a folder, sorted.
fn names(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("list {}: {error}", folder.display()))
        .map(|entry| {
            entry
                .expect("an entry of a folder that was just listed")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect()
}

fn replay(name: &str) {
    let FuzzTarget { run, .. } = TARGETS
        .iter()
        .find(|target| target.name == name)
        .expect("the target exists");
    let folder = here("corpora").join(name);
    let (mut accepted, mut rejected) = (0, 0);
    for case in names(&folder) {
        // Shown only if the case panics.
        println!("replaying tests/corpora/{name}/{case}");
        match run(&fs::read(folder.join(&case)).expect("read a case that was just listed")) {
            CaseResult::Accepted => accepted += 1,
            CaseResult::Rejected => rejected += 1,
        }
    }
    assert!(
        accepted >= 3 && rejected >= 3,
        "{name}: {accepted} cases were understood and {rejected} refused"
    );
}

#[test]
fn every_kept_frame_keeps_its_promises() {
    replay("wire");
}

#[test]
fn every_kept_capture_keeps_its_promises() {
    replay("replay");
}

#[test]
fn every_kept_file_keeps_its_promises() {
    replay("capture");
}

#[test]
fn every_kept_frame_with_layers_keeps_its_promises() {
    replay("layers");
}

#[test]
fn every_kept_datagram_keeps_its_promises() {
    replay("datagram");
}

#[test]
fn every_kept_compressed_file_keeps_its_promises() {
    replay("compressed");
}

#[test]
fn every_kept_plan_keeps_its_promises() {
    replay("plan");
}

#[test]
fn every_kept_agent_line_keeps_its_promises() {
    replay("agent_line");
}

#[test]
fn every_kept_conntrack_line_keeps_its_promises() {
    replay("conntrack");
}

#[test]
fn every_kept_standing_plan_keeps_its_promises() {
    replay("standing_plan");
}

#[test]
fn every_kept_banner_keeps_its_promises() {
    replay("banner");
}

#[test]
fn every_kept_evidence_keeps_its_promises() {
    replay("evidence");
}

/// The captures of other programs, which `scripts/captures` fetches.
fn captures_of_others(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            captures_of_others(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
    }
}

#[test]
fn the_captures_of_other_programs_are_read_or_refused_by_a_sentence() {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let folder = cache
        .or(home)
        .expect("a folder for caches")
        .join("prober/captures");
    let mut found = Vec::new();
    captures_of_others(&folder, &mut found);
    if found.is_empty() {
        println!(
            "skipped: no captures in {}: run scripts/captures",
            folder.display()
        );
        return;
    }
    let (mut read_files, mut packets) = (0, 0);
    for path in &found {
        println!("reading {}", path.display());
        match read(&fs::read(path).expect("read a file that was just listed")) {
            Ok(capture) => {
                read_files += 1;
                packets += capture.packets.len();
            }
            Err(CaptureError::LinkType(_) | CaptureError::NotACapture(_)) => {}
            Err(error) => panic!("{}: {error}", path.display()),
        }
    }
    assert!(
        read_files * 2 > found.len(),
        "{read_files} of {}",
        found.len()
    );
    assert!(packets > 1_000, "{packets} packets of TCP, ICMP or ARP");
}

#[test]
fn every_target_has_a_corpus_and_a_fuzzer_and_no_corpus_or_fuzzer_lacks_a_target() {
    let targets: BTreeSet<String> = TARGETS
        .iter()
        .map(|target| target.name.to_owned())
        .collect();
    let mut corpora = names(&here("corpora"));
    assert!(
        corpora.remove("make.py"),
        "the cases say how they were made"
    );
    assert_eq!(corpora, targets);
    let fuzzers: BTreeSet<String> = targets.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(names(&here("../fuzz/fuzz_targets")), fuzzers);
    let manifest = fs::read_to_string(here("../fuzz/Cargo.toml")).expect("read fuzz/Cargo.toml");
    for fuzzer in fuzzers {
        assert!(
            manifest.contains(&format!("fuzz_targets/{fuzzer}")),
            "{fuzzer} is not declared in fuzz/Cargo.toml"
        );
    }
}
