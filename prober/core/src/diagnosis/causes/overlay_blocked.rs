//! `overlay-blocked`: the packets of the tunnel itself do not get from one node to another.

use std::collections::BTreeSet;

use super::between::Between;
use super::crossing;
use crate::data_plane::Transport;
use crate::diagnosis::Remedy;
use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::Place;
use crate::diagnosis::location::sentences;
use crate::diagnosis::model::{Applies, Fingerprint, Model, Prediction};
use crate::diagnosis::remedy::{step, tables};
use crate::diagnosis::symptom::FailureGroup;
use crate::node_facts::LinkCounters;
use crate::packet::family::Family;
use crate::topology::{NodeName, Path};

/// The model, between these nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OverlayBlocked(pub(crate) Between);

impl Model for OverlayBlocked {
    fn cause(&self) -> Cause {
        Cause::OverlayBlocked
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        self.0.places(case, family, |from, to| {
            let is_own = refused_at_sender(case, from, to, family).is_some();
            Some(if is_own { from } else { to }.clone())
        })
    }

    fn applies(&self, case: &Case<'_>, place: &Place) -> Applies {
        let pairs = self.0.pairs_at(case, place);
        let Some((from, to)) = pairs.first() else {
            return Applies::Yes;
        };
        crossing::applies_in_tunnel(case, from, to, place.family)
    }

    fn predict(&self, _: &Case<'_>, place: &Place, path: &Path) -> Prediction {
        self.0.predict(place, path)
    }

    fn explains(&self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        self.0.explains(case, place, group)
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Fingerprint {
        let located = self.0.located(case, place, groups);
        if !located.is_empty() {
            return Fingerprint::Located(located, sentences(case, groups));
        }
        Fingerprint::Missing(vec![self.capture(case, place)])
    }

    fn remedy(&self, case: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Vec<Remedy> {
        let tables = tables(place.family);
        let port = self.tunnel(case, place).and_then(|(.., port)| port);
        let Some(port) = port else {
            return vec![step(
                "Let the tunnel's packets through between all nodes, both ways: host firewall and the cloud's security group.",
                [format!("{tables} -S INPUT; {tables} -S OUTPUT")],
            )];
        };
        vec![
            step(
                &format!(
                    "Open UDP port {port} between all nodes, both ways: host firewall and the cloud's security group."
                ),
                [
                    format!("{tables} -S INPUT; {tables} -S OUTPUT"),
                    format!("{tables} -I INPUT -p udp --dport {port} -j ACCEPT"),
                ],
            ),
            step(
                "See whether the outer packets arrive, on both nodes, while a probe runs.",
                [format!("tcpdump -ni any udp port {port}")],
            ),
        ]
    }

    fn support(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Vec<String> {
        let pairs = self.0.pairs_at(case, place);
        let refused = pairs
            .iter()
            .filter_map(|(from, to)| refused_at_sender(case, from, to, place.family));
        sentences(case, groups).into_iter().chain(refused).collect()
    }
}

impl OverlayBlocked {
    /// A blocked tunnel: its two ends and its UDP port.
    fn tunnel(self, case: &Case<'_>, place: &Place) -> Option<(NodeName, NodeName, Option<u16>)> {
        let mut pairs = self.0.pairs_at(case, place).into_iter();
        pairs.find_map(
            |(from, to)| match case.plane.transport(&from, &to, place.family) {
                Transport::Tunnel { port, .. } => Some((from, to, *port)),
                Transport::Direct { .. }
                | Transport::ByPod { .. }
                | Transport::Refused
                | Transport::NoRoute
                | Transport::Unknown => None,
            },
        )
    }

    /// The capture that would show it, with the tunnel's own port.
    fn capture(self, case: &Case<'_>, place: &Place) -> String {
        match self.tunnel(case, place) {
            Some((from, to, Some(port))) => format!(
                "`tcpdump -ni any udp port {port}` on {from} and {to} while a probe runs: what leaves one and does not reach the other is blocked between them"
            ),
            Some((_, _, None)) | None => "the tunnel's packets at both nodes while a probe runs: what leaves one and does not reach the other is blocked between them".to_owned(),
        }
    }
}

/// Packets that a tunnel could not send: over IPv4 they count as dropped, over IPv6 as errors
/// (`iptunnel_xmit_stats`, include/net/ip_tunnels.h).
fn refused(sent: &LinkCounters) -> Option<String> {
    match (sent.tx_dropped, sent.tx_errors) {
        (0, 0) => None,
        (0, errors) => Some(format!("tx_errors +{errors}")),
        (dropped, 0) => Some(format!("tx_dropped +{dropped}")),
        (dropped, errors) => Some(format!("tx_dropped +{dropped} and tx_errors +{errors}")),
    }
}

/// What the sender's own tunnel link counted as not sent, as a sentence.
fn refused_at_sender(
    case: &Case<'_>,
    from: &NodeName,
    to: &NodeName,
    family: Family,
) -> Option<String> {
    let link = case.plane.transport(from, to, family).link()?;
    let said = refused(&case.traffic(from, link)?)?;
    Some(format!(
        "{from} counted {said} at {link}: its own OUTPUT drops them"
    ))
}
