//! There are never two leaders, whichever process is suspended, and there is one in the end.

use proptest::prelude::*;

use super::*;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_nanos(seconds * 1_000_000_000)
}

/// An API server with one Lease.
#[derive(Default)]
struct Server {
    lease: Option<Lease>,
    version: u64,
}

impl Server {
    /// Applies an action; returns whether it was accepted.
    fn apply(&mut self, step: LeaseAction) -> bool {
        let mut lease = match step {
            LeaseAction::Wait => return false,
            LeaseAction::Create(_) if self.lease.is_some() => return false,
            LeaseAction::Create(lease) => *lease,
            LeaseAction::Replace(lease) => {
                let current = self
                    .lease
                    .as_ref()
                    .and_then(|lease| lease.metadata.resource_version.clone());
                if lease.metadata.resource_version != current {
                    return false;
                }
                *lease
            }
        };
        self.version += 1;
        lease.metadata.resource_version = Some(self.version.to_string());
        self.lease = Some(lease);
        true
    }

    /// One attempt of a candidate.
    fn attempt(&mut self, candidate: &mut LeaseClaim, now: Timestamp) {
        let step = candidate.next_action("prober", self.lease.as_ref(), now, now);
        if self.apply(step) {
            candidate.acquired(now);
        }
    }
}

fn two() -> [LeaseClaim; 2] {
    ["one", "two"].map(|name| LeaseClaim::new(name.to_owned()))
}

#[test]
fn the_first_controller_leads_and_the_second_waits() {
    let mut server = Server::default();
    let [mut one, mut two] = two();
    server.attempt(&mut one, at(0));
    server.attempt(&mut two, at(0));
    assert!(one.is_held(at(1)));
    assert!(!two.is_held(at(1)));
}

#[test]
fn a_dead_leader_is_succeeded_after_the_lease_duration() {
    let mut server = Server::default();
    let [mut one, mut two] = two();
    server.attempt(&mut one, at(0));
    server.attempt(&mut two, at(1));
    server.attempt(&mut two, at(15));
    assert!(!two.is_held(at(15)));
    server.attempt(&mut two, at(16));
    assert!(two.is_held(at(16)));
    let attempts = server.lease.and_then(|lease| lease.spec?.lease_transitions);
    assert_eq!(attempts, Some(1));
}

#[test]
fn a_suspended_leader_does_not_act_when_it_resumes() {
    let mut server = Server::default();
    let [mut one, mut two] = two();
    server.attempt(&mut one, at(0));
    server.attempt(&mut two, at(1));
    server.attempt(&mut two, at(17));
    assert!(!one.is_held(at(20)));
    server.attempt(&mut one, at(20));
    assert!(!one.is_held(at(20)));
    assert!(two.is_held(at(20)));
}

#[test]
fn of_two_concurrent_takeovers_one_is_refused() {
    let mut server = Server::default();
    let [mut one, mut two] = two();
    server.attempt(&mut LeaseClaim::new("dead".to_owned()), at(0));
    server.attempt(&mut one, at(1));
    server.attempt(&mut two, at(1));
    let read = server.lease.clone();
    let first = one.next_action("prober", read.as_ref(), at(20), at(20));
    let second = two.next_action("prober", read.as_ref(), at(20), at(20));
    assert!(server.apply(first));
    assert!(!server.apply(second));
}

#[test]
fn a_leader_that_stops_releases_the_lease() {
    let mut server = Server::default();
    let [mut one, mut two] = two();
    server.attempt(&mut one, at(0));
    let lease = server.lease.clone().unwrap();
    assert_eq!(two.release(&lease), None);
    let given = one.release(&lease).unwrap();
    assert!(!one.is_held(at(0)));
    assert!(server.apply(LeaseAction::Replace(Box::new(given))));
    server.attempt(&mut two, at(1));
    assert!(two.is_held(at(1)));
}

proptest! {
    /// Candidates with different clocks, each of which may be suspended between reading and writing.
    #[test]
    fn there_are_never_two_leaders(
        attempts in proptest::collection::vec((0_usize..3, 0_u64..9, 0_u64..20), 1..80)
    ) {
        let mut server = Server::default();
        let mut candidates: Vec<LeaseClaim> = (0..3).map(|i| LeaseClaim::new(format!("candidate-{i}"))).collect();
        let clock = |candidate: usize, now: u64| at(1_000 * (candidate as u64 + 1) + now);
        let mut now = 0;
        let mut pending: Vec<(usize, u64, u64, LeaseAction)> = Vec::new();
        for (candidate, wait, suspended) in attempts {
            now += wait;
            let begun = clock(candidate, now);
            let step = candidates[candidate].next_action("prober", server.lease.as_ref(), begun, at(now));
            pending.push((candidate, now, now + suspended, step));
            pending.sort_by_key(|(_, _, due, _)| *due);
            while let Some((candidate, begun, due, step)) = pending.first().cloned() {
                if due > now + wait {
                    break;
                }
                pending.remove(0);
                if server.apply(step) {
                    candidates[candidate].acquired(clock(candidate, begun));
                }
            }
            let leaders = (0..3).filter(|candidate| candidates[*candidate].is_held(clock(*candidate, now))).count();
            prop_assert!(leaders <= 1, "{leaders} leaders");
        }
    }
}
