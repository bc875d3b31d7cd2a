//! Addresses behind a Service at which no host answers, as packets show them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::diagnosis::case::Case;
use crate::diagnosis::endpoint::{is_reached_directly, is_slot, untranslated_error};
use crate::diagnosis::origin;
use crate::diagnosis::symptom::{FailureGroup, Symptom, translated_destination};
use crate::packet::family::Family;
use crate::packet::{Body, IcmpKind, ResolutionKind, Unreachable};

/// The kernel asks for a neighbour three times, a second apart, before it reports that the host is unreachable (`mcast_solicit`,
/// `retrans_time_ms`: Documentation/networking/ip-sysctl). A rule refuses at once.
const MIN_RESOLUTION: Duration = Duration::from_secs(1);

/// Whether the port of one server leads to no host: silence, or a host that is unreachable, and no packet at the server's end.
pub(crate) fn is_gone(group: &FailureGroup) -> bool {
    is_slot(group)
        && matches!(
            group.symptom,
            Symptom::Silent | Symptom::Unreachable(Unreachable::Host | Unreachable::Other)
        )
        && group.is_unseen()
}

/// Whether packets show that the port of a group's server leads elsewhere, while the server answers by its own address.
pub(crate) fn is_led_astray(case: &Case<'_>, group: &FailureGroup) -> bool {
    let is_candidate = |other: &FailureGroup| is_gone(other) && is_reached_directly(case, other);
    let shows = |other: &FailureGroup| {
        other.family == group.family
            && other.server == group.server
            && is_candidate(other)
            && (address_of(case, other).is_some() || is_unresolved(case, other))
    };
    is_candidate(group) && case.failing(shows).next().is_some()
}

/// Whether the translated destination was reported as unreachable.
pub(crate) fn is_unresolved(case: &Case<'_>, group: &FailureGroup) -> bool {
    group.symptom == Symptom::Unreachable(Unreachable::Host)
        && untranslated_error(case, group).is_none()
}

/// Whether it was reported after as long as a neighbour's resolution takes.
pub(crate) fn is_unresolved_late(case: &Case<'_>, group: &FailureGroup) -> bool {
    let is_late = |probe: &crate::evidence::Evidence| {
        let mut seen = probe.client.observations.iter();
        let Some(first) = seen.next() else {
            return false;
        };
        seen.any(|seen| {
            let is_host = |icmp: &crate::packet::Icmp| {
                matches!(
                    icmp.kind,
                    IcmpKind::Unreachable {
                        reason: Unreachable::Host
                    }
                )
            };
            let icmp = seen.packet.icmp();
            icmp.is_some_and(|(_, icmp)| is_host(icmp)) && seen.at.since(first.at) >= MIN_RESOLUTION
        })
    };
    is_unresolved(case, group) && case.probes(group).any(is_late)
}

/// The address that a SYN of the group went on to, where no pod of the run has it: a bridge floods a copy, or connect()
/// translated it.
pub(crate) fn sent_on_to(case: &Case<'_>, group: &FailureGroup) -> Option<IpAddr> {
    let mut probes = case.probes(group);
    let to = probes
        .find_map(|probe| translated_destination(&probe.client))?
        .ip();
    (!case.is_known_address(to)).then_some(to)
}

/// The address that the Service seems to lead to: that of the SYN, or one that the node asks for.
pub(crate) fn address_of(case: &Case<'_>, group: &FailureGroup) -> Option<IpAddr> {
    sent_on_to(case, group).or_else(|| requested_address(case, group))
}

/// An address that a node asked for while a client waited, and that no pod of the run has. Other traffic may need it.
fn requested_address(case: &Case<'_>, group: &FailureGroup) -> Option<IpAddr> {
    case.client_packets(group)
        .find_map(|seen| match seen.packet.body {
            Body::Resolution(request)
                if request.kind == ResolutionKind::Request
                    && Family::of(request.target) == group.family
                    && request.target != request.sender
                    && !case.is_pod_address(request.sender)
                    && !case.is_known_address(request.target) =>
            {
                Some(request.target)
            }
            Body::Resolution(_) | Body::Tcp(..) | Body::Icmp(..) => None,
        })
}

/// What routers reported of neighbours that did not answer, and what the node asked for.
pub(crate) fn resolution_failures(case: &Case<'_>, groups: &BTreeSet<usize>) -> Vec<String> {
    let mut sentences = BTreeSet::new();
    for group in case.at(groups) {
        let Some(path) = case.path(group.path) else {
            continue;
        };
        for (ip, icmp) in case
            .client_packets(group)
            .filter_map(|seen| seen.packet.icmp())
        {
            let IcmpKind::Unreachable {
                reason: Unreachable::Host | Unreachable::Other,
            } = icmp.kind
            else {
                continue;
            };
            let at = origin::router(case, path, ip.src, ip.hop_limit);
            let at = at.map_or_else(|| "a router".to_owned(), |node| node.to_string());
            let quoted = (icmp.quoted).map_or_else(String::new, |quoted| {
                format!(", quoting TTL {}", quoted.hop_limit)
            });
            sentences.insert(format!(
                "ICMP {}/{} from {} (TTL {}{quoted}): {at} could not resolve the address",
                icmp.type_code.0, icmp.type_code.1, ip.src, ip.hop_limit
            ));
        }
    }
    let mut sentences: Vec<String> = sentences.into_iter().take(2).collect();
    if let Some(address) = case
        .at(groups)
        .find_map(|group| requested_address(case, group))
    {
        sentences.push(format!(
            "the node asked for {address}, which no pod of the run has"
        ));
    }
    sentences
}
