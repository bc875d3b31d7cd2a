//! The catalogue and the lab match: each cause has a fault that makes it, and every name is unique.

use std::collections::BTreeSet;

use prober_core::diagnosis::catalogue::Cause;
use prober_lab::fault::Fault;

#[test]
fn every_cause_has_a_fault_that_makes_it() {
    let made: BTreeSet<Cause> = Fault::ALL
        .iter()
        .flat_map(|fault| fault.causes().iter().chain(fault.causes_if_late()))
        .copied()
        .collect();
    let missing: Vec<&str> = Cause::ALL
        .iter()
        .filter(|cause| !made.contains(cause))
        .map(|cause| cause.slug())
        .collect();
    assert!(missing.is_empty(), "the lab cannot make {missing:?}");
}

#[test]
fn some_fault_harms_nothing() {
    assert!(Fault::ALL.iter().any(|fault| fault.causes().is_empty()));
}

#[test]
fn every_name_is_used_once_and_can_be_typed() {
    let faults: Vec<&str> = Fault::ALL.iter().map(|fault| fault.slug()).collect();
    let causes: Vec<&str> = Cause::ALL.iter().map(|cause| cause.slug()).collect();
    for names in [&faults, &causes] {
        let once: BTreeSet<&&str> = names.iter().collect();
        assert_eq!(once.len(), names.len(), "a name is used twice in {names:?}");
        for name in names {
            let typed = name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
            assert!(typed, "{name} is not of lower-case words joined by hyphens");
        }
    }
}

#[test]
fn every_cause_is_found_by_its_name_and_has_a_meaning_of_one_sentence() {
    for cause in Cause::ALL {
        assert_eq!(cause.slug().parse::<Cause>().ok(), Some(*cause));
        assert!(
            cause.meaning().ends_with('.') && !cause.meaning().contains('\n'),
            "{}",
            cause.meaning()
        );
    }
}
