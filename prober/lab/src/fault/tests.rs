//! Tests of the list of faults and of parsing `FAULT[@NODE]`.

use std::collections::BTreeSet;

use super::*;

#[test]
fn every_cause_has_a_fault() {
    let named: BTreeSet<Cause> = Fault::ALL
        .iter()
        .flat_map(|fault| fault.causes())
        .copied()
        .collect();
    for cause in Cause::ALL {
        assert!(named.contains(cause), "no fault of the lab causes {cause}");
    }
}

#[test]
fn every_fault_is_parsed_from_its_name() {
    for fault in Fault::ALL {
        let parsed: FaultAt = fault.slug().parse().unwrap();
        assert_eq!((parsed.fault, parsed.node), (*fault, None));
    }
    let at: FaultAt = "hairpin-off@node-2".parse().unwrap();
    assert_eq!(at.to_string(), "hairpin-off@node-2");
    assert_eq!("Hairpin-OFF@Node-2".parse(), Ok(at));
}

#[test]
fn the_error_for_a_misspelt_fault_names_the_nearest_one() {
    let error = "bridge-netfiler-off".parse::<FaultAt>().unwrap_err();
    assert!(
        error
            .to_string()
            .contains("did you mean bridge-netfilter-off?"),
        "{error}"
    );
    let error = "foo".parse::<FaultAt>().unwrap_err();
    assert!(!error.to_string().contains("did you mean"), "{error}");
    assert!("hairpin-off@second".parse::<FaultAt>().is_err());
    assert!("".parse::<FaultAt>().is_err());
}

#[test]
fn a_node_that_the_lab_lacks_is_refused() {
    let at: FaultAt = "hairpin-off@node-3".parse().unwrap();
    assert!(at.node_in(&LabSpec::default()).is_err());
}

#[test]
fn the_steps_of_every_fault_are_as_documented() {
    let spec = LabSpec::default();
    let mut text = String::new();
    let applies = |fault: &&Fault| fault.check_applies(&spec).is_ok();
    for fault in Fault::ALL.iter().filter(applies) {
        text.extend([format!("{fault} {:?}\n", fault.causes())]);
        let node = fault.default_node(&spec);
        let slot = node.number() - 1;
        for step in fault.steps(FaultContext {
            spec: &spec,
            node,
            slot,
        }) {
            match step {
                Step::Run { namespace, script } => {
                    text.extend([format!("  in {namespace}:\n")]);
                    for line in script.lines() {
                        text.extend([format!("    {line}\n")]);
                    }
                }
                other @ (Step::RunInLab(_)
                | Step::ChangeSlices(_)
                | Step::StaleRules(_)
                | Step::SetAcceptMode(..)
                | Step::Freeze(_)) => text.extend([format!("  {other:?}\n")]),
            }
        }
    }
    insta::assert_snapshot!(text);
}
