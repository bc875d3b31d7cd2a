//! Every fault breaks something that a client notices, or nothing if it is called harmless, and healing mends it.

use prober_lab::fault::Fault;
use prober_lab::{Fleet, LabSpec};

use crate::Case;
use crate::path::{assert_same, balanced, fleet, healthy, matrix};

pub(crate) const CASES: &[Case] = &[(
    "every_fault_breaks_what_it_says_and_healing_mends_it",
    every_fault_breaks_what_it_says_and_healing_mends_it,
)];

fn every_fault_breaks_what_it_says_and_healing_mends_it() {
    let spec = LabSpec::default();
    let mut fleet = fleet(&spec);
    // For whoever works on one fault: only those with this in their name, and every answer shown.
    let only = std::env::var("PROBER_LAB_FAULT").ok();
    for fault in Fault::ALL.iter().filter(|fault| {
        only.as_deref()
            .is_none_or(|only| fault.slug().contains(only))
    }) {
        breaks_and_heals(&mut fleet, &spec, *fault);
    }
}

fn breaks_and_heals(fleet: &mut Fleet, spec: &LabSpec, fault: Fault) {
    let start = std::time::Instant::now();
    fleet.inject(fault, fault.default_node(spec)).unwrap();
    let injected = start.elapsed();
    let wanted = healthy(spec);
    let seen = matrix(spec);
    let failing = wanted
        .iter()
        .filter(|(path, answer)| seen.get(*path).map(server) != Some(server(answer)))
        .count();
    let is_noticed = failing > 0 || balanced(spec, 24).iter().any(Result::is_err);
    if std::env::var_os("PROBER_LAB_FAULT").is_some() {
        println!("{seen:#?}");
    }
    println!(
        "  {fault}: {failing} of {} routes fail; injected in {injected:.0?}",
        wanted.len()
    );
    assert_eq!(
        is_noticed,
        !fault.causes().is_empty(),
        "{fault} is noticed by clients, or harmless, as it says: {seen:#?}"
    );
    fleet.heal().unwrap();
    assert_same(&matrix(spec), &wanted);
}

/// Which server answered: what it saw as the client may change without harm.
fn server(answer: &Result<String, std::io::ErrorKind>) -> Result<&str, std::io::ErrorKind> {
    match answer {
        Ok(text) => Ok(text.split(' ').next().unwrap_or_default()),
        Err(kind) => Err(*kind),
    }
}
