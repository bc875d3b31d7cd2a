//! Faults that end in mid-run: what comes up during a run is never proven broken, whether its pods were new or not.

use std::collections::BTreeSet;
use std::time::Duration;

use prober_core::diagnosis::catalogue::Cause;
use prober_core::diagnosis::{Confidence, diagnose};
use prober_core::evidence::{Evidence, Matrix};
use prober_core::time::Timestamp;

use super::cluster::Cluster;
use super::fault::Fault;
use super::profile::{ALL, Profile};
use super::run::run;
use super::verdict::described;

/// When the probes of the healthy part begin: after the last one of the faulty part.
const HEALED: Duration = Duration::from_mins(1);

/// The causes of what ended.
const ENDED: [Cause; 2] = [Cause::TransientOutage, Cause::EndpointNotProgrammed];

/// A probe, as if it had been sent so much later.
pub(crate) fn later(probe: &Evidence, by: Duration) -> Evidence {
    let mut probe = probe.clone();
    let client = &mut probe.client;
    client.started = client.started + by;
    let packets = client.observations.iter_mut();
    let server = probe.server.iter_mut();
    for seen in packets.chain(server.flat_map(|trace| &mut trace.observations)) {
        seen.at = seen.at + by;
    }
    probe
}

/// The evidence of a fault, and after it that of the healthy cluster. The facts of the nodes stay those of the fault.
fn healed(profile: &'static Profile, fault: Fault, ready_at: Option<Timestamp>) -> Matrix {
    let mut matrix = run(&fault.on(profile, 2));
    let healthy = run(&Cluster::dual(profile, 2));
    for id in std::mem::take(&mut matrix.comparisons).into_keys() {
        matrix.paths.remove(&id);
    }
    for (id, path) in &mut matrix.paths {
        let well = &healthy.paths[id];
        path.requested += well.requested;
        path.probes
            .extend(well.probes.iter().map(|probe| later(probe, HEALED)));
        for (engine, tally) in &well.tallies {
            let sum = path.tallies.entry(*engine).or_default();
            sum.add(&tally.outcomes, tally.first_syn_success, &tally.rtt);
        }
    }
    for agent in matrix.agents.values_mut() {
        agent.ready_at = ready_at;
    }
    matrix
}

#[test]
fn what_comes_up_during_a_run_is_never_proven_broken() {
    let mut wrong = Vec::new();
    let mut ended = 0;
    for profile in &ALL {
        let mut kinds = BTreeSet::new();
        let faults = Fault::all(profile, 2);
        for fault in faults.into_iter().filter(|fault| kinds.insert(fault.kind)) {
            for ready_at in [None, Some(Timestamp::default())] {
                let matrix = healed(profile, fault, ready_at);
                let has_come_up = |path: &&prober_core::evidence::PathEvidence| {
                    path.is_clean() || path.has_come_up()
                };
                // A fault of some of the packets alone, or of some of the endpoints, may have ended before.
                if !matrix.paths.values().all(|path| has_come_up(&path)) {
                    continue;
                }
                ended += 1;
                let found = diagnose(&matrix);
                let is_proven = found.iter().any(|diagnosis| {
                    let has_ended = diagnosis.cause.is_some_and(|cause| ENDED.contains(&cause));
                    diagnosis.confidence == Confidence::Proven && !has_ended
                });
                if is_proven {
                    let (kind, place) = (fault.kind.name(), fault.place);
                    let found = described(&found).join(", ");
                    wrong.push(format!("{}: {kind} at {place}: {found}", profile.name));
                }
            }
        }
    }
    assert!(ended > 100, "{ended}");
    assert_eq!(wrong, Vec::<String>::new());
}
