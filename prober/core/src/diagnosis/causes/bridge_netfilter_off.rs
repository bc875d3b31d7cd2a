//! `bridge-netfilter-off`: the node's bridge carries answers between its pods past netfilter, so that they are not translated
//! back.

use std::collections::BTreeSet;

use super::service_proxy;
use super::untranslated::{is_from_backend, is_switched, is_untranslated, seen_at_ends};
use crate::data_plane::Attachment;
use crate::diagnosis::Remedy;
use crate::diagnosis::bridge_filter::{
    bridge_sysctl, bridged_filtered, is_bridged, is_unfiltered_throughout, unfiltered,
};
use crate::diagnosis::case::{Case, answer_to_ttl};
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Place, Proof};
use crate::diagnosis::model::{Applies, Fingerprint, Model, Prediction};
use crate::diagnosis::remedy::step;
use crate::diagnosis::symptom::{FailureGroup, ServerEnd, Symptom};
use crate::evidence::Source;
use crate::node_facts::SysctlState;
use crate::packet::IcmpKind;
use crate::packet::family::Family;
use crate::probe::event::TtlStepAnswer;
use crate::topology::{AccessPath, AgentId, NodeName, Path, Scope};

/// The setting of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BridgeNetfilterOff;

impl Model for BridgeNetfilterOff {
    fn cause(&self) -> Cause {
        Cause::BridgeNetfilterOff
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        let is_candidate = |group: &FailureGroup| {
            group.family == family && explains(case, group, &group.client.node)
        };
        case.failing(is_candidate)
            .map(|(_, group)| Place::node(&group.client.node, family))
            .collect()
    }

    fn applies(&self, case: &Case<'_>, place: &Place) -> Applies {
        let Some(node) = &place.node else {
            return Applies::Yes;
        };
        if case.matrix.source != Source::Run {
            return Applies::Yes;
        }
        let otherwise = "no answer has to be translated back";
        if let no @ Applies::No(_) = service_proxy::applies(case, node, otherwise) {
            return no;
        }
        match is_bridged(case, node, place.family) {
            Some(true) => Applies::Yes,
            Some(false) => Applies::No(format!("the pods of {node} are not ports of a bridge")),
            None => Applies::Unknown(setting(node, place.family)),
        }
    }

    fn predict(&self, case: &Case<'_>, place: &Place, path: &Path) -> Prediction {
        let Some(node) = &place.node else {
            return Prediction::Passes;
        };
        if path.client.node != *node || !may_be_translated(case, path.access_path) {
            return Prediction::Passes;
        }
        match (path.scope(), &path.server) {
            (Scope::CrossNode, _) => Prediction::Passes,
            (Scope::Any, _) | (Scope::SameNode, None) => Prediction::MayFail,
            (Scope::SameNode, Some(server)) => {
                let attachment = |pod: &AgentId| case.plane.attachment(pod, path.family);
                match (attachment(&path.client), attachment(server)) {
                    (
                        Attachment::Bridge { bridge: one, .. },
                        Attachment::Bridge { bridge: other, .. },
                    ) if one == other && is_unfiltered_throughout(case, node, path.family) => {
                        Prediction::Fails
                    }
                    (Attachment::Routed { .. } | Attachment::OwnDevice { .. }, _)
                        if is_bridged(case, node, path.family) == Some(true) =>
                    {
                        Prediction::Passes
                    }
                    (
                        Attachment::Bridge { .. }
                        | Attachment::Routed { .. }
                        | Attachment::OwnDevice { .. }
                        | Attachment::Unknown,
                        _,
                    ) => Prediction::MayFail,
                }
            }
        }
    }

    fn explains(&self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        (place.node.as_ref()).is_some_and(|node| explains(case, group, node))
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Fingerprint {
        let Some(node) = &place.node else {
            return Fingerprint::Missing(Vec::new());
        };
        let family = place.family;
        match (
            bridged_filtered(case, node, family),
            state(case, node, family),
        ) {
            (Some(true), _) => {
                Fingerprint::Refuted(format!("{} is on at {node}", bridge_sysctl(family)))
            }
            (Some(false), Some(state)) if case.at(groups).any(is_untranslated) => {
                Fingerprint::Seen(Proof::Facts, vec![state])
            }
            // The setting allows it; only packets prove that it happens.
            (Some(false), _) => Fingerprint::Missing(vec![
                "the packets of a failing probe: give the agents CAP_NET_RAW".to_owned(),
            ]),
            (None, _) if fails_across_nodes(case, node, family) => Fingerprint::Refuted(
                "answers from other nodes, which are routed, come untranslated as well".to_owned(),
            ),
            (None, _) => Fingerprint::Missing(vec![setting(node, family)]),
        }
    }

    fn support(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Vec<String> {
        let Some(node) = &place.node else {
            return Vec::new();
        };
        let is_by_counters = !case.at(groups).any(is_untranslated);
        let mut said = Vec::new();
        if is_by_counters {
            said.extend(state(case, node, place.family));
        }
        said.extend(seen_at_ends(case, groups));
        said.extend(ttl_probe_reads_setting(case, groups));
        said.extend(redirects(case, node, place.family));
        if is_by_counters {
            said.extend(case.at(groups).find_map(|group| counted(case, group)));
        }
        said
    }

    fn remedy(&self, _: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Vec<Remedy> {
        let sysctl = bridge_sysctl(place.family);
        let both = [bridge_sysctl(Family::Ipv4), bridge_sysctl(Family::Ipv6)];
        vec![
            step(
                "Switch it on now, on the node; connections work at once.",
                [
                    "modprobe br_netfilter".to_owned(),
                    format!("sysctl -w {sysctl}=1"),
                ],
            ),
            step(
                "Make it last across boots: the module first, then the sysctls that exist only with it.",
                [
                    "echo br_netfilter > /etc/modules-load.d/br_netfilter.conf".to_owned(),
                    format!(
                        "printf '{} = 1\\n{} = 1\\n' > /etc/sysctl.d/99-bridge-netfilter.conf",
                        both[0], both[1]
                    ),
                    "sysctl --system".to_owned(),
                ],
            ),
            step(
                "With kOps: in the cluster's manifest (kops edit cluster), then kops update cluster --yes and kops rolling-update cluster --yes.",
                [format!(
                    "spec:\n  hooks:\n  - name: br-netfilter.service\n    before:\n    - network-pre.target\n    - kubelet.service\n    manifest: |\n      Type=oneshot\n      ExecStart=/usr/sbin/modprobe br_netfilter\n      ExecStart=/usr/sbin/sysctl -w {}=1 {}=1",
                    both[0], both[1]
                )],
            ),
        ]
    }
}

/// The observation that decides where the setting or the attachment of the pods is not known.
fn setting(node: &NodeName, family: Family) -> String {
    format!(
        "`sysctl {}` in the network namespace of {node} (where its pods are ports of a bridge, 0, or no such file, proves it; 1 means that replies are not tracked there)",
        bridge_sysctl(family)
    )
}

/// Whether packets on such a path may be translated. A host may probe any address: an answer from another one shows that the
/// target was.
fn may_be_translated(case: &Case<'_>, access_path: AccessPath) -> bool {
    (access_path.is_translated() || case.matrix.source == Source::Host)
        && access_path != AccessPath::Hairpin
}

/// Whether a group fails as bridged answers do: on Services of this node with backends among its own pods.
fn explains(case: &Case<'_>, group: &FailureGroup, node: &NodeName) -> bool {
    let is_own = group.client.node == *node
        && may_be_translated(case, group.access_path)
        && !group.is_cross_node();
    is_own
        && match group.symptom {
            Symptom::SynAckFromWrongSource => {
                is_switched(case, group) != Some(false)
                    && is_from_backend(case, group) != Some(false)
            }
            // A RST that the backend sent is another fault (a closed port) whose answer bypassed netfilter as well; one that it
            // did not send comes from a rule.
            Symptom::ResetFromWrongSource => group.server_end == ServerEnd::ResetSent,
            Symptom::Silent => is_counted(case, group),
            Symptom::Reset
            | Symptom::Unreachable(_)
            | Symptom::RefusedLocally(_)
            | Symptom::Lossy
            | Symptom::NoData
            | Symptom::Stalled
            | Symptom::Broken
            | Symptom::WrongBackend => false,
        }
}

/// Without packets: the same pod answers by its own address, and the client's kernel has refused answers.
fn is_counted(case: &Case<'_>, group: &FailureGroup) -> bool {
    if case.client_packets(group).next().is_some() {
        return false;
    }
    let is_direct = case.passes(|path| {
        path.access_path == AccessPath::PodIp
            && path.family == group.family
            && path.client.node == group.client.node
            && path.scope() == Scope::SameNode
    });
    let is_alike = |other: &FailureGroup| {
        other.family == group.family
            && other.client.node == group.client.node
            && other.symptom == Symptom::Silent
            && may_be_translated(case, other.access_path)
            && !other.is_cross_node()
    };
    is_direct
        && (counted(case, group).is_some()
            || case
                .failing(is_alike)
                .any(|(_, other)| counted(case, other).is_some()))
}

/// Every SYN+ACK that is refused makes the client's kernel send a RST, and costs the server an embryonic connection.
fn counted(case: &Case<'_>, group: &FailureGroup) -> Option<String> {
    let server = group.server.as_ref()?;
    let resets = case.agent_grown(&group.client, "TcpOutRsts")?;
    let embryonic = case.agent_grown(server, "TcpExtEmbryonicRsts")?;
    (resets > 0 && embryonic > 0).then(|| {
        format!(
            "no packets were seen, but {} counted TcpOutRsts +{resets} and {server} TcpExtEmbryonicRsts +{embryonic}: SYN+ACKs were refused by their receiver",
            group.client
        )
    })
}

/// Whether answers from other nodes come untranslated to this one as well.
fn fails_across_nodes(case: &Case<'_>, node: &NodeName, family: Family) -> bool {
    case.fails(|group| {
        group.family == family
            && is_untranslated(group)
            && group.is_cross_node()
            && group.client.node == *node
    })
}

/// The setting, where it is off, as a sentence.
fn state(case: &Case<'_>, node: &NodeName, family: Family) -> Option<String> {
    let sysctl = bridge_sysctl(family);
    let facts = unfiltered(case, node, family)?;
    Some(match facts.bridge_nf(family) {
        Some(SysctlState::Absent) => {
            format!("{sysctl} does not exist on {node}: the module br_netfilter is not loaded")
        }
        Some(SysctlState::Value(value)) => format!("{sysctl} is {value} on {node}"),
        Some(SysctlState::Unreadable) | None => format!("{sysctl} is off on {node}"),
    })
}

/// A SYN with TTL 1 to a Service of a pod of the same node shows the node's setting from inside a pod.
fn ttl_probe_reads_setting(case: &Case<'_>, groups: &BTreeSet<usize>) -> Option<String> {
    case.at(groups)
        .filter(|group| group.is_same_node())
        .find_map(|group| match answer_to_ttl(case.ttl_probe(group.path)?, 1)? {
            TtlStepAnswer::TimeExceeded { by, .. } => Some(format!(
                "a SYN with TTL 1 to the Service of a pod on the same node was answered by time exceeded from {by}: it is routed, not translated on the bridge"
            )),
            TtlStepAnswer::Silent
            | TtlStepAnswer::SynAck { .. }
            | TtlStepAnswer::Reset { .. }
            | TtlStepAnswer::Unreachable { .. } => None,
        })
}

/// Redirects that the node counted, and that its pods received.
fn redirects(case: &Case<'_>, node: &NodeName, family: Family) -> Vec<String> {
    let counter = match family {
        Family::Ipv4 => "IcmpOutRedirects",
        Family::Ipv6 => "Icmp6OutRedirects",
    };
    let mut sentences = Vec::new();
    if let Some(grown) = case.grown(node, counter).filter(|&grown| grown > 0) {
        sentences.push(format!(
            "{node} counted {counter} +{grown}: it routes packets out of the interface by which they arrived"
        ));
    }
    let redirected = case
        .failing(|group| group.family == family && group.client.node == *node)
        .flat_map(|(_, group)| case.client_packets(group))
        .find_map(|seen| match seen.packet.icmp()?.1.kind {
            IcmpKind::Redirect { gateway } => Some(gateway),
            IcmpKind::Unreachable { .. }
            | IcmpKind::TimeExceeded
            | IcmpKind::PacketTooBig { .. }
            | IcmpKind::Other => None,
        });
    if let Some(gateway) = redirected {
        sentences.push(format!("{node} sent the client a redirect to {gateway}"));
    }
    sentences
}
