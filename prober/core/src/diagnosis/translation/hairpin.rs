//! A pod that reaches itself through its Service.

use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Hypothesis, Place, Proof};
use crate::diagnosis::symptom::{FailureGroup, Symptom};
use crate::evidence::Evidence;
use crate::node_facts::Link;
use crate::packet::family::Family;
use crate::packet::observation::{Direction, Observation};
use crate::topology::{AccessPath, AgentId};

/// Hypotheses about hairpin traffic.
pub(crate) fn hypotheses(case: &Case<'_>) -> Vec<Hypothesis> {
    // IPv4 drops packets from the own address; IPv6 accepts them, and the pod answers itself.
    let silent = |group: &FailureGroup| {
        group.access_path == AccessPath::Hairpin
            && matches!(
                group.symptom,
                Symptom::Silent | Symptom::SynAckFromWrongSource
            )
    };
    let pods: Vec<(usize, AgentId, Family)> = case
        .failing(silent)
        .map(|(at, group)| (at, group.client.clone(), group.family))
        .collect();
    pods.into_iter()
        .filter_map(|(at, pod, family)| one(case, at, &pod, family))
        .collect()
}

fn one(case: &Case<'_>, at: usize, pod: &AgentId, family: Family) -> Option<Hypothesis> {
    let group = case.groups.get(at)?;
    let groups = [at].into_iter().collect();
    if let Some(copy) = case.probes(group).find_map(own_syn) {
        let (ip, tcp) = copy.packet.tcp()?;
        return Some(
            Hypothesis::proves(Cause::MissingMasquerade, Place::node(&pod.node, family), groups, Proof::Packets)
                .because(format!(
                    "{pod} received its own SYN from {}:{} to {}:{}: its destination was translated, its source was not",
                    ip.src, tcp.src_port, ip.dst, tcp.dst_port
                ))
                .not(Cause::HairpinOff, "the bridge did send the packet back"),
        );
    }
    if group.symptom != Symptom::Silent {
        return None;
    }
    let reached_by_others = case.passes(|path| {
        path.family == family && path.server.as_ref() == Some(pod) && path.client != *pod
    });
    let place = Place::pod(pod, family);
    match port(case, pod, family) {
        Some(port) if port.hairpin == Some(false) => Some(
            Hypothesis::proves(Cause::HairpinOff, place, groups, Proof::Facts)
                .because(format!(
                    "hairpin mode is off at {}, the bridge port of {pod} on {}",
                    port.name, pod.node
                ))
                .because(format!(
                    "{pod} probed its own Service, and its SYN did not come back"
                ))
                .not(
                    Cause::MissingMasquerade,
                    "no copy of the SYN came back to its sender",
                ),
        ),
        Some(port) if port.hairpin == Some(true) => Some(Hypothesis::excludes(
            Cause::HairpinOff,
            place,
            groups,
            format!("hairpin mode is on at {}", port.name),
        )),
        Some(_) | None if reached_by_others => Some(
            Hypothesis::fits(Cause::HairpinOff, place, groups)
                .because(format!("only {pod} itself does not reach its Service"))
                .decided_by(format!(
                    "`bridge -d link show` on {}: hairpin off at the pod's port",
                    pod.node
                ))
                .not(
                    Cause::MissingMasquerade,
                    "no copy of the SYN came back to its sender",
                ),
        ),
        Some(_) | None => None,
    }
}

/// The own SYN, delivered to the pod itself with its own address as source and destination.
fn own_syn(probe: &Evidence) -> Option<&Observation> {
    let own = probe.client.src.ip();
    let server = probe
        .server
        .iter()
        .flat_map(|server_trace| &server_trace.observations);
    probe.client.observations.iter().chain(server).find(|seen| {
        seen.direction == Direction::Received
            && seen.packet.tcp().is_some_and(|(ip, tcp)| {
                tcp.flags.is_syn()
                    && Some(tcp.seq) == probe.client.isn
                    && ip.src == own
                    && ip.dst == own
            })
    })
}

/// The bridge port behind which the pod is, or any port that does not reflect.
fn port<'a>(case: &Case<'a>, pod: &AgentId, family: Family) -> Option<&'a Link> {
    let facts = case.facts(&pod.node)?;
    let links = facts.links.as_ref()?;
    let known = case
        .mac(pod, family)
        .and_then(|mac| {
            facts
                .fdb(mac)?
                .into_iter()
                .find(|entry| entry.destination.is_none())
        })
        .and_then(|entry| facts.link(&entry.dev).found())
        .filter(|link| link.hairpin.is_some());
    let ports = || links.iter().filter(|link| link.hairpin.is_some());
    known
        .or_else(|| ports().find(|link| link.hairpin == Some(false)))
        .or_else(|| ports().next())
}
