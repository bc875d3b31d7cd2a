//! Never two leaders, whatever freezes, and always one in the end.

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
    /// Obeys a step; whether it was accepted.
    fn obey(&mut self, step: Step) -> bool {
        let mut lease = match step {
            Step::Wait => return false,
            Step::Create(_) if self.lease.is_some() => return false,
            Step::Create(lease) => *lease,
            Step::Replace(lease) => {
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

    /// A whole turn of one candidate.
    fn turn(&mut self, candidate: &mut Election, now: Timestamp) {
        let step = candidate.step("prober", self.lease.as_ref(), now, now);
        if self.obey(step) {
            candidate.won(now);
        }
    }
}

fn two() -> [Election; 2] {
    ["one", "two"].map(|name| Election::new(name.to_owned()))
}

#[test]
fn the_first_one_leads_and_the_second_waits() {
    let mut server = Server::default();
    let [mut one, mut two] = two();
    server.turn(&mut one, at(0));
    server.turn(&mut two, at(0));
    assert!(one.leads(at(1)));
    assert!(!two.leads(at(1)));
}

#[test]
fn a_leader_that_died_is_followed_after_the_leases_duration() {
    let mut server = Server::default();
    let [mut one, mut two] = two();
    server.turn(&mut one, at(0));
    server.turn(&mut two, at(1));
    server.turn(&mut two, at(15));
    assert!(!two.leads(at(15)));
    server.turn(&mut two, at(16));
    assert!(two.leads(at(16)));
    let turns = server.lease.and_then(|lease| lease.spec?.lease_transitions);
    assert_eq!(turns, Some(1));
}

#[test]
fn a_leader_that_was_frozen_does_not_act_when_it_wakes() {
    let mut server = Server::default();
    let [mut one, mut two] = two();
    server.turn(&mut one, at(0));
    server.turn(&mut two, at(1));
    server.turn(&mut two, at(17));
    assert!(!one.leads(at(20)));
    server.turn(&mut one, at(20));
    assert!(!one.leads(at(20)));
    assert!(two.leads(at(20)));
}

#[test]
fn of_two_that_take_over_at_once_one_is_refused() {
    let mut server = Server::default();
    let [mut one, mut two] = two();
    server.turn(&mut Election::new("dead".to_owned()), at(0));
    server.turn(&mut one, at(1));
    server.turn(&mut two, at(1));
    let read = server.lease.clone();
    let first = one.step("prober", read.as_ref(), at(20), at(20));
    let second = two.step("prober", read.as_ref(), at(20), at(20));
    assert!(server.obey(first));
    assert!(!server.obey(second));
}

#[test]
fn a_leader_that_leaves_gives_the_lease_back() {
    let mut server = Server::default();
    let [mut one, mut two] = two();
    server.turn(&mut one, at(0));
    let lease = server.lease.clone().unwrap();
    assert_eq!(two.release(&lease), None);
    let given = one.release(&lease).unwrap();
    assert!(!one.leads(at(0)));
    assert!(server.obey(Step::Replace(Box::new(given))));
    server.turn(&mut two, at(1));
    assert!(two.leads(at(1)));
}

proptest! {
    /// Candidates whose clocks differ, that take their turns or are frozen between reading and writing.
    #[test]
    fn there_are_never_two_leaders(
        turns in proptest::collection::vec((0_usize..3, 0_u64..9, 0_u64..20), 1..80)
    ) {
        let mut server = Server::default();
        let mut candidates: Vec<Election> = (0..3).map(|i| Election::new(format!("candidate-{i}"))).collect();
        let clock = |who: usize, now: u64| at(1_000 * (who as u64 + 1) + now);
        let mut now = 0;
        let mut pending: Vec<(usize, u64, u64, Step)> = Vec::new();
        for (who, wait, frozen) in turns {
            now += wait;
            let begun = clock(who, now);
            let step = candidates[who].step("prober", server.lease.as_ref(), begun, at(now));
            pending.push((who, now, now + frozen, step));
            pending.sort_by_key(|(_, _, due, _)| *due);
            while let Some((who, begun, due, step)) = pending.first().cloned() {
                if due > now + wait {
                    break;
                }
                pending.remove(0);
                if server.obey(step) {
                    candidates[who].won(clock(who, begun));
                }
            }
            let leaders = (0..3).filter(|who| candidates[*who].leads(clock(*who, now))).count();
            prop_assert!(leaders <= 1, "{leaders} leaders");
        }
    }
}
