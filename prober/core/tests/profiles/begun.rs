//! Faults that begin in mid-run: losses that last from one moment on are never proven to be random, or anything else but the fault.

use std::time::Duration;

use prober_core::diagnosis::diagnose;
use prober_core::evidence::{Evidence, Matrix, PathEvidence};
use prober_core::probe::outcome::EngineKind;

use super::cluster::Cluster;
use super::fault::{Fault, Kind};
use super::healed::later;
use super::known_wrong;
use super::profile::{ALL, Profile};
use super::run::run;
use super::verdict::{Verdict, described, proven, verdict};

/// When the probes of the faulty part begin: after the last one of the healthy part.
const BEGUN: Duration = Duration::from_mins(1);

/// How the probes of a run are spread over the time before and after the beginning.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// How many probes of each path and engine follow the beginning; the connections wait for their timeouts.
    after: usize,
    /// How many more healthy probes of each path and engine precede it, and are only counted.
    counted: u64,
    /// Whether every third path was probed to its end before.
    is_staggered: bool,
}

const PACES: [Pace; 4] = [
    Pace {
        after: usize::MAX,
        counted: 0,
        is_staggered: false,
    },
    Pace {
        after: 1,
        counted: 20,
        is_staggered: false,
    },
    Pace {
        after: 3,
        counted: 100,
        is_staggered: true,
    },
    Pace {
        after: 2,
        counted: 0,
        is_staggered: true,
    },
];

/// The evidence of the healthy cluster, and after it that of a fault.
fn begun(profile: &'static Profile, fault: Fault, pace: Pace) -> Matrix {
    let healthy = run(&Cluster::dual(profile, 2));
    let mut matrix = run(&fault.on(profile, 2));
    for id in std::mem::take(&mut matrix.comparisons).into_keys() {
        matrix.paths.remove(&id);
    }
    for (id, path) in &mut matrix.paths {
        let mut whole = healthy.paths[id].clone();
        for tally in whole.tallies.values_mut() {
            tally.outcomes.established += pace.counted;
            tally.first_syn_success += pace.counted;
        }
        if !(pace.is_staggered && id.0 % 3 == 0) {
            continues(&mut whole, path, pace.after);
        }
        *path = whole;
    }
    for (name, node) in &mut matrix.nodes {
        node.before.clone_from(&healthy.nodes[name].before);
    }
    matrix
}

/// Adds the probes of a path with the fault to those without, and what the follow-up saw.
fn continues(whole: &mut PathEvidence, faulty: &PathEvidence, after: usize) {
    for engine in [EngineKind::Kernel, EngineKind::Raw] {
        let of_engine = |probe: &&Evidence| probe.client.engine == engine;
        for probe in faulty.probes.iter().filter(of_engine).take(after) {
            let probe = later(probe, BEGUN);
            whole.requested += 1;
            let tally = whole.tallies.entry(engine).or_default();
            tally.count(&probe.client);
            whole.probes.push(probe);
        }
    }
    whole.ttl_probe.clone_from(&faulty.ttl_probe);
    whole.other_port = faulty.other_port;
    whole.socket_level = faulty.socket_level;
}

#[test]
fn what_begins_during_a_run_is_never_proven_to_be_another_cause() {
    let mut wrong = std::collections::BTreeMap::new();
    let mut failing = 0;
    for profile in &ALL {
        for fault in Fault::all(profile, 2) {
            for pace in PACES {
                let matrix = begun(profile, fault, pace);
                failing += usize::from(matrix.paths.values().any(|path| !path.is_clean()));
                let proven = proven(diagnose(&matrix));
                let judged = verdict(profile, &[fault], &matrix, &proven);
                if !proven.is_empty() && judged == Verdict::Wrong {
                    let (kind, place) = (fault.kind.name(), fault.place);
                    let id = format!("{}: {kind} at {place}, {pace:?}", profile.name);
                    wrong.insert(id, described(&proven).join(", "));
                }
            }
        }
    }
    assert!(failing > 1000, "{failing}");
    known_wrong::check(&[("begun", wrong)]);
}

/// The filters that drop, and nothing else.
const FILTERS: [Kind; 4] = [
    Kind::ForwardDrop,
    Kind::PolicyIngress,
    Kind::PolicyEgress,
    Kind::PolicyEgressToOtherNodes,
];

#[test]
fn a_filter_that_begins_during_a_run_is_among_the_candidates() {
    let mut unnamed = Vec::new();
    for profile in &ALL {
        let filters = Fault::all(profile, 2).into_iter();
        for fault in filters.filter(|fault| FILTERS.contains(&fault.kind)) {
            for pace in PACES.into_iter().filter(|pace| !pace.is_staggered) {
                let found = diagnose(&begun(profile, fault, pace));
                let is_named = found.iter().any(|one| {
                    let slugs = fault.kind.causes();
                    one.cause.is_some_and(|cause| slugs.contains(&cause.slug()))
                        || (one.would_decide.iter())
                            .any(|other| slugs.iter().any(|slug| other.contains(slug)))
                });
                if !is_named {
                    let (kind, place) = (fault.kind.name(), fault.place);
                    let found = described(&found).join(", ");
                    unnamed.push(format!("{}: {kind} at {place}: {found}", profile.name));
                }
            }
        }
    }
    assert_eq!(unnamed, Vec::<String>::new());
}
