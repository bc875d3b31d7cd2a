//! What connection tracking of a node knows of the probes of a group.

use std::net::IpAddr;

use super::Case;
use crate::diagnosis::symptom::FailureGroup;
use crate::evidence::{Evidence, NodeEvidence};
use crate::node_facts::conntrack::ConntrackEntry;
use crate::probe::outcome::EngineKind;
use crate::topology::NodeName;

/// The state of a group's connections in a node's connection tracking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tracked<'a> {
    /// It was not read, or not to its end.
    Unknown,
    /// It has no entry of them.
    Absent,
    /// A SYN passed, and no answer was seen.
    Unanswered(&'a ConntrackEntry),
    /// An answer was seen.
    Answered(&'a ConntrackEntry),
}

impl<'a> Case<'a> {
    /// The entries of a group's probes on a node. One of several is enough: probes of a group fail alike.
    pub(crate) fn tracked(&self, node: &NodeName, group: &FailureGroup) -> Tracked<'a> {
        let known = self.matrix.nodes.get(node);
        let reading = known.and_then(NodeEvidence::conntrack);
        let Some(reading) = reading else {
            return Tracked::Unknown;
        };
        let mut unanswered = None;
        for entry in reading
            .entries
            .iter()
            .filter(|entry| self.is_of_group(entry, group))
        {
            if entry.is_replied {
                return Tracked::Answered(entry);
            }
            unanswered = unanswered.or(Some(entry));
        }
        if let Some(entry) = unanswered {
            return Tracked::Unanswered(entry);
        }
        // A crafted probe ends by a RST, and its entry ten seconds after that; one of connect() stays for two minutes
        // (`nf_conntrack_tcp_timeout_close` and `_syn_sent`).
        let is_lasting = |probe: &Evidence| probe.client.engine == EngineKind::Kernel;
        if reading.is_complete && self.probes(group).any(is_lasting) {
            Tracked::Absent
        } else {
            Tracked::Unknown
        }
    }

    /// The address that a node's netfilter expects to answer a group's connections: a backend's, or the Service's own where it
    /// did not translate.
    pub(crate) fn translated_to(&self, node: &NodeName, group: &FailureGroup) -> Option<IpAddr> {
        match self.tracked(node, group) {
            Tracked::Unanswered(entry) | Tracked::Answered(entry) => Some(entry.reply.source),
            Tracked::Unknown | Tracked::Absent => None,
        }
    }

    /// Whether an entry is of one of a group's probes.
    fn is_of_group(&self, entry: &ConntrackEntry, group: &FailureGroup) -> bool {
        let path = self.path(group.path);
        path.is_some_and(|path| (self.probes(group)).any(|probe| path.is_entry_of(probe, entry)))
    }
}

#[cfg(test)]
mod tests {
    use crate::node_facts::{ConntrackReading, NodeFacts};
    use crate::report::incident::{incident_matrix, probe};
    use crate::topology::PathId;

    use super::*;

    /// An entry of a SYN from this end to the incident's backend, which its node has not seen answered.
    fn to_backend(source: &str) -> ConntrackEntry {
        let (ip, port) = source.rsplit_once(':').unwrap();
        let line = format!(
            "ipv4 2 tcp 6 117 SYN_SENT src={ip} dst=100.96.54.247 sport={port} dport=8080 [UNREPLIED] src=100.96.54.247 dst={ip} sport=8080 dport={port} mark=0 use=2"
        );
        ConntrackEntry::parse(&line).unwrap()
    }

    #[test]
    fn an_entry_with_a_translated_source_is_of_the_group_whose_server_saw_that_source() {
        let masqueraded = "100.96.54.1:50000";
        let entry = to_backend(masqueraded);
        let tracked = |peer: &str| {
            let mut matrix = incident_matrix();
            let mut seen = probe();
            seen.server.as_mut().unwrap().peer = peer.parse().unwrap();
            matrix.paths.get_mut(&PathId(1)).unwrap().probes = vec![seen];
            let facts = NodeFacts {
                conntrack: Some(ConntrackReading {
                    entries: vec![entry.clone()],
                    is_complete: true,
                }),
                ..NodeFacts::default()
            };
            let node = NodeName::new("node-1");
            matrix.nodes.entry(node.clone()).or_default().after = Some(facts);
            let case = Case::new(&matrix);
            let group = case.groups.iter().find(|group| group.path == PathId(1));
            case.translated_to(&node, group.unwrap())
        };
        let backend = "100.96.54.247".parse().unwrap();
        assert_eq!(tracked(masqueraded), Some(backend));
        assert_eq!(tracked("100.96.54.240:41234"), None);
    }
}
