//! Tests of the list of faults and of parsing `FAULT[@NODE]`.

use std::collections::BTreeSet;

use super::*;

#[test]
fn every_cause_has_a_fault() {
    let named: BTreeSet<Cause> = Fault::ALL
        .iter()
        .flat_map(|fault| fault.causes().iter().chain(fault.causes_if_late()))
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
    let late: FaultAt = "late-policy:0.5s@node-2".parse().unwrap();
    assert_eq!(late.lasts, Some(Duration::from_millis(500)));
    assert_eq!(late.to_string().parse(), Ok(late));
    for refused in [
        "late-policy:",
        "late-policy:5",
        "late-policy:-1s",
        "hairpin-off:5s",
    ] {
        assert!(refused.parse::<FaultAt>().is_err(), "{refused}");
    }
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
fn a_fault_is_refused_where_the_data_plane_lacks_what_it_breaks() {
    let refusal = |fault: Fault, data_plane| {
        let spec = LabSpec::smallest(data_plane);
        let at = FaultAt {
            fault,
            lasts: None,
            node: None,
        };
        at.node_in(&spec).map_err(|error| error.to_string())
    };
    assert_eq!(
        refusal(Fault::HairpinOff, DataPlane::CrossSubnet),
        Ok(Node::FIRST)
    );
    assert_eq!(
        refusal(Fault::HairpinOff, DataPlane::Macvlan),
        Err(
            "cannot inject hairpin-off in a lab of 2 nodes with the data plane macvlan: its pods are not on a bridge; it can \
             be injected with bridge-vxlan, bridge-host-gw, cross-subnet"
                .to_owned()
        )
    );
    for fault in Fault::ALL {
        assert!(fault.data_planes().next().is_some(), "{fault}");
    }
}

#[test]
fn a_tunnel_fault_needs_a_node_beyond_the_router() {
    let lab = |nodes| {
        let spec = LabSpec::new(nodes, 1).unwrap();
        spec.with_data_plane(DataPlane::CrossSubnet)
    };
    assert!(Fault::OverlayBlockedIn.check_applies(&lab(2)).is_err());
    assert!(Fault::OverlayBlockedIn.check_applies(&lab(3)).is_ok());
    let steps = steps(Fault::StaleOverlayNeighbour, &lab(3));
    assert!(steps.contains("100.96.3.0"), "{steps}");
}

#[test]
fn the_steps_of_every_fault_are_as_documented() {
    let spec = LabSpec::default();
    let mut text = String::new();
    for fault in Fault::ALL {
        if fault.check_applies(&spec).is_ok() {
            text.extend([format!("{fault} {:?}\n", fault.causes())]);
            text += &steps(*fault, &spec);
        }
    }
    insta::assert_snapshot!(text);
}

#[test]
fn the_steps_that_differ_on_another_data_plane_are_as_documented() {
    let mut text = String::new();
    for data_plane in DataPlane::ALL {
        let spec = LabSpec::smallest(*data_plane);
        for fault in Fault::ALL {
            let is_known = fault.check_applies(&LabSpec::default()).is_ok();
            let lines = steps(*fault, &spec);
            if fault.check_applies(&spec).is_ok()
                && !(is_known && lines == steps(*fault, &LabSpec::default()))
            {
                text.extend([format!("{data_plane} {fault}\n")]);
                text += &lines;
            }
        }
    }
    insta::assert_snapshot!(text);
}

/// Returns the steps that inject a fault on its default node.
fn steps(fault: Fault, spec: &LabSpec) -> String {
    let mut text = String::new();
    let node = fault.default_node(spec);
    let slot = node.number() - 1;
    for step in fault.steps(FaultContext {
        spec,
        node,
        slot,
        lasts: USUAL_DURATION,
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
            | Step::ProxyNeverRan(_)
            | Step::SetAcceptMode(..)
            | Step::Freeze(_)) => text.extend([format!("  {other:?}\n")]),
        }
    }
    text
}
