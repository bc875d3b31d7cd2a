//! `reply-bypasses-nat`: answers do not pass the connection tracking that translated the request, and no bridge is the reason.

use std::collections::BTreeSet;

use super::service_proxy;
use super::untranslated::{is_from_backend, seen_at_ends};
use crate::diagnosis::Remedy;
use crate::diagnosis::bridge_filter::{bridge_sysctl, bridged_filtered, is_bridged};
use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Place, Proof};
use crate::diagnosis::model::{Applies, Fingerprint, Model, Prediction};
use crate::diagnosis::remedy::{step, tables};
use crate::diagnosis::symptom::{FailureGroup, ServerEnd, Symptom};
use crate::evidence::Source;
use crate::packet::family::Family;
use crate::topology::{AccessPath, Path};

/// A rule that takes answers from connection tracking, or a way back that avoids the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReplyBypassesNat;

impl Model for ReplyBypassesNat {
    fn cause(&self) -> Cause {
        Cause::ReplyBypassesNat
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        case.failing(|group| group.family == family && is_bypassed(group))
            .map(|(_, group)| Place::node(&group.client.node, family))
            .collect()
    }

    fn applies(&self, case: &Case<'_>, place: &Place) -> Applies {
        let node = place.node.as_ref();
        node.map_or(Applies::Yes, |node| {
            service_proxy::applies(case, node, "no answer has to be translated back")
        })
    }

    fn predict(&self, _: &Case<'_>, place: &Place, path: &Path) -> Prediction {
        // Which answers bypass it depends on the rule, or on the way back.
        let is_through =
            (place.node.as_ref()).is_some_and(|node| path.server.is_none() || path.involves(node));
        if is_through {
            Prediction::MayFail
        } else {
            Prediction::Passes
        }
    }

    fn explains(&self, _: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        let Some(node) = &place.node else {
            return false;
        };
        group.client.node == *node && is_bypassed(group)
            || group.involves(node) && is_consequence(group)
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Fingerprint {
        let Some(node) = &place.node else {
            return Fingerprint::Missing(Vec::new());
        };
        let sysctl = bridge_sysctl(place.family);
        let bypassed = bypassed(case, groups);
        let is_crossing = case.at(&bypassed).any(FailureGroup::is_cross_node);
        let is_known = (case.at(&bypassed)).any(|group| is_from_backend(case, group) == Some(true));
        let is_run = case.matrix.source == Source::Run;
        let filtered = bridged_filtered(case, node, place.family);
        let bridged = is_bridged(case, node, place.family);
        if bypassed.iter().all(|&at| is_not_from_backend(case, at)) {
            return Fingerprint::Refuted(
                "the answers do not come from the backends' own addresses".to_owned(),
            );
        }
        if filtered == Some(false) && !is_crossing && (bridged == Some(true) || !is_run) {
            return Fingerprint::Refuted(format!(
                "only Services of pods on {node} itself are affected, and {sysctl} is off there"
            ));
        }
        let is_past_bridge = filtered == Some(true) || is_crossing || bridged == Some(false);
        if is_past_bridge && is_known && is_run {
            return Fingerprint::Seen(Proof::Packets, Vec::new());
        }
        Fingerprint::Missing(vec![
            if filtered == Some(false) {
                format!(
                    "how the pods of {node} are attached: `ip route`, `bridge link` (where they are ports of a bridge, it is the bridge)"
                )
            } else {
                format!("`sysctl {sysctl}` on {node}: with 1, it is this")
            },
            "an answer from a pod on another node: translated back, it is the bridge".to_owned(),
        ])
    }

    fn support(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Vec<String> {
        let invalid = (place.node.as_ref()).and_then(|node| {
            let grown = case.grown(node, "ConntrackInvalid")?;
            (grown > 0).then(|| {
                format!("{node} counted ConntrackInvalid +{grown}: it saw replies that it could not match")
            })
        });
        let mut said = seen_at_ends(case, &bypassed(case, groups));
        said.extend(invalid);
        said
    }

    fn remedy(&self, _: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Vec<Remedy> {
        let tables = tables(place.family);
        vec![
            step(
                "Find what keeps replies from connection tracking: NOTRACK rules, or a return path that avoids this node.",
                [
                    format!("{tables}-save -t raw | grep -i -e notrack -e 'CT '"),
                    "nft list ruleset | grep -n notrack".to_owned(),
                ],
            ),
            step(
                "See whether connection tracking counts replies as invalid.",
                ["conntrack -S | grep -o 'invalid=[0-9]*'"],
            ),
        ]
    }
}

/// Whether the answers of a group come without the reverse translation.
fn is_bypassed(group: &FailureGroup) -> bool {
    group.symptom == Symptom::SynAckFromWrongSource && group.access_path != AccessPath::Hairpin
}

/// Those of these groups.
fn bypassed(case: &Case<'_>, groups: &BTreeSet<usize>) -> BTreeSet<usize> {
    let all = groups.iter().copied();
    all.filter(|&at| case.groups.get(at).is_some_and(is_bypassed))
        .collect()
}

/// Whether a group's answers are known to come from another address than a backend's.
fn is_not_from_backend(case: &Case<'_>, at: usize) -> bool {
    let group = case.groups.get(at);
    group.is_some_and(|group| is_from_backend(case, group) == Some(false))
}

/// Failures that follow from answers that are not tracked: the third packet of a direct connection is invalid.
fn is_consequence(group: &FailureGroup) -> bool {
    let is_hairpin = group.access_path == AccessPath::Hairpin;
    match group.symptom {
        Symptom::NoData | Symptom::Broken => group.server_end != ServerEnd::Completed,
        Symptom::Silent => is_hairpin && group.server_end != ServerEnd::Nothing,
        Symptom::ResetFromWrongSource | Symptom::SynAckFromWrongSource => is_hairpin,
        Symptom::Reset
        | Symptom::Unreachable(_)
        | Symptom::RefusedLocally(_)
        | Symptom::Lossy
        | Symptom::Stalled
        | Symptom::WrongBackend => false,
    }
}
