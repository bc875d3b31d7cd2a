//! The sentences of evidence of each cause, on the first profile on which a fault of it is named: the cause alone does not show
//! that its evidence is true.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use prober_core::diagnosis::Diagnosis;
use prober_core::diagnosis::catalogue::Cause;
use prober_core::diagnosis::diagnose;

use super::fault::{Fault, Kind};
use super::profile::ALL;
use super::run::run;

/// The first diagnosis of each cause that a fault of this kind has: its profile, its fault and its sentences. Paths that fail
/// and work follow each; they are those of the fault.
fn sentences(kind: Kind, found: &mut BTreeMap<Cause, String>) {
    for profile in &ALL {
        let of_kind = |fault: &Fault| fault.kind == kind;
        for fault in Fault::all(profile, 2).into_iter().filter(of_kind) {
            let is_new = |diagnosis: &Diagnosis| {
                let named = diagnosis
                    .cause
                    .filter(|cause| kind.causes().contains(&cause.slug()));
                named.filter(|cause| !found.contains_key(cause))
            };
            let diagnoses = diagnose(&run(&fault.on(profile, 2)));
            let Some((cause, diagnosis)) =
                diagnoses.iter().find_map(|one| Some((is_new(one)?, one)))
            else {
                continue;
            };
            let mut text = format!("{} at {} ({})\n", kind.name(), fault.place, profile.name);
            let is_scope =
                |line: &&String| line.starts_with("fails: ") || line.starts_with("works: ");
            for line in diagnosis.evidence.iter().filter(|line| !is_scope(line)) {
                writeln!(text, "  {line}").unwrap();
            }
            found.insert(cause, text);
            return;
        }
    }
}

#[test]
fn the_evidence_of_each_cause_is_as_documented() {
    let mut found = BTreeMap::new();
    for kind in Kind::ALL {
        sentences(kind, &mut found);
    }
    let mut text = String::new();
    for cause in Cause::ALL {
        let Some(said) = found.get(cause) else {
            writeln!(text, "{cause}: no fault on two nodes has this name").unwrap();
            continue;
        };
        assert!(said.lines().count() > 1, "{cause} has no evidence: {said}");
        write!(text, "{cause}: {said}").unwrap();
    }
    insta::assert_snapshot!(text);
}
