//! Faults that leave the same evidence: no diagnosis can distinguish them, however good it is.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use prober_core::diagnosis::diagnose;
use prober_core::evidence::Matrix;
use prober_core::probe::outcome::{EngineKind, Outcome};
use prober_core::probe::tier::Tier;

use super::fault::Fault;
use super::known_wrong;
use super::profile::{ALL, Profile};
use super::run::run;
use super::verdict::{Verdict, described, proven, verdict};

/// The part of the evidence that a tier collects.
fn of_tier(mut matrix: Matrix, tier: Tier) -> Matrix {
    if tier < Tier::T2 {
        matrix.nodes.clear();
    }
    if tier < Tier::T1 {
        for path in matrix.paths.values_mut() {
            path.ttl_probe = None;
            path.tallies.remove(&EngineKind::Raw);
            path.probes
                .retain(|probe| probe.client.engine == EngineKind::Kernel);
            for probe in &mut path.probes {
                probe.server = None;
                probe.server_agent = None;
                let client = &mut probe.client;
                client.observations.clear();
                (client.isn, client.server_isn) = (None, None);
                match &mut client.outcome {
                    Outcome::Mismatched { .. } => client.outcome = Outcome::Timeout,
                    Outcome::Unreachable { by, .. } => *by = None,
                    Outcome::Established { .. }
                    | Outcome::Reset { .. }
                    | Outcome::RefusedLocally { .. }
                    | Outcome::Timeout => {}
                }
            }
        }
    }
    matrix
}

/// The faults of a profile that leave the same evidence on two nodes, with that evidence.
fn groups(profile: &'static Profile, tier: Tier) -> Vec<(Vec<Fault>, Matrix)> {
    let mut alike: BTreeMap<String, (Vec<Fault>, Matrix)> = BTreeMap::new();
    for fault in Fault::all(profile, 2) {
        let matrix = of_tier(run(&fault.on(profile, 2)), tier);
        let known = alike.entry(format!("{matrix:?}"));
        let (faults, _) = known.or_insert_with(|| (Vec::new(), matrix));
        faults.push(fault);
    }
    let mut groups: Vec<_> = alike.into_values().collect();
    groups.retain(|(faults, _)| faults.len() > 1);
    groups.sort_by(|(one, _), (other, _)| one.cmp(other));
    groups
}

fn named(faults: &[Fault]) -> String {
    let names = faults
        .iter()
        .map(|fault| format!("{} at {}", fault.kind.name(), fault.place));
    names.collect::<Vec<_>>().join(" = ")
}

/// What cannot be distinguished is not proven either, unless it is right for all of these faults.
#[test]
fn faults_that_leave_the_same_evidence() {
    let (mut text, mut wrong) = (String::new(), BTreeMap::new());
    for profile in &ALL {
        for tier in [Tier::T0, Tier::T1, Tier::T2] {
            writeln!(text, "{}, {tier}:", profile.name).unwrap();
            for (faults, matrix) in groups(profile, tier) {
                let faults_named = named(&faults);
                writeln!(text, "  {faults_named}").unwrap();
                let proven = proven(diagnose(&matrix));
                let is_wrong =
                    |fault: &Fault| verdict(profile, &[*fault], &matrix, &proven) == Verdict::Wrong;
                if !proven.is_empty() && faults.iter().any(is_wrong) {
                    let id = format!("{}, {tier}: {faults_named}", profile.name);
                    wrong.insert(id, described(&proven).join(", "));
                }
            }
        }
    }
    insta::assert_snapshot!("indistinguishable", text);
    known_wrong::check(&[("indistinguishable", wrong)]);
}
