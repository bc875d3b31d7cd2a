//! The conntrack entries of a probe, on the nodes at its ends.

use std::net::SocketAddr;

use super::{Evidence, Matrix, NodeEvidence, PathEvidence};
use crate::node_facts::{ConntrackEntry, ConntrackReading};
use crate::topology::NodeName;

/// The entries of one probe on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeEntries<'a> {
    /// The node.
    pub node: &'a NodeName,
    /// The entries. None, in a complete reading: the probe was dropped before it had passed netfilter there, or never came.
    pub entries: Vec<&'a ConntrackEntry>,
    /// Whether the reading had all entries of the run without a complete handshake.
    pub is_complete: bool,
}

impl NodeEvidence {
    /// The last reading of connection tracking.
    pub fn conntrack(&self) -> Option<&ConntrackReading> {
        self.readings().find_map(|facts| facts.conntrack.as_ref())
    }
}

impl Matrix {
    /// The entries of a probe, on its client's node first. Nodes where connection tracking was not read are left out, and
    /// where the probe's server is not known, nodes without an entry are left out as well.
    pub fn conntrack_of<'a>(
        &'a self,
        path: &'a PathEvidence,
        probe: &'a Evidence,
    ) -> Vec<ProbeEntries<'a>> {
        let client = &path.path.client.node;
        let server = probe.server_agent.as_ref().or(path.path.server.as_ref());
        let backends = path.backends.iter().filter_map(|end| end.agent.as_ref());
        let servers: Vec<&NodeName> = match server {
            Some(server) => vec![&server.node],
            None => backends.map(|agent| &agent.node).collect(),
        };
        let mut found: Vec<ProbeEntries<'_>> = Vec::new();
        for node in std::iter::once(client).chain(servers) {
            if found.iter().any(|known| known.node == node) {
                continue;
            }
            let reading = self.nodes.get(node).and_then(NodeEvidence::conntrack);
            let Some(reading) = reading else { continue };
            let entries: Vec<_> = (reading.entries.iter())
                .filter(|entry| path.is_entry_of(probe, entry))
                .collect();
            if server.is_some() || node == client || !entries.is_empty() {
                found.push(ProbeEntries {
                    node,
                    entries,
                    is_complete: reading.is_complete,
                });
            }
        }
        found
    }
}

impl PathEvidence {
    /// Whether an entry is of a probe of this path: it has the addresses of the probe as its client sent it, or as its server's
    /// end observed it, which differ where the source was translated.
    pub(crate) fn is_entry_of(&self, probe: &Evidence, entry: &ConntrackEntry) -> bool {
        if !entry.is_tcp() {
            return false;
        }
        let original = entry.original.ends();
        let is_to = |destination: SocketAddr| {
            let targets = [probe.client.dst, probe.client.peer()];
            targets.contains(&destination)
                || (self.backends.iter()).any(|backend| backend.address == destination)
        };
        let is_as_sent = original
            .is_some_and(|(source, destination)| source == probe.client.src && is_to(destination));
        let arrived = (probe.server.as_ref()).filter(|server_trace| server_trace.syns > 0);
        is_as_sent
            || arrived.is_some_and(|server_trace| {
                let (peer, local) = (server_trace.peer, server_trace.local);
                original == Some((peer, local)) || entry.reply.ends() == Some((local, peer))
            })
    }
}

#[cfg(test)]
mod tests {
    use crate::node_facts::NodeFacts;
    use crate::report::incident::{incident_matrix, probe};
    use crate::topology::PathId;

    use super::*;

    /// An entry that is `SYN_SENT [UNREPLIED]` from and to these ends, with an answer expected between those.
    fn entry(original: (&str, &str), reply: (&str, &str)) -> ConntrackEntry {
        let tuple = |(source, destination): (&str, &str)| {
            let (source, source_port) = source.rsplit_once(':').unwrap();
            let (destination, port) = destination.rsplit_once(':').unwrap();
            format!("src={source} dst={destination} sport={source_port} dport={port}")
        };
        let (original, reply) = (tuple(original), tuple(reply));
        let line = format!("ipv4 2 tcp 6 117 SYN_SENT {original} [UNREPLIED] {reply} mark=0 use=2");
        ConntrackEntry::parse(&line).unwrap()
    }

    /// The incident, with these entries on one node and no other reading.
    fn matrix(node: &str, entries: &[ConntrackEntry]) -> Matrix {
        let mut matrix = incident_matrix();
        for facts in matrix
            .nodes
            .values_mut()
            .filter_map(|node| node.after.as_mut())
        {
            facts.conntrack = None;
        }
        let facts = NodeFacts {
            conntrack: Some(ConntrackReading {
                entries: entries.to_vec(),
                is_complete: true,
            }),
            ..NodeFacts::default()
        };
        matrix.nodes.entry(NodeName::new(node)).or_default().during = Some(facts);
        matrix
    }

    /// The nodes with a reading, each with the number of entries of the incident's probe.
    fn found(matrix: &Matrix) -> Vec<(&str, usize)> {
        let path = &matrix.paths[&PathId(1)];
        let found = matrix.conntrack_of(path, &path.probes[0]);
        found
            .iter()
            .map(|found| (found.node.as_str(), found.entries.len()))
            .collect()
    }

    const CLIENT: &str = "100.96.54.240:41234";
    const SERVICE: &str = "100.67.30.133:80";
    const BACKEND: &str = "100.96.54.247:8080";

    #[test]
    fn an_entry_is_of_the_probe_with_its_addresses() {
        let own = entry((CLIENT, SERVICE), (BACKEND, CLIENT));
        let translated = entry((CLIENT, BACKEND), (BACKEND, CLIENT));
        let of_others = [
            entry(
                ("100.96.54.240:41235", SERVICE),
                (BACKEND, "100.96.54.240:41235"),
            ),
            entry((CLIENT, "100.67.30.134:80"), ("100.96.54.248:8080", CLIENT)),
        ];
        let entries = [own, translated].into_iter().chain(of_others);
        let matrix = matrix("node-1", &entries.collect::<Vec<_>>());
        assert_eq!(found(&matrix), [("node-1", 2)]);
    }

    #[test]
    fn a_translated_source_is_known_from_the_servers_end() {
        let masqueraded = "100.96.54.1:50000";
        let mut matrix = matrix(
            "node-1",
            &[entry((masqueraded, BACKEND), (BACKEND, masqueraded))],
        );
        assert_eq!(found(&matrix), [("node-1", 0)]);
        let mut seen = probe();
        seen.server.as_mut().unwrap().peer = masqueraded.parse().unwrap();
        matrix.paths.get_mut(&PathId(1)).unwrap().probes[0] = seen;
        assert_eq!(found(&matrix), [("node-1", 1)]);
    }

    #[test]
    fn a_node_that_was_not_read_says_nothing() {
        assert_eq!(found(&matrix("node-2", &[])), []);
    }
}
