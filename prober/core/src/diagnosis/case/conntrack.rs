//! What connection tracking of a node knows of the probes of a group.

use std::net::{IpAddr, SocketAddr};

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

    /// Whether an entry is of one of a group's probes: its client's address and port, and as destination the target or the
    /// server pod.
    fn is_of_group(&self, entry: &ConntrackEntry, group: &FailureGroup) -> bool {
        let Some((source, destination)) = entry.original.ends() else {
            return false;
        };
        let server = (group.server.as_ref()).and_then(|server| self.address(server, group.family));
        let is_target = |dst: SocketAddr| destination == dst || Some(destination.ip()) == server;
        entry.is_tcp()
            && self
                .probes(group)
                .any(|probe| probe.client.src == source && is_target(probe.client.dst))
    }
}
