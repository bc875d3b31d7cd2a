//! Two faults at once: each of them, or something honest; never a third.

use std::collections::{BTreeMap, BTreeSet};

use prober_core::diagnosis::diagnose;

use super::cluster::Cluster;
use super::fault::Fault;
use super::known_wrong;
use super::profile::{Profile, named};
use super::run::run;
use super::verdict::{Verdict, described, proven, verdict};

/// A bridge with an overlay, routed veths without one, and Cilium.
const PROFILES: [&str; 3] = ["flannel-vxlan", "ptp", "cilium"];

/// One fault of each kind.
fn faults(profile: &Profile) -> Vec<Fault> {
    let mut kinds = BTreeSet::new();
    let mut faults = Fault::all(profile, 2);
    faults.retain(|fault| kinds.insert(fault.kind));
    faults
}

fn wrong_pairs(profile: &'static Profile) -> BTreeMap<String, String> {
    let all = faults(profile);
    let mut wrong = BTreeMap::new();
    for (at, one) in all.iter().enumerate() {
        for other in &all[at + 1..] {
            let mut cluster = Cluster::new(profile, 2);
            one.apply(&mut cluster);
            other.apply(&mut cluster);
            let matrix = run(&cluster);
            let found = proven(diagnose(&matrix));
            let is_wrong = !found.is_empty()
                && verdict(profile, &[*one, *other], &matrix, &found) == Verdict::Wrong;
            if is_wrong {
                let id = format!(
                    "{}: {} at {} and {} at {}",
                    profile.name,
                    one.kind.name(),
                    one.place,
                    other.kind.name(),
                    other.place
                );
                wrong.insert(id, described(&found).join(", "));
            }
        }
    }
    wrong
}

#[test]
fn two_faults_at_once_prove_no_third() {
    let wrong = PROFILES.iter().flat_map(|name| wrong_pairs(named(name)));
    known_wrong::check(&[("pairs", wrong.collect())]);
}
