//! `rp-filter`: packets come in by an interface by which the node would not answer, and its strict reverse-path filter drops
//! them (`fib_validate_source`, net/ipv4/fib_frontend.c).

use std::collections::BTreeSet;

use super::traffic::nodes_of;
use crate::data_plane::Transport;
use crate::diagnosis::Remedy;
use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Place, Proof};
use crate::diagnosis::location::Stage;
use crate::diagnosis::model::{Applies, Fingerprint, Model, Prediction};
use crate::diagnosis::remedy::step;
use crate::diagnosis::symptom::{FailureGroup, Symptom};
use crate::packet::family::Family;
use crate::topology::{NodeName, Path, Scope};

/// The model.
pub(crate) struct RpFilter;

impl Model for RpFilter {
    fn cause(&self) -> Cause {
        Cause::RpFilter
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        let nodes = nodes_of(case, family).into_iter();
        nodes.map(|node| Place::node(&node, family)).collect()
    }

    fn applies(&self, _: &Case<'_>, place: &Place) -> Applies {
        match place.family {
            Family::Ipv4 => Applies::Yes,
            Family::Ipv6 => {
                Applies::No("the kernel has no reverse-path filter for IPv6".to_owned())
            }
        }
    }

    fn predict(&self, _: &Case<'_>, place: &Place, path: &Path) -> Prediction {
        let is_at = place.node.as_ref().is_some_and(|node| path.involves(node));
        match path.scope() {
            Scope::CrossNode if is_at => Prediction::MayFail,
            Scope::Any => Prediction::MayFail,
            Scope::CrossNode | Scope::SameNode => Prediction::Passes,
        }
    }

    fn explains(&self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        let Some(node) = &place.node else {
            return false;
        };
        match group.symptom {
            Symptom::Silent => case.location(group).is_some_and(|location| {
                location.receiver == *node
                    && !location.is_same_node()
                    && location.is_on(node, ROUTING)
            }),
            Symptom::Lossy => group.is_cross_node() && group.involves(node),
            Symptom::SynAckFromWrongSource
            | Symptom::ResetFromWrongSource
            | Symptom::Reset
            | Symptom::Unreachable(_)
            | Symptom::RefusedLocally(_)
            | Symptom::NoData
            | Symptom::Stalled
            | Symptom::Broken
            | Symptom::WrongBackend => false,
        }
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Fingerprint {
        let Some(node) = &place.node else {
            return Fingerprint::Missing(Vec::new());
        };
        let grown = case.grown(node, COUNTER);
        if grown == Some(0) {
            return Fingerprint::Refuted(format!(
                "{COUNTER} +0 on {node} while failing paths were probed"
            ));
        }
        let strict = strict_interfaces(case, node);
        if strict.as_ref().is_some_and(Vec::is_empty) {
            return Fingerprint::Refuted(format!(
                "rp_filter is not strict at any interface of {node}"
            ));
        }
        let senders: BTreeSet<&NodeName> = case
            .locations(groups)
            .filter(|location| location.receiver == *node && location.is_on(node, ROUTING))
            .map(|location| &location.sender)
            .collect();
        let asymmetric = senders
            .iter()
            .find_map(|sender| asymmetry(case, sender, node, strict.as_deref()?));
        match (asymmetric, grown) {
            (Some(said), Some(grown)) => {
                Fingerprint::Seen(Proof::Facts, vec![counted(node, grown), said])
            }
            (Some(_), None) | (None, _) => Fingerprint::Missing(vec![format!(
                "`nstat -az {COUNTER}` on {node} around a failing probe, and by which interface its packets come in"
            )]),
        }
    }

    fn support(&self, case: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Vec<String> {
        let Some(node) = &place.node else {
            return Vec::new();
        };
        let strict = strict_interfaces(case, node).unwrap_or_default();
        let mut said = Vec::new();
        if !strict.is_empty() {
            let shown: Vec<String> = strict.into_iter().take(3).collect();
            said.push(format!(
                "rp_filter is strict (1) on {node} at {}",
                shown.join(", ")
            ));
        }
        said.extend(case.grown(node, COUNTER).map(|grown| counted(node, grown)));
        said
    }

    fn remedy(&self, _: &Case<'_>, _: &Place, _: &BTreeSet<usize>) -> Vec<Remedy> {
        vec![
            step(
                "Use loose reverse-path filtering (2) where the routes must stay asymmetric.",
                ["sysctl -w net.ipv4.conf.all.rp_filter=2"],
            ),
            step(
                "Better: find the asymmetric route, and make both directions use the same path.",
                [
                    "ip route show table all | grep -v local",
                    "nstat -az TcpExtIPReversePathFilter",
                ],
            ),
        ]
    }
}

/// The stage at which it drops.
const ROUTING: &[Stage] = &[Stage::Routing];

/// Counts the packets that the filter dropped, of all interfaces of the node.
const COUNTER: &str = "TcpExtIPReversePathFilter";

fn counted(node: &NodeName, grown: u64) -> String {
    format!("{COUNTER} +{grown} on {node} while failing paths were probed")
}

/// The interfaces of a node at which the filter is strict; `None` where the settings were not read.
fn strict_interfaces(case: &Case<'_>, node: &NodeName) -> Option<Vec<String>> {
    let facts = case.facts(node)?;
    let names = facts.rp_filter.as_ref()?.keys();
    let strict = names
        .filter(|name| facts.rp_filter_in_force(name) == Some(1))
        .filter(|name| !matches!(name.as_str(), "all" | "default" | "lo"));
    Some(strict.cloned().collect())
}

/// Packets of a sender's pods come in outside the tunnel by which the node would answer, at an interface with a strict filter.
fn asymmetry(
    case: &Case<'_>,
    sender: &NodeName,
    node: &NodeName,
    strict: &[String],
) -> Option<String> {
    let family = Family::Ipv4;
    let there = case.plane.transport(sender, node, family);
    let back = case.plane.transport(node, sender, family);
    let differs = match (there, back) {
        (Transport::Direct { .. }, Transport::Tunnel { .. })
        | (Transport::Tunnel { .. }, Transport::Direct { .. }) => true,
        (
            Transport::Tunnel { .. }
            | Transport::Direct { .. }
            | Transport::ByPod { .. }
            | Transport::Refused
            | Transport::NoRoute
            | Transport::Unknown,
            _,
        ) => false,
    };
    let answers_by = back.link().filter(|_| differs)?;
    let tunnel = case.facts(node)?.link(answers_by).found();
    let below = tunnel.and_then(|link| link.vxlan.as_ref()?.underlay.as_ref());
    let is_strict = |name: &&String| strict.contains(name) && *name != answers_by;
    let comes_in =
        (below.filter(is_strict)).or_else(|| strict.iter().find(|name| *name != answers_by))?;
    Some(format!(
        "{sender} sends to the pods of {node} another way than {node} answers, by {answers_by}; rp_filter is strict (1) at {comes_in}"
    ))
}
