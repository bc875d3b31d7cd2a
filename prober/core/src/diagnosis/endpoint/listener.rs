//! The process that is expected to answer: absent, not accepting, or stopped.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::diagnosis::PathSegment;
use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::endpoint::reset_sender::{ResetSender, reset_packet, reset_sender};
use crate::diagnosis::endpoint::to;
use crate::diagnosis::hypothesis::{Hypothesis, Place, Proof};
use crate::diagnosis::symptom::{FailureGroup, ServerEnd, Symptom};
use crate::evidence::Source;
use crate::packet::family::Family;
use crate::packet::observation::Direction;
use crate::probe::event::ServerTrace;
use crate::probe::outcome::OutcomeKind;
use crate::topology::{AccessPath, AgentId};

pub(crate) fn not_listening(
    case: &Case<'_>,
    server: &AgentId,
    family: Family,
) -> Option<Hypothesis> {
    let refused = |group: &FailureGroup| {
        group.family == family
            && group.server.as_ref() == Some(server)
            && group.symptom == Symptom::Reset
    };
    let sent =
        case.places(|group| refused(group) && reset_sender(case, group) == ResetSender::Server);
    let place = Place::pod(server, family);
    if !sent.is_empty() {
        let other = case
            .at(&sent)
            .find_map(|group| case.path(group.path)?.other_port);
        let ports = other.map(|outcome| match outcome {
            OutcomeKind::Established => "another port of the same pod answers".to_owned(),
            OutcomeKind::Reset => "another port of the same pod refuses as well".to_owned(),
            OutcomeKind::Timeout
            | OutcomeKind::Unreachable
            | OutcomeKind::RefusedLocally
            | OutcomeKind::Mismatched => {
                format!(
                    "a probe of another port of the same pod ended with {}",
                    outcome.as_str()
                )
            }
        });
        return Some(
            Hypothesis::proves(Cause::NotListening, place, sent, Proof::Packets)
                .because(format!(
                    "{server} received the SYN, and its own kernel sent the RST"
                ))
                .because_all(ports)
                .not(Cause::RejectReset, "the server's end sent the RST itself"),
        );
    }
    let unclear =
        case.places(|group| refused(group) && reset_sender(case, group) == ResetSender::Unclear);
    if unclear.is_empty() {
        return None;
    }
    Some(
        Hypothesis::fits(Cause::NotListening, place, unclear)
            .because(format!("connections to {server} are refused"))
            .decided_by("the packets at the server's end: with a SYN and a RST of its own it is this; without, a rule sends the RST"),
    )
}

/// The target refused this host, and is not a server of the run: the RST is the only evidence.
pub(crate) fn refused_here(case: &Case<'_>, family: Family) -> Option<Hypothesis> {
    if case.matrix.source != Source::Host {
        return None;
    }
    let groups = case.places(|group| group.family == family && group.symptom == Symptom::Reset);
    let group = case.at(&groups).next()?;
    let target = case.path(group.path)?.target;
    let seen = reset_packet(case, group).and_then(|seen| seen.packet.tcp());
    let ttl = seen.map_or_else(String::new, |(ip, _)| format!(" with TTL {}", ip.hop_limit));
    let place = Place {
        node: None,
        segment: PathSegment::Unknown,
        family,
    };
    Some(
        Hypothesis::fits(Cause::NotListening, place, groups)
            .because(format!("{target} refuses by RST{ttl}"))
            .decided_by("a capture at the server's end: with a SYN and a RST of its own it is this; without, a rule on the path sends the RST (reject-reset)"),
    )
}

pub(crate) fn accept_queue(
    case: &Case<'_>,
    server: &AgentId,
    family: Family,
) -> Option<Hypothesis> {
    let ignored = case.places(|group| {
        to(group, server, family)
            && matches!(group.symptom, Symptom::Silent | Symptom::Lossy)
            && group.server_end == ServerEnd::SynOnly
    });
    let overflows = case
        .agent_grown(server, "TcpExtListenOverflows")
        .filter(|&grown| grown > 0);
    let place = Place::pod(server, family);
    if let Some(grown) = overflows {
        let groups = case.places(|group| {
            to(group, server, family)
                && matches!(
                    group.symptom,
                    Symptom::Silent
                        | Symptom::Lossy
                        | Symptom::NoData
                        | Symptom::Broken
                        | Symptom::Stalled
                )
                && group.server_end != ServerEnd::Nothing
        });
        return (!groups.is_empty()).then(|| {
            Hypothesis::proves(Cause::AcceptQueueFull, place, groups, Proof::Facts)
                .because(format!(
                    "{server} counted TcpExtListenOverflows +{grown}: its accept queue is full"
                ))
                .because("its end saw SYNs that it did not answer")
                .not(Cause::PacketLoss, "the SYNs arrived")
                .not(
                    Cause::EndpointFrozen,
                    "a frozen process with room in its queue completes handshakes",
                )
        });
    }
    if ignored.is_empty() {
        return None;
    }
    Some(
        Hypothesis::fits(Cause::AcceptQueueFull, place, ignored)
            .because(format!("{server}'s end saw SYNs that it did not answer"))
            .decided_by(format!("`nstat -az TcpExtListenOverflows IpOutNoRoutes TcpInCsumErrors` in {server}: the first grows with a full queue, the others where the pod has no route back or receives broken packets")),
    )
}

/// Maximum time from a SYN to the banner of a process that runs.
const MAX_BANNER_DELAY: Duration = Duration::from_secs(1);

pub(crate) fn frozen(case: &Case<'_>, server: &AgentId, family: Family) -> Option<Hypothesis> {
    if case.matrix.source != Source::Run {
        return None;
    }
    let known = case.matrix.agents.get(server);
    let has_stopped_reporting = known.is_some_and(|agent| !agent.has_reported);
    let no_data = case.places(|group| {
        to(group, server, family)
            && group.symptom == Symptom::NoData
            && (group.server_end == ServerEnd::Completed
                || has_stopped_reporting
                || group.server_end == ServerEnd::Unknown)
    });
    if no_data.is_empty() || case.at(&no_data).any(|group| repeats_syn_ack(case, group)) {
        return None;
    }
    if case
        .at(&no_data)
        .any(|group| case.server_traces(group).any(sent_data))
    {
        return None;
    }
    let completed = case.best_server_end(&no_data) == ServerEnd::Completed;
    let access_paths: BTreeSet<AccessPath> =
        case.at(&no_data).map(|group| group.access_path).collect();
    let mut hypothesis = if completed || has_stopped_reporting {
        Hypothesis::proves(
            Cause::EndpointFrozen,
            Place::pod(server, family),
            no_data,
            Proof::Packets,
        )
    } else {
        Hypothesis::fits(Cause::EndpointFrozen, Place::pod(server, family), no_data).decided_by(
            format!("the state of the process in {server}: `cat /proc/1/status | grep State`"),
        )
    };
    hypothesis = hypothesis.because(format!(
        "{server}'s kernel completes handshakes on {} access paths, and no banner follows",
        access_paths.len()
    ));
    if completed {
        hypothesis =
            hypothesis.because("its end saw the third packet of the handshake, and sent no data");
    }
    if has_stopped_reporting {
        hypothesis = hypothesis.because(format!(
            "the agent in {server} has stopped reporting as well"
        ));
    }
    Some(
        hypothesis
            .not(Cause::AcceptQueueFull, "the SYN+ACK is not repeated")
            .not(Cause::MtuBlackHole, "the banner is small"),
    )
}

/// Whether a server's end sent data while its client waited. A process that is resumed just before its removal
/// still sends a banner to clients that have given up.
fn sent_data(server_trace: &ServerTrace) -> bool {
    let first = server_trace.observations.first().map(|seen| seen.at);
    server_trace.observations.iter().any(|seen| {
        let tcp = seen.packet.tcp();
        seen.direction == Direction::Sent
            && tcp.is_some_and(|(_, tcp)| tcp.payload_len > 0)
            && first.is_none_or(|first| seen.at.since(first) < MAX_BANNER_DELAY)
    })
}

fn repeats_syn_ack(case: &Case<'_>, group: &FailureGroup) -> bool {
    case.probes(group).any(|probe| {
        let answers = probe.client.observations.iter().filter(|seen| {
            seen.direction == Direction::Received
                && seen
                    .packet
                    .tcp()
                    .is_some_and(|(_, tcp)| tcp.flags.is_syn_ack())
        });
        answers.count() > 1
    })
}
