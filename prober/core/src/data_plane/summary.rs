//! The data plane of one node, for a report: structured, and as a sentence.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Attachment, DataPlane, Program, Translation, Transport};
use crate::packet::family::Family;
use crate::topology::NodeName;

/// The data plane of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeDataPlane {
    /// How the run's pods are attached there, each way once.
    pub attachments: Vec<Attachment>,
    /// How packets leave for the pods of each other node.
    pub transports: Vec<PeerTransport>,
    /// What translates Services.
    pub translation: Translation,
    /// BPF programs that forward packets of pods past netfilter, if there are some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<Program>,
}

/// How packets leave a node for the pods of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerTransport {
    /// The other node.
    pub to: NodeName,
    /// The IP family of the packets.
    pub family: Family,
    /// How they leave.
    pub transport: Transport,
}

impl DataPlane {
    /// The data plane of a node; `None` where nothing of it is known.
    pub fn node(&self, node: &NodeName) -> Option<NodeDataPlane> {
        let mut attachments: Vec<Attachment> = Vec::new();
        for family in Family::ALL {
            for attachment in self.attachments_on(node, family) {
                // Two pods of one bridge differ in their ports alone.
                let is_listed = |known: &Attachment| known.summary() == attachment.summary();
                if *attachment != Attachment::Unknown && !attachments.iter().any(is_listed) {
                    attachments.push(attachment.clone());
                }
            }
        }
        let all = self.transports.iter();
        let transports: Vec<PeerTransport> = all
            .filter(|((from, ..), transport)| from == node && **transport != Transport::Unknown)
            .map(|((_, to, family), transport)| PeerTransport {
                to: to.clone(),
                family: *family,
                transport: transport.clone(),
            })
            .collect();
        let translation = self.translation(node);
        let program = self.program(node).cloned();
        let is_known = !attachments.is_empty()
            || !transports.is_empty()
            || program.is_some()
            || translation != Translation::Unknown;
        is_known.then_some(NodeDataPlane {
            attachments,
            transports,
            translation,
            program,
        })
    }
}

impl NodeDataPlane {
    /// The node in a few words: "bridge cni0, vxlan flannel.1 to node-2, kube-proxy iptables".
    pub fn summary(&self) -> String {
        let program = self.program.as_ref();
        let mut parts: Vec<String> = program
            .map(|one| one.name().to_owned())
            .into_iter()
            .collect();
        let attachments = self.attachments.iter().map(Attachment::summary);
        parts.extend(attachments.filter(|part| !part.is_empty()));
        let mut peers: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        let mut all: Vec<&str> = Vec::new();
        for peer in &self.transports {
            let to = peer.to.as_str();
            let alike = peers.entry(peer.transport.summary()).or_default();
            for list in [alike, &mut all] {
                if !list.contains(&to) {
                    list.push(to);
                }
            }
        }
        for (transport, to) in peers {
            parts.push(if all.len() > 1 && to.len() == all.len() {
                format!("{transport} to other nodes")
            } else {
                format!("{transport} to {}", to.join(", "))
            });
        }
        let translation = self.translation.to_string();
        parts.extend((!translation.is_empty()).then_some(translation));
        parts.join(", ")
    }
}

/// A sentence for each kind of node: "node-1, node-2: bridge cni0, vxlan flannel.1 to other nodes, kube-proxy iptables".
pub(crate) fn sentences<'a>(
    nodes: impl Iterator<Item = (&'a NodeName, &'a NodeDataPlane)>,
) -> Vec<String> {
    let mut alike: Vec<(String, Vec<&NodeName>)> = Vec::new();
    for (node, plane) in nodes {
        let summary = plane.summary();
        match alike.iter_mut().find(|(known, _)| *known == summary) {
            Some((_, nodes)) => nodes.push(node),
            None => alike.push((summary, vec![node])),
        }
    }
    let names = |nodes: &[&NodeName]| match nodes {
        [first, .., last] if nodes.len() > 4 => {
            format!("{first} to {last} ({} nodes)", nodes.len())
        }
        nodes => {
            let names: Vec<&str> = nodes.iter().map(|node| node.as_str()).collect();
            names.join(", ")
        }
    };
    let sentences = alike.into_iter();
    sentences
        .map(|(summary, nodes)| format!("{}: {summary}", names(&nodes)))
        .collect()
}
