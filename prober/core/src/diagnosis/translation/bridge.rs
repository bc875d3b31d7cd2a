//! Bridge-netfilter off: bridged answers never pass netfilter, so they are not translated back.

use std::collections::BTreeSet;

use crate::diagnosis::case::{Case, answer_to_ttl};
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Hypothesis, Place, Proof};
use crate::diagnosis::symptom::{FailureGroup, ServerEnd, Symptom};
use crate::diagnosis::translation::reply::{is_untranslated, seen_at_ends};
use crate::diagnosis::translation::{bridge_sysctl, bridged_filtered, unfiltered};
use crate::evidence::Source;
use crate::node_facts::SysctlState;
use crate::packet::IcmpKind;
use crate::packet::family::Family;
use crate::packet::observation::Direction;
use crate::probe::event::TtlStepAnswer;
use crate::topology::{AccessPath, NodeName, Scope};

pub(crate) fn bridge_netfilter(
    case: &Case<'_>,
    node: &NodeName,
    family: Family,
) -> Vec<Hypothesis> {
    let here = |group: &FailureGroup| group.family == family && stays_on(case, group, node);
    // A RST from the backend's own address that the backend did send is another fault (a closed
    // port) whose answer was bypassed as well; one that it did not send comes from a rule.
    let mut groups = case.places(|group| {
        here(group)
            && match group.symptom {
                Symptom::SynAckFromWrongSource => direct_over_bridge(case, group) != Some(false),
                Symptom::ResetFromWrongSource => group.server_end == ServerEnd::ResetSent,
                Symptom::Reset
                | Symptom::Unreachable(_)
                | Symptom::RefusedLocally(_)
                | Symptom::Silent
                | Symptom::Lossy
                | Symptom::NoData
                | Symptom::Stalled
                | Symptom::Broken
                | Symptom::WrongBackend => false,
            }
    });
    let by_counters = groups.is_empty();
    if by_counters {
        groups = fingerprint(case, node, family);
    }
    if groups.is_empty() {
        return Vec::new();
    }
    let place = Place::node(node, family);
    let sysctl = bridge_sysctl(family);
    let cross_too = case.fails(|group| {
        group.family == family
            && is_untranslated(group)
            && group.is_cross_node()
            && group.client.node == *node
    });
    let hypothesis = match bridged_filtered(case, node, family) {
        Some(true) => {
            return vec![Hypothesis::excludes(
                Cause::BridgeNetfilterOff,
                place,
                groups,
                format!("{sysctl} is on at {node}"),
            )];
        }
        Some(false) => {
            let facts = unfiltered(case, node, family);
            let state = match facts.and_then(|facts| facts.bridge_nf(family)) {
                Some(SysctlState::Absent) => {
                    format!("{sysctl} does not exist on {node}: the module br_netfilter is not loaded")
                }
                Some(SysctlState::Value(value)) => format!("{sysctl} is {value} on {node}"),
                Some(SysctlState::Unreadable) | None => format!("{sysctl} is off on {node}"),
            };
            let hypothesis = if by_counters {
                // The setting allows it; only packets prove that it happens.
                Hypothesis::fits(Cause::BridgeNetfilterOff, place, groups.clone())
                    .decided_by("the packets of a failing probe: give the agents CAP_NET_RAW")
            } else {
                Hypothesis::proves(Cause::BridgeNetfilterOff, place, groups.clone(), Proof::Facts)
            };
            hypothesis.because(state)
        }
        None if cross_too => {
            return vec![Hypothesis::excludes(
                Cause::BridgeNetfilterOff,
                place,
                groups,
                "answers from other nodes, which are routed, come untranslated as well",
            )];
        }
        None => Hypothesis::fits(Cause::BridgeNetfilterOff, place, groups.clone()).decided_by(format!(
            "`sysctl {sysctl}` in the network namespace of {node} (0, or no such file, proves it; 1 means that replies are not tracked there)"
        )),
    };
    let hypothesis = hypothesis
        .because_all(seen_at_ends(case, &groups))
        .because_all(ttl_probe_reads_setting(case, &groups))
        .because_all(redirects(case, node, family));
    let hypothesis = if by_counters {
        hypothesis.because_all(counted(case, &groups))
    } else {
        hypothesis
    };
    vec![exclude_similar(case, hypothesis, node, family)]
}

/// Services of this node with backends among its own pods: the only ones that the bridge can bypass.
pub(crate) fn stays_on(case: &Case<'_>, group: &FailureGroup, node: &NodeName) -> bool {
    group.client.node == *node
        // A host may probe any address: an answer from another one shows that the target was translated.
        && (group.access_path.is_translated() || case.matrix.source == Source::Host)
        && group.access_path != AccessPath::Hairpin
        && !group.is_cross_node()
}

/// Whether the answer from the wrong source came over the bridge and not through the router: `None` where neither
/// its source MAC nor its TTL was observed.
pub(crate) fn direct_over_bridge(case: &Case<'_>, group: &FailureGroup) -> Option<bool> {
    let sent_to = case
        .client_packets(group)
        .filter(|seen| seen.direction == Direction::Sent)
        // Not the answer to an ARP request of the server, which resolves the client's address before it answers.
        .find(|seen| seen.packet.tcp().is_some_and(|(_, tcp)| tcp.flags.is_syn()))
        .and_then(|seen| seen.packet.link?.dst);
    case.client_packets(group).find_map(|seen| {
        let (ip, _) = seen.packet.tcp()?;
        if seen.direction != Direction::Received {
            return None;
        }
        let undiminished = matches!(ip.hop_limit, 64 | 128 | 255);
        let from_router = match (seen.packet.link, sent_to) {
            (Some(link), Some(router)) => link.src == router,
            (None, _) | (_, None) => false,
        };
        Some(undiminished && !from_router)
    })
}

/// Tier T0: no packets, but every SYN made the client's kernel send a RST and cost the server an
/// embryonic connection.
pub(crate) fn fingerprint(case: &Case<'_>, node: &NodeName, family: Family) -> BTreeSet<usize> {
    let silent = case.places(|group| {
        group.family == family
            && stays_on(case, group, node)
            && group.symptom == Symptom::Silent
            && case.client_packets(group).next().is_none()
    });
    let direct = case.passes(|path| {
        path.access_path == AccessPath::PodIp
            && path.family == family
            && path.client.node == *node
            && path
                .server
                .as_ref()
                .is_some_and(|server| server.node == *node)
    });
    let counted = case.at(&silent).any(|group| {
        let resets = case.agent_grown(&group.client, "TcpOutRsts");
        let embryonic = group
            .server
            .as_ref()
            .and_then(|server| case.agent_grown(server, "TcpExtEmbryonicRsts"));
        resets.is_some_and(|grown| grown > 0) && embryonic.is_some_and(|grown| grown > 0)
    });
    if direct && counted {
        silent
    } else {
        BTreeSet::new()
    }
}

pub(crate) fn counted(case: &Case<'_>, groups: &BTreeSet<usize>) -> Vec<String> {
    case.at(groups)
        .filter_map(|group| {
            let server = group.server.as_ref()?;
            let resets = case.agent_grown(&group.client, "TcpOutRsts")?;
            let embryonic = case.agent_grown(server, "TcpExtEmbryonicRsts")?;
            Some(format!(
                "no packets were seen, but {} counted TcpOutRsts +{resets} and {server} TcpExtEmbryonicRsts +{embryonic}: SYN+ACKs were refused by their receiver",
                group.client
            ))
        })
        .take(1)
        .collect()
}

/// A SYN with TTL 1 to a same-node `ClusterIP` shows the node's setting from inside a pod.
pub(crate) fn ttl_probe_reads_setting(case: &Case<'_>, groups: &BTreeSet<usize>) -> Option<String> {
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

pub(crate) fn redirects(case: &Case<'_>, node: &NodeName, family: Family) -> Vec<String> {
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

/// Similar causes, and what excludes them.
pub(crate) fn exclude_similar(
    case: &Case<'_>,
    mut hypothesis: Hypothesis,
    node: &NodeName,
    family: Family,
) -> Hypothesis {
    let ok = |access_path: AccessPath, scope: Scope| {
        case.passes(|path| {
            path.access_path == access_path
                && path.family == family
                && path.client.node == *node
                && path.scope() == scope
        })
    };
    if ok(AccessPath::PodIp, Scope::SameNode) {
        hypothesis = hypothesis
            .not(
                Cause::NotListening,
                "the same pod answers by its own address",
            )
            .not(Cause::ForwardDrop, "both ends saw packets of the other");
    }
    if ok(AccessPath::ClusterIp, Scope::CrossNode) {
        hypothesis = hypothesis
            .not(
                Cause::ReplyBypassesNat,
                "answers from other nodes come translated back",
            )
            .not(
                Cause::ServiceRulesMissing,
                "the node translates Services of pods on other nodes",
            );
    }
    if ok(AccessPath::Hairpin, Scope::SameNode) {
        hypothesis = hypothesis.not(
            Cause::HairpinOff,
            "the server pod reaches itself through its Service",
        );
    }
    if let Some(invalid) = case
        .grown(node, "ConntrackInvalid")
        .filter(|_| family == Family::Ipv4)
        && invalid == 0
    {
        hypothesis = hypothesis.not(
            Cause::ReplyBypassesNat,
            format!("ConntrackInvalid +0 on {node}: no reply was refused by connection tracking"),
        );
    }
    hypothesis
}
