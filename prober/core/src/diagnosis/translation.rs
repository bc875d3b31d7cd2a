//! Rules for translation: a Service's address is translated on the way there and back, or not.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::case::{Case, rung};
use super::catalogue::Cause;
use super::opinion::{Opinion, Place, Proof};
use super::symptom::{self, ServerEnd, Symptom, Unit};
use crate::event::RungAnswer;
use crate::evidence::Source;
use crate::facts::SysctlState;
use crate::family::Family;
use crate::observation::{Direction, Observation};
use crate::topology::{NodeName, Route, Scope};
use crate::wire::IcmpKind;

/// What this family has to say.
pub(crate) fn opinions(case: &Case<'_>) -> Vec<Opinion> {
    let mut opinions = Vec::new();
    for family in case.families() {
        for node in case.nodes() {
            opinions.extend(bridge_netfilter(case, node, family));
            opinions.extend(reply_bypasses(case, node, family));
        }
    }
    opinions
}

/// The name of the sysctl that takes bridged packets of a family to netfilter.
pub(crate) const fn bridge_sysctl(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "net.bridge.bridge-nf-call-iptables",
        Family::Ipv6 => "net.bridge.bridge-nf-call-ip6tables",
    }
}

/// Whether bridged packets of a node meet netfilter; `None` where it was not read.
pub(crate) fn bridged_filtered(case: &Case<'_>, node: &NodeName, family: Family) -> Option<bool> {
    let facts = case.facts(node)?;
    let own_switch = facts.links.iter().flatten().any(|link| {
        link.bridge.is_some_and(|bridge| match family {
            Family::Ipv4 => bridge.nf_call_iptables == Some(true),
            Family::Ipv6 => bridge.nf_call_ip6tables == Some(true),
        })
    });
    match facts.bridge_nf(family)? {
        SysctlState::Absent => Some(own_switch),
        SysctlState::Unreadable => None,
        SysctlState::Value(value) => Some(value != 0 || own_switch),
    }
}

/// An answer that came from the backend's own address, over the bridge.
fn is_unrestored(unit: &Unit) -> bool {
    matches!(unit.symptom, Symptom::ForeignSynAck | Symptom::ForeignReset)
}

/// Services of this node that its own pods back: the only ones that the bridge can bypass.
fn stays_on(unit: &Unit, node: &NodeName) -> bool {
    unit.client.node == *node
        && unit.route.is_translated()
        && unit.route != Route::Hairpin
        && !unit.is_cross_node()
}

fn bridge_netfilter(case: &Case<'_>, node: &NodeName, family: Family) -> Vec<Opinion> {
    let here = |unit: &Unit| unit.family == family && stays_on(unit, node);
    // A RST from the backend's own address that the backend did send is another fault (a closed
    // port) whose answer was bypassed as well; one that it did not send is a rule's.
    let mut units = case.places(|unit| {
        here(unit)
            && match unit.symptom {
                Symptom::ForeignSynAck => direct_over_bridge(case, unit) != Some(false),
                Symptom::ForeignReset => unit.server_end == ServerEnd::ResetSent,
                Symptom::Reset
                | Symptom::Unreachable(_)
                | Symptom::Silent
                | Symptom::Lossy
                | Symptom::Mute
                | Symptom::Stalled
                | Symptom::Broken
                | Symptom::Impostor => false,
            }
    });
    let told_by_counters = units.is_empty();
    if told_by_counters {
        units = fingerprint(case, node, family);
    }
    if units.is_empty() {
        return Vec::new();
    }
    let place = Place::node(node, family);
    let sysctl = bridge_sysctl(family);
    let cross_too = case.fails(|unit| {
        unit.family == family
            && is_unrestored(unit)
            && unit.is_cross_node()
            && unit.client.node == *node
    });
    let opinion = match bridged_filtered(case, node, family) {
        Some(true) => {
            return vec![Opinion::excludes(
                Cause::BridgeNetfilterOff,
                place,
                units,
                format!("{sysctl} is on at {node}"),
            )];
        }
        Some(false) => {
            let state = match case.facts(node).and_then(|facts| facts.bridge_nf(family)) {
                Some(SysctlState::Absent) => {
                    format!("{sysctl} does not exist on {node}: the module br_netfilter is not loaded")
                }
                Some(SysctlState::Value(value)) => format!("{sysctl} is {value} on {node}"),
                Some(SysctlState::Unreadable) | None => format!("{sysctl} is off on {node}"),
            };
            Opinion::proves(Cause::BridgeNetfilterOff, place, units.clone(), Proof::Facts)
                .because(state)
        }
        None if cross_too => {
            return vec![Opinion::excludes(
                Cause::BridgeNetfilterOff,
                place,
                units,
                "answers from other nodes, which are routed, come untranslated as well",
            )];
        }
        None => Opinion::fits(Cause::BridgeNetfilterOff, place, units.clone()).decided_by(format!(
            "`sysctl {sysctl}` in the network namespace of {node} (0, or no such file, proves it; 1 means that replies are not tracked there)"
        )),
    };
    let opinion = opinion
        .because_all(seen_at_ends(case, &units))
        .because_all(ladder_reads_setting(case, &units))
        .because_all(redirects(case, node, family));
    let opinion = if told_by_counters {
        opinion.because_all(counted(case, &units))
    } else {
        opinion
    };
    vec![bounds(case, opinion, node, family)]
}

/// Whether the wrong answer came over the bridge, untouched by the router: `None` where neither
/// its Ethernet source nor its TTL was seen.
fn direct_over_bridge(case: &Case<'_>, unit: &Unit) -> Option<bool> {
    let sent_to = case
        .client_packets(unit)
        .find(|seen| seen.direction == Direction::Sent)
        .and_then(|seen| seen.packet.link?.dst);
    case.client_packets(unit).find_map(|seen| {
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
fn fingerprint(case: &Case<'_>, node: &NodeName, family: Family) -> BTreeSet<usize> {
    let silent = case.places(|unit| {
        unit.family == family
            && stays_on(unit, node)
            && unit.symptom == Symptom::Silent
            && case.client_packets(unit).next().is_none()
    });
    let direct = case.passes(|path| {
        path.route == Route::PodIp
            && path.family == family
            && path.client.node == *node
            && path
                .server
                .as_ref()
                .is_some_and(|server| server.node == *node)
    });
    let counted = case.at(&silent).any(|unit| {
        let resets = case.agent_grown(&unit.client, "TcpOutRsts");
        let embryonic = unit
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

fn counted(case: &Case<'_>, units: &BTreeSet<usize>) -> Vec<String> {
    case.at(units)
        .filter_map(|unit| {
            let server = unit.server.as_ref()?;
            let resets = case.agent_grown(&unit.client, "TcpOutRsts")?;
            let embryonic = case.agent_grown(server, "TcpExtEmbryonicRsts")?;
            Some(format!(
                "no packets were seen, but {} counted TcpOutRsts +{resets} and {server} TcpExtEmbryonicRsts +{embryonic}: SYN+ACKs were refused by their receiver",
                unit.client
            ))
        })
        .take(1)
        .collect()
}

/// What the packets of both ends say, from the unit that says most.
fn seen_at_ends(case: &Case<'_>, units: &BTreeSet<usize>) -> Vec<String> {
    let Some(unit) = case
        .at(units)
        .max_by_key(|unit| (unit.server_end, unit.route == Route::ClusterIp))
    else {
        return Vec::new();
    };
    let mut said = Vec::new();
    let answer = case
        .probes(unit)
        .find_map(|probe| symptom::foreign(&probe.client).map(|(from, _)| (probe, from)));
    if let Some((probe, from)) = answer {
        let packet = probe.client.observations.iter().find(|seen| {
            seen.direction == Direction::Received && seen.packet.tcp_src() == Some(from)
        });
        let link = packet
            .and_then(|seen| seen.packet.link)
            .map_or_else(String::new, |link| format!(", source MAC {}", link.src));
        let ttl = packet
            .and_then(|seen| seen.packet.tcp())
            .map_or_else(String::new, |(ip, _)| {
                format!(", TTL {} (not decremented)", ip.hop_limit)
            });
        let what = if unit.symptom == Symptom::ForeignReset {
            "RST"
        } else {
            "SYN+ACK"
        };
        said.push(format!(
            "{} asked {} and got {what} from {from}{ttl}{link}",
            unit.client, probe.client.dst
        ));
        let refused = probe
            .client
            .observations
            .iter()
            .find(|seen| is_own_reset(seen, from));
        if refused.is_some() {
            said.push(format!(
                "the client's kernel answered RST to {from}: no socket of it asked that address"
            ));
        }
    }
    let at_server = case.server_packets(unit).find(|seen| {
        seen.direction == Direction::Received
            && seen.packet.tcp().is_some_and(|(_, tcp)| tcp.flags.is_syn())
    });
    if let Some((seen, (ip, _))) = at_server.and_then(|seen| Some((seen, seen.packet.tcp()?))) {
        let link = seen
            .packet
            .link
            .map_or_else(String::new, |link| format!(" from MAC {}", link.src));
        said.push(format!(
            "the server's end got the SYN with TTL {}{link}: it was routed there",
            ip.hop_limit
        ));
    }
    if unit.server_end == ServerEnd::SynAckReset {
        let resets: u32 = case
            .witnesses(unit)
            .map(|witness| witness.resets_received)
            .sum();
        said.push(format!(
            "the server's end sent SYN+ACK and got {resets} RST"
        ));
    }
    said
}

fn is_own_reset(seen: &Observation, to: SocketAddr) -> bool {
    seen.direction == Direction::Sent
        && seen.packet.tcp_dst() == Some(to)
        && seen
            .packet
            .tcp()
            .is_some_and(|(_, tcp)| tcp.flags.has(crate::wire::TcpFlags::RST))
}

/// TTL 1 to a same-node `ClusterIP` reads the node's setting from inside a pod.
fn ladder_reads_setting(case: &Case<'_>, units: &BTreeSet<usize>) -> Option<String> {
    case.at(units)
        .filter(|unit| unit.is_same_node())
        .find_map(|unit| match rung(case.ladder(unit.path)?, 1)? {
            RungAnswer::TimeExceeded { by, .. } => Some(format!(
                "a SYN with TTL 1 to the Service of a pod on the same node met time exceeded from {by}: it is routed, not translated on the bridge"
            )),
            RungAnswer::Silent
            | RungAnswer::SynAck { .. }
            | RungAnswer::Reset { .. }
            | RungAnswer::Unreachable { .. } => None,
        })
}

fn redirects(case: &Case<'_>, node: &NodeName, family: Family) -> Vec<String> {
    let counter = match family {
        Family::Ipv4 => "IcmpOutRedirects",
        Family::Ipv6 => "Icmp6OutRedirects",
    };
    let mut said = Vec::new();
    if let Some(grown) = case.grown(node, counter).filter(|&grown| grown > 0) {
        said.push(format!(
            "{node} counted {counter} +{grown}: it routes out of the interface the packets came in by"
        ));
    }
    let told = case
        .failing(|unit| unit.family == family && unit.client.node == *node)
        .flat_map(|(_, unit)| case.client_packets(unit))
        .find_map(|seen| match seen.packet.icmp()?.1.kind {
            IcmpKind::Redirect { gateway } => Some(gateway),
            IcmpKind::Unreachable { .. }
            | IcmpKind::TimeExceeded
            | IcmpKind::PacketTooBig { .. }
            | IcmpKind::Other => None,
        });
    if let Some(gateway) = told {
        said.push(format!("{node} sent the client a redirect to {gateway}"));
    }
    said
}

/// What else it could be, and why it is not.
fn bounds(case: &Case<'_>, mut opinion: Opinion, node: &NodeName, family: Family) -> Opinion {
    let ok = |route: Route, scope: Scope| {
        case.passes(|path| {
            path.route == route
                && path.family == family
                && path.client.node == *node
                && path.scope() == scope
        })
    };
    if ok(Route::PodIp, Scope::SameNode) {
        opinion = opinion
            .not(
                Cause::NotListening,
                "the same pod answers by its own address",
            )
            .not(Cause::ForwardDrop, "both ends saw packets of the other");
    }
    if ok(Route::ClusterIp, Scope::CrossNode) {
        opinion = opinion
            .not(
                Cause::ReplyBypassesNat,
                "answers from other nodes come translated back",
            )
            .not(
                Cause::ServiceRulesMissing,
                "the node translates Services of pods on other nodes",
            );
    }
    if ok(Route::Hairpin, Scope::SameNode) {
        opinion = opinion.not(
            Cause::HairpinOff,
            "the server pod reaches itself through its Service",
        );
    }
    if let Some(invalid) = case
        .grown(node, "ConntrackInvalid")
        .filter(|_| family == Family::Ipv4)
        && invalid == 0
    {
        opinion = opinion.not(
            Cause::ReplyBypassesNat,
            format!("ConntrackInvalid +0 on {node}: no reply was refused by connection tracking"),
        );
    }
    opinion
}

/// Untranslated replies where the bridge is not to blame.
fn reply_bypasses(case: &Case<'_>, node: &NodeName, family: Family) -> Vec<Opinion> {
    let here = |unit: &Unit| unit.family == family && unit.client.node == *node;
    let foreign = case.places(|unit| here(unit) && unit.symptom == Symptom::ForeignSynAck);
    if foreign.is_empty() {
        return Vec::new();
    }
    let place = Place::node(node, family);
    let crossing = case.at(&foreign).any(Unit::is_cross_node);
    let filtered = bridged_filtered(case, node, family);
    if filtered == Some(false) && !crossing {
        return vec![Opinion::excludes(
            Cause::ReplyBypassesNat,
            place,
            foreign,
            format!(
                "only Services of pods on {node} itself are hit, and {} is off there",
                bridge_sysctl(family)
            ),
        )];
    }
    let mut units = foreign.clone();
    // What follows from untracked replies: the third packet of a direct connection is invalid.
    units.extend(case.places(|unit| {
        let through = unit.client.node == *node
            || unit
                .server
                .as_ref()
                .is_some_and(|server| server.node == *node);
        unit.family == family
            && through
            && match unit.symptom {
                Symptom::Mute | Symptom::Broken => unit.server_end != ServerEnd::Completed,
                Symptom::Silent => {
                    unit.route == Route::Hairpin && unit.server_end != ServerEnd::Nothing
                }
                Symptom::ForeignReset => unit.route == Route::Hairpin,
                Symptom::ForeignSynAck
                | Symptom::Reset
                | Symptom::Unreachable(_)
                | Symptom::Lossy
                | Symptom::Stalled
                | Symptom::Impostor => false,
            }
    }));
    let evidence = seen_at_ends(case, &foreign);
    let invalid = case
        .grown(node, "ConntrackInvalid")
        .filter(|&grown| grown > 0);
    let counted = invalid.map(|grown| {
        format!("{node} counted ConntrackInvalid +{grown}: it saw replies that it could not match")
    });
    let host = case.matrix.source != Source::Run;
    let opinion = if (filtered == Some(true) || crossing) && !host {
        Opinion::proves(Cause::ReplyBypassesNat, place, units, Proof::Packets)
    } else {
        Opinion::fits(Cause::ReplyBypassesNat, place, units)
            .decided_by(format!(
                "`sysctl {}` on {node}: with 1, it is this",
                bridge_sysctl(family)
            ))
            .decided_by("an answer from a pod on another node: translated back, it is the bridge")
    };
    let opinion = opinion.because_all(evidence).because_all(counted);
    vec![if filtered == Some(true) {
        opinion.not(
            Cause::BridgeNetfilterOff,
            format!("{} is on at {node}", bridge_sysctl(family)),
        )
    } else if crossing {
        opinion.not(
            Cause::BridgeNetfilterOff,
            "answers from other nodes, which are routed, come untranslated as well",
        )
    } else {
        opinion
    }]
}
