//! What the servers' ends saw, and which of it belongs to a probe.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::packet::Seq;
use crate::packet::observation::{Direction, Observation};
use crate::probe::event::ServerTrace;
use crate::probe::outcome::ProbeResult;
use crate::topology::AgentId;

/// What each server's end saw: by the client's initial sequence number, the agent, and the peer
/// that it saw, since of many thousand handshakes two may well share a number.
#[derive(Clone, Debug, Default)]
pub(super) struct Witnessed(BTreeMap<(u32, AgentId, SocketAddr), ServerTrace>);

/// Whether the answer that the client got is one that this end sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    /// It sent others.
    AnotherOne,
    /// One of the two is not known.
    Unknown,
    /// The server's initial sequence number is the same.
    Same,
}

impl Witnessed {
    /// Takes what an agent tells; several tellings of one handshake add up.
    pub(super) fn take(&mut self, agent: &AgentId, witness: ServerTrace) {
        let key = (witness.isn.0, agent.clone(), witness.peer);
        let Some(sum) = self.0.get_mut(&key) else {
            self.0.insert(key, witness);
            return;
        };
        sum.syns += witness.syns;
        sum.syn_acks += witness.syn_acks;
        sum.acks += witness.acks;
        sum.resets_received += witness.resets_received;
        sum.resets_sent += witness.resets_sent;
        sum.observations.extend(witness.observations);
    }

    /// The end that a probe met. One SYN can reach two servers: where its connection was forgotten
    /// on the way, it is balanced anew when it is repeated. Whose answer the client got comes
    /// first, then those that are meant to answer, then the client's own address.
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
            // Who keeps the address keeps the port: it is another handshake of the same number.
            .filter(|((_, _, peer), _)| peer.ip() != probe.src.ip() || *peer == probe.src)
            .max_by_key(|((_, agent, peer), witness)| {
                let is_own = *peer == probe.src;
                (answer(probe, witness), expected.contains(agent), is_own)
            })
            .map(|((_, agent, _), witness)| (agent, witness))
    }
}

fn answer(probe: &ProbeResult, witness: &ServerTrace) -> Answer {
    let numbers = |seen: &[Observation], direction| -> BTreeSet<u32> {
        seen.iter()
            .filter(|seen| seen.direction == direction)
            .filter_map(|seen| seen.packet.tcp())
            .filter(|(_, tcp)| tcp.flags.is_syn_ack() && tcp.ack == witness.isn.add(1))
            .map(|(_, tcp)| tcp.seq.0)
            .collect()
    };
    let mut got = numbers(&probe.observations, Direction::Received);
    got.extend(probe.server_isn.map(|seq| seq.0));
    let sent = numbers(&witness.observations, Direction::Sent);
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

    /// A probe whose client got the answer of `server-1`, and what that server's end saw.
    fn answered() -> (ProbeResult, ServerTrace) {
        let probe = incident::probe();
        (probe.client, probe.server.unwrap())
    }

    fn of(
        told: &[(&AgentId, &ServerTrace)],
        probe: &ProbeResult,
        expected: &[&AgentId],
    ) -> Option<(AgentId, u32)> {
        let mut witnessed = Witnessed::default();
        for (agent, witness) in told {
            witnessed.take(agent, (*witness).clone());
        }
        let expected = expected.iter().copied().collect();
        witnessed
            .of(probe, probe.isn.unwrap(), &expected, |_| true)
            .map(|(agent, witness)| (agent.clone(), witness.syns))
    }

    #[test]
    fn of_two_servers_that_one_syn_reached_the_one_whose_answer_came_is_met() {
        let (probe, witness) = answered();
        let (one, two) = (
            AgentId::new("node-1", "server-1"),
            AgentId::new("node-2", "server-2"),
        );
        let mut other = witness.clone();
        other.local = "100.96.60.11:8080".parse().unwrap();
        for seen in &mut other.observations {
            if let Body::Tcp(_, tcp) = &mut seen.packet.body
                && tcp.flags.is_syn_ack()
            {
                tcp.seq = tcp.seq.add(99);
            }
        }
        assert_eq!(witness.local.to_string(), ONE);
        for expected in [vec![&one, &two], vec![&two]] {
            let told = [(&one, &witness), (&two, &other)];
            let met = of(&told, &probe, &expected);
            assert_eq!(met, Some((one.clone(), 3)));
        }
        // Without packets in hand, who is meant to answer counts.
        other.observations.clear();
        let met = of(&[(&two, &other)], &probe, &[&two]);
        assert_eq!(met, Some((two, 3)));
    }

    #[test]
    fn another_handshake_of_the_same_number_from_the_same_host_is_not_the_probes() {
        let (probe, mut witness) = answered();
        let one = AgentId::new("node-1", "server-1");
        witness.peer.set_port(probe.src.port() + 1);
        assert_eq!(of(&[(&one, &witness)], &probe, &[&one]), None);
        // Behind a masquerade both change.
        witness.peer = "100.96.54.1:20001".parse().unwrap();
        assert!(of(&[(&one, &witness)], &probe, &[&one]).is_some());
    }

    #[test]
    fn several_tellings_of_one_handshake_add_up() {
        let (probe, witness) = answered();
        let one = AgentId::new("node-1", "server-1");
        let met = of(&[(&one, &witness), (&one, &witness)], &probe, &[&one]);
        assert_eq!(met, Some((one, 6)));
    }
}
