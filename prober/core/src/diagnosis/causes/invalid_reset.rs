//! `invalid-reset`: connection tracking calls a segment of an open connection invalid and does not translate it back; the
//! client's kernel answers it with a RST, and the server resets the connection.

use std::collections::BTreeSet;

use super::service_proxy;
use super::untranslated::{is_reset_by_another, untranslated_segment};
use crate::diagnosis::Remedy;
use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Place, Proof};
use crate::diagnosis::model::{Applies, Fingerprint, Model, Prediction};
use crate::diagnosis::remedy::{step, tables};
use crate::diagnosis::symptom::{FailureGroup, ServerEnd, Symptom};
use crate::evidence::Source;
use crate::packet::family::Family;
use crate::topology::{AccessPath, Path};

/// The model.
pub(crate) struct InvalidReset;

impl Model for InvalidReset {
    fn cause(&self) -> Cause {
        Cause::InvalidReset
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        // Only the servers of a run are known to send no such segment by themselves.
        if case.matrix.source != Source::Run {
            return BTreeSet::new();
        }
        let is_reset = |group: &FailureGroup| {
            group.family == family
                && (is_untranslated(case, group) || is_reset_by_node(case, group))
        };
        case.failing(is_reset)
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
        // Only some segments are invalid, and those of untranslated connections arrive as they are.
        let is_translated_there = place.node.as_ref() == Some(&path.client.node);
        if is_translated_there && path.access_path.is_translated() {
            Prediction::MayFail
        } else {
            Prediction::Passes
        }
    }

    fn explains(&self, case: &Case<'_>, _: &Place, group: &FailureGroup) -> bool {
        // What a pod sends to itself is answered to its node, which no client's packets show.
        let may_be_reset_by_node = || {
            is_cut(group)
                && group.access_path == AccessPath::Hairpin
                && group.server_end == ServerEnd::Unknown
        };
        is_untranslated(case, group) || is_reset_by_node(case, group) || may_be_reset_by_node()
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Fingerprint {
        let invalid = (place.node.as_ref()).and_then(|node| case.grown_in_run(node, INVALID));
        if let (Some(0), Some(node)) = (invalid, &place.node) {
            return Fingerprint::Refuted(format!(
                "connection tracking of {node} counted no invalid packet during the run"
            ));
        }
        let untranslated = case
            .at(groups)
            .filter(|group| is_untranslated(case, group))
            .find_map(|group| sentences(case, group));
        match untranslated {
            Some(said) if invalid.is_some() => Fingerprint::Seen(Proof::Packets, said),
            // An entry that is lost in the middle of a connection leaves the same packets.
            Some(_) => Fingerprint::Missing(vec![
                "`conntrack -S` on the client's node: `invalid` grows with each such segment, unless the connection's entry was lost"
                    .to_owned(),
            ]),
            None => Fingerprint::Missing(vec![
                "a capture on the node that replaces the clients' addresses: a segment of the server that it answers by a RST"
                    .to_owned(),
            ]),
        }
    }

    fn support(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Vec<String> {
        let Some(node) = &place.node else {
            return Vec::new();
        };
        let seen = case.at(groups).find_map(|group| sentences(case, group));
        let counted = (case.grown_in_run(node, INVALID))
            .filter(|grown| *grown > 0)
            .map(|grown| format!("{INVALID} +{grown} on {node} during the run"));
        seen.unwrap_or_default()
            .into_iter()
            .chain(counted)
            .collect()
    }

    fn remedy(&self, _: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Vec<Remedy> {
        let tables = tables(place.family);
        vec![
            step(
                "Drop what connection tracking calls invalid, as kube-proxy does in iptables mode: the server sends the segment again, and the connection goes on.",
                [
                    format!("{tables}-save -t filter | grep 'ctstate INVALID'"),
                    format!("{tables} -I FORWARD -m conntrack --ctstate INVALID -j DROP"),
                ],
            ),
            step(
                "Where that rule drops packets of asymmetric routes, accept segments outside the window instead: only RSTs outside it are invalid then (conntrack.tcpBeLiberal in kube-proxy's configuration).",
                ["sysctl -w net.netfilter.nf_conntrack_tcp_be_liberal=1"],
            ),
            step(
                "See which segments are invalid and why, then find what sends or delays them.",
                [
                    "sysctl -w net.netfilter.nf_conntrack_log_invalid=6; journalctl -k -f | grep nf_ct",
                ],
            ),
        ]
    }
}

/// Whether the exchange of a group's probes did not complete.
const fn is_cut(group: &FailureGroup) -> bool {
    match group.symptom {
        Symptom::NoData | Symptom::Stalled | Symptom::Broken => true,
        Symptom::SynAckFromWrongSource
        | Symptom::ResetFromWrongSource
        | Symptom::Reset
        | Symptom::Unreachable(_)
        | Symptom::RefusedLocally(_)
        | Symptom::Silent
        | Symptom::Lossy
        | Symptom::WrongBackend => false,
    }
}

/// Whether a group was cut, and an untranslated segment of it arrived at its client.
fn is_untranslated(case: &Case<'_>, group: &FailureGroup) -> bool {
    is_cut(group)
        && case
            .probes(group)
            .any(|probe| untranslated_segment(&probe.client).is_some())
}

/// Whether a group was cut by a RST of a node that had replaced the client's address: what is not translated back reaches
/// that node itself.
fn is_reset_by_node(case: &Case<'_>, group: &FailureGroup) -> bool {
    is_cut(group) && case.probes(group).any(is_reset_by_another)
}

/// What both ends of a group observed: the handshake, the untranslated segment, and the RST that answers it.
fn sentences(case: &Case<'_>, group: &FailureGroup) -> Option<Vec<String>> {
    let (probe, segment) = case
        .probes(group)
        .find_map(|probe| Some((probe, untranslated_segment(&probe.client)?)))?;
    let (from, bytes) = (segment.from, segment.bytes);
    let mut said = vec![format!(
        "{} completed the handshake with {}; then a segment of this connection with {bytes} bytes arrived from {from}, which is not translated back",
        group.client, probe.client.dst
    )];
    if segment.is_reset {
        said.push(format!(
            "the client's kernel answered RST to {from}: it has no connection with that address"
        ));
    }
    let is_received =
        (probe.server.as_ref()).is_some_and(|server_trace| server_trace.resets_received > 0);
    if is_received {
        said.push("the server's end received the RST in the middle of the connection".to_owned());
    }
    Some(said)
}

/// Counts packets that connection tracking could not match to a connection's state.
const INVALID: &str = "ConntrackInvalid";
