//! What connection tracking of the nodes shows of the way of a group's packets.

use super::{FlowDirection, Location, Spot, Stage, passes_chains};
use crate::data_plane::Attachment;
use crate::diagnosis::bridge_filter;
use crate::diagnosis::case::{Case, Tracked};
use crate::diagnosis::symptom::{FailureGroup, ServerEnd};
use crate::topology::{AgentId, NodeName};

impl Location {
    /// Entries of connection tracking, and their absence from a complete reading, where packets of the node's pods pass it.
    pub(super) fn read_conntrack(&mut self, case: &Case<'_>, group: &FailureGroup) {
        // Which probes were lost in which direction is only known where the server's end observed.
        if group.server_end == ServerEnd::Unknown {
            return;
        }
        let mut nodes = vec![self.sender.clone()];
        if !self.is_same_node() {
            nodes.push(self.receiver.clone());
        }
        for node in nodes {
            if !is_tracking(case, group, &node) {
                continue;
            }
            let input = Spot::Node(
                node.clone(),
                if node == self.sender {
                    Stage::FromPod
                } else {
                    Stage::FromUplink
                },
            );
            let chains = Spot::Node(node.clone(), Stage::Forwarding);
            match (self.direction, case.tracked(&node, group)) {
                (FlowDirection::ToServer, Tracked::Absent) => self.ended(&chains, || {
                    format!("connection tracking of {node} has no entry of them: they did not pass its chains")
                }),
                (FlowDirection::ToServer, Tracked::Unanswered(entry) | Tracked::Answered(entry)) => {
                    self.passed(&chains, || format!("they passed the chains of {node}: conntrack has {entry}"));
                }
                (FlowDirection::ToClient, Tracked::Unanswered(entry)) => self.ended(&input, || {
                    format!("connection tracking of {node} saw no answer: {entry}")
                }),
                (FlowDirection::ToClient, Tracked::Answered(entry)) => self.passed(&input, || {
                    format!("connection tracking of {node} saw the answer: {entry}")
                }),
                (_, Tracked::Unknown) | (FlowDirection::ToClient, Tracked::Absent) => {}
            }
        }
    }
}

/// Whether connection tracking of the client's node shows that its packets to a Service are not on their way to the server:
/// they have another destination, or they return to the pod with the pod's own source.
pub(super) fn is_led_elsewhere(case: &Case<'_>, group: &FailureGroup, server: &AgentId) -> bool {
    let node = &group.client.node;
    if !group.access_path.is_translated() || !case.plane.translation(node).is_by_netfilter() {
        return false;
    }
    match case.tracked(node, group) {
        Tracked::Unanswered(entry) | Tracked::Answered(entry) => {
            let answering = entry.reply.source;
            let is_server = (case.address(server, group.family)).is_none_or(|ip| ip == answering);
            let returns = !entry.is_replied && answering == entry.reply.destination;
            !is_server || returns
        }
        Tracked::Absent | Tracked::Unknown => false,
    }
}

/// Whether packets of a group pass connection tracking of a node, as far as its data plane is known: netfilter translates
/// there, and the pod is a port of a filtered bridge, or routed.
fn is_tracking(case: &Case<'_>, group: &FailureGroup, node: &NodeName) -> bool {
    let agents = std::iter::once(&group.client).chain(&group.server);
    let mut pods = agents.filter(|agent| agent.node == *node);
    let Some(pod) = pods.next() else {
        return false;
    };
    let is_past = case
        .path(group.path)
        .is_some_and(|evidence| case.plane.is_past(node, &evidence.path));
    if is_past {
        return false;
    }
    let is_netfilter = case.plane.translation(node).is_by_netfilter();
    let attachment = case.plane.attachment(pod, group.family);
    let is_filtered = bridge_filter::bridged_filtered(case, node, group.family);
    let is_passed = if group.is_same_node() {
        passes_chains(attachment, is_filtered) == Some(true)
    } else {
        !matches!(
            attachment,
            Attachment::Unknown | Attachment::OwnDevice { .. }
        )
    };
    is_netfilter && is_passed
}
