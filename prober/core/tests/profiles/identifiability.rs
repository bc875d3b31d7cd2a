//! Every fault at every distinct place on every profile that can have it: what the evidence shows, and what today's
//! diagnosis says of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::thread;

use prober_core::diagnosis::diagnose;

use super::fault::{Fault, Kind};
use super::known_wrong;
use super::profile::{ALL, Profile};
use super::run::run;
use super::verdict::{Verdict, described, untrue_sentence, verdict};

/// The numbers of nodes: with two, each is the other's only witness.
pub(crate) const NODES: [u8; 2] = [2, 3];

/// One fault on one profile.
struct Trial {
    id: String,
    kind: Kind,
    profile: &'static str,
    verdict: Verdict,
    said: String,
    /// A sentence that names something that the profile does not have.
    untrue: Option<String>,
}

impl Trial {
    fn of(profile: &'static Profile, nodes: u8, fault: Fault) -> Self {
        let matrix = run(&fault.on(profile, nodes));
        let found = diagnose(&matrix);
        let (kind, place) = (fault.kind, fault.place);
        Self {
            id: format!(
                "{}, {nodes} nodes: {} at {place}",
                profile.name,
                kind.name()
            ),
            kind,
            profile: profile.name,
            verdict: verdict(profile, &[fault], &matrix, &found),
            said: described(&found).join(", "),
            untrue: untrue_sentence(profile, &found),
        }
    }
}

fn trials(profile: &'static Profile) -> Vec<Trial> {
    let of_size = |nodes| {
        let all = Fault::all(profile, nodes).into_iter();
        all.map(move |fault| Trial::of(profile, nodes, fault))
    };
    NODES.into_iter().flat_map(of_size).collect()
}

/// A table of Markdown: a row for each kind of fault, a column for each profile.
fn table(trials: &[Trial]) -> String {
    let mut worst: BTreeMap<(Kind, &str), Verdict> = BTreeMap::new();
    for trial in trials {
        let cell = worst
            .entry((trial.kind, trial.profile))
            .or_insert(trial.verdict);
        *cell = trial.verdict.max(*cell);
    }
    let mut text = "| fault |".to_owned();
    for profile in &ALL {
        write!(text, " {} |", profile.name).unwrap();
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(ALL.len()));
    for kind in Kind::ALL {
        write!(text, "\n| {} |", kind.name()).unwrap();
        for profile in &ALL {
            let cell = worst
                .get(&(kind, profile.name))
                .map_or("-", |cell| cell.as_str());
            write!(text, " {cell} |").unwrap();
        }
    }
    text
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a profile for each processor")]
fn every_fault_is_named_right_or_honestly_unknown() {
    let trials: Vec<Trial> = thread::scope(|scope| {
        let started = ALL.iter().map(|profile| scope.spawn(|| trials(profile)));
        let started: Vec<_> = started.collect();
        started
            .into_iter()
            .flat_map(|one| one.join().unwrap())
            .collect()
    });
    insta::assert_snapshot!("identifiability", table(&trials));
    let wrong = |trial: &&Trial| trial.verdict == Verdict::Wrong;
    let verdicts = trials.iter().filter(wrong);
    let verdicts = verdicts.map(|trial| (trial.id.clone(), trial.said.clone()));
    let untrue = trials
        .iter()
        .filter_map(|trial| Some((trial.id.clone(), trial.untrue.clone()?)));
    known_wrong::check(&[
        ("verdicts", verdicts.collect()),
        ("sentences", untrue.collect()),
    ]);
}
