//! The server traces of handshakes, and their assignment to probes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::packet::Seq;
use crate::packet::observation::{Direction, Observation};
use crate::probe::event::ServerTrace;
use crate::probe::outcome::ProbeResult;
use crate::topology::AgentId;

/// The traces of each handshake: by the client's initial sequence number, the agent, and the peer's address at the server,
/// since of many thousand handshakes two may well share a number.
#[derive(Clone, Debug, Default)]
pub(super) struct ServerTraces(BTreeMap<(u32, AgentId, SocketAddr), ServerTrace>);

/// Whether the answer that the client received is one that the server's end sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    /// The server's end sent others.
    AnotherOne,
    /// One of the two numbers is not known.
    Unknown,
    /// The server's initial sequence number is the same.
    Same,
}

impl ServerTraces {
    /// Adds the trace of an agent; several traces of one handshake add up.
    pub(super) fn add(&mut self, agent: &AgentId, trace: ServerTrace) {
        let key = (trace.isn.0, agent.clone(), trace.peer);
        let Some(sum) = self.0.get_mut(&key) else {
            self.0.insert(key, trace);
            return;
        };
        sum.syns += trace.syns;
        sum.syn_acks += trace.syn_acks;
        sum.acks += trace.acks;
        sum.resets_received += trace.resets_received;
        sum.resets_sent += trace.resets_sent;
        sum.observations.extend(trace.observations);
    }

    /// The server's end of a probe. One SYN can reach two servers: if conntrack has forgotten its connection, its retry is
    /// balanced anew. The order of preference: the server that sent the client's answer, the expected servers, one that
    /// received the SYN from the client's own address.
    pub(super) fn of(
        &self,
        probe: &ProbeResult,
        isn: Seq,
        expected: &BTreeSet<&AgentId>,
        may_serve: impl Fn(&AgentId) -> bool,
    ) -> Option<(&AgentId, &ServerTrace)> {
        let lowest = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        self.0
            .range((isn.0, AgentId::new("", ""), lowest)..)
            .take_while(|((number, ..), _)| *number == isn.0)
            .filter(|((_, agent, _), _)| may_serve(agent))
            // NAT that keeps the client's address keeps its port: another port is another handshake of the same number.
            .filter(|((_, _, peer), _)| peer.ip() != probe.src.ip() || *peer == probe.src)
            .max_by_key(|((_, agent, peer), trace)| {
                let is_own = *peer == probe.src;
                (answer(probe, trace), expected.contains(agent), is_own)
            })
            .map(|((_, agent, _), trace)| (agent, trace))
    }
}

fn answer(probe: &ProbeResult, trace: &ServerTrace) -> Answer {
    let numbers = |seen: &[Observation], direction| -> BTreeSet<u32> {
        seen.iter()
            .filter(|seen| seen.direction == direction)
            .filter_map(|seen| seen.packet.tcp())
            .filter(|(_, tcp)| tcp.flags.is_syn_ack() && tcp.ack == trace.isn.add(1))
            .map(|(_, tcp)| tcp.seq.0)
            .collect()
    };
    let mut got = numbers(&probe.observations, Direction::Received);
    got.extend(probe.server_isn.map(|seq| seq.0));
    let sent = numbers(&trace.observations, Direction::Sent);
    if got.is_empty() || sent.is_empty() {
        Answer::Unknown
    } else if got.is_disjoint(&sent) {
        Answer::AnotherOne
    } else {
        Answer::Same
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Body;
    use crate::report::incident;

    const ONE: &str = "100.96.54.247:8080";

    /// A probe with an answer of `server-1`, and that server's trace.
    fn answered() -> (ProbeResult, ServerTrace) {
        let probe = incident::probe();
        (probe.client, probe.server.unwrap())
    }

    fn of(
        reported: &[(&AgentId, &ServerTrace)],
        probe: &ProbeResult,
        expected: &[&AgentId],
    ) -> Option<(AgentId, u32)> {
        let mut traces = ServerTraces::default();
        for (agent, trace) in reported {
            traces.add(agent, (*trace).clone());
        }
        let expected = expected.iter().copied().collect();
        traces
            .of(probe, probe.isn.unwrap(), &expected, |_| true)
            .map(|(agent, trace)| (agent.clone(), trace.syns))
    }

    #[test]
    fn of_two_servers_that_one_syn_reached_the_one_whose_answer_came_counts() {
        let (probe, trace) = answered();
        let (one, two) = (
            AgentId::new("node-1", "server-1"),
            AgentId::new("node-2", "server-2"),
        );
        let mut other = trace.clone();
        other.local = "100.96.60.11:8080".parse().unwrap();
        for seen in &mut other.observations {
            if let Body::Tcp(_, tcp) = &mut seen.packet.body
                && tcp.flags.is_syn_ack()
            {
                tcp.seq = tcp.seq.add(99);
            }
        }
        assert_eq!(trace.local.to_string(), ONE);
        for expected in [vec![&one, &two], vec![&two]] {
            let reported = [(&one, &trace), (&two, &other)];
            let met = of(&reported, &probe, &expected);
            assert_eq!(met, Some((one.clone(), 3)));
        }
        // Without packets, the expected server counts.
        other.observations.clear();
        let met = of(&[(&two, &other)], &probe, &[&two]);
        assert_eq!(met, Some((two, 3)));
    }

    #[test]
    fn another_handshake_of_the_same_number_from_the_same_host_is_not_the_probes() {
        let (probe, mut trace) = answered();
        let one = AgentId::new("node-1", "server-1");
        trace.peer.set_port(probe.src.port() + 1);
        assert_eq!(of(&[(&one, &trace)], &probe, &[&one]), None);
        // Behind a masquerade both change.
        trace.peer = "100.96.54.1:20001".parse().unwrap();
        assert!(of(&[(&one, &trace)], &probe, &[&one]).is_some());
    }

    #[test]
    fn several_reports_of_one_handshake_add_up() {
        let (probe, trace) = answered();
        let one = AgentId::new("node-1", "server-1");
        let met = of(&[(&one, &trace), (&one, &trace)], &probe, &[&one]);
        assert_eq!(met, Some((one, 6)));
    }
}
