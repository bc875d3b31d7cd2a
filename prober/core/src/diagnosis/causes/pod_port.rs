//! The node's link that leads to a pod, and whether it is up.

use std::collections::BTreeSet;

use crate::data_plane::Attachment;
use crate::diagnosis::case::Case;
use crate::node_facts::{Link, NodeFacts};
use crate::packet::family::Family;
use crate::packet::mac::Mac;
use crate::topology::{AgentId, NodeName};

/// The state of the node's link that leads to a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PodPort {
    /// It is up and has a carrier.
    Up(Port),
    /// It is down, or has no carrier.
    Down(Port),
    /// The evidence does not show which link it is.
    Unknown,
}

/// A link that leads to a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    /// Its name.
    pub(crate) name: String,
    /// The bridge that it is a port of.
    bridge: Option<String>,
    /// Its state, in words.
    state: &'static str,
}

impl Port {
    /// Its state on its node, as a sentence.
    pub(crate) fn sentence(&self, node: &NodeName) -> String {
        let Self { name, state, .. } = self;
        match &self.bridge {
            Some(bridge) => format!("the port {name} of {bridge} on {node} is {state}"),
            None => format!("the link {name} on {node} is {state}"),
        }
    }
}

/// The link that leads to a pod.
pub(crate) fn pod_port(case: &Case<'_>, pod: &AgentId, family: Family) -> PodPort {
    let Some(facts) = case.facts(&pod.node) else {
        return PodPort::Unknown;
    };
    let mac = case.plane.habits().mac(pod, family);
    let link = match case.plane.attachment(pod, family) {
        Attachment::Bridge { bridge, port } => {
            let known = (port.as_deref()).and_then(|port| facts.link(port).found());
            known
                .or_else(|| earlier(case, pod, bridge, mac?, facts))
                .or_else(|| remaining(facts, bridge, mac?))
        }
        Attachment::Routed { link } => facts.link(link).found(),
        Attachment::OwnDevice { .. } | Attachment::Unknown => None,
    };
    match link {
        Some(link) if link.up && link.carrier => PodPort::Up(port(link, "up")),
        Some(link) if link.up => PodPort::Down(port(link, "without carrier")),
        Some(link) => PodPort::Down(port(link, "down")),
        None => PodPort::Unknown,
    }
}

fn port(link: &Link, state: &'static str) -> Port {
    Port {
        name: link.name.clone(),
        bridge: link.master.clone(),
        state,
    }
}

/// The port at which an earlier reading has the pod's Ethernet address: a bridge forgets what it learned from a port that goes
/// down (`br_stp_disable_port`, net/bridge/br_stp_if.c).
fn earlier<'a>(
    case: &Case<'a>,
    pod: &AgentId,
    bridge: &str,
    mac: Mac,
    now: &'a NodeFacts,
) -> Option<&'a Link> {
    let known = case.matrix.nodes.get(&pod.node)?;
    known.readings().find_map(|facts| {
        let entries = facts.fdb(mac)?;
        let mut links = entries
            .iter()
            .filter_map(|entry| now.link(&entry.dev).found());
        links.find(|link| link.master.as_deref() == Some(bridge))
    })
}

/// The only port of the bridge behind which no other host is known, where the pod's address is behind none of the others.
fn remaining<'a>(facts: &'a NodeFacts, bridge: &str, mac: Mac) -> Option<&'a Link> {
    let links = facts.links.as_deref()?;
    let entries = facts.fdb.as_deref()?;
    let is_own = |entry: &Mac| links.iter().any(|link| link.mac == Some(*entry));
    let taken: BTreeSet<&str> = entries
        .iter()
        .filter(|entry| entry.mac != mac && !is_own(&entry.mac) && is_unicast(entry.mac))
        .map(|entry| entry.dev.as_str())
        .collect();
    let mut free = links.iter().filter(|link| {
        link.master.as_deref() == Some(bridge) && !taken.contains(link.name.as_str())
    });
    let only = free.next()?;
    free.next().is_none().then_some(only)
}

/// Whether an Ethernet address is that of one host: its group bit is not set (IEEE 802).
const fn is_unicast(mac: Mac) -> bool {
    mac.0[0] & 1 == 0
}
