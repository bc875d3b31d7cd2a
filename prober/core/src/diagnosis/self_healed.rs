//! Faults that placing the pods of a run has repaired, so that the run no longer observes them.
//!
//! Starting a pod sets the node's forwarding and the bridge's address again (the CNI plugin
//! `bridge`, `ensureBridge` and `enableIPForward`, plugins/main/bridge/bridge.go and
//! pkg/ip/ipforward_linux.go). The facts that are read before any pod is placed show the fault.

use crate::evidence::{Matrix, NodeEvidence};
use crate::node_facts::{NodeFacts, SysctlState};
use crate::packet::family::Family;
use crate::topology::{NodeName, Scope};

/// One sentence for each fault that was there before the run and no longer is.
pub fn self_healed(matrix: &Matrix) -> Vec<String> {
    let nodes = matrix.nodes.iter();
    nodes
        .flat_map(|(node, evidence)| {
            Family::ALL.into_iter().flat_map(move |family| {
                [
                    forwarding(matrix, node, evidence, family),
                    bridge_address(node, evidence, family),
                ]
            })
        })
        .flatten()
        .collect()
}

fn forwarding(
    matrix: &Matrix,
    node: &NodeName,
    evidence: &NodeEvidence,
    family: Family,
) -> Option<String> {
    let off = Some(SysctlState::Value(0));
    let before = evidence.before.as_ref()?;
    if before.forwarding(family) != off {
        return None;
    }
    let is_on = match later(evidence) {
        Some(facts) => facts.forwarding(family) != off,
        None => crosses(matrix, node, family),
    };
    let (name, cause) = match family {
        Family::Ipv4 => ("net.ipv4.ip_forward", "IPv4"),
        Family::Ipv6 => ("net.ipv6.conf.all.forwarding", "IPv6"),
    };
    is_on.then(|| {
        format!(
            "{name} was 0 on {node} before this run placed its pods, and is not any more: starting a pod sets it, so the run itself has repaired the fault that it would have found. Until then {node} forwarded no {cause}; find what sets it to 0 (`prober explain ip-forward-off`)."
        )
    })
}

fn bridge_address(node: &NodeName, evidence: &NodeEvidence, family: Family) -> Option<String> {
    let (before, after) = (evidence.before.as_ref()?, later(evidence)?);
    let bridges = before.links.as_ref()?.iter();
    let bridge = bridges
        .filter(|link| link.kind.as_deref() == Some("bridge"))
        .find(|link| {
            has_address(before, &link.name, family) == Some(false)
                && has_address(after, &link.name, family) == Some(true)
        })?;
    Some(format!(
        "{} on {node} had no {family} address before this run placed its pods, and has one now: starting a pod gives it one, so the run itself has repaired the fault that it would have found. Until then pods of {node} had no gateway.",
        bridge.name
    ))
}

/// Whether an interface has an address of the family that other hosts can reach; `None` where the
/// addresses were not read.
fn has_address(facts: &NodeFacts, device: &str, family: Family) -> Option<bool> {
    let addresses = facts.addresses.as_ref()?.iter();
    let mut own = addresses.filter(|own| own.dev == device);
    Some(own.any(|own| {
        let address = own.prefix.addr();
        // Every interface that is up has a link-local one (fe80::/10, RFC 4291 2.5.6).
        let is_link_local = match address {
            std::net::IpAddr::V4(_) => false,
            std::net::IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        Family::of(address) == family && !is_link_local
    }))
}

/// A reading from after the pods were placed.
fn later(evidence: &NodeEvidence) -> Option<&NodeFacts> {
    evidence.after.as_ref().or(evidence.during.as_ref())
}

/// Whether a pod of the node reaches a pod of another node, or is reached by one: then the node forwards.
fn crosses(matrix: &Matrix, node: &NodeName, family: Family) -> bool {
    matrix.paths.values().any(|evidence| {
        let path = &evidence.path;
        let here = path.client.node == *node
            || (path.server.as_ref()).is_some_and(|server| server.node == *node);
        here && path.family == family
            && path.access_path.stays_among_pods()
            && path.scope() == Scope::CrossNode
            && evidence.total().outcomes.established > 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::incident::healthy_matrix;

    fn forwards(value: i64) -> NodeFacts {
        NodeFacts {
            ip_forward: Some(SysctlState::Value(value)),
            ..NodeFacts::default()
        }
    }

    fn notices(
        before: impl Into<Option<NodeFacts>>,
        after: impl Into<Option<NodeFacts>>,
    ) -> Vec<String> {
        let mut matrix = healthy_matrix();
        let node = matrix.nodes.entry(NodeName::new("node-1")).or_default();
        *node = NodeEvidence {
            before: before.into(),
            after: after.into(),
            ..NodeEvidence::default()
        };
        self_healed(&matrix)
    }

    #[test]
    fn forwarding_that_was_off_and_is_on_was_repaired_by_the_run() {
        let sentences = notices(forwards(0), forwards(1));
        assert!(
            sentences[0].contains("net.ipv4.ip_forward was 0 on node-1"),
            "{sentences:?}"
        );
    }

    #[test]
    fn a_node_that_reported_no_forwarding_and_forwards_was_repaired_by_the_run() {
        assert_eq!(notices(forwards(0), None).len(), 1);
    }

    #[test]
    fn a_setting_that_was_never_off_or_still_is_was_not_repaired() {
        assert!(notices(forwards(1), forwards(1)).is_empty());
        assert!(notices(forwards(0), forwards(0)).is_empty());
        assert!(notices(None, forwards(1)).is_empty());
    }

    #[test]
    fn a_bridge_that_got_its_address_meanwhile_was_repaired_by_the_run() {
        let bridge = |addresses: &str| -> NodeFacts {
            let text = format!(
                r#"{{"links":[{{"name":"cni0","index":5,"kind":"bridge","up":true,"carrier":true}}],"addresses":{addresses}}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let with = bridge(r#"[{"dev":"cni0","prefix":"100.96.1.1/24"}]"#);
        let sentences = notices(bridge("[]"), with.clone());
        assert!(
            sentences[0].contains("cni0 on node-1 had no ipv4 address"),
            "{sentences:?}"
        );
        assert!(notices(with.clone(), with).is_empty());
    }
}
