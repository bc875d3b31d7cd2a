//! Queries of DNS over UDP, and whether a server answers any of a client's.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::words;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::{Confidence, Diagnosis, PathSegment};
use crate::packet::capture::CapturedFrame;
use crate::packet::family::Family;
use crate::packet::layers::{Application, Dns, Inner};
use crate::packet::{Body, IcmpKind, Ip, Unreachable};
use crate::probe::tier::Tier;
use crate::time::Timestamp;

/// The protocol number of UDP.
const UDP: u8 = 17;

/// The port of DNS (RFC 1035 4.2.1).
const DNS: u16 = 53;

/// The most pairs of client and server that are followed.
const MAX_PAIRS: usize = 10_000;

/// A query that is repeated for this time has no answer.
const REPEATED_FOR: Duration = Duration::from_millis(900);

/// A query that nothing follows for this time has no answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// The queries that one observer captured.
#[derive(Clone, Debug, Default)]
pub(super) struct Queries(BTreeMap<(IpAddr, SocketAddr), Client>);

/// The queries of a client to a server.
#[derive(Clone, Debug)]
struct Client {
    queries: u32,
    is_answered: bool,
    /// The host that refuses them by ICMP, and why.
    refused_by: Option<(IpAddr, Unreachable)>,
    first: Timestamp,
    last: Timestamp,
    /// The name of the first query.
    name: String,
}

impl Queries {
    /// Adds a frame, if it is part of a query.
    pub(super) fn take(&mut self, frame: &CapturedFrame<'_>) {
        let Some(layers) = frame.layers else { return };
        match &layers.inner {
            Inner::Udp(ip, udp) => {
                if let Some(Application::Dns(message)) = &udp.application {
                    self.message(frame.at, ip, (udp.src_port, udp.dst_port), message);
                }
            }
            Inner::Packet(packet) => {
                let Body::Icmp(ip, message) = &packet.body else {
                    return;
                };
                if let IcmpKind::Unreachable { reason } = message.kind
                    && let Some(quoted) = layers.quoted.filter(|quoted| quoted.protocol == UDP)
                    && let Some((_, port)) = quoted.ports
                {
                    let key = (quoted.ip.src, SocketAddr::new(quoted.ip.dst, port));
                    if let Some(state) = self.0.get_mut(&key) {
                        state.refused_by.get_or_insert((ip.src, reason));
                    }
                }
            }
            Inner::Opaque(..) | Inner::LaterFragment(..) | Inner::Other(..) | Inner::NotIp(_) => {}
        }
    }

    fn message(&mut self, at: Timestamp, ip: &Ip, ports: (u16, u16), message: &Dns) {
        if message.is_answer {
            if let Some(state) = self.0.get_mut(&(ip.dst, SocketAddr::new(ip.src, ports.0))) {
                state.is_answered = true;
            }
            return;
        }
        let key = (ip.src, SocketAddr::new(ip.dst, ports.1));
        if ports.1 != DNS || ip.dst.is_multicast() {
            return;
        }
        if let Some(state) = self.0.get_mut(&key) {
            state.queries += 1;
            state.last = state.last.max(at);
        } else if self.0.len() < MAX_PAIRS {
            let state = Client {
                queries: 1,
                is_answered: false,
                refused_by: None,
                first: at,
                last: at,
                name: message.name.to_string(),
            };
            self.0.insert(key, state);
        }
    }

    /// The clients none of whose queries a server answered, a diagnosis for each family. `until` is the end of the file.
    pub(super) fn unanswered(&self, until: Timestamp) -> Vec<Unresolved> {
        let is_silent = |state: &Client| {
            let is_repeated = state.last.since(state.first) >= REPEATED_FOR;
            !state.is_answered
                && (is_repeated
                    || state.refused_by.is_some()
                    || until.since(state.first) >= DEADLINE)
        };
        let silent = self.0.iter().filter(|(_, state)| is_silent(state));
        silent
            .map(|((client, server), state)| {
                let how = match state.refused_by {
                    Some((by, reason)) => {
                        format!("are refused by ICMP {} of {by}", words::reason_word(reason))
                    }
                    None => "have no answer".to_owned(),
                };
                let sentence = format!(
                    "{} DNS queries of {client} to {server}, the first for {}, {how}",
                    state.queries, state.name
                );
                let is_of_port = |(_, reason)| reason == Unreachable::Port;
                let cause =
                    (state.refused_by.filter(|refusal| is_of_port(*refusal))).map(|(by, _)| {
                        if by == server.ip() {
                            Cause::NotListening
                        } else {
                            Cause::NoEndpoints
                        }
                    });
                Unresolved {
                    cause,
                    family: Family::of(*client),
                    sentence,
                }
            })
            .collect()
    }
}

/// A client of DNS whose queries have no answer.
#[derive(Clone, Debug)]
pub(super) struct Unresolved {
    /// The cause, where an ICMP error shows it.
    cause: Option<Cause>,
    family: Family,
    sentence: String,
}

/// A diagnosis for queries without answers; `None` where there are none.
pub(super) fn diagnosis(unanswered: &[Unresolved]) -> Option<Diagnosis> {
    const MAX_SENTENCES: usize = 8;
    let first = unanswered.first()?;
    let is_of_one = unanswered.iter().all(|other| other.family == first.family);
    let is_one_cause = unanswered.iter().all(|other| other.cause == first.cause);
    Some(Diagnosis {
        cause: first.cause.filter(|_| is_one_cause),
        node: None,
        segment: PathSegment::Unknown,
        family: is_of_one.then_some(first.family),
        confidence: Confidence::Consistent,
        tier: Tier::T1,
        paths: Vec::new(),
        evidence: (unanswered.iter().take(MAX_SENTENCES))
            .map(|unresolved| unresolved.sentence.clone())
            .collect(),
        excluded: Vec::new(),
        would_decide: vec![
            "the same queries at the server's end, at the same time: `tcpdump -ni any -w dns.pcap 'port 53 or icmp or icmp6'` in the pods of the DNS Service".to_owned(),
        ],
        remedy: Vec::new(),
        sample: None,
    })
}
